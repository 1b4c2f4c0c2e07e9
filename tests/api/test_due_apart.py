"""Whatever is due of one customer and fails holds that customer: the others of its organization are done, of every kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from permille.store import billing_holds
from permille.usecases.due import due
from permille.usecases.due.activations import ACTIVATIONS
from permille.usecases.due.bills import BILLS
from permille.usecases.due.drafts import DRAFTS
from permille.usecases.due.dunning import DUNNING
from permille.usecases.due.end_alerts import END_ALERTS
from permille.usecases.due.ends import ENDS
from permille.usecases.due.event_errors import EVENT_ERRORS
from permille.usecases.due.kind import DueKind
from permille.usecases.due.overdue import OVERDUE
from permille.usecases.due.starts import STARTS
from permille.usecases.due.wallets import EXPIRY, TOP_UPS

from .conftest import Api
from .test_drafts import move
from .test_dunning import CAMPAIGN
from .test_wallets import open_wallet

NAMES = ("bad", "fine", "fine too")
"""The first of them fails."""
OF_SUBSCRIPTION = "select from subscription o where o.customer_id = c.id and "


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What gives a customer something to do, what shows that it was done, and which change fails."""

    kind: DueKind
    fill: Callable[[Api, str], object]
    is_done: str
    """Of a customer `c`."""
    breaks: str
    """A table, and which of its new rows: of the customer `bad`."""


def _sold(api: Api, name: str, **fields: Any) -> None:
    """31.00 a month in advance."""
    api.customer(name)
    api.subscribe(name, external_customer_id=name, **fields)


def _rule(api: Api, name: str, **rule: Any) -> None:
    api.customer(name)
    rules = [{"trigger": "interval", "interval": "monthly", "granted_credits": "1", **rule}]
    open_wallet(api, external_customer_id=name, recurring_transaction_rules=rules)


def _wallet(api: Api, name: str) -> None:
    api.customer(name)
    open_wallet(api, external_customer_id=name, expiration_at="2024-03-06T00:00:00Z")


def _draft(api: Api, name: str) -> None:
    api.customer(name, billing_configuration={"invoice_grace_period": 3})
    api.subscribe(name, external_customer_id=name)


SCENES = {
    "a wallet expires": Scene(
        kind=EXPIRY,
        fill=_wallet,
        is_done="select from wallet o where o.customer_id = c.id and o.status = 'terminated'",
        breaks="wallet: new.status = 'terminated' and new.customer_id = bad",
    ),
    "a rule expires": Scene(
        kind=EXPIRY,
        fill=lambda api, name: _rule(api, name, expiration_at="2024-03-06T00:00:00Z"),
        is_done="select from wallet_rule o join wallet w on w.id = o.wallet_id where w.customer_id = c.id"
        " and o.status = 'terminated'",
        breaks="wallet_rule: new.status = 'terminated'"
        " and bad = (select customer_id from wallet where id = new.wallet_id)",
    ),
    "nobody pays a start": Scene(
        kind=ACTIVATIONS,
        fill=lambda api, name: _sold(api, name, activation_rules=[{"type": "payment", "timeout_hours": 48}]),
        is_done=OF_SUBSCRIPTION + "o.status = 'canceled'",
        breaks="subscription: new.status = 'canceled' and new.customer_id = bad",
    ),
    "a start": Scene(
        kind=STARTS,
        fill=lambda api, name: _sold(api, name, subscription_at="2024-03-07T00:00:00Z"),
        is_done=OF_SUBSCRIPTION + "o.status = 'active'",
        breaks="subscription: new.status = 'active' and new.customer_id = bad",
    ),
    "an end": Scene(
        kind=ENDS,
        fill=lambda api, name: _sold(api, name, ending_at="2024-03-07T00:00:00Z"),
        is_done=OF_SUBSCRIPTION + "o.status = 'terminated'",
        breaks="subscription: new.status = 'terminated' and new.customer_id = bad",
    ),
    "an end to come": Scene(
        kind=END_ALERTS,
        fill=lambda api, name: _sold(api, name, ending_at="2024-04-20T10:00:00Z"),
        is_done=OF_SUBSCRIPTION + "o.end_alert_at is distinct from '2024-03-06'",
        breaks="subscription: new.end_alert_at is distinct from '2024-03-06' and new.customer_id = bad",
    ),
    "a bill": Scene(
        kind=BILLS,
        fill=_sold,
        is_done="select from invoice o where o.customer_id = c.id and o.created_at >= '2024-04-01'",
        breaks="invoice: new.created_at >= '2024-04-01' and new.customer_id = bad",
    ),
    "a draft": Scene(
        kind=DRAFTS,
        fill=_draft,
        is_done="select from invoice o where o.customer_id = c.id and o.status = 'finalized'",
        breaks="invoice: new.status = 'finalized' and new.customer_id = bad",
    ),
    "what is overdue": Scene(
        kind=OVERDUE,
        fill=_sold,
        is_done="select from invoice o where o.customer_id = c.id and o.payment_overdue",
        breaks="invoice: new.payment_overdue and new.customer_id = bad",
    ),
    "dunning": Scene(
        kind=DUNNING,
        fill=_sold,
        is_done="select from payment_request o where o.customer_id = c.id",
        breaks="payment_request: new.customer_id = bad",
    ),
    "a top-up": Scene(
        kind=TOP_UPS,
        fill=_rule,
        is_done="select from wallet w join wallet_transaction o on o.wallet_id = w.id where w.customer_id = c.id"
        " and o.source = 'interval'",
        breaks="wallet_transaction: new.source = 'interval'"
        " and bad = (select customer_id from wallet where id = new.wallet_id)",
    ),
}


@contextmanager
def poisoned(api: Api, breaks: str) -> Iterator[None]:
    """What the database raises for some rows of the customer `bad`."""
    table, _, condition = breaks.partition(": ")
    (bad,) = api.row(
        "select id from customer where organization_id = %(organization)s and external_id = 'bad'"
    )
    api.conn.execute(
        "create function poison() returns trigger language plpgsql as $$"
        f" declare bad uuid := '{bad}'; begin"
        f" if {condition} then raise exception 'poisoned'; end if; return new; end $$"
    )
    api.conn.execute(
        f"create trigger poison before insert or update on {table} for each row execute function poison()"
    )
    api.conn.commit()
    try:
        yield
    finally:
        api.conn.rollback()
        api.conn.execute("drop function poison cascade")
        api.conn.commit()


def done(api: Api, scene: Scene) -> list[str]:
    api.conn.rollback()
    rows = api.conn.execute(
        f"select external_id from customer c where organization_id = %s and exists ({scene.is_done})"
        " order by external_id",
        [api.organization.id],
    ).fetchall()
    return [name for (name,) in rows]


def held(api: Api) -> list[tuple[str, str]]:
    api.conn.rollback()
    rows, _ = billing_holds.listing(api.conn, api.organization.id, limit=9, offset=0)
    return [(row.external_customer_id, row.reason) for row in rows]


@pytest.mark.parametrize("scene", SCENES.values(), ids=SCENES)
def test_what_fails_of_one_customer_holds_up_no_other(api: Api, scene: Scene) -> None:
    api.plan("pro", amount_cents=3_100, pay_in_advance=True)
    api.post("/dunning_campaigns", {"dunning_campaign": CAMPAIGN})
    api.put("/billing_entities/default", {"billing_entity": {"dunning_campaign_code": "late"}})
    for name in NAMES:
        scene.fill(api, name)
    assert done(api, scene) == []
    with poisoned(api, scene.breaks):
        move(api, 2024, 4, 10)
        assert done(api, scene) == ["fine", "fine too"]
        ((name, reason),) = held(api)
        assert (name, reason.startswith("poisoned")) == ("bad", True)
        move(api, 2024, 4, 12)
        assert done(api, scene) == ["fine", "fine too"]
    move(api, 2024, 4, 20)
    assert done(api, scene) == sorted(NAMES)
    assert held(api) == []


def test_every_kind_of_due_work_is_among_them() -> None:
    """Hours of events that cannot count are of no customer: they have a fence of their own."""
    assert [each for each in due.KINDS if each not in [scene.kind for scene in SCENES.values()]] == [
        EVENT_ERRORS
    ]
