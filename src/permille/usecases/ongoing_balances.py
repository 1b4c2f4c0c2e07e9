"""The ongoing balances of wallets: what usage and drafts so far leave of them, and the top-ups that follow.

Whatever counts usage says whose balances are out of date; these are reckoned again for many customers at once.
Source: semantics-billing.md section 5.6.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg_pool import ConnectionPool

from permille.core.contract.plan import Plan
from permille.core.contract.price_versions import versions_of
from permille.core.customer import Customer
from permille.core.fee_kind import FeeKind
from permille.core.invoice.progressive import BilledBefore, fee_key, unbilled_cents
from permille.core.invoice.tax_choice import taxes_of_charge
from permille.core.money import ZERO, exact
from permille.core.rating.models.group_keys import TARGET_WALLET
from permille.core.wallet import FeeBucket, Wallet, share
from permille.core.wallet_rule import Trigger
from permille.store import (
    arrivals,
    customers,
    plans,
    progressive,
    subscriptions,
    wallet_rules,
    wallets,
    webhooks,
)
from permille.store.arrivals import Follows
from permille.usecases import wallet_rules as rules
from permille.usecases.arrivals import counted_after, follow
from permille.usecases.fences import Task
from permille.usecases.usage.usage import ChargeUsage, UsageSearch, running_usages
from permille.usecases.wallets.changes import ongoing_changed

BATCH = 500


def refresh_live(pool: ConnectionPool[Connection[Any]], now: datetime) -> int:
    """Reckon what is out of date in any organization, as of its own clock; of how many customers that was."""

    def look(conn: Connection[Any], organization_id: UUID, *, now: datetime, system_now: datetime) -> int:
        del system_now
        return refresh(conn, organization_id, now=now, wait=False)

    return follow(
        pool,
        Task.WALLETS,
        lambda conn: detect(conn, now=now),
        waiting=wallets.organizations_waiting,
        look=look,
        now=now,
    )


def detect(conn: Connection[Any], *, now: datetime) -> bool:
    """Say whose wallets are out of date, as events of theirs were counted or amended; whether there may be more to say."""
    piece = counted_after(conn, Follows.WALLETS, is_any=wallets.is_any_active)
    if piece is not None:
        wallets.mark(conn, piece.subscriptions)
        arrivals.set_seen(conn, Follows.WALLETS, piece.until)
    taken = wallets.take_marks(conn, limit=BATCH, now=now)
    return taken or (piece is not None and piece.is_more)


def refresh_now(conn: Connection[Any], organization_id: UUID, *, now: datetime) -> None:
    """Reckon all ongoing balances of an organization, before its clock moves on."""
    wallets.mark_organization(conn, organization_id, now=now)
    while refresh(conn, organization_id, now=now):
        pass


def refresh_marked(conn: Connection[Any], organization_id: UUID, *, now: datetime) -> int:
    """As refresh, of customers that were marked too."""
    wallets.take_marks_of_organization(conn, organization_id, now=now)
    return refresh(conn, organization_id, now=now)


def refresh(conn: Connection[Any], organization_id: UUID, *, now: datetime, wait: bool = True) -> int:
    """Reckon a batch of what is out of date; of how many customers that was. What wallets fall below tops them up.

    Customers that someone else has locked are skipped unless `wait` is set.
    """
    claimed = wallets.claim_out_of_date(conn, organization_id, limit=BATCH, wait=wait)
    if claimed:
        refresh_customers(conn, organization_id, claimed, now=now)
    return len(claimed)


def refresh_customers(
    conn: Connection[Any], organization_id: UUID, customer_ids: Collection[UUID], *, now: datetime
) -> None:
    """Reckon the ongoing balances of customers, who are locked, before something is decided by them."""
    claimed = wallets.active_of_customers(conn, customer_ids)
    if claimed:
        _reckon(conn, organization_id, claimed, now=now)
    wallets.set_up_to_date(conn, customer_ids)


def _reckon(
    conn: Connection[Any], organization_id: UUID, claimed: Sequence[Wallet], *, now: datetime
) -> None:
    """Reckon the ongoing balances of all active wallets of some customers. What they fall below tops them up."""
    known = wallet_rules.active_of(conn, [each.id for each in claimed])
    absorbing = {wallet_id for wallet_id, rule in known.items() if rule.trigger == Trigger.THRESHOLD}
    of: dict[tuple[UUID, str], list[Wallet]] = defaultdict(list)
    for each in claimed:
        of[each.customer_id, each.currency].append(each)
    buckets = _buckets(conn, organization_id, {customer_id for customer_id, _ in of}, now=now)
    usage: dict[UUID, int] = {}
    for key, own in of.items():
        usage |= share(own, absorbing, buckets.get(key, ()))
    depleted = wallets.set_ongoing(conn, usage, now=now)
    webhooks.enqueue_of(conn, "wallet.depleted_ongoing_balance", organization_id, depleted, now=now)
    ongoing_changed(conn, list(usage), now=now)
    if absorbing:
        after = wallets.by_ids(conn, absorbing)
        below = [(known[each.id], after[each.id]) for each in claimed if each.id in absorbing]
        rules.top_up_below(conn, below, now=now)
        wallets.set_ongoing(conn, usage, now=now)  # they pay for the same usage, and may be depleted no more


def _buckets(
    conn: Connection[Any], organization_id: UUID, customer_ids: set[UUID], *, now: datetime
) -> Mapping[tuple[UUID, str], Sequence[FeeBucket]]:
    """(Customer, currency) -> usage that is not billed yet and drafts, with taxes, by what wallets can be limited to."""
    rows = subscriptions.running_of_customers(conn, customer_ids)
    payers = customers.of_subscriptions(conn, rows)
    known = plans.plans_by_ids(conn, {row.plan_id for row in rows})
    used = running_usages(
        conn, [(row, payers[row.id]) for row in rows], search=UsageSearch(with_taxes=False), now=now
    )
    billed = progressive.billed_before(
        conn, organization_id, {row.id: each.period for row, each in zip(rows, used, strict=True)}
    )
    cents: dict[tuple[UUID, str], dict[tuple[FeeKind, UUID | None, str | None], Decimal]] = defaultdict(
        lambda: defaultdict(lambda: ZERO)
    )
    with exact():
        for row, period in zip(rows, used, strict=True):
            plan, payer = known[row.plan_id], payers[row.id]
            _add(
                cents[payer.id, period.currency],
                period.charges,
                _tax_factors(plan, payer),
                billed.get(row.id),
            )
        for key, drafted in wallets.draft_buckets(conn, customer_ids).items():
            for bucket in drafted:
                cents[key][bucket.fee_type, bucket.metric_id, bucket.target_code] += bucket.cents
    return {key: [FeeBucket(*what, amount) for what, amount in own.items()] for key, own in cents.items()}


def _add(
    found: dict[tuple[FeeKind, UUID | None, str | None], Decimal],
    charges: Sequence[ChargeUsage],
    factors: Mapping[UUID, Decimal],
    billed: BilledBefore | None,
) -> None:
    """Add usage; what is paid in advance has no factor, as it was paid, and an invoice at a threshold comes off."""
    lines = [(charge, line) for charge in charges if charge.charge_id in factors for line in charge.lines]
    keys = [
        fee_key(charge.charge_id, line.filter.id if line.filter else None, line.grouped_by)
        for charge, line in lines
    ]
    rests = unbilled_cents(
        [(key, line.amount_cents) for key, (_, line) in zip(keys, lines, strict=True)], billed
    )
    for (charge, line), cents in zip(lines, rests, strict=True):
        key = FeeKind.CHARGE, charge.metric_id, line.grouped_by.get(TARGET_WALLET)
        found[key] += cents * factors[charge.charge_id]


def _tax_factors(plan: Plan, customer: Customer) -> dict[UUID, Decimal]:
    """Charge in arrears -> by what its amounts grow with taxes."""
    return {
        charge.id: 1 + sum((tax.rate for tax in taxes_of_charge(charge, plan, customer)), ZERO) / 100
        for version in versions_of(plan)
        for charge in version.charges
        if not charge.pay_in_advance and charge.invoiceable
    }
