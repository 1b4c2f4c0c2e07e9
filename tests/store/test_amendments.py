"""After any events, amendments and roll-ups, usage is that of the events that survive."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from permille.core.metering.amendment import AmendmentKind
from permille.events.draft import Draft
from permille.events.postgres import rollup
from permille.events.postgres.usage import count_events, usage_of_many
from permille.events.usage import UsageQuery
from permille.usecases import metering
from permille.usecases.amendments import AmendmentRequest, UnableToAmendError, amend

from .test_usage import NOW, START, Feed, compare

STEPS = ("send", "amend", "amend several", "roll up", "roll up a little", "other dimensions")


class Amended(Feed):
    """A feed whose events are amended; `sent` is what counts, at the places of what was sent."""

    def __init__(self, dsn: str, db: psycopg.Connection[Any], seed: int) -> None:
        super().__init__(dsn, db, seed)
        self.metric("sum", "sum_agg", ("model",))
        self.metric("distinct", "unique_count_agg", ("model",))
        self.originals: dict[int, Draft] = {}
        self.amendments = 0

    def amend(self, count: int) -> None:
        if not self.sent and not self.originals:
            return
        self.originals |= {seq: draft for seq, draft in self.sent if seq not in self.originals}
        counting = dict(self.sent)
        asked = []
        for _ in range(count):
            seq = self.chance.choice(list(self.originals))
            original = self.originals[seq]
            one, survivor = self._asked(original)
            asked.append(one)
            counting.pop(seq, None)
            if survivor is not None:
                counting[seq] = survivor
        amend(self.db, self.organization, asked, api_key_id=None, now=NOW)
        self.db.commit()
        self.sent = sorted(counting.items())

    def _asked(self, original: Draft) -> tuple[AmendmentRequest, Draft | None]:
        self.amendments += 1
        kind = self.chance.choice(list(AmendmentKind))
        new = self._draft()
        survivor: Draft | None = None
        changes: dict[str, Any] = {}
        if kind is AmendmentKind.REPLACE:
            changes = {
                "code": new.code,
                "timestamp": Decimal(new.at) / 1_000_000,
                "precise_total_amount_cents": new.precise,
                "properties": new.properties,
            }
            names = self.chance.sample(list(changes), self.chance.randrange(1, 5))
            changes = {name: value for name, value in changes.items() if name in names and value is not None}
            survivor = Draft(
                original.transaction_id,
                changes.get("code", original.code),
                original.external_subscription_id,
                new.at if "timestamp" in changes else original.at,
                changes.get("precise_total_amount_cents", original.precise),
                changes.get("properties", original.properties),
            )
        one = AmendmentRequest(
            transaction_id=f"a{self.amendments}",
            event_transaction_id=original.transaction_id,
            external_subscription_id=original.external_subscription_id,
            kind=kind,
            reason="wrong",
            changes=changes,
        )
        return one, survivor

    def send(self, count: int) -> None:
        """As in Feed; places go on from all that were ever sent."""
        known = max([seq for seq, _ in self.sent] + list(self.originals), default=-1) + 1
        before, self.sent = self.sent, []
        super().send(count)
        self.sent = before + [(known + place, draft) for place, draft in self.sent]

    def other_dimensions(self) -> None:
        self.db.execute(
            "insert into billable_metric_filter (billable_metric_id, key, values, position)"
            " select id, 'note', '{n}', 1 from billable_metric where code = 'sum' and organization_id = %s"
            " on conflict do nothing",
            [self.organization],
        )
        metering.refresh(self.db, organization_id=self.organization, code="sum")
        self.db.commit()

    def window(self) -> UsageQuery:
        seconds = [0, 1_800, 3_600, 86_400, 7_777]
        bounds = sorted(
            START + timedelta(seconds=self.chance.choice(seconds) * self.chance.randrange(90))
            for _ in range(2)
        )
        return window_of(self, self.chance.choice([bounds[0], None]), bounds[1])


def window_of(feed: Feed, from_: datetime | None, to: datetime) -> UsageQuery:
    return UsageQuery(
        organization_id=feed.organization,
        external_subscription_id=feed.chance.choice(["s1", "s2"]),
        codes=("sum", "distinct"),
        from_=from_,
        to=to,
        newest=("sum",),
        unique_fields=(("distinct", "tokens"),),
        operation_fields=(("distinct", "tokens"),),
        each_value=("sum",),
    )


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    seed=st.integers(0, 2**32),
    steps=st.lists(st.sampled_from(STEPS), min_size=3, max_size=14),
)
def test_usage_is_that_of_the_events_that_survive(
    dsn: str, db: psycopg.Connection[Any], seed: int, steps: Sequence[str]
) -> None:
    feed = Amended(dsn, db, seed)
    feed.send(25)
    for step in steps:
        match step:
            case "send":
                feed.send(10)
            case "amend":
                feed.amend(1)
            case "amend several":
                feed.amend(8)
            case "roll up":
                rollup.roll_up(db)
            case "roll up a little":
                rollup.roll_up(db, limit=7)
            case _:
                feed.other_dimensions()
        db.commit()
        for _ in range(2):
            compare(feed, feed.window())
        compare(feed, window_of(feed, None, START + timedelta(days=40)))
    assert rollup.verify(db) == []
    ids = [
        row[0] for row in db.execute("select id from series where organization_id = %s", [feed.organization])
    ]
    assert count_events(db, ids, from_=None, to=START + timedelta(days=400)) == len(feed.sent)
    feed.conn.close()


class Between:
    """A connection on which events are amended after the first read of sums."""

    def __init__(self, feed: Amended, conn: psycopg.Connection[Any]) -> None:
        self.feed, self.conn, self.reads = feed, conn, 0

    def execute(self, query: str, parameters: Any = None) -> Any:
        answer = self.conn.execute(query, parameters)
        if "total as" in query:
            self.reads += 1
            if self.reads == 1:
                self.feed.amend(30)
        return answer

    def commit(self) -> None:
        self.conn.commit()


def test_an_amendment_between_two_statements_of_a_read_is_seen(dsn: str, db: psycopg.Connection[Any]) -> None:
    feed = Amended(dsn, db, seed=3)
    feed.send(60)
    with psycopg.connect(dsn) as other:
        window = window_of(feed, None, START + timedelta(days=40))
        reading: Any = Between(feed, other)
        usage_of_many(reading, [window])
        assert reading.reads == 2
        other.commit()
        feed.db = other
        compare(feed, window)
        feed.db = db


def test_amendments_beside_the_roll_up_and_ingestion_stay_exact(
    dsn: str, db: psycopg.Connection[Any]
) -> None:
    feed = Amended(dsn, db, seed=4)
    feed.send(50)
    over = threading.Event()
    problems: list[Exception] = []

    def roll() -> None:
        try:
            with psycopg.connect(dsn) as conn:
                while not over.is_set():
                    rollup.roll_up(conn, limit=9)
                    conn.commit()
        except Exception as error:
            problems.append(error)

    rolling = [threading.Thread(target=roll) for _ in range(2)]
    for thread in rolling:
        thread.start()
    try:
        for _ in range(12):
            feed.send(12)
            feed.amend(5)
            compare(feed, window_of(feed, None, START + timedelta(days=40)))
    finally:
        over.set()
        for thread in rolling:
            thread.join()
    assert problems == []
    assert rollup.verify(db) == []


def test_a_failure_leaves_nothing_behind(
    dsn: str, db: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = Amended(dsn, db, seed=5)
    feed.send(30)
    rollup.roll_up(db)
    db.commit()

    def fail(*_: Any) -> None:
        raise RuntimeError("the process dies here")

    with monkeypatch.context() as patch:
        patch.setattr("permille.events.postgres.amendments.refold", fail)
        with pytest.raises(RuntimeError):
            feed.amend(10)
    db.rollback()
    assert db.execute("select count(*) from event_amendment").fetchone() == (0,)
    assert rollup.verify(db) == []
    compare(feed, window_of(feed, None, START + timedelta(days=40)))


def test_nothing_stored_is_changed(dsn: str, db: psycopg.Connection[Any]) -> None:
    feed = Amended(dsn, db, seed=6)
    feed.send(30)
    query = "select * from event where seq is not null and identity not in (select id from event_amendment) order by seq"
    before = db.execute(query).fetchall()
    feed.amend(20)
    assert db.execute(query).fetchall() == before
    for table in ("event_amendment", "struck_event"):
        with pytest.raises(psycopg.errors.RaiseException):
            db.execute(f"delete from {table}")
        db.rollback()


def test_an_unknown_event_and_a_second_amendment_are_refused(dsn: str, db: psycopg.Connection[Any]) -> None:
    feed = Amended(dsn, db, seed=7)
    feed.send(2)
    one, _ = feed._asked(feed.sent[0][1])
    amend(db, feed.organization, [one], api_key_id=None, now=NOW.astimezone(UTC))
    with pytest.raises(UnableToAmendError) as refused:
        amend(db, feed.organization, [one], api_key_id=None, now=NOW)
    assert refused.value.errors == {0: {"transaction_id": ["value_already_exist"]}}
