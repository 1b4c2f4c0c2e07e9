"""Explain a fee: its formula, the price that matched, the events behind it, and whether it comes out the same now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from psycopg import Connection

from permille.core.contract.plan import Charge, PlanFilter
from permille.core.metering.amendment import Amendment
from permille.core.money import ZERO, exact, subunits
from permille.core.rating.explanation import (
    RoundedWith,
    Step,
    charge_steps,
    conversion_steps,
    minimum_charge_steps,
    plan_step,
    rounding_step,
)
from permille.core.rating.fee import Fee
from permille.core.rating.pricing_unit import SUBUNITS
from permille.core.rating.rounding import Rounding
from permille.core.record import Record
from permille.events.engine import amendments, event_log, usage
from permille.events.log import AmendmentSearch, CountedEvents, Digest, EventPosition, StoredEvent
from permille.events.usage import SeriesUsage
from permille.store import fees as fee_store, invoices
from permille.store.fees import StoredFee
from permille.usecases.invoices.recomputation import (
    Basis,
    bases,
    event_of,
    fees_now,
    is_behind,
    recompute,
    same_place,
)

AMENDMENTS_MAX = 1_000


class Explanation(Record, kw_only=True):
    """The explanation of one fee. For a fee without a charge there are only the steps."""

    steps: tuple[Step, ...]
    charge: Charge | None = None
    filter: PlanFilter | None = None
    """The price that matched; None is the charge's own."""
    digest: Digest | None = None
    listed: Sequence[StoredEvent] = ()
    next_place: EventPosition | None = None
    recomputed: Fee | None = None
    """What the same events come to with the prices of now; None when the charge is gone, or there is nothing."""
    is_same: bool = True
    amendments: Sequence[Amendment] = ()
    """The events that count, or have counted, for the fee."""


def explain(conn: Connection[Any], fee: StoredFee, *, after: EventPosition | None, limit: int) -> Explanation:
    """The fee explained, with a page of its events from `after` on."""
    return usage.under_one_metering(
        conn, [fee.organization_id], lambda: _explain(conn, fee, after=after, limit=limit)
    )


def _explain(
    conn: Connection[Any], fee: StoredFee, *, after: EventPosition | None, limit: int
) -> Explanation:
    if _is_agreed(conn, fee):
        return Explanation(steps=_agreed_steps(fee))
    basis = bases(conn, [fee]).get(fee.id)
    if basis is None:
        return Explanation(steps=_own_steps(fee))
    if fee.event_transaction_id is not None:
        return _of_event(conn, fee, basis)

    def read() -> tuple[list[SeriesUsage], Digest, list[StoredEvent], list[Amendment]]:
        found = usage.series_usage(conn, basis.windows, with_events=True)
        behind = [each for each in found if _counts(fee, basis, each.dimensions)]
        digest, listed = _events_behind(conn, basis, behind, after=after, limit=limit + 1)
        return found, digest, listed, _amended(conn, fee, basis)

    found, digest, listed, amended = usage.under_one_version(conn, [fee.organization_id], read)
    recomputed = same_place(fee, fees_now(basis, found))
    return Explanation(
        steps=_steps(conn, fee, basis.charge),
        charge=basis.charge,
        filter=_filter(fee, basis),
        digest=digest,
        listed=listed[:limit],
        next_place=_place(listed[limit - 1]) if len(listed) > limit else None,
        recomputed=recomputed,
        is_same=_is_same(fee, recomputed),
        amendments=amended,
    )


def _is_agreed(conn: Connection[Any], fee: StoredFee) -> bool:
    """Whether somebody has said what it comes to, on an invoice that replaces a voided one."""
    on = invoices.invoices_by_ids(conn, [fee.invoice_id]) if fee.invoice_id else {}
    return any(each.voided_invoice_id is not None for each in on.values())


def _events_behind(
    conn: Connection[Any],
    basis: Basis,
    behind: Sequence[SeriesUsage],
    *,
    after: EventPosition | None,
    limit: int,
) -> tuple[Digest, list[StoredEvent]]:
    """The events of these usages: all of them in short, and a page of them, oldest first."""
    numbers_only = not basis.compiled.aggregation.counts_every_event
    events = sorted(
        (each.at, each.identity)
        for used in behind
        for each in used.events or ()
        if each.has_value or not numbers_only
    )
    if events:
        page = [
            identity
            for at, identity in events
            if after is None or (at, identity) > (after.at, after.identity)
        ]
        stored = event_log.by_identities(conn, page[:limit])
        return event_log.digest_of(conn, [identity for _, identity in events]), [
            stored[identity] for identity in page[:limit]
        ]
    since, until = _stretch(basis, behind)
    counted = CountedEvents(
        series_ids=sorted({used.series_id for used in behind if used.events is None}),
        from_=since,
        to=until,
        numbers_only=numbers_only,
    )
    return event_log.digest(conn, counted), event_log.after(conn, counted, place=after, limit=limit)


def _stretch(basis: Basis, behind: Sequence[SeriesUsage]) -> tuple[datetime | None, datetime]:
    """From when to when the events behind are: of usage that is priced by date, while the price was the same."""
    marks = {item for used in behind for item in used.dimensions.items()}
    marked = [window for window in basis.windows if window.mark in marks]
    if not marked:
        return basis.since, basis.until
    return marked[0].from_, marked[-1].to


def _counts(fee: StoredFee, basis: Basis, dimensions: Mapping[str, str | None]) -> bool:
    """Whether events with these dimensions count for the fee: for the minimum charge all of the charge's do."""
    return fee.true_up_parent_fee_id is not None or is_behind(fee, basis, dimensions)


def _of_event(conn: Connection[Any], fee: StoredFee, basis: Basis) -> Explanation:
    """The steps of a fee that one event made: what was owed after it, less what was owed before."""

    def read() -> tuple[list[StoredEvent], Digest, Fee | None, list[Amendment]]:
        found = event_of(conn, fee, basis)
        listed = [found[1]] if found else []
        digest = event_log.digest_of(conn, [event.identity for event in listed])
        return listed, digest, recompute(conn, [fee])[fee.id], _amended_event(conn, fee, basis)

    listed, digest, recomputed, amended = usage.under_one_version(conn, [fee.organization_id], read)
    amount, _ = _priced(fee)
    steps = _finished(
        fee, [Step("what all events up to this one cost, less what those before it cost", amount)]
    )
    return Explanation(
        steps=steps,
        charge=basis.charge,
        filter=_filter(fee, basis),
        digest=digest,
        listed=listed,
        recomputed=recomputed,
        is_same=_is_same(fee, recomputed),
        amendments=amended,
    )


def _amended(conn: Connection[Any], fee: StoredFee, basis: Basis) -> list[Amendment]:
    """The amendments of events that count, or have counted, for the fee."""
    touching = amendments.touching(
        conn,
        organization_id=basis.subscription.organization_id,
        external_subscription_id=basis.subscription.external_id,
        code=basis.charge.metric.code,
        from_=basis.since,
        to=basis.until,
    )
    identities = {identity for identity, dimensions in touching if _counts(fee, basis, dimensions)}
    chains = amendments.of_events(conn, identities)
    return [each for identity in sorted(identities) for each in chains[identity]]


def _amended_event(conn: Connection[Any], fee: StoredFee, basis: Basis) -> list[Amendment]:
    found, _ = amendments.listing(
        conn,
        AmendmentSearch(
            organization_id=basis.subscription.organization_id,
            event_transaction_id=fee.event_transaction_id,
            external_subscription_id=basis.subscription.external_id,
        ),
        limit=AMENDMENTS_MAX,
        offset=0,
    )
    return found[::-1]


def _filter(fee: StoredFee, basis: Basis) -> PlanFilter | None:
    return next((each for each in basis.charge.filters if each.id == fee.charge_filter_id), None)


def _agreed_steps(fee: StoredFee) -> tuple[Step, ...]:
    """The step of a fee whose amount somebody has said, or about which nothing else is known."""
    amount, _ = _priced(fee)
    return _finished(fee, [Step("the exact amount of the fee", amount)])


def _own_steps(fee: StoredFee) -> tuple[Step, ...]:
    """The steps of a fee whose charge is gone: what the fee itself says."""
    amount, _ = _priced(fee)
    if fee.late_usage_id is not None:
        with exact():
            missing = Decimal(fee.amount_cents) / subunits(fee.amount_currency)
        return (
            Step(
                "what the period comes to with the events that came late, less what was billed of it", missing
            ),
        )
    plan_cents = fee.amount_details.get("plan_amount_cents")
    if plan_cents is None:
        return _agreed_steps(fee)
    with exact():
        plan_amount = Decimal(plan_cents) / subunits(fee.amount_currency)
    return _finished(fee, [plan_step(plan_amount, amount)])


def _minimum_charge_steps(conn: Connection[Any], fee: StoredFee) -> tuple[Step, ...]:
    """The steps of a true-up, by what it and the other fees say."""
    assert fee.invoice_id is not None, "only an invoice has such a fee"
    place = fee.subscription_id, fee.charge_id, fee.from_at, fee.to_at
    others = [
        each
        for each in fee_store.of_invoices(conn, [fee.invoice_id])[fee.invoice_id]
        if (each.subscription_id, each.charge_id, each.from_at, each.to_at) == place
        and each.true_up_parent_fee_id is None
        and not each.pay_in_advance
    ]
    with exact():
        least = sum((_priced(each)[0] for each in [fee, *others]), ZERO)
        rounded = sum((_rounded(each) for each in others), ZERO)
    return _finished(fee, minimum_charge_steps(least, rounded))


def _steps(conn: Connection[Any], fee: StoredFee, charge: Charge) -> tuple[Step, ...]:
    if fee.true_up_parent_fee_id is not None:
        return _minimum_charge_steps(conn, fee)
    amount, unit_amount = _priced(fee)
    steps = charge_steps(
        charge.charge_model,
        units=fee.units,
        unit_amount=unit_amount,
        amount=amount,
        details=fee.amount_details,
        prorated=charge.prorated,
    )
    return _finished(fee, steps)


def _priced(fee: StoredFee) -> tuple[Decimal, Decimal]:
    """The exact amount and that of one unit, in major units of what the fee is priced in."""
    details = fee.pricing_unit_details
    with exact():
        if details is None:
            return fee.precise_amount_cents / subunits(fee.amount_currency), fee.precise_unit_amount
        return Decimal(details["precise_amount_cents"]) / SUBUNITS, Decimal(details["precise_unit_amount"])


def _rounded(fee: StoredFee) -> Decimal:
    """The amount as the fee owes it, likewise in major units of what it is priced in."""
    details = fee.pricing_unit_details
    if details is None:
        return Decimal(fee.amount_cents) / subunits(fee.amount_currency)
    return Decimal(details["amount_cents"]) / SUBUNITS


def _finished(fee: StoredFee, steps: Sequence[Step]) -> tuple[Step, ...]:
    """The steps with what makes money of the price: its conversion, if it has a unit, and the rounding."""
    details = fee.pricing_unit_details
    is_alone = fee.rounding == Rounding.PER_FEE or fee.true_up_parent_fee_id is not None
    rounded_with = None if is_alone else RoundedWith(earlier=fee.earlier)
    if details is not None:
        steps = conversion_steps(
            steps,
            amount_cents=details["amount_cents"],
            short_name=details["short_name"],
            conversion_rate=Decimal(details["conversion_rate"]),
            currency=fee.amount_currency,
            rounded_with=rounded_with,
        )
    return (*steps, rounding_step(steps, fee.amount_cents, fee.amount_currency, rounded_with))


def _is_same(fee: StoredFee, recomputed: Fee | None) -> bool:
    return recomputed is not None and (recomputed.amount_cents, recomputed.units) == (
        fee.amount_cents,
        fee.units,
    )


def _place(event: StoredEvent) -> EventPosition:
    return EventPosition(event.at, event.identity)
