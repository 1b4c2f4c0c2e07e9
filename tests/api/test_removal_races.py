"""A customer, a plan or a subscription goes while something else bills: it waits for the customer first, so neither waits for the other."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from psycopg import Connection

from permille.usecases.catalogue import customers, plans, subscriptions
from tests.live import PATIENCE_SECONDS

from .conftest import START, Api
from .test_activation_rules import RULE
from .test_wallets import open_wallet

Removal = Callable[[Connection[Any], Api], None]


def remove_customer(conn: Connection[Any], api: Api) -> None:
    customers.remove(conn, customers.by_external_id(conn, api.organization.id, "cus"), now=START)


def remove_plan(conn: Connection[Any], api: Api) -> None:
    plans.remove(conn, plans.by_code(conn, api.organization.id, "pro", now=START), now=START)


def end_subscription(conn: Connection[Any], api: Api) -> None:
    own = [api.organization.id]
    (status,) = conn.execute("select status from subscription where organization_id = %s", own).fetchall()[0]
    row = subscriptions.to_end(conn, api.organization.id, "sub", status=status)
    subscriptions.end(conn, row, now=START)


def waits(conn: Connection[Any], pid: int) -> bool:
    asked = "select from pg_locks where pid = %s and not granted"
    return conn.execute(asked, [pid]).fetchone() is not None


@pytest.mark.parametrize("remove", [remove_customer, remove_plan, end_subscription])
@pytest.mark.parametrize("rules", [[], [RULE]], ids=["runs", "waits_for_its_payment"])
def test_it_holds_nothing_while_it_waits_for_the_customer(
    api: Api, dsn: str, remove: Removal, rules: list[Any]
) -> None:
    api.plan("pro", amount_cents=3_100, pay_in_advance=True)
    api.customer()
    open_wallet(api, "4")
    api.subscribe("sub", activation_rules=rules)
    api.conn.rollback()
    with psycopg.connect(dsn) as removing, psycopg.connect(dsn) as billing:
        of = "organization_id = %s"
        own = [api.organization.id]
        billing.execute(f"select from customer where {of} for no key update", own)
        thread = threading.Thread(target=remove, args=(removing, api))
        thread.start()
        until = time.monotonic() + PATIENCE_SECONDS
        with psycopg.connect(dsn, autocommit=True) as watch:
            while not waits(watch, removing.info.backend_pid):
                assert thread.is_alive(), "it waits for nobody"
                assert time.monotonic() < until, "it waits for nobody"
                time.sleep(0.01)
        for table in ("wallet", "subscription", "invoice"):
            billing.execute(f"select from {table} where {of} for update nowait", own)
        billing.commit()
        thread.join()
        removing.commit()
    living = api.get("/subscriptions", **{"status[]": ["incomplete", "active"]})["subscriptions"]
    assert living == []
