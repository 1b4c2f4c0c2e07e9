"""What tests do with a real server holds on a busy machine."""

from __future__ import annotations

import httpx2
import pytest

from tests.live import move_clock


def client(*statuses: int) -> tuple[httpx2.Client, list[int]]:
    left = list(statuses)
    transport = httpx2.MockTransport(lambda _request: httpx2.Response(left.pop(0), json={}))
    return httpx2.Client(base_url="http://test/api/v1", transport=transport), left


def test_a_clock_has_arrived_when_its_move_returns() -> None:
    moving, left = client(202, 503, 200)
    move_clock(moving, "2026-11-01T00:00:00Z")
    assert not left


def test_a_move_that_is_refused_is_no_matter_of_patience() -> None:
    refusing, left = client(422, 200)
    with pytest.raises(AssertionError):
        move_clock(refusing, "2026-11-01T00:00:00Z")
    assert left == [200]
