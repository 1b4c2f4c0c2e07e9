"""What cannot be billed as it is, and holds up nobody else: the customer that it is of is held, the others are billed.

All that is due of such a customer waits, so that it is done in its order and on the same invoices once the event or
the price is mended. Whether that is so is tried again by the organization's clock.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from decimal import Overflow
from traceback import extract_tb
from typing import Any, Generic, TypeVar
from uuid import UUID

import psycopg
from psycopg import Connection

from permille.core.errors import AmountOutOfRangeError, Unbillable
from permille.core.record import Record
from permille.database.connections import is_cut_off, is_passing
from permille.store import billing_holds, customers, webhooks

WEBHOOK = "invoice.generation_error"
OUT_OF_RANGE = (
    AmountOutOfRangeError,
    Overflow,
    psycopg.errors.NumericValueOutOfRange,
    psycopg.errors.ProgramLimitExceeded,
)
"""Errors of amounts that no invoice can have. Any other error of the arithmetic, like a division by zero, is a mistake of
ours: it is logged with its stack, and never said to be of the data.
"""

REASON_MAX = 1_000
_PACKAGE = "/permille/"
PAUSE_MIN, PAUSE_MAX = timedelta(minutes=1), timedelta(hours=1)

Item = TypeVar("Item")

log = logging.getLogger(__name__)


def pause(*, since: datetime, now: datetime) -> timedelta:
    """How long it is before something is tried again that could not be done since then: as long as it has waited."""
    return min(max(now - since, PAUSE_MIN), PAUSE_MAX)


@contextmanager
def refusing_unbillable() -> Iterator[None]:
    """Raises Unbillable where an amount does not fit on an invoice."""
    try:
        yield
    except OUT_OF_RANGE as error:
        raise Unbillable(reason_of(error)) from error


def reason_of(error: Exception) -> str:
    """The class of an error, what it says and, unless it is about an amount, where in Permille it was raised.

    It can always be stored, whatever the error quotes.
    """
    if isinstance(error, psycopg.Error) and error.diag.message_primary:
        text = error.diag.message_primary
    else:
        text = f"{type(error).__name__}: {error}"
    if not isinstance(error, OUT_OF_RANGE) and (place := _place(error)):
        text = f"{text[:REASON_MAX]} ({place})"
    return text.replace("\0", "").encode(errors="replace").decode()


def _place(error: Exception) -> str | None:
    """The last line of ours that was on the way."""
    frames = [frame for frame in extract_tb(error.__traceback__) if _PACKAGE in frame.filename]
    if not frames:
        return None
    path = frames[-1].filename.rpartition(_PACKAGE)[2]
    return f"{path}:{frames[-1].lineno}"


class Failure(Record, Generic[Item], kw_only=True):
    """What cannot be done of a customer: its first item that fails together with those before it."""

    customer_id: UUID
    item: Item
    error: Exception

    @property
    def reason(self) -> str:
        return self.error.reason if isinstance(self.error, Unbillable) else reason_of(self.error)

    @property
    def code(self) -> str:
        """The error code: `cannot_be_billed` for an error of ours, which no amount explains."""
        return "amount_out_of_range" if isinstance(self.error, Unbillable) else "cannot_be_billed"


class _Trial(Generic[Item]):
    """Does items, and finds those that fail; whatever fails leaves no trace.

    Only what others do is raised: a lost database, a transaction in the way, a time limit.
    """

    def __init__(self, conn: Connection[Any], do: Callable[[Sequence[Item]], None]) -> None:
        self._conn = conn
        self._do = do

    def run(self, items: Sequence[Item], *, is_dry: bool = False) -> Exception | None:
        """Why these cannot be done, None when they were; a dry run is undone."""
        try:
            with self._conn.transaction(force_rollback=is_dry), refusing_unbillable():
                self._do(items)
        except Exception as error:
            if is_passing(error) or is_cut_off(error):
                raise
            return error
        return None

    def failing(
        self, groups: Sequence[Sequence[Item]], reason: Exception
    ) -> list[tuple[Sequence[Item], Exception]]:
        """Those of the groups that fail, which together do for this reason."""
        if len(groups) == 1:
            return [(groups[0], reason)]
        found: list[tuple[Sequence[Item], Exception]] = []
        for half in (groups[: len(groups) // 2], groups[len(groups) // 2 :]):
            why = self.run([item for group in half for item in group], is_dry=True)
            if why is not None:
                found += self.failing(half, why)
        return found

    def first_failing(self, items: Sequence[Item]) -> int:
        """The place of the first item that fails with all before it, of items that fail together."""
        fine, failing = 0, len(items)
        while failing - fine > 1:
            middle = (fine + failing) // 2
            if self.run(items[:middle], is_dry=True) is None:
                fine = middle
            else:
                failing = middle
        return failing - 1


def do_apart(
    conn: Connection[Any],
    items: Sequence[Item],
    do: Callable[[Sequence[Item]], None],
    *,
    customer_of: Callable[[Item], UUID | None],
    known: Callable[[Sequence[Item]], Mapping[UUID, str]] = lambda _: {},
    keeps_begun: bool = False,
) -> list[Failure[Item]]:
    """Do all items at once, without those of customers of whom they cannot be done; what these are.

    It is one savepoint as long as nothing is wrong. `known` can say at a glance of which customers they cannot be done,
    and why; others are found by halves. `keeps_begun` does of such a customer what comes before the first item that
    fails. What is done is done in one go, so that it comes out as if nothing else had been there.
    """
    trial = _Trial(conn, do)
    reason = trial.run(items)
    if reason is None:
        return []
    by_customer: dict[UUID | None, list[Item]] = {}
    for item in items:
        by_customer.setdefault(customer_of(item), []).append(item)
    found: dict[UUID, tuple[list[Item], Exception]] = {
        customer_id: (by_customer[customer_id], Unbillable(why)) for customer_id, why in known(items).items()
    }
    others = [group for customer_id, group in by_customer.items() if customer_id not in found]
    if found:
        reason = trial.run([item for group in others for item in group], is_dry=True)
    if reason is not None:
        for group, why in trial.failing(others, reason):
            customer_id = customer_of(group[0])
            if customer_id is None:
                raise why  # it is of no customer that could be held
            found[customer_id] = (list(group), why)
    failures: list[Failure[Item]] = []
    left_out: set[int] = set()
    for customer_id, (group, why) in found.items():
        place = trial.first_failing(group)
        failures.append(Failure(customer_id=customer_id, item=group[place], error=why))
        left_out |= {id(item) for item in (group[place:] if keeps_begun else group)}
    rest = [item for item in items if id(item) not in left_out]
    if rest:
        with conn.transaction():
            do(rest)
    return failures


def do_due(
    conn: Connection[Any],
    organization_id: UUID,
    items: Sequence[Item],
    do: Callable[[Sequence[Item]], None],
    *,
    customer_of: Callable[[Item], UUID],
    named: Callable[[Item], Mapping[str, str]] = lambda _: {},
    at: datetime,
    now: datetime,
) -> int:
    """Do what is due at an instant of customers, which are locked, and hold those of whom it cannot be done; how many items those were."""
    if items:
        failures = do_apart(conn, items, do, customer_of=customer_of)
        hold(conn, organization_id, failures, due_at=lambda _: at, named=named, now=now)
    return len(items)


def hold(
    conn: Connection[Any],
    organization_id: UUID,
    failures: Sequence[Failure[Item]],
    *,
    due_at: Callable[[Item], datetime],
    named: Callable[[Item], Mapping[str, str]],
    now: datetime,
) -> None:
    """Hold the customers of what has failed, and say so: in the log at each try, by webhook once."""
    if not failures:
        return
    known = customers.by_ids(conn, {failure.customer_id for failure in failures})
    for failure in sorted(failures, key=lambda failure: failure.customer_id):
        customer, due, names = known[failure.customer_id], due_at(failure.item), named(failure.item)
        held = billing_holds.hold(
            conn,
            organization_id=organization_id,
            customer_id=customer.id,
            due_at=due,
            reason=failure.reason,
            now=now,
        )
        log.error(
            "Customer %s (%s) of organization %s cannot be billed as of %s%s: %s. It is tried again at %s.",
            customer.external_id,
            customer.id,
            organization_id,
            due.isoformat(),
            "".join(f", {name} {value}" for name, value in names.items()),
            failure.reason if isinstance(failure.error, Unbillable) else failure.error,
            held.retry_at.isoformat(),
            exc_info=None if isinstance(failure.error, Unbillable) else failure.error,
        )
        if held.is_new:
            webhooks.enqueue(
                conn,
                organization_id=organization_id,
                webhook_type=WEBHOOK,
                object_type="invoice_generation_error",
                object_ids=[customer.id],
                payload={
                    "lago_customer_id": str(customer.id),
                    "external_customer_id": customer.external_id,
                    "external_subscription_id": None,
                    "lago_invoice_id": None,
                    "event_transaction_id": None,
                    **names,
                    "due_at": due.isoformat().replace("+00:00", "Z"),
                    "error_code": failure.code,
                    "error_message": failure.reason,
                },
                now=now,
            )


def retry_soon(conn: Connection[Any], organization_id: UUID, *, now: datetime) -> None:
    """Somebody wants what is held, and what is left alone, to be tried again at the next turn."""
    billing_holds.retry_soon(conn, organization_id, now=now)
