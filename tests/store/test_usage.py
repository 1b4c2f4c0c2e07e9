"""Usage reads against a fold in Python over the same events, whatever is rolled up and wherever the window ends."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import psycopg
import pytest
from hypothesis import given, strategies as st

from permille.core.instants import microseconds
from permille.core.metering.event import numeric_value, property_text
from permille.core.metering.usage import Partial, epoch_seconds
from permille.core.period import Period
from permille.core.rating.proration import Prorated, Proration, prorate_uniques
from permille.core.record import replace
from permille.events.draft import Draft
from permille.events.log import Request
from permille.events.postgres import rollup
from permille.events.postgres.usage import count_events, pieces, usage_of_many
from permille.events.postgres.writer import Memory, open_connection, store
from permille.events.usage import BEGINNING, Cut, SeriesUsage, UsageQuery
from permille.ids import new_id
from permille.store import organizations
from permille.usecases import metering
from tests.core.given import merge_all

START = datetime(2026, 9, 28, tzinfo=UTC)
NOW = datetime(2026, 10, 1, tzinfo=UTC)
instants = st.datetimes(datetime(2023, 12, 1), datetime(2025, 3, 1), timezones=st.just(UTC))


@given(instants, instants)
def test_the_pieces_of_a_window_tile_it(one: datetime, other: datetime) -> None:
    start, end = min(one, other), max(one, other)
    at = start
    for grain, piece_start, piece_end in pieces(start, end):
        assert piece_start == at
        assert piece_start < piece_end
        if grain != "e":
            assert piece_start.minute == piece_end.minute == piece_start.second == piece_end.microsecond == 0
        if grain in "dm":
            assert piece_start.hour == piece_end.hour == 0
        if grain == "m":
            assert piece_start.day == piece_end.day == 1
        at = piece_end
    assert at == end


def test_a_calendar_month_is_one_piece_and_no_beginning_reaches_back_for_ever() -> None:
    first, last = datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)
    assert pieces(first, last) == [("m", first, last)]
    assert pieces(None, last) == [("m", BEGINNING, last)]
    assert pieces(last, first) == []


class Feed:
    """Random events, stored as ingestion does and remembered as they were sent."""

    word = "x"

    def __init__(self, dsn: str, db: psycopg.Connection[Any], seed: int) -> None:
        self.db, self.chance = db, random.Random(seed)
        self.organization = organizations.add(db, name="O", test_now=None, entity={}, now=NOW).id
        self.conn, self.memory = open_connection(dsn), Memory()
        self.sent: list[tuple[int, Draft]] = []
        db.commit()

    def metric(self, code: str, aggregation: str, keys: tuple[str, ...]) -> None:
        metric_id = new_id(NOW)
        self.db.execute(
            "insert into billable_metric (id, organization_id, name, code, aggregation_type, field_name,"
            " created_at, updated_at) values (%s, %s, %s, %s, %s, 'tokens', %s, %s)",
            [metric_id, self.organization, code, code, aggregation, NOW, NOW],
        )
        for key in keys:
            self.db.execute(
                "insert into billable_metric_filter (billable_metric_id, key, values, position) values (%s, %s, '{a}', 0)",
                [metric_id, key],
            )
        metering.refresh(self.db, organization_id=self.organization, code=code)
        self.db.commit()

    def send(self, count: int) -> None:
        drafts = self.drafts(count)
        while drafts:
            size = self.chance.randint(1, 40)
            batch, drafts = drafts[:size], drafts[size:]
            request = Request(self.organization, batch, microseconds(NOW))
            store(self.conn, self.memory, [request])
            assert request.duplicates == []
            self.sent += [(len(self.sent) + i, draft) for i, draft in enumerate(batch)]

    def drafts(self, count: int) -> list[Draft]:
        return [self._draft() for _ in range(count)]

    def _draft(self) -> Draft:
        seconds = self.chance.choice(
            [self.chance.randrange(0, 8 * 86_400), self.chance.randrange(0, 96) * 3_600]
        )
        properties: dict[str, Any] = {
            "tokens": self.chance.choice(
                [
                    self.chance.randrange(100),
                    Decimal("0.1"),
                    "7",
                    "007",
                    "1e3",
                    None,
                    True,
                    self.word,
                    Decimal("2.50"),
                ]
            ),
            "model": self.chance.choice(["a", "b", 1, Decimal("1.0"), True, None, ["a"]]),
            "note": self.chance.choice(["n", {"deep": [1, "2"]}]),
            "operation_type": self.chance.choice(["add", "remove", "remove", "swap"]),
        }
        for name in self.chance.sample(list(properties), self.chance.randrange(4)):
            del properties[name]
        return Draft(
            transaction_id=f"t{self.chance.getrandbits(64)}",
            code=self.chance.choice(["sum", "distinct"]),
            external_subscription_id=self.chance.choice(["s1", "s2"]),
            at=microseconds(START + timedelta(seconds=seconds)),
            precise=self.chance.choice([None, "1.25"]),
            properties=properties,
        )

    def expected(self, window: UsageQuery) -> dict[tuple[str, Any], Partial]:
        found: dict[tuple[str, Any], list[Partial]] = {}
        low, high = microseconds(window.from_ or BEGINNING), microseconds(window.to)
        for seq, draft in self.sent:
            if draft.external_subscription_id == window.external_subscription_id and low <= draft.at < high:
                value = numeric_value(draft.properties.get("tokens")) if draft.code == "sum" else None
                at = datetime.fromtimestamp(draft.at / 1_000_000, UTC)
                precise = Decimal(draft.precise or 0) if value is not None else Decimal(0)
                text = property_text(draft.properties.get("tokens"))
                operation = draft.properties.get("operation_type", "add")
                counts = operation in ("add", "remove")
                partial = Partial(
                    events_count=1,
                    values_count=int(value is not None),
                    sum=value or Decimal(0),
                    moment=(value or Decimal(0)) * Decimal(draft.at) / 1_000_000,
                    max=value,
                    last=None if value is None else (at, seq, value),
                    uniques={text: (at, seq, operation == "add")} if counts else {},
                    operations=((at, seq, text, operation == "add"),) if counts else (),
                    precise_amount_cents=precise,
                    values=() if value is None else ((at, seq, value),),
                )
                model = draft.properties.get("model")
                bucket = None if isinstance(model, list) else property_text(model)
                found.setdefault((draft.code, bucket), []).append(partial)
        return {bucket: merge_all(partials) for bucket, partials in found.items()}


def there(partial: Partial) -> dict[str | None, bool]:
    return {text: present for text, (_, _, present) in partial.uniques.items()}


def stays(partial: Partial) -> list[Prorated]:
    """What is kept of the operations, as far as it can be seen: by the day, for periods of every beginning."""
    by = Proration("UTC", 9)
    end = START + timedelta(days=9)
    begins = [START + timedelta(days=day) for day in range(9)]
    return [prorate_uniques(partial.operations, period=Period(begin, end), by=by) for begin in begins]


SUMS = ("events_count", "values_count", "sum", "max", "precise_amount_cents", "moment")


def compare(feed: Feed, window: UsageQuery, codes: Collection[str] = ("sum", "distinct")) -> None:
    """From cells and events; and from events alone, as while the history is moved to other dimensions."""
    compare_once(feed, window, codes)
    feed.db.execute("update metering set rebuilding = true")
    compare_once(feed, window, codes)
    of_sums = replace(window, newest=(), unique_fields=(), operation_fields=(), each_value=(), daily=())
    (found,) = usage_of_many(feed.db, [of_sums])
    assert not any(series.events for series in found), "the database adds up"
    expected = feed.expected(window)
    for place in {(series.code, series.dimensions.get("model")) for series in found}:
        own = [each for each in found if (each.code, each.dimensions.get("model")) == place]
        merged = merge_all(each.partial for each in own)
        assert [getattr(merged, name) for name in SUMS] == [getattr(expected[place], name) for name in SUMS]
    assert {series.code for series in found} == {code for code, _ in expected if code in codes}
    feed.db.rollback()


def compare_once(feed: Feed, window: UsageQuery, codes: Collection[str]) -> None:
    (found,) = usage_of_many(feed.db, [window])
    got: dict[tuple[str, Any], list[Partial]] = {}
    for series in found:
        got.setdefault((series.code, series.dimensions.get("model")), []).append(series.partial)
    expected = {place: one for place, one in feed.expected(window).items() if place[0] in codes}
    assert got.keys() == expected.keys()
    # Fees put several series together: what is kept of each must do for any of them.
    all_got = [partial for (code, _), partials in got.items() if code == "distinct" for partial in partials]
    all_expected = [partial for (code, _), partial in expected.items() if code == "distinct"]
    assert stays(merge_all(all_got)) == stays(merge_all(all_expected))
    for bucket, partials in got.items():
        merged, wanted = merge_all(partials), expected[bucket]
        for name in SUMS:
            assert getattr(merged, name) == getattr(wanted, name), (bucket, name)
        if bucket[0] == "sum" and wanted.last is not None:
            assert merged.last is not None
            assert merged.last[2] == wanted.last[2]
        if bucket[0] == "distinct":
            assert there(merged) == there(wanted)
            assert stays(merged) == stays(wanted)
            assert len(merged.operations) <= len(wanted.operations)
        if bucket[0] == "sum":
            assert [value for _, _, value in merged.values] == [value for _, _, value in wanted.values]


@pytest.mark.parametrize("seed", range(6))
def test_every_window_is_exact_however_much_is_rolled_up(
    dsn: str, db: psycopg.Connection[Any], seed: int
) -> None:
    feed = Feed(dsn, db, seed)
    feed.metric("sum", "sum_agg", ("model",))
    feed.metric("distinct", "unique_count_agg", ("model",))
    for _ in range(3):
        feed.send(150)
        rollup.roll_up(db, limit=feed.chance.choice([40, 10_000]))
        assert rollup.verify(db) == []
        db.commit()
        for _ in range(6):
            bounds = sorted(
                START
                + timedelta(
                    seconds=feed.chance.choice([0, 1_800, 3_600, 86_400, 7_777]) * feed.chance.randrange(90)
                )
                for _ in range(2)
            )
            window = UsageQuery(
                organization_id=feed.organization,
                external_subscription_id=feed.chance.choice(["s1", "s2"]),
                codes=("sum", "distinct"),
                from_=feed.chance.choice([bounds[0], None]),
                to=bounds[1],
                newest=("sum",),
                unique_fields=(("distinct", "tokens"),),
                operation_fields=(("distinct", "tokens"),),
                each_value=("sum",),
            )
            compare(feed, window)
    ids = [row[0] for row in db.execute("select id from series").fetchall()]
    assert count_events(db, ids, from_=None, to=START + timedelta(days=400)) == len(feed.sent)
    db.execute("update event_count set events_count = events_count + 1")
    assert rollup.verify(db) != []


def test_usage_that_is_cut_where_a_date_matters_is_that_of_all_stretches_added_up(
    dsn: str, db: psycopg.Connection[Any]
) -> None:
    feed = Feed(dsn, db, seed=11)
    feed.metric("sum", "sum_agg", ("model",))
    feed.send(250)
    rollup.roll_up(db, limit=150)
    days = [START.date() + timedelta(days=n) for n in range(1, 8)]
    mattering = {"a": {days[1], days[4]}, "b": {days[4]}, "1": set(days)}

    def dates_of(dimensions: Mapping[str, str | None]) -> frozenset[date]:
        return frozenset(mattering.get(dimensions.get("model") or "", ()))

    def by_place(found: Sequence[SeriesUsage]) -> dict[Any, list[Any]]:
        """What each series came to since each date that matters to it."""
        places: dict[Any, list[Partial]] = {}
        for each in found:
            texts = dict(each.dimensions)
            since = date.fromisoformat(texts.pop("since") or "")
            since = max((day for day in dates_of(texts) if day <= since), default=None)  # type: ignore[assignment]
            places.setdefault((tuple(texts.items()), since), []).append(each.partial)
        return {
            place: [getattr(merge_all(partials), name) for name in SUMS] for place, partials in places.items()
        }

    window = UsageQuery(
        organization_id=feed.organization,
        external_subscription_id="s1",
        codes=("sum",),
        from_=START + timedelta(hours=7, minutes=20),
        to=START + timedelta(days=7, hours=3),
        cut=Cut(name="since", dates=frozenset(days), dates_of=dates_of),
    )
    plain, cut = usage_of_many(db, [replace(window, cut=None), window])
    stretches = [each for found in usage_of_many(db, window.apart()) for each in found]
    assert by_place(cut) == by_place(stretches)
    assert len({each.series_id for each in cut}) < len(cut) < len(stretches)
    assert len(plain) == len({each.series_id for each in cut})
    db.execute("update metering set rebuilding = true")
    assert by_place(usage_of_many(db, [window])[0]) == by_place(stretches)


@pytest.mark.parametrize("timezone", ["UTC", "America/Los_Angeles", "Asia/Kolkata", "Australia/Lord_Howe"])
def test_days_are_summed_up_exactly_in_any_timezone(
    dsn: str, db: psycopg.Connection[Any], timezone: str
) -> None:
    feed = Feed(dsn, db, seed=len(timezone))
    feed.metric("sum", "sum_agg", ("model",))
    zone = ZoneInfo(timezone)
    for _ in range(2):
        feed.send(200)
        rollup.roll_up(db, limit=120)
        db.commit()
        for _ in range(6):
            bounds = sorted(START + timedelta(minutes=feed.chance.randrange(60 * 24 * 9)) for _ in range(2))
            single = UsageQuery(
                organization_id=feed.organization,
                external_subscription_id="s1",
                codes=("sum",),
                from_=bounds[0],
                to=bounds[1],
                each_value=("sum",),
            )
            daily = replace(single, each_value=(), daily=("sum",), timezone=timezone)
            (events,), (days,) = usage_of_many(db, [single]), usage_of_many(db, [daily])
            for one, other in zip(events, days, strict=True):
                sums: dict[Any, Decimal] = {}
                for at, _, value in one.partial.values:
                    day = at.astimezone(zone).date()
                    sums[day] = sums.get(day, Decimal(0)) + value
                assert {at.astimezone(zone).date(): value for at, _, value in other.partial.values} == sums
                assert len(other.partial.values) == len(sums)
                assert (other.partial.sum, other.partial.values_count) == (
                    one.partial.sum,
                    one.partial.values_count,
                )
                assert all(bounds[0] <= at < bounds[1] for at, _, _ in other.partial.values)
            db.commit()


def test_what_is_carried_over_is_one_change_at_the_end_of_its_window(
    dsn: str, db: psycopg.Connection[Any]
) -> None:
    feed = Feed(dsn, db, seed=5)
    feed.metric("sum", "sum_agg", ())
    feed.send(100)
    rollup.roll_up(db, limit=60)
    at = START + timedelta(days=4, minutes=7)
    window = UsageQuery(
        organization_id=feed.organization,
        external_subscription_id="s1",
        codes=("sum",),
        from_=None,
        to=at,
        is_carried_over=True,
    )
    (found,) = usage_of_many(db, [window])
    partials = [each.partial for each in found if each.partial.values_count]
    assert partials
    for partial in partials:
        assert partial.moment == partial.sum * epoch_seconds(at)
        assert partial.carried_over_count == partial.values_count


def test_a_change_of_the_dimensions_re_encodes_what_is_there(dsn: str, db: psycopg.Connection[Any]) -> None:
    feed = Feed(dsn, db, seed=11)
    feed.send(120)  # before there is any metric
    assert rollup.roll_up(db) == 120
    feed.metric("sum", "sum_agg", ())
    feed.send(60)
    feed.metric("distinct", "unique_count_agg", ("model",))
    db.execute(
        "insert into billable_metric_filter (billable_metric_id, key, values, position)"
        " select id, 'model', '{a}', 0 from billable_metric where code = 'sum'"
    )
    metering.refresh(db, organization_id=feed.organization, code="sum")
    db.commit()
    assert rollup.verify(db) == []
    feed.send(60)
    for from_ in (None, START + timedelta(hours=30, minutes=20)):
        window = UsageQuery(
            organization_id=feed.organization,
            external_subscription_id="s1",
            codes=("sum", "distinct"),
            from_=from_,
            to=START + timedelta(days=7),
            newest=("sum",),
            unique_fields=(("distinct", "tokens"),),
            operation_fields=(("distinct", "tokens"),),
            each_value=("sum",),
        )
        compare(feed, window)


class Changed:
    """A connection on which the code's dimensions change after the first read of sums."""

    def __init__(self, feed: Feed, conn: psycopg.Connection[Any]) -> None:
        self.feed, self.conn, self.reads = feed, conn, 0

    def execute(self, query: str, parameters: Any = None) -> Any:
        answer = self.conn.execute(query, parameters)
        if "total as" in query:
            self.reads += 1
            if self.reads == 1:
                self.feed.metric("sum", "latest_agg", ("model",))
        return answer


def test_a_change_of_the_dimensions_between_two_statements_is_seen(
    dsn: str, db: psycopg.Connection[Any]
) -> None:
    feed = Feed(dsn, db, seed=5)
    feed.send(80)
    window = UsageQuery(
        organization_id=feed.organization,
        external_subscription_id="s1",
        codes=("sum",),
        from_=None,
        to=START + timedelta(days=9),
        newest=("sum",),
    )
    with psycopg.connect(dsn) as other:
        changing = Changed(feed, other)
        (found,) = usage_of_many(changing, [window])  # type: ignore[arg-type]
    assert changing.reads == 2
    with_values = [series for series in found if series.partial.values_count]
    assert with_values
    assert all(series.partial.last is not None for series in with_values)


def test_series_of_an_older_metering_do_not_pile_up(dsn: str, db: psycopg.Connection[Any]) -> None:
    feed = Feed(dsn, db, seed=6)
    feed.send(40)
    feed.metric("sum", "sum_agg", ("model",))
    feed.send(40)
    rows = db.execute(
        "select distinct s.metering_version = m.version from series s join metering m using (organization_id, code)"
    )
    assert rows.fetchall() == [(True,)]
    db.commit()
    window = UsageQuery(
        organization_id=feed.organization,
        external_subscription_id="s2",
        codes=("sum",),
        from_=None,
        to=START + timedelta(days=9),
    )
    (found,) = usage_of_many(db, [window])
    assert {s.code for s in found} == {"sum"}
    assert rollup.verify(db) == []


def test_two_organizations_share_nothing(dsn: str, db: psycopg.Connection[Any]) -> None:
    mine, theirs = Feed(dsn, db, seed=1), Feed(dsn, db, seed=1)
    for feed in (mine, theirs):
        feed.metric("sum", "sum_agg", ("model",))
        feed.metric("distinct", "unique_count_agg", ())
    mine.send(50)
    window = UsageQuery(
        organization_id=theirs.organization, external_subscription_id="s1", codes=("sum",), from_=None, to=NOW
    )
    assert usage_of_many(db, [window]) == [[]]
    assert isinstance(mine.organization, UUID)


def test_a_metric_that_begins_to_count_distinct_values_has_their_cells(
    dsn: str, db: psycopg.Connection[Any]
) -> None:
    feed = Feed(dsn, db, seed=3)
    feed.word = "x" * 5_000  # longer than an index takes
    feed.metric("distinct", "count_agg", ("model",))
    feed.send(150)
    rollup.roll_up(db, limit=100)
    assert db.execute("select count(*) from unique_cell").fetchone() == (0,)
    db.execute("update billable_metric set aggregation_type = 'unique_count_agg', field_name = 'tokens'")
    metering.refresh(db, organization_id=feed.organization, code="distinct")
    db.commit()
    assert db.execute("select count(*) > 0 from unique_cell").fetchone() == (True,)
    assert rollup.verify(db) == []
    window = UsageQuery(
        organization_id=feed.organization,
        external_subscription_id="s1",
        codes=("distinct",),
        from_=None,
        to=START + timedelta(days=40),
        unique_fields=(("distinct", "tokens"),),
        operation_fields=(("distinct", "tokens"),),
    )
    compare(feed, window, codes=["distinct"])
    db.execute("update unique_cell set is_add = not is_add where text is not null")
    assert rollup.verify(db) != []
