"""Dunning: what is overdue of customers is requested again and again, as the campaign that applies to them says.

Source: semantics-billing.md section 8.5.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.customer import Customer
from permille.core.errors import Invalid
from permille.core.invoice.dunning import (
    DunningCampaign,
    DunningState,
    is_exhausted,
    next_attempt_at,
    to_request,
)
from permille.core.invoice.payment import Due
from permille.core.record import replace
from permille.store import customers, dunning, webhooks
from permille.store.dunning import OverdueInvoice
from permille.store.invoices import StoredInvoice
from permille.usecases import holds, payment_requests
from permille.usecases.by_code import ByCode

by_code = ByCode("dunning_campaign", dunning.by_code).one


def add(
    conn: Connection[Any], organization_id: UUID, columns: Mapping[str, Any], *, now: datetime
) -> DunningCampaign:
    """Raises Invalid where the code is taken."""
    if dunning.add(conn, organization_id=organization_id, columns=columns, now=now) is None:
        raise Invalid({"code": ["value_already_exist"]})
    return by_code(conn, organization_id, columns["code"])


def change(
    conn: Connection[Any], before: DunningCampaign, columns: Mapping[str, Any], *, now: datetime
) -> DunningCampaign:
    """The campaign with these columns: where it asks otherwise now, the dunning of its customers begins again."""
    dunning.update(conn, before.id, columns, now=now)
    after = by_code(conn, before.organization_id, before.code)
    if after.terms != before.terms:
        dunning.restart(conn, dunning.customers_of_campaign(conn, before.id), now=now)
    return after


def remove(conn: Connection[Any], campaign: DunningCampaign, *, now: datetime) -> None:
    """Delete a campaign: nobody is asked by it any more. Dunning begins again by a billing entity's for who had it instead."""
    had = dunning.customers_of_campaign(conn, campaign.id)
    dunning.delete(conn, campaign.id)
    dunning.restart(conn, had, now=now)


def reset(conn: Connection[Any], changed: Sequence[StoredInvoice], now: datetime) -> None:
    """Who owes what a campaign requested no longer has all attempts left again."""
    settled = payment_requests.settled_of(changed)
    if settled:
        dunning.give_back_attempts(conn, settled, now=now)


def run_due(
    conn: Connection[Any], organization_id: UUID, *, at: datetime, limit: int, wait: bool, now: datetime
) -> int:
    """Request what is overdue of customers that are due for it, and return how many were looked at.

    Those of whom it cannot be requested are held, by the organization's clock `now`.
    """
    states = dunning.claim(conn, organization_id, until=at, limit=limit, wait=wait)
    return holds.do_due(
        conn,
        organization_id,
        list(states),
        lambda some: _look_at_all(conn, {each: states[each] for each in some}, at=at),
        customer_of=lambda customer_id: customer_id,
        at=at,
        now=now,
    )


def _look_at_all(conn: Connection[Any], states: Mapping[UUID, DunningState], *, at: datetime) -> None:
    campaigns = dunning.of_customers(conn, states)
    payers = customers.by_ids(conn, campaigns)
    overdue: dict[UUID, list[OverdueInvoice]] = defaultdict(list)
    for invoice in dunning.overdue(conn, campaigns):
        overdue[invoice.customer_id].append(invoice)
    saved: dict[UUID, tuple[DunningState, datetime | None]] = {}
    for customer_id, state in states.items():
        campaign = campaigns.get(customer_id)
        saved[customer_id] = (
            _look_at(conn, payers[customer_id], campaign, state, overdue[customer_id], at=at)
            if campaign
            else (state, None)
        )
    dunning.save(conn, saved)


def _look_at(
    conn: Connection[Any],
    customer: Customer,
    campaign: DunningCampaign,
    state: DunningState,
    invoices: Sequence[OverdueInvoice],
    *,
    at: datetime,
) -> tuple[DunningState, datetime | None]:
    """Request what is to be requested of a customer; how far it has come, and when to look again."""
    amounts: Counter[str] = Counter()
    for invoice in invoices:
        amounts[invoice.currency] += invoice.total_amount_cents
    wanted, after = to_request(campaign, state, amounts), state
    if wanted:
        waits_until = next_attempt_at(campaign, state)
        if waits_until and waits_until > at:
            return state, waits_until
        for currency in wanted:
            _request(conn, customer, campaign, [each for each in invoices if each.currency == currency], at)
        counts = {currency: state.attempts.get(currency, 0) + 1 for currency in wanted}
        after = DunningState(attempts={**state.attempts, **counts}, last_attempt_at=at)
    if not is_exhausted(campaign, after, amounts):
        return after, next_attempt_at(campaign, after) if wanted else None
    if not after.is_finished:
        _report_end(conn, customer, campaign, amounts, at)
    return replace(after, is_finished=True), None


def _request(
    conn: Connection[Any],
    customer: Customer,
    campaign: DunningCampaign,
    invoices: Sequence[OverdueInvoice],
    at: datetime,
) -> None:
    """A request for the invoices of each billing entity, of which anything is due."""
    dues: dict[UUID, list[Due]] = defaultdict(list)
    for each in invoices:
        if each.due_amount_cents:
            due = Due(
                invoice_id=each.id,
                amount_cents=each.due_amount_cents,
                currency=each.currency,
                billing_entity_id=each.billing_entity_id,
                is_overdue=True,
            )
            dues[each.billing_entity_id].append(due)
    for together in dues.values():
        payment_requests.add(conn, customer, together, email=None, campaign=campaign, now=at)


def _report_end(
    conn: Connection[Any],
    customer: Customer,
    campaign: DunningCampaign,
    amounts: Mapping[str, int],
    at: datetime,
) -> None:
    balances = [
        {"currency": currency, "amount_cents": cents} for currency, cents in sorted(amounts.items()) if cents
    ]
    main = next((each for each in balances if each["currency"] == customer.currency), balances[0])
    webhooks.enqueue(
        conn,
        organization_id=customer.organization_id,
        webhook_type="dunning_campaign.finished",
        object_type="dunning_campaign",
        object_ids=[campaign.id],
        payload={
            "external_customer_id": customer.external_id,
            "dunning_campaign_code": campaign.code,
            "overdue_balance_cents": main["amount_cents"],
            "overdue_balance_currency": main["currency"],
            "overdue_balances": balances,
        },
        now=at,
    )
