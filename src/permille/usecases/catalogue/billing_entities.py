"""Billing entities are changed, with all that follows from it for the customers that inherit their settings."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.customer import BillingEntity
from permille.core.errors import Invalid
from permille.core.invoice.numbering import is_numbered_by_itself
from permille.store import billing_entities, customers, dunning, invoices, subscriptions
from permille.usecases import subscriptions as lifecycle, wallet_rules
from permille.usecases.by_code import ByCode
from permille.usecases.catalogue import eu_taxes
from permille.usecases.invoices import drafts
from permille.usecases.price_change import taxes_changed

by_code = ByCode("billing_entity", billing_entities.by_code).one


def named(conn: Connection[Any], organization_id: UUID, code: str | None) -> UUID | None:
    """The id of the entity with this code, None without one. Raises NotFound."""
    return by_code(conn, organization_id, code).id if code else None


def add(
    conn: Connection[Any], organization_id: UUID, *, settings: Mapping[str, Any], now: datetime
) -> BillingEntity:
    """A further entity, with at least a code and a name. Raises Invalid where the code is taken."""
    made = billing_entities.add(conn, organization_id=organization_id, columns=settings, now=now)
    if made is None:
        raise Invalid({"code": ["value_already_exist"]})
    entity = billing_entities.by_ids(conn, [made])[made]
    eu_taxes.follow_entity(conn, None, entity, now=now)
    return entity


def change(
    conn: Connection[Any],
    organization_id: UUID,
    before: BillingEntity,
    *,
    settings: Mapping[str, Any],
    now: datetime,
) -> BillingEntity:
    """The entity with these settings: due instants follow its timezone, the dates of drafts its terms, and numbers of its own
    go on from the number of its invoices.
    """
    billing_entities.update(conn, billing_entity_id=before.id, settings=settings, now=now)
    after = billing_entities.by_ids(conn, [before.id])[before.id]
    eu_taxes.follow_entity(conn, before, after, now=now)
    if is_numbered_by_itself(after) and not is_numbered_by_itself(before):
        billing_entities.count_on(conn, after.id)
    if after.timezone != before.timezone:
        lifecycle.reschedule(conn, subscriptions.living_of_billing_entity(conn, after.id), now=now)
        moved = customers.of_timezone(conn, after.id)
        wallet_rules.move(conn, moved, before=before.timezone, after=after.timezone, now=now)
    if after.draft_terms != before.draft_terms:
        drafts.date_again(conn, invoices.dated_drafts_of_entity(conn, after.id), now=now)
    if after.dunning_campaign_id != before.dunning_campaign_id:
        dunning.restart(conn, dunning.customers_of_entity(conn, after.id), now=now)
    if after.taxes != before.taxes:
        taxes_changed(conn, organization_id, now=now)
    return after
