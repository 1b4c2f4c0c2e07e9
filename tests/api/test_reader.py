"""Heavy reads by a reader: the answers of the server itself, right after a write, and whatever becomes of the reader."""

from __future__ import annotations

import os
import secrets
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import psycopg
import pytest
from msgspec.structs import force_setattr

from permille import reader
from permille.api.http import Apart, Engine
from permille.api.routes import APART, GROUPS, apart
from permille.busy import Patience
from permille.clock import system_now
from permille.core.api_key import Mode
from permille.database.connections import Limits, open_pool
from permille.http import reads
from permille.http.reads import Reader, Reading
from permille.store import api_keys
from permille.usecases import organizations
from permille.usecases.key_use import KeyUse
from tests.api.conftest import Api, Server, charge

USAGE = "/customers/cus/current_usage"
FOR_SUB = {"external_subscription_id": "sub"}
_HEADERS = ("content-type", "content-length", "content-disposition", "x-request-id")


@pytest.fixture
def read_by(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The server has a reader, with connections of its own; the operations that it has read."""
    pool = open_pool(server.dsn, size=2, name="test-reader", limits=Limits(statement=1))
    engine = Engine(config=server.engine.config, pool=pool, key_use=KeyUse(pool))
    done: list[str] = []

    class Noting(Reader):
        def read(self, asked: Reading) -> reads.Read | None:
            found = super().read(asked)
            if found is not None:
                done.append(asked.route)
            return found

    name = f"permille-test-{secrets.token_hex(8)}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(reads.address_of(name))
        listener.listen()
        threading.Thread(target=reader.accept, args=(listener, engine, Patience(60)), daemon=True).start()
        both = Noting(name)
        force_setattr(server.engine, "reader", both)
        force_setattr(server.engine, "reader_behind", both)
        yield done
        force_setattr(server.engine, "reader", None)
        force_setattr(server.engine, "reader_behind", None)
        listener.shutdown(socket.SHUT_RDWR)
    pool.close()


def answer(api: Api, path: str, **params: Any) -> tuple[int, bytes, list[str | None]]:
    """All of it that a client sees."""
    found = api.client.get(
        f"/api/v1{path}",
        params=params,
        headers={"Authorization": f"Bearer {api.key}", "X-Request-Id": "asked-1"},
    )
    return found.status_code, found.content, [found.headers.get(name) for name in _HEADERS]


def alone(server: Server, ask: Callable[[], Any]) -> Any:
    """The server's own answer."""
    known = server.engine.reader
    for name in ("reader", "reader_behind"):
        force_setattr(server.engine, name, None)
    try:
        return ask()
    finally:
        for name in ("reader", "reader_behind"):
            force_setattr(server.engine, name, known)


def test_the_reader_answers_as_the_server_does(server: Server, api: Api, read_by: list[str]) -> None:
    api.plan(charges=[charge(api.metric())])
    api.customer(currency="EUR")
    api.subscribe()
    wanted: list[tuple[str, dict[str, Any], int]] = [
        (USAGE, FOR_SUB, 200),
        (USAGE, {"external_subscription_id": "other"}, 405),
        ("/customers/nobody/current_usage", FOR_SUB, 404),
        ("/analytics/mrr", {}, 200),
        ("/analytics/margin", {"from": "2024-03-01", "to": "2024-03-05"}, 200),
        ("/analytics/margin", {"from": "2024-03-01", "to": "2024-03-05", "format": "csv"}, 200),
        ("/invoices", {"per_page": "0"}, 422),
    ]
    for path, params, status in wanted:
        read_by.clear()
        found = answer(api, path, **params)
        assert (found[0], len(read_by)) == (status, 1), (path, found)
        assert found == alone(server, partial(answer, api, path, **params))
    assert answer(replace(api, key="wrong"), USAGE, **FOR_SUB)[0] == 401


def test_a_read_sees_every_write_that_was_answered(api: Api, read_by: list[str]) -> None:
    api.plan(charges=[charge(api.metric())])
    api.customer(currency="EUR")
    for _ in range(5):
        api.subscribe()
        assert api.get(USAGE, **FOR_SUB)["customer_usage"]["amount_cents"] == 0
        api.delete("/subscriptions/sub")
        assert api.code(405, "GET", USAGE, **FOR_SUB) == "no_active_subscription"
    assert len(read_by) == 10


def test_a_key_that_is_revoked_or_may_not_read_gets_nothing(
    server: Server, api: Api, read_by: list[str]
) -> None:
    assert answer(api, "/invoices")[0] == 200
    events = api_keys.add(
        api.conn,
        organization_id=api.organization.id,
        name="events",
        now=system_now(),
        permissions={"event": [Mode.WRITE]},
    )
    api.conn.commit()
    assert answer(replace(api, key=events.secret), "/invoices")[0] == 403
    known = api_keys.by_secret(api.conn, api.key, now=system_now())
    assert known is not None
    organizations.revoke_key(api.conn, api.organization.id, known.id, now=system_now())
    api.conn.commit()
    assert answer(api, "/invoices")[0] == 401
    assert len(read_by) == 3
    assert server.engine.turns.owner(api.key) == api.organization.id, (
        "the server knows whose requests they are"
    )


def test_what_takes_too_long_is_cut_off_by_the_reader_and_not_tried_again(
    server: Server, api: Api, read_by: list[str]
) -> None:
    with psycopg.connect(server.dsn) as conn:
        conn.execute("lock table invoice in access exclusive mode")
        assert answer(api, "/invoices")[0] == 503
    assert len(read_by) == 1


def listening(work: Callable[[socket.socket], None]) -> tuple[socket.socket, str]:
    """A reader that does this with each connection."""
    name = f"permille-test-{secrets.token_hex(8)}"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(reads.address_of(name))
    listener.listen()

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                work(connection)

    threading.Thread(target=accept, daemon=True).start()
    return listener, name


def _dies_at_once(_connection: socket.socket) -> None:
    pass


def _dies_in_its_answer(connection: socket.socket) -> None:
    connection.recv(65_536)
    connection.sendall((1_000).to_bytes(4, "little") + b"half an ans")


@pytest.mark.parametrize("work", [None, _dies_at_once, _dies_in_its_answer])
def test_the_server_reads_by_itself_while_the_reader_is_away_or_fails(
    server: Server, api: Api, work: Callable[[socket.socket], None] | None
) -> None:
    listener, name = listening(work) if work else (socket.socket(), f"permille-test-{secrets.token_hex(8)}")
    asked: list[None] = []
    with listener:
        force_setattr(server.engine, "reader", Reader(name, lambda: asked.append(None)))
        try:
            for _ in range(3):
                assert answer(api, "/invoices")[0] == 200
        finally:
            force_setattr(server.engine, "reader", None)
            if work:
                listener.shutdown(socket.SHUT_RDWR)
    assert len(asked) == (0 if work else 3)


def test_a_reader_that_went_away_and_came_again_is_asked_again(
    server: Server, api: Api, read_by: list[str]
) -> None:
    assert answer(api, "/invoices")[0] == 200
    asked = server.engine.reader
    assert asked is not None
    (connection,) = asked._idle
    connection.shutdown(socket.SHUT_RDWR)
    assert answer(api, "/invoices")[0] == 200
    assert len(read_by) == 2


def test_another_user_is_no_reader(
    server: Server, api: Api, read_by: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 12_345)
    assert answer(api, "/invoices")[0] == 200
    assert read_by == []


def test_what_is_read_apart_changes_nothing() -> None:
    found = [each for group in GROUPS for each in group.operations if apart(each) is not Apart.NEVER]
    assert {each.method for each in found} == {"GET"}
    assert sum(apart(each) is Apart.ALWAYS for each in found) == len(APART)


def test_every_read_of_an_organization_that_takes_most_is_apart(
    server: Server, api: Api, read_by: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others' stay in the server, but for those that may take long."""
    api.customer(currency="EUR")
    assert answer(api, "/customers")[0] == 200
    assert read_by == []
    loads = server.engine.turns.loads
    monkeypatch.setattr(loads, "is_heavy", lambda owner, **_: owner == api.organization.id)
    alone_answered = alone(server, partial(answer, api, "/customers"))
    assert answer(api, "/customers") == alone_answered
    assert read_by == ["/api/v1/customers"]


def test_documents_are_made_by_the_reader_in_the_turns_at_documents(
    server: Server, api: Api, read_by: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    api.plan(amount_cents=3_100)
    api.customer(name="Ann")
    api.subscribe(subscription_at="2024-03-01T00:00:00Z")
    api.put("/test_clock", {"test_clock": {"now": "2024-04-01T01:00:00Z"}})
    (invoice,) = api.get("/invoices")["invoices"]
    path = f"/invoices/{invoice['lago_id']}/pdf"
    owners: list[Any] = []
    make = server.engine.documents.make

    async def noted(owner: Any, work: Callable[[], Any]) -> Any:
        owners.append(owner)
        return await make(owner, work)

    monkeypatch.setattr(server.engine.documents, "make", noted)
    read_by.clear()
    found = answer(api, path)
    assert found[0] == 200
    assert found[1].startswith(b"%PDF")
    assert (read_by, owners) == (["/api/v1/invoices/{lago_id}/pdf"], [api.organization.id])
    assert alone(server, partial(answer, api, path)) == found
    assert answer(api, "/invoices/b3d2c1a0-0000-4000-8000-000000000000/pdf")[0] == 404
    read_by.clear()
    assert answer(replace(api, key="wrong"), path)[0] == 401
    assert read_by == [], "a stranger has no turn"
