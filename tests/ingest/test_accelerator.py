"""What C reads in one pass is what Python reads, byte by byte; of all else it keeps its hands off."""

from __future__ import annotations

import json
import random
import re
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import example, given, settings, strategies as st

from permille import accelerator
from permille.accelerator.build import build, command
from permille.accelerator.source import FOLDER
from permille.core.bounds import (
    DIGITS_MAX,
    LATEST,
    NAME_MAX,
    PROPERTIES_DEPTH_MAX,
    PROPERTIES_MAX,
    PROPERTY_MAX,
)
from permille.core.errors import Refusal
from permille.core.instants import microseconds
from permille.core.metering.encoding import NO_LAYOUT, SeriesLayout
from permille.events.columns import UsualEvents
from permille.events.identity import transaction_range
from permille.events.log import KnownLayouts, Request
from permille.events.postgres import writer
from permille.events.postgres.memory import Memory
from permille.ingest.decoders import lago
from tests.ingest.timed_ids import ids

pytestmark = pytest.mark.skipif(not accelerator.IS_BUILT, reason=f"the accelerator is {accelerator.WHY_NOT}")

ORGANIZATION = UUID("0190a5b2-7c3d-7e4f-8a5b-6c7d8e9f0a1b")
NOW = datetime(2026, 10, 5, 12, 30, 15, 123456, tzinfo=UTC)
CREATED_AT = microseconds(NOW)
LAYOUTS = {
    "c": SeriesLayout(field_name="n", keys=("model", "type"), version=3),
    "own": SeriesLayout(field_name="model", keys=("model",), version=3),
    "count": SeriesLayout(field_name=None, keys=("ü",), version=4),
    "nothing": NO_LAYOUT,
    "made": SeriesLayout(field_name="n", keys=(), version=5, expression="1", expression_field="n"),
    "ahead": SeriesLayout(field_name="n", keys=(), version=5, in_advance=True),
}


def memory() -> Memory:
    found = Memory(is_accelerated=True)
    found.meterings[ORGANIZATION] = KnownLayouts(7, LAYOUTS)
    return found


def by_python(known: Memory, body: bytes, *, is_batch: bool, most: int) -> tuple[Request, Any] | None:
    """The request as it is decoded, and what is made of it, with an id for each new series."""
    wire = lago.BATCH if is_batch else lago.EVENT
    try:
        drafts = wire.decode(body, NOW, most)
    except Refusal:
        return None
    request = Request(ORGANIZATION, drafts, CREATED_AT)
    if not request.codes <= LAYOUTS.keys():
        return None
    group = writer._encoded(known, known.meterings, [request])
    for each in group.unknown:
        place = each.key.external_subscription_id, each.key.values
        series_id = each.known.find(place) or random.Random(repr(place)).getrandbits(40)
        known.keep(each.known, place, series_id)
        group.series_ids[each.index] = series_id
    return request, group


def by_c(known: Memory, body: bytes, *, is_batch: bool, most: int) -> UsualEvents | None:
    return known.read_usual(ORGANIZATION, body, created_at=CREATED_AT, most=most, is_batch=is_batch)


def compare(body: bytes, *, is_batch: bool = True, most: int = 5) -> bool:
    """Whether C takes it, once its series are known; then it says the same as Python."""
    known = memory()
    decoded = by_python(known, body, is_batch=is_batch, most=most)
    usual = by_c(known, body, is_batch=is_batch, most=most)
    if usual is None:
        return False
    assert decoded is not None, "Python refuses it"
    request, group = decoded
    usual_request = Request(ORGANIZATION, request.drafts, CREATED_AT, usual=usual)
    for index, draft in enumerate(request.drafts):
        if draft.external_subscription_id is None:  # half of such an identity is chance
            first, last = transaction_range(ORGANIZATION.bytes, draft.transaction_id)
            assert first <= UUID(bytes=usual_request.identities[index]) <= last
        else:
            assert usual_request.identities[index] == request.identities[index]
    request.identities = list(usual_request.identities)
    assert usual.columns == writer.columns_of([request], group)
    assert usual.codes == request.codes
    assert usual.version == 7
    assert usual.answer == (lago.answer_batch if is_batch else lago.answer_one)(request, None)
    return True


def event(**fields: Any) -> dict[str, Any]:
    usual = {"transaction_id": "t", "code": "c", "external_subscription_id": "s"}
    return {**usual, "timestamp": 1_790_000_000, "properties": {"n": 1, "model": "m", "type": "x"}} | fields


def batch(*events: str | dict[str, Any], **how: Any) -> bytes:
    texts = [each if isinstance(each, str) else json.dumps(each, **how) for each in events]
    return ('{"events":[' + ",".join(texts) + "]}").encode("utf-8", "surrogatepass")


def with_field(name: str, text: str) -> str:
    return (
        json.dumps({key: value for key, value in event().items() if key != name})[:-1]
        + f', "{name}": {text}}}'
    )


def with_property(name: str, text: str) -> str:
    others = {key: value for key, value in event()["properties"].items() if key != name}
    joined = json.dumps(others)[:-1] + f', "{name}": {text}}}'
    return with_field("properties", joined)


USUAL = [
    batch(event()),
    batch(event(), event(transaction_id="u", code="own"), event(transaction_id="v", code="count")),
    batch(event(), indent=3),
    b' { "events" : [ ' + json.dumps(event()).encode() + b' ] , "other": [1.5, {"a": null}] } ',
    batch(dict(reversed(event().items()))),
    batch(event(code="nothing", properties={})),
    batch(event(code="ahead"), event(transaction_id="u")),
    batch(event(properties=None)),
    batch({key: value for key, value in event().items() if key not in ("timestamp", "properties")}),
    batch(event(external_subscription_id=None), event(external_subscription_id="", transaction_id="u")),
    batch(event(external_subscription_id=" ")),
    batch(event(transaction_id=12, code="c", external_subscription_id=7)),
    batch(event(transaction_id="é€😀", properties={"n": 2, "model": "ü", "type": "日本"}), ensure_ascii=False),
    batch(event(transaction_id="é€😀", properties={"n": 2, "model": "ü", "ü": "日本"}, code="count")),
    batch(event(transaction_id='quote " backslash \\ / \b\f\n\r\t \x1f \x7f', properties={'a"\\\n': 'b"\\\x01'})),
    batch(event(other=[{"a": [True, False, None, 1.5, "x"]}])),
    *[batch(with_field("timestamp", text)) for text in (
        "null", "0", "1780586634.5", "1780586634.123999", '"1780586634"', '"1780586634.1239994"', '"2026-06-04T15:23:54Z"',
        '"2026-06-04 15:23:54"', '"2024-02-29T23:59:59.5+05:30"', '"2026-12-31T23:59:59.999999999-01:00"', "7258118399",
        '"000"', "0.000001")],
    *[batch(with_field("precise_total_amount_cents", text)) for text in (
        "null", "12", '"12"', "-12.50", '"0.0001"', "0", "1.00", "0.0", '"100"', "1234567890123456789012345.67890")],
    *[batch(with_property("n", text)) for text in (
        "-5", "0", "1.50", "0.000001", '"12.5"', '"007"', '"-0"', '"x"', "true", "false", "null", '""', "[]", "{}", '"1e5"',
        '"12."', "12345678901234567890123456789012345678", "0.12345678901234567890123456789012345678", '[1, {"a": [2.50]}]')],
    *[batch(with_property("model", text)) for text in ("5", "1.50", "true", "false", "null", "[1]", '{"a": "b"}', '""')],
    *[batch(event(code="own", properties={"model": value})) for value in ("5", 5, "x", None, True)],
    batch(with_property("extra", '{"a": [1, {"b" : "c\\u00e9\\n" }], "d": {}}')),
]  # fmt: skip

UNUSUAL = [
    b"", b"{", b"[]", b"null", b'{"events": []}', b'{"events": [{}]}', b'{"events": 1}', b'{"event": {}}', b"\xff", b"\xef\xbb\xbf{}",
    batch(event())[:-1], batch(event()) + b"x", batch(event(), event(), event(), event(), event(), event()),
    batch(event(code="unknown")), batch(event(code="made")), batch(event(transaction_id="")),
    batch(event(transaction_id="  \u3000\u0085")), batch(event(transaction_id="x" * 256)), batch(event(transaction_id=None)),
    batch(event(transaction_id="a\0")), batch(with_field("code", '"c\\ud800"')), batch(with_field("code", '"\\udc00\\ud800"')),
    batch('{"transaction_id": "t", "transaction_id": "u", "code": "c"}'), batch(with_property("n", '1, "n": 2')),
    batch(with_property("e", '{"a": 1, "a": 2}')), batch(event(properties={"": 1})), batch(event(properties=[])),
    *[batch(with_field("timestamp", text)) for text in (
        "-1", "1e9", "7258118400", '"2026-02-30T00:00:00Z"', '"2026-01-01"', '"x"', "true", "[]", '"1970-01-01T00:00:00+01:00"', "01")],
    *[batch(with_field("precise_total_amount_cents", text)) for text in ('"abc"', "1e5", '"1_0"', "-0", '" 1"', "true", '"NaN"')],
    *[batch(with_property("n", text)) for text in (
        "-0", "-0.0", "1e5", "0.0000001", "01", "1.", ".5", "+1", "NaN", "9" * 39, "tru", "[1", '"a', '"\x01"', "[" * 30 + "]" * 30)],
    batch(event())[:60] + b"\xff" + batch(event())[60:], b'{"events":[' + json.dumps(event()).encode()[:-1] + b',"\xed\xa0\x80":1}]}',
]  # fmt: skip


@pytest.mark.parametrize("body", USUAL)
def test_the_usual_is_taken_and_equal(body: bytes) -> None:
    assert compare(body)


@pytest.mark.parametrize("body", UNUSUAL)
def test_the_unusual_wants_a_closer_look(body: bytes) -> None:
    assert not compare(body)


def test_a_single_event_has_an_answer_of_its_own() -> None:
    assert compare(json.dumps({"event": event()}).encode(), is_batch=False)
    assert not compare(json.dumps({"event": event()}).encode())
    assert not compare(batch(event()), is_batch=False)


def test_nothing_is_read_of_series_or_codes_that_are_not_known() -> None:
    known, body = memory(), batch(event())
    assert by_c(known, body, is_batch=True, most=5) is None
    by_python(known, body, is_batch=True, most=5)
    assert by_c(known, body, is_batch=True, most=5) is not None
    assert by_c(known, batch(event(properties={"n": 1, "model": "m"})), is_batch=True, most=5) is None
    known.meterings[ORGANIZATION] = KnownLayouts(8, {})
    assert by_c(known, body, is_batch=True, most=5) is None


names = st.sampled_from(["n", "model", "type", "ü", "x", 'q"', "a" * 300, "", "e"]) | st.text(max_size=3)
numbers = (
    st.integers()
    | st.integers(-(10**40), 10**40)
    | st.decimals(allow_nan=False, allow_infinity=False, places=3).map(
        lambda each: float(each) if each < 1e15 else 1
    )
    | st.floats()
)
texts = st.text(max_size=5) | st.sampled_from(
    ["1", "-0", "1.50", "01", " ", "t", "m", "\0", "\x1f", "\\", '"', "\u2028", "\x85", "x" * 70_000]
)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)
instants = (
    st.integers(0, 8 * 10**9)
    | st.datetimes().map(str)
    | st.datetimes().map(lambda at: at.isoformat() + "Z")
    | st.floats(0, 1e11)
    | values
)
events = st.fixed_dictionaries(
    {"transaction_id": texts | st.integers(0, 9), "code": st.sampled_from([*LAYOUTS, "other"]) | texts},
    optional={
        "external_subscription_id": texts | st.none(),
        "timestamp": instants,
        "properties": st.dictionaries(names, values, max_size=6) | values,
        "precise_total_amount_cents": numbers | texts,
        "other": values,
    },
)


usual_texts = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=4
).map(lambda text: "t" + text)
usual_numbers = st.integers(-(10**30), 10**30) | st.integers(-999, 999).map(lambda number: number / 8 or 1)
usual_values = (
    usual_texts | usual_numbers | st.booleans() | st.none() | st.sampled_from(["1", "-2.50", "007", "1e5"])
)
nested_values = (
    usual_values | st.lists(usual_values, max_size=3) | st.dictionaries(usual_texts, usual_values, max_size=3)
)
usual_names = st.sampled_from(["n", "model", "type", "ü", "x", 'q"'])
usual_events = st.fixed_dictionaries(
    {
        "transaction_id": usual_texts | st.integers(1, 9),
        "code": st.sampled_from(["c", "own", "count", "nothing"]),
        "timestamp": st.integers(0, 7 * 10**9) | st.integers(0, 10**9).map(lambda at: f"{at}.{at}"),
        "properties": st.none() | st.dictionaries(usual_names, nested_values, max_size=5),
    },
    optional={
        "external_subscription_id": usual_texts | st.none() | st.sampled_from(["", " ", "s"]),
        "precise_total_amount_cents": st.none() | usual_numbers | usual_numbers.map(str),
        "other": nested_values,
    },
)


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """A batch as a client might write it, and sometimes broken."""
    sent = draw(st.lists(usual_events, min_size=1, max_size=4) | st.lists(events, min_size=1, max_size=2))
    indent, is_ascii = draw(st.none() | st.integers(0, 2)), draw(st.booleans())
    text = json.dumps({"events": sent}, indent=indent, ensure_ascii=is_ascii)
    body = text.encode("utf-8", "surrogatepass")
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        place = draw(st.integers(0, len(body) - 1))
        piece = draw(
            st.binary(max_size=2)
            | st.sampled_from([b'"', b"\\", b"\\u0", b"{", b"}", b",", b"0", b"-", b"e9", b"\xed\xa0\x80"])
        )
        body = body[:place] + piece + body[place + draw(st.integers(0, 3)) :]
    return body


@settings(max_examples=120, deadline=None)
@given(bodies())
def test_whatever_is_sent_c_says_what_python_says_or_nothing(body: bytes) -> None:
    compare(body)


def test_ids_with_a_time_have_the_same_identities() -> None:
    chance = random.Random(1)
    for _ in range(40):
        sent = [event(transaction_id=text) for text in ids(chance, 50)]
        assert compare(batch(*sent, ensure_ascii=chance.random() < 0.5), most=50)


@settings(max_examples=100, deadline=None)
@given(
    st.binary(max_size=300)
    | st.lists(st.sampled_from(list(b'{}[]":,\\0123456789-.eEtfn \xc3\xa9\xed\xf0')), max_size=200).map(bytes)
)
@example(b'{"events":[' + b"[" * 100_000)
def test_no_bytes_crash_it(body: bytes) -> None:
    assert not compare(body)
    assert not compare(b'{"events":[' + body)


@pytest.mark.parametrize("body", USUAL[:15])
def test_what_is_cut_off_is_not_taken(body: bytes) -> None:
    known = memory()
    by_python(known, body, is_batch=True, most=5)
    assert by_c(known, body, is_batch=True, most=5) is not None
    cut_off = body.rstrip()
    assert all(by_c(known, cut_off[:end], is_batch=True, most=5) is None for end in range(len(cut_off)))


def test_its_bounds_are_those_of_python_or_narrower() -> None:
    defined = dict(re.findall(r"^#define (\w+) (\d+)", (FOLDER / "_usual.c").read_text(), re.MULTILINE))
    found = {name: int(number) for name, number in defined.items()}
    assert found["NAME_MAX_CHARS"] == NAME_MAX
    assert found["DIGITS_MAX"] == DIGITS_MAX
    assert found["SECONDS_END"] == LATEST.timestamp()
    assert found["PROPERTIES_BYTES_MAX"] < PROPERTY_MAX
    assert found["NAMES_MAX"] < PROPERTIES_MAX
    assert found["DEPTH_MAX"] < PROPERTIES_DEPTH_MAX


def test_it_compiles_without_a_warning(tmp_path: Path) -> None:
    checked = command(tmp_path / "none", "-Werror", "-fsyntax-only")
    done = subprocess.run(checked, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_where_it_cannot_be_built_why_is_said(tmp_path: Path) -> None:
    assert "No such file" in str(build(tmp_path / "none"))
    assert build(tmp_path, "-no-such-flag") is not None
    assert list(tmp_path.iterdir()) == []


def test_the_table_forgets_what_was_not_used_lately() -> None:
    table = accelerator.usual.Table(2 * 100 * 160)
    layout = accelerator.usual.Layout(table, ORGANIZATION.bytes, "c", 1, "n", ("a",))
    for number in range(1_000):
        layout.keep((f"s{number}", ("v", False)), number)
        assert layout.get(("s0", ("v", False))) == 0
        assert table.bytes <= 2 * 100 * 160
    assert 100 < table.series < 250
    assert layout.get(("s999", ("v", False))) == 999
    assert layout.get(("s500", ("v", False))) is None
    assert layout.get(("s999", ("v", True))) is None
    assert layout.get(("s999", (("int", "v"), False))) is None
    assert layout.get((None, ("v", False))) is None


def test_threads_share_a_table() -> None:
    """Long bodies are read while others add series and codes."""
    from concurrent.futures import ThreadPoolExecutor

    known = memory()
    sent = [
        event(transaction_id=f"t{number}", external_subscription_id=f"s{number}") for number in range(200)
    ]
    body = batch(*sent)
    by_python(known, body, is_batch=True, most=1_000)

    def read(_: int) -> Sequence[bytes]:
        organization = known.readers[ORGANIZATION].organization
        found = organization.read(
            body, CREATED_AT, 1_000, is_batch=True, is_answered=True, frees_interpreter=True
        )
        assert found is not None
        return [found[2], found[-1]]

    def add(number: int) -> None:
        assert known.table is not None
        layout = accelerator.usual.Layout(known.table, ORGANIZATION.bytes, f"c{number}", 1, None, ())
        known.readers[ORGANIZATION].organization.add(layout)
        for each in range(50):
            layout.keep((f"s{each}", (False,)), each)

    by_c(known, body, is_batch=True, most=1_000)
    with ThreadPoolExecutor(4) as pool:
        answers = pool.map(read, range(100))
        list(pool.map(add, range(200)))
        assert len({tuple(each) for each in answers}) == 1
