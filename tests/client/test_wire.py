"""What only the bytes on a real connection show: the address as it was sent, to the real server."""

from __future__ import annotations

import gzip
import json
import shutil
import socket
import subprocess
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import pytest
from lago_python_client.client import Client
from lago_python_client.models import Customer

from tests.live import LiveServer
from tests.odd_ids import ODD_IDS

ODD = [odd for odd in ODD_IDS if "\t" not in odd]


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def exchange(server: LiveServer, sent: bytes) -> Answer:
    """Send these bytes; what came back."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(sent)
        received = b""
        while chunk := connection.recv(65_536):
            received += chunk
    head, _, body = received.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return Answer(int(first.split()[1]), headers, body)


def ask(server: LiveServer, key: str, method: str, target: bytes, body: Any = None, **headers: str) -> Answer:
    content = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    given = {
        "Host": "localhost",
        "Authorization": f"Bearer {key}",
        "Content-Length": str(len(content)),
        "Connection": "close",
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in given.items()).encode()
    return exchange(server, method.encode() + b" " + target + b" HTTP/1.1\r\n" + lines + b"\r\n" + content)


@pytest.fixture
def key(server: LiveServer) -> str:
    return server.organization()["api_key"]


def segment(odd: str) -> bytes:
    return quote(odd, safe="").encode()


def test_ids_of_every_kind_by_their_bytes(server: LiveServer, key: str) -> None:
    for odd in ODD:
        made = {"customer": {"external_id": odd, "name": "n"}}
        assert ask(server, key, "POST", b"/api/v1/customers", made).status == 200
        found = ask(server, key, "GET", b"/api/v1/customers/" + segment(odd))
        assert (found.status, found.json()["customer"]["external_id"]) == (200, odd)
        event = {"event": {"transaction_id": odd, "code": "c", "external_subscription_id": odd}}
        assert ask(server, key, "POST", b"/api/v1/events", event).status == 200
        found = ask(server, key, "GET", b"/api/v1/events/" + segment(odd))
        assert (found.status, found.json()["event"]["transaction_id"]) == (200, odd)
    everybody = {odd: ask(server, key, "DELETE", b"/api/v1/customers/" + segment(odd)) for odd in ODD}
    assert {answer.status for answer in everybody.values()} == {200}
    assert [answer.json()["customer"]["external_id"] for answer in everybody.values()] == ODD


@pytest.mark.parametrize(
    "target",
    [
        b"/api/v1/plans/%",
        b"/api/v1/plans/%zz",
        b"/api/v1/plans/%ff%fe",
        b"/api/v1/plans/%00",
        b"/api/v1/plans/\xc3\xa9",
        b"/api/v1/plans?x=\xff",
        b"/app/plans/%ff",
        b"/app/plans/%00",
        b"/app/plans?x=\xff",
        b"/app/link/%00",
        b"/app/static/%2e%2e%2fapp.css",
        b"/admin/v1/organizations/%00/api_keys",
        b"/health/%",
        b"//",
        b"/api/v1/plans/../../../etc/passwd",
        b"http://evil.test/api/v1/plans/%",
    ],
)
def test_addresses_that_cannot_be_read(server: LiveServer, key: str, target: bytes) -> None:
    for method in ("GET", "POST", "DELETE"):
        assert ask(server, key, method, target).status in (303, 400, 401, 404, 405)


@pytest.mark.parametrize(
    "way", ["/api/v1/events", "/api/v1/events/", "/api/v1/%65vents", "/api/v1/events/batch/"]
)
def test_the_intake_is_found_however_its_address_is_written(server: LiveServer, key: str, way: str) -> None:
    event = {"transaction_id": way, "code": "c", "external_subscription_id": "s"}
    body = {"events": [event]} if "batch" in way else {"event": event}
    assert ask(server, key, "POST", way.encode(), body).status == 200
    assert ask(server, key, "POST", b"/api/v1/events%2Fbatch", body).status == 404


def test_packed_events_over_a_real_connection(server: LiveServer, key: str) -> None:
    event = {"transaction_id": "packed", "code": "c", "external_subscription_id": "s"}
    packed = gzip.compress(
        json.dumps({"event": event | {"timestamp": "2026-10-05T14:00:00.5+02:00"}}).encode()
    )
    found = ask(server, key, "POST", b"/api/v1/events", packed, Content_Encoding="gzip")
    assert (found.status, found.json()["event"]["timestamp"]) == (200, "2026-10-05T12:00:00.500Z")
    bomb = gzip.compress(b" " * 50_000_000)
    assert ask(server, key, "POST", b"/api/v1/events", bomb, Content_Encoding="gzip").status == 413


@pytest.mark.parametrize("path", ["/api/v1/events", "/api/v1/plans", "/app/sign-in", "/app/new-plan"])
def test_a_client_that_goes_away_is_no_crash(server: LiveServer, key: str, path: str) -> None:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nSec-Fetch-Site: same-origin\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(head.encode() + b"Content-Length: 1000\r\n\r\n{")
    assert ask(server, key, "GET", b"/api/v1/plans").status == 200
    assert "Traceback" not in server.log()
    assert "crashed" not in server.log()


def test_curl(server: LiveServer, key: str) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("curl is not installed")
    command = [curl, "-s", "--path-as-is", "-H", f"Authorization: Bearer {key}"]
    for odd in ODD:
        body = json.dumps({"customer": {"external_id": odd}})
        subprocess.run(
            [*command, f"{server.url}/api/v1/customers", "-d", body], check=True, capture_output=True
        )
        url = f"{server.url}/api/v1/customers/{quote(odd, safe='')}"
        found = subprocess.run([*command, url], check=True, capture_output=True).stdout
        assert json.loads(found)["customer"]["external_id"] == odd


def test_lagos_python_client_with_quoted_ids(server: LiveServer, key: str) -> None:
    client = Client(api_key=key, api_url=server.url)
    for odd in ODD:
        if odd in (".", ".."):
            continue  # the client takes these for directions
        client.customers.create(Customer(external_id=odd))
        assert client.customers.find(quote(odd, safe="")).external_id == odd
        assert client.customers.destroy(quote(odd, safe="")).external_id == odd
