"""What is taken and what is refused at the door, by Lago's rules, and never by a crash."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, strategies as st

from permille.core.errors import BadRequest, Invalid
from permille.core.instants import microseconds
from permille.core.metering.encoding import SeriesLayout, dimensions_of, encode, numeric_text
from permille.core.metering.event import numeric_value
from permille.events.draft import Draft
from permille.ingest.decoders.lago import read_batch, read_one, timestamp_text

NOW = datetime(2026, 10, 5, 12, tzinfo=UTC)
GOOD = {"transaction_id": "t", "code": "c", "external_subscription_id": "s"}


def one(event: str) -> Draft:
    (draft,) = read_one(f'{{"event": {event}}}'.encode(), now=NOW)
    return draft


def refused(event: str) -> Any:
    with pytest.raises(Invalid) as found:
        one(event)
    return found.value.errors


def with_field(name: str, value: str) -> str:
    return json.dumps(GOOD)[:-1] + f', "{name}": {value}}}'


def test_an_event_is_kept_as_it_was_sent() -> None:
    draft = one(with_field("properties", '{"tokens": 1.10, "big": 12345678901234567890123, "n": null}'))
    assert draft.properties == {"tokens": Decimal("1.10"), "big": 12345678901234567890123, "n": None}
    assert str(draft.properties["tokens"]) == "1.10"
    assert draft.at == microseconds(NOW)
    assert one(json.dumps({"transaction_id": "t", "code": "c"})).external_subscription_id is None


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        ("1780586634", "2026-06-04T15:23:54.000Z"),
        ("1780586634.1", "2026-06-04T15:23:54.100Z"),
        ('"1780586634.123999"', "2026-06-04T15:23:54.123Z"),
        ("0", "1970-01-01T00:00:00.000Z"),
        ('"2026-06-04T15:23:54.123999Z"', "2026-06-04T15:23:54.123Z"),
        ('"2026-06-04T17:23:54+02:00"', "2026-06-04T15:23:54.000Z"),
        ('"2026-06-04T15:23:54"', "2026-06-04T15:23:54.000Z"),
        ("-0.001", "1969-12-31T23:59:59.999Z"),
        ("-2208988800", "1900-01-01T00:00:00.000Z"),
        ("7258118399", "2199-12-31T23:59:59.000Z"),
    ],
)
def test_a_timestamp_is_seconds_since_1970(sent: str, text: str) -> None:
    assert timestamp_text(one(with_field("timestamp", sent)).at) == text


@pytest.mark.parametrize(
    "sent",
    ['"2026-01-01"', '"2026-02-30T00:00:00Z"', '""', '"x"', "true", "[]", "{}", "1e400", "7258118400", "253402300799", "-2208988801", '"1_0"',
     '"NaN"', '"Infinity"', '"' + "9" * 100 + '"'],
)  # fmt: skip
def test_anything_else_is_no_timestamp(sent: str) -> None:
    assert refused(with_field("timestamp", sent)) == {"timestamp": ["invalid_format"]}


@pytest.mark.parametrize(
    ("event", "errors"),
    [
        ('{"code": "c"}', {"transaction_id": ["value_is_mandatory"]}),
        ('{"transaction_id": " ", "code": ""}', {"transaction_id": ["value_is_mandatory"], "code": ["value_is_mandatory"]}),
        ('{"transaction_id": 1.5, "code": []}', {"transaction_id": ["value_is_invalid"], "code": ["value_is_invalid"]}),
        ('{"transaction_id": "a\\u0000", "code": "c"}', {"transaction_id": ["value_is_invalid"]}),
        (with_field("external_subscription_id", "{}"), {"external_subscription_id": ["value_is_invalid"]}),
        (with_field("properties", "[]"), {"properties": ["invalid_format"]}),
        (with_field("properties", '"x"'), {"properties": ["invalid_format"]}),
        (with_field("properties", '{"n": 1e400}'), {"properties": ["value_is_out_of_range"]}),
        (with_field("properties", '{"n": ' + "9" * 40 + "}"), {"properties": ["value_is_out_of_range"]}),
        (with_field("properties", '{"n": 0.' + "1" * 40 + "}"), {"properties": ["value_is_out_of_range"]}),
        (with_field("properties", '{"n": [{"m": -1e300}]}'), {"properties": ["value_is_out_of_range"]}),
        (with_field("properties", '{"n": "\\u0000"}'), {"properties": ["value_is_invalid"]}),
        (with_field("properties", '{"\\u0000": 1}'), {"properties": ["value_is_invalid"]}),
        (with_field("properties", '{"n": ' + "[" * 30 + "]" * 30 + "}"), {"properties": ["value_is_invalid"]}),
        (with_field("precise_total_amount_cents", "1e99"), {"precise_total_amount_cents": ["value_is_out_of_range"]}),
        (
            '{"transaction_id": "' + "x" * 300 + '", "timestamp": "7", "properties": 1}',
            {
                "transaction_id": ["value_is_too_long"],
                "code": ["value_is_mandatory"],
                "properties": ["invalid_format"],
            },
        ),
        ('{"code": " ", "timestamp": "x", "properties": 1}', {"timestamp": ["invalid_format"]}),
    ],
)  # fmt: skip
def test_every_error_is_named(event: str, errors: dict[str, list[str]]) -> None:
    assert refused(event) == errors


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"\xff\xfe", b'{"event": NaN}', b'{"event": {"properties": {"n": Infinity}}}', b'{"event": {}}', b"[]",
     b"null", b'{"events": []}', b'{"event": [1]}', b'"\\ud800"', b'{"event": "' + b"x" * 10 + b'"}', b"[" * 100_000],
)  # fmt: skip
def test_a_body_without_an_event_is_a_bad_request(body: bytes) -> None:
    with pytest.raises(BadRequest):
        read_one(body, now=NOW)


def test_what_is_no_amount_is_no_amount() -> None:
    assert one(with_field("precise_total_amount_cents", '"abc"')).precise == "0"
    assert one(with_field("precise_total_amount_cents", '"1.25"')).precise == "1.25"
    assert one(with_field("precise_total_amount_cents", "12")).precise == "12"


def test_a_whole_number_counts_as_its_digits() -> None:
    found = one('{"transaction_id": 12, "code": -7, "external_subscription_id": 0}')
    assert (found.transaction_id, found.code, found.external_subscription_id) == ("12", "-7", "0")


def batch(*events: str, limit: int = 10) -> list[Draft]:
    return read_batch(('{"events": [' + ",".join(events) + "]}").encode(), now=NOW, limit=limit)


def test_a_batch_is_all_or_nothing_with_errors_by_index() -> None:
    good = json.dumps(GOOD)
    assert len(batch(good, good)) == 2
    with pytest.raises(Invalid) as found:
        batch(good, '{"code": "c"}', "3", with_field("timestamp", '"x"'))
    assert found.value.errors == {
        "1": {"transaction_id": ["value_is_mandatory"]},
        "2": {"event": ["invalid_format"]},
        "3": {"timestamp": ["invalid_format"]},
    }


@pytest.mark.parametrize("body", [b"{}", b'{"events": []}', b'{"events": {}}', b'{"events": null}', b"[]"])
def test_a_batch_without_events(body: bytes) -> None:
    with pytest.raises(Invalid) as found:
        read_batch(body, now=NOW, limit=10)
    assert found.value.errors == {"events": ["no_events"]}


def test_a_batch_has_a_limit() -> None:
    with pytest.raises(Invalid) as found:
        batch(*[json.dumps(GOOD)] * 3, limit=2)
    assert found.value.errors == {"events": ["too_many_events"]}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(
        st.sampled_from([*GOOD, "timestamp", "properties", "precise_total_amount_cents"]), json_values
    )
)
def test_any_json_is_taken_or_refused_by_field(event: dict[str, Any]) -> None:
    try:
        read_one(json.dumps({"event": event}).encode(), now=NOW)
    except Invalid as refusal:
        assert set(refusal.errors) <= {*GOOD, "timestamp", "properties", "precise_total_amount_cents"}
    except BadRequest:
        assert (
            not event
            or "NaN" in json.dumps(event)
            or "Infinity" in json.dumps(event)
            or "\\ud" in json.dumps(event)
        )


@given(st.binary(max_size=60))
def test_any_bytes_are_taken_or_refused(body: bytes) -> None:
    for read in (lambda: read_one(body, now=NOW), lambda: read_batch(body, now=NOW, limit=5)):
        with pytest.raises((BadRequest, Invalid)):
            read()


scalars = (
    st.integers(-(10**30), 10**30)
    | st.booleans()
    | st.none()
    | st.text(max_size=6)
    | st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-(10**9), max_value=10**9)
)


@given(
    st.dictionaries(st.sampled_from(["a", "b", "v", "z"]), scalars | st.lists(scalars, max_size=2)),
    st.sampled_from([None, "v", "a"]),
    st.sets(st.sampled_from(["a", "b", "c"])),
)
def test_an_encoded_event_loses_nothing(
    properties: dict[str, Any], field: str | None, keys: set[str]
) -> None:
    metering = SeriesLayout(field_name=field, keys=tuple(sorted(keys)), version=1)
    encoded = encode(metering, properties)
    back = {**(encoded.extra or {}), **dimensions_of(metering, encoded.series)}
    if metering.value_key is not None and encoded.value is not None and field not in back:
        back[metering.value_key] = encoded.value if encoded.series[-1] else Decimal(encoded.value)
    assert back == properties
    if field is not None:
        expected = numeric_value(properties.get(field))
        assert (None if encoded.value is None else Decimal(encoded.value)) == expected


@given(scalars)
def test_numeric_texts_are_lagos_numbers(value: Any) -> None:
    text, _, _ = numeric_text(value)
    assert (None if text is None else Decimal(text)) == numeric_value(value)
