"""What the server makes of a request before anything looks at it: its client, behind proxies and without."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from permille.config import Config, Networks
from permille.http.clients import client_address, household
from permille.server import Gate, listening


class _Seen(Gate):
    """Keeps the scope of the last request."""

    async def __call__(self, scope: Any, *_: Any) -> None:
        self.scope = scope


def seen(
    peer: str, forwarded: Sequence[str], *, trusted: str = "10.0.0.0/8, ::1", proto: str = "https"
) -> tuple[str, str]:
    """The client's address and the scheme of a request that a peer sends."""
    config = Config(trusted_proxies=Networks(trusted))
    gate = _Seen(config)
    settings = listening(gate, config)
    settings.load()
    headers = [
        (b"x-forwarded-proto", proto.encode()),
        *((b"x-forwarded-for", each.encode()) for each in forwarded),
    ]
    scope = {
        "type": "http",
        "scheme": "http",
        "method": "GET",
        "path": "/",
        "headers": headers,
        "client": (peer, 5),
    }

    async def never() -> Any:
        raise AssertionError

    asyncio.run(settings.loaded_app(scope, never, never))
    return client_address(gate.scope), gate.scope["scheme"]


def test_what_a_stranger_says_of_itself_is_not_believed() -> None:
    assert seen("203.0.113.9", ["198.51.100.1"]) == ("203.0.113.9", "http")
    assert seen("10.0.0.1", ["198.51.100.1"], trusted="") == ("10.0.0.1", "http")


@pytest.mark.parametrize(
    "forwarded",
    [
        ["198.51.100.1"],
        ["1.1.1.1, 198.51.100.1"],
        ["1.1.1.1", "198.51.100.1, 10.2.3.4"],
        ["10.9.9.9, 198.51.100.1, 10.2.3.4, ::1"],
        ["junk, 198.51.100.1:4711"],
    ],
)
def test_behind_a_trusted_proxy_the_client_is_the_rightmost_that_no_proxy_is(forwarded: list[str]) -> None:
    assert seen("10.0.0.1", forwarded) == ("198.51.100.1", "https")


def test_a_trusted_proxy_that_says_nothing_is_the_client() -> None:
    assert seen("::1", [], proto="junk") == ("::1", "http")


def test_limits_count_by_what_one_client_has() -> None:
    assert household("198.51.100.1") == household("::ffff:198.51.100.1") == "198.51.100.1"
    assert household("2001:db8:1:2:3::4") == household("2001:db8:1:2::") == "2001:db8:1:2::/64"
    assert household("2001:db8:1:3::4") != household("2001:db8:1:2::")
    assert household("fe80::1%eth0") == "fe80::/64"
    assert (household("testclient"), client_address({"client": None})) == ("testclient", "")
