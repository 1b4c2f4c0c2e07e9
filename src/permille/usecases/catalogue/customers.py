"""Customers are added, changed and removed, with all that follows from it for their subscriptions and drafts."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.customer import Customer
from permille.core.errors import NotFound
from permille.core.record import Record
from permille.database import locks
from permille.store import (
    billing_entities,
    customers,
    dunning,
    invoices,
    subscriptions,
    vat_checks,
    wallets,
    webhooks,
)
from permille.usecases import coupons, subscriptions as lifecycle, wallet_rules
from permille.usecases.catalogue import eu_taxes
from permille.usecases.invoices import drafts
from permille.usecases.price_change import taxes_changed
from permille.usecases.wallets import wallets as prepaid


def by_external_id(conn: Connection[Any], organization_id: UUID, external_id: str) -> Customer:
    """Raises NotFound."""
    found = customers.by_external_id(conn, organization_id, external_id)
    if found is None:
        raise NotFound("customer")
    return found


def to_change(conn: Connection[Any], organization_id: UUID, external_id: str) -> Customer | None:
    """The customer with this id, if there is one; nobody else changes or adds it until the transaction ends."""
    locks.change_customer(conn, organization_id, external_id)
    return customers.by_external_id(conn, organization_id, external_id)


def to_remove(conn: Connection[Any], organization_id: UUID, external_id: str) -> Customer:
    """As `to_change`. Raises NotFound."""
    locks.change_customer(conn, organization_id, external_id)
    return by_external_id(conn, organization_id, external_id)


class SavedCustomer(Record, kw_only=True):
    """A customer to make, or with `before` to change: the columns that are set."""

    organization_id: UUID
    external_id: str
    before: Customer | None
    columns: Mapping[str, Any]


def save(conn: Connection[Any], wanted: SavedCustomer, *, now: datetime) -> Customer:
    """Make or change a customer, which nobody else changes meanwhile."""
    if wanted.before is not None:
        return change(conn, wanted.before, columns=wanted.columns, now=now)
    return add(conn, wanted.organization_id, wanted.external_id, columns=wanted.columns, now=now)


def add(
    conn: Connection[Any],
    organization_id: UUID,
    external_id: str,
    *,
    columns: Mapping[str, Any] | None = None,
    now: datetime,
) -> Customer:
    """A new customer, of the default billing entity unless the columns say otherwise."""
    default = billing_entities.default(conn, organization_id)
    customer_id = customers.add(
        conn,
        organization_id=organization_id,
        external_id=external_id,
        slug_prefix=default.document_number_prefix,
        columns={"billing_entity_id": default.id, **(columns or {})},
        now=now,
    )
    plain = customers.by_ids(conn, [customer_id])[customer_id]
    made = eu_taxes.follow_customer(conn, None, plain, columns=columns or {}, now=now)
    webhooks.enqueue_of(conn, "customer.created", organization_id, [made.id], now=now)
    return made


def change(conn: Connection[Any], before: Customer, *, columns: Mapping[str, Any], now: datetime) -> Customer:
    """The customer with these columns changed: due instants follow its timezone, the dates of drafts its terms."""
    customers.update(conn, customer_id=before.id, columns=columns, now=now)
    changed = customers.by_ids(conn, [before.id])[before.id]
    after = eu_taxes.follow_customer(conn, before, changed, columns=columns, now=now)
    here, there = before.applicable_timezone, after.applicable_timezone
    if there != here:
        lifecycle.reschedule(conn, subscriptions.living_of_customer(conn, after.id), now=now)
        wallet_rules.move(conn, [after.id], before=here, after=there, now=now)
    own, theirs = before.billing_entity, after.billing_entity
    if theirs.id != own.id:
        invoices.move_drafts(conn, after.id, own.id, theirs.id)
    if theirs.id != own.id or after.own_draft_terms != before.own_draft_terms:
        drafts.date_again(conn, invoices.dated_drafts_of_customer(conn, after.id), now=now)
    if _dunning_of(after) != _dunning_of(before):
        dunning.restart(conn, [after.id], now=now)
    if (after.taxes, after.billing_entity.taxes) != (before.taxes, before.billing_entity.taxes):
        taxes_changed(conn, after.organization_id, customer_ids=[after.id], now=now)
    webhooks.enqueue_of(conn, "customer.updated", after.organization_id, [after.id], now=now)
    return after


def _dunning_of(customer: Customer) -> tuple[UUID | None, bool]:
    campaign_id = customer.dunning_campaign_id or customer.billing_entity.dunning_campaign_id
    return campaign_id, customer.exclude_from_dunning_campaign


def remove(conn: Connection[Any], customer: Customer, *, now: datetime) -> None:
    """Its subscriptions end now and are billed, its drafts become final, then its coupons and wallets end."""
    customers.lock(conn, customer.id)
    living = subscriptions.living_of_customer(conn, customer.id)
    lifecycle.end_all(conn, living, now=now)
    drafts.finalize(conn, invoices.drafts_of_customer(conn, customer.id), at=now)
    coupons.end_all_of(conn, customer.id, now=now)
    prepaid.terminate(conn, wallets.active_of_customer(conn, customer.id), now=now)
    vat_checks.forget(conn, customer.id)
    customers.delete(conn, customer_id=customer.id, now=now)
