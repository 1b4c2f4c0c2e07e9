"""Explain a fee: its formula, the price that matched, the events behind it, and whether it comes out the same now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from psycopg import Connection

from permille.billing.recomputation import (
    Basis,
    bases,
    event_of,
    fees_now,
    is_behind,
    recompute,
    same_place,
)
from permille.core.amendment import Amendment
from permille.core.explanation import Step, charge_steps, conversion_steps, rounding_step
from permille.core.fee import Fee
from permille.core.money import exact, subunits
from permille.core.plan import Charge, PlanFilter
from permille.core.pricing import ChargeModel
from permille.core.pricing_unit import SUBUNITS
from permille.store import amendments, events, metering, usage
from permille.store.events import Digest, Place, StoredEvent
from permille.store.invoices import StoredFee
from permille.store.usage import SeriesUsage

AMENDMENTS_MAX = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Of one fee. For a fee without a charge there are only the steps."""

    steps: tuple[Step, ...]
    charge: Charge | None = None
    filter: PlanFilter | None = None
    """The price that matched; None is the charge's own."""
    digest: Digest | None = None
    listed: Sequence[StoredEvent] = ()
    next_place: Place | None = None
    recomputed: Fee | None = None
    """What the same events come to with the prices of now; None when the charge is gone, or there is nothing."""
    is_same: bool = True
    amendments: Sequence[Amendment] = ()
    """Of events that count, or have counted, for the fee."""


def explain(conn: Connection[Any], fee: StoredFee, *, after: Place | None, limit: int) -> Explanation:
    """The fee explained, with a page of its events from `after` on."""
    basis = bases(conn, [fee]).get(fee.id) if fee.true_up_parent_fee_id is None else None
    if basis is None:
        return Explanation(steps=_own_steps(fee))
    if fee.event_transaction_id is not None:
        return _of_event(conn, fee, basis)

    def read() -> tuple[list[SeriesUsage], Digest, list[StoredEvent], list[Amendment]]:
        found = usage.series_usage(conn, basis.windows)
        ids = sorted({each.series_id for each in found if is_behind(fee, basis, each.dimensions)})
        digest = events.digest(conn, ids, from_=basis.since, to=basis.until)
        listed = events.after(conn, ids, from_=basis.since, to=basis.until, place=after, limit=limit + 1)
        return found, digest, listed, _amended(conn, fee, basis)

    found, digest, listed, amended = metering.under_one_version(conn, read)
    recomputed = same_place(fee, fees_now(basis, found))
    return Explanation(
        steps=_steps(fee, basis.charge),
        charge=basis.charge,
        filter=_filter(fee, basis),
        digest=digest,
        listed=listed[:limit],
        next_place=_place(listed[limit - 1]) if len(listed) > limit else None,
        recomputed=recomputed,
        is_same=_is_same(fee, recomputed),
        amendments=amended,
    )


def _of_event(conn: Connection[Any], fee: StoredFee, basis: Basis) -> Explanation:
    """Of a fee that one event made: what was owed after it, less what was owed before."""

    def read() -> tuple[list[StoredEvent], Digest, Fee | None, list[Amendment]]:
        found = event_of(conn, fee, basis)
        listed = [found[1]] if found else []
        digest = events.digest_of(conn, [event.identity for event in listed])
        return listed, digest, recompute(conn, [fee])[fee.id], _amended_event(conn, fee, basis)

    listed, digest, recomputed, amended = metering.under_one_version(conn, read)
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
    identities = {identity for identity, dimensions in touching if is_behind(fee, basis, dimensions)}
    chains = amendments.of_events(conn, identities)
    return [each for identity in sorted(identities) for each in chains[identity]]


def _amended_event(conn: Connection[Any], fee: StoredFee, basis: Basis) -> list[Amendment]:
    found, _ = amendments.listing(
        conn,
        amendments.Search(
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


def _own_steps(fee: StoredFee) -> tuple[Step, ...]:
    """Of a fee without a charge that is still there: what the fee itself says."""
    amount, _ = _priced(fee)
    return _finished(fee, [Step("the exact amount of the fee", amount)])


def _steps(fee: StoredFee, charge: Charge) -> tuple[Step, ...]:
    amount, unit_amount = _priced(fee)
    steps = charge_steps(
        ChargeModel(charge.charge_model),
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


def _finished(fee: StoredFee, steps: Sequence[Step]) -> tuple[Step, ...]:
    """The steps with what makes money of the price: its conversion, if it has a unit, and the rounding."""
    details = fee.pricing_unit_details
    if details is not None:
        steps = conversion_steps(
            steps,
            precise_cents=Decimal(details["precise_amount_cents"]),
            amount_cents=details["amount_cents"],
            short_name=details["short_name"],
            conversion_rate=Decimal(details["conversion_rate"]),
            currency=fee.amount_currency,
        )
    return (*steps, rounding_step(fee.precise_amount_cents, fee.amount_cents, fee.amount_currency))


def _is_same(fee: StoredFee, recomputed: Fee | None) -> bool:
    return recomputed is not None and (recomputed.amount_cents, recomputed.units) == (
        fee.amount_cents,
        fee.units,
    )


def _place(event: StoredEvent) -> Place:
    return Place(event.at, event.identity)
