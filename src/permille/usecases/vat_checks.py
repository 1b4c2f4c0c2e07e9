"""VAT numbers are looked up in VIES, where the settings name it; what it says chooses the customer's tax again.

No transaction is open while it is asked. In test mode it isn't. Source: semantics-billing.md section 1.4.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg_pool import ConnectionPool

from permille.config import Config
from permille.core.eu_tax import read_vat_number
from permille.core.record import Record
from permille.out.addresses import reach_of
from permille.out.calls import Client
from permille.out.vies import NoAnswerError, Registration, look_up
from permille.store import customers, vat_checks as store, webhooks
from permille.store.vat_checks import VatCheck
from permille.usecases import fences
from permille.usecases.catalogue import customers as catalogue, eu_taxes
from permille.usecases.fences import Task

WEBHOOK = "customer.vies_check"
BATCH = 10
"""Look-ups of an organization in a turn."""
LEASE = timedelta(minutes=15)
PAUSES = tuple(timedelta(minutes=minutes) for minutes in (1, 5, 15, 60, 240, 720))
"""After the first attempt that decided nothing, the second, ...; the last one from then on."""
PAUSE_OF_OTHERS = PAUSES[0]
"""How long the other numbers wait then. It may be that one alone that VIES does not answer for, so it is not longer each time."""

NOT_RECORDED = "The answer could not be recorded: the log says why."


class _Register(Record, kw_only=True):
    """How VIES is asked."""

    pool: ConnectionPool[Connection[Any]]
    client: Client
    url: str
    is_stopping: Callable[[], bool]


def look_live(
    pool: ConnectionPool[Connection[Any]], config: Config, now: datetime, is_stopping: Callable[[], bool]
) -> int:
    """Look up what is due of any organization; how many attempts that were. `now` is the system's clock."""
    if config.vies_url is None:
        return 0
    with pool.connection() as conn:
        waiting = store.organizations_waiting(conn, now=now)
    if not waiting:
        return 0
    with Client(reach_of(config, test_mode=False)) as client:
        register = _Register(pool=pool, client=client, url=config.vies_url, is_stopping=is_stopping)

        def do(organization_id: UUID) -> int:
            return look(register, organization_id, now=now)

        return fences.for_each(pool, Task.VAT_NUMBERS, waiting, do, now=now)


def look(register: _Register, organization_id: UUID, *, now: datetime) -> int:
    """Look up some of what is due of an organization; when VIES is away, all of it waits a little."""
    count = 0
    while count < BATCH and not register.is_stopping():
        with register.pool.connection() as conn:
            check = store.claim(conn, organization_id, now=now, lease_until=now + LEASE)
        if check is None:
            break
        count += 1
        number = read_vat_number(check.number)
        try:
            found = look_up(register.client, register.url, number) if number else Registration(is_valid=False)
        except NoAnswerError as error:
            _retry(register, check, error, now=now)
        else:
            _record(register, check, found, now=now)
    return count


def _record(register: _Register, check: VatCheck, found: Registration, *, now: datetime) -> None:
    """Decide a look-up; where that fails for its customer, it alone is asked again later."""
    with register.pool.connection() as conn:
        failed = fences.for_each_customer(
            conn,
            Task.VAT_NUMBERS,
            check.organization_id,
            [check],
            lambda _: _decide(conn, check, found, now=now),
            customer_of=lambda each: each.customer_id,
            now=now,
        )
        if failed:
            store.retry(conn, check, problem=NOT_RECORDED, at=_next_attempt(check, now))


def _retry(register: _Register, check: VatCheck, error: NoAnswerError, *, now: datetime) -> None:
    with register.pool.connection() as conn:
        store.retry(conn, check, problem=str(error), at=_next_attempt(check, now))
        if not error.is_of_one_country:
            store.postpone(conn, check.organization_id, now=now, until=now + PAUSE_OF_OTHERS)


def _next_attempt(check: VatCheck, now: datetime) -> datetime:
    return now + PAUSES[min(check.attempts, len(PAUSES)) - 1]


def _decide(conn: Connection[Any], check: VatCheck, found: Registration, *, now: datetime) -> None:
    """Record what was found out, with the tax and the webhook that follow."""
    known = customers.by_ids(conn, [check.customer_id])[check.customer_id]
    customer = catalogue.to_change(conn, check.organization_id, known.external_id)
    if customer is None or customer.id != check.customer_id:
        return  # it is no more, or was renamed just now: then the lease ends
    was_valid = store.verdict(conn, customer.id, check.number)
    is_wanted = store.decide(
        conn, check, is_valid=found.is_valid, name=found.name, address=found.address, now=now
    )
    if not is_wanted:
        return
    columns = eu_taxes.after_check(
        conn, customer, was_valid=was_valid is not False, is_valid=found.is_valid, now=now
    )
    if columns:
        catalogue.change(conn, customer, columns=columns, now=now)
    webhooks.enqueue(
        conn,
        organization_id=check.organization_id,
        webhook_type=WEBHOOK,
        object_type="customer",
        object_ids=[check.id],
        payload=None,
        now=now,
    )
