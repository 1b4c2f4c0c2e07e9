"""Bodies as they come: in any pieces, packed or not, within their limit."""

from __future__ import annotations

import asyncio
import gzip
import json
import tracemalloc
import zlib
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, strategies as st
from starlette.requests import ClientDisconnect

from permille.core.errors import BadRequest, Refusal
from permille.http.bodies import LONG_BYTES, MEMBERS_MAX, BodyMemory, read_body
from tests.api.conftest import Api

GZIP = [(b"content-encoding", b"gzip")]


def read(pieces: list[bytes], headers: Any = (), *, limit: int = 1_000_000, ends: bool = True) -> bytes:
    messages = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    messages.append(
        {"type": "http.request", "body": b"", "more_body": False} if ends else {"type": "http.disconnect"}
    )
    waiting = iter(messages)

    async def receive() -> Any:
        return next(waiting)

    return asyncio.run(read_body(headers, receive, limit, BodyMemory(limit * 10).of(None)))


def cut(sent: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(sent), *(place % (len(sent) + 1) for place in cuts)})
    return [sent[start:end] for start, end in pairwise(places)]


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=4), st.lists(st.integers(0, 2_000), max_size=8))
def test_a_body_is_whole_however_it_is_cut_and_packed(parts: list[bytes], cuts: list[int]) -> None:
    whole = b"".join(parts)
    assert read(cut(whole, cuts)) == whole
    packed = b"".join(gzip.compress(part) for part in parts)
    assert read(cut(packed, cuts), GZIP, limit=max(len(whole), len(packed))) == whole


def test_a_long_body_is_put_together_by_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    real, by_a_thread = asyncio.to_thread, 0

    async def noted(*args: Any) -> Any:
        nonlocal by_a_thread
        by_a_thread += 1
        return await real(*args)

    monkeypatch.setattr(asyncio, "to_thread", noted)
    for size, threads in ((LONG_BYTES, 0), (LONG_BYTES + 1, 1)):
        sent = b"x" * (size - 5) + b"y" * 5
        assert read(cut(sent, [7, 1_000]), limit=20 * size) == sent
        assert by_a_thread == threads


@given(st.binary(min_size=1, max_size=2_000), st.data())
def test_a_packed_body_without_its_end_or_with_something_behind_it_is_refused(sent: bytes, data: Any) -> None:
    packed = gzip.compress(sent)
    end = data.draw(st.integers(1, len(packed) - 1))
    for broken in (packed[:end], packed + b"x", b"x" + packed):
        with pytest.raises(BadRequest):
            read([broken], GZIP)
    wrong_sum = packed[:-8] + bytes([packed[-8] ^ 1]) + packed[-7:]
    with pytest.raises(BadRequest):
        read([wrong_sum], GZIP)


def test_a_body_has_a_limit_packed_and_unpacked() -> None:
    assert read([b"x" * 100], limit=100) == b"x" * 100
    assert read([gzip.compress(b"x" * 100)], GZIP, limit=100) == b"x" * 100
    for pieces, headers in (([b"x" * 50, b"x" * 51], ()), ([gzip.compress(b"x" * 101)], GZIP)):
        with pytest.raises(Refusal) as refused:
            read(pieces, headers, limit=100)
        assert (refused.value.status, refused.value.code) == (413, "body_too_large")


def test_a_bomb_takes_no_more_memory_than_the_limit() -> None:
    bomb = gzip.compress(b"\0" * 300_000_000, 1)
    tracemalloc.start()
    try:
        with pytest.raises(Refusal) as refused:
            read(
                [bomb[start : start + 65_536] for start in range(0, len(bomb), 65_536)], GZIP, limit=2_000_000
            )
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()
    assert refused.value.status == 413


def test_a_body_in_countless_parts_is_refused() -> None:
    empty = gzip.compress(b"")
    assert read([empty * MEMBERS_MAX], GZIP) == b""
    with pytest.raises(BadRequest):
        read([empty * (MEMBERS_MAX + 1)], GZIP)


@pytest.mark.parametrize(
    "headers",
    [
        [b"br"],
        [b"deflate"],
        [b"zstd"],
        [b"gzip, gzip"],
        [b"gzip", b"gzip"],
        [b"br, gzip"],
        [b"gzip;q=1"],
        [b"\xff"],
    ],
)
def test_another_encoding_is_refused(headers: list[bytes]) -> None:
    with pytest.raises(Refusal) as refused:
        read([b"{}"], [(b"content-encoding", value) for value in headers])
    assert (refused.value.status, refused.value.code) == (415, "unsupported_content_encoding")


@pytest.mark.parametrize("value", [b"", b"identity", b" Identity ", b"identity, identity"])
def test_a_plain_body_may_say_so(value: bytes) -> None:
    assert read([b"{}"], [(b"content-encoding", value)]) == b"{}"


@pytest.mark.parametrize("value", [b"gzip", b"GZIP", b"x-gzip", b"identity, gzip"])
def test_gzip_has_several_spellings(value: bytes) -> None:
    assert read([gzip.compress(b"{}")], [(b"content-encoding", value)]) == b"{}"


def test_a_client_that_goes_away_has_sent_nothing() -> None:
    for pieces, headers in (([], ()), ([b'{"a": 1}'], ()), ([gzip.compress(b"{}")], GZIP)):
        with pytest.raises(ClientDisconnect):
            read(pieces, headers, ends=False)


def test_every_write_of_the_api_may_be_packed(api: Api) -> None:
    body = {"customer": {"external_id": "packed", "name": "n" * 200}}
    headers = {"Authorization": f"Bearer {api.key}", "Content-Encoding": "gzip"}
    packed = gzip.compress(json.dumps(body).encode())
    answer = api.client.post("/api/v1/customers", content=packed, headers=headers)
    assert (answer.status_code, answer.json()["customer"]["external_id"]) == (200, "packed")
    broken = api.client.post("/api/v1/customers", content=packed[:-9], headers=headers)
    assert (broken.status_code, broken.json()["status"]) == (400, 400)
    bomb = api.client.post("/api/v1/customers", content=gzip.compress(b" " * 20_000_000), headers=headers)
    assert (bomb.status_code, bomb.json()["code"]) == (413, "body_too_large")
    headers["Content-Encoding"] = "deflate"
    other = api.client.post("/api/v1/customers", content=zlib.compress(b"{}"), headers=headers)
    assert (other.status_code, other.json()["code"]) == (415, "unsupported_content_encoding")
    assert other.headers["accept-encoding"] == "gzip"


def test_bodies_share_memory_and_give_it_back() -> None:
    memory = BodyMemory(160)
    with (
        memory.of("a") as first,
        memory.of("a") as second,
        memory.of("b") as other,
        memory.of(None) as nobody,
    ):
        first.take(50)
        with pytest.raises(Refusal) as own:
            second.take(40)
        assert own.value.status == 429, "half of it for one owner"
        nobody.take(10)
        with pytest.raises(Refusal) as unknown, memory.of(None) as another:
            another.take(1)
        assert unknown.value.status == 429, "a sixteenth for all without a key"
        with pytest.raises(Refusal) as everybody:
            other.take(101)
        assert everybody.value.status == 503
        other.take(80)
    with memory.of("a") as alone:
        alone.take(1_000)
