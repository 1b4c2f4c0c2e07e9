"""Delivery to a real HTTP receiver: signed, repeated, frozen, to each once, and nowhere private."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import jwt
import psycopg
import pytest
from psycopg_pool import ConnectionPool

from permille.config import Config
from permille.core.organization import Organization
from permille.database.connections import open_pool
from permille.embedded.calls import WORKING
from permille.ids import new_id
from permille.out import webhooks as out_webhooks
from permille.out.kind import Context, Renderers
from permille.out.signing import draw_private_key, public_pem
from permille.out.webhooks import AT_ONCE, deliver
from permille.store import fences, organizations, webhook_endpoints, webhook_log, webhooks
from tests.live import PATIENCE_SECONDS

NOW = datetime(2026, 10, 1, tzinfo=UTC)


@dataclass
class Receiver:
    url: str
    statuses: list[int] = field(default_factory=list)
    received: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    packing: str | None = None
    _held: threading.Event | None = None

    def hold_first(self) -> threading.Event:
        """Let the next request wait for an answer until the event is set."""
        self._held = threading.Event()
        return self._held

    def wait_if_held(self) -> None:
        held, self._held = self._held, None
        if held:
            held.wait(PATIENCE_SECONDS)


def until(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver("")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            found.received.append(({name.lower(): value for name, value in self.headers.items()}, body))
            found.wait_if_held()
            status = found.statuses.pop(0) if found.statuses else 200
            self.send_response(status)
            if status == 302:
                self.send_header("location", found.url + "/elsewhere")
            if found.packing:
                self.send_header("content-encoding", found.packing)
            self.end_headers()
            self.wfile.write(b"answer \0 of the receiver")

        def log_message(self, *_: Any) -> None:
            return

    class Server(ThreadingHTTPServer):
        request_queue_size = 128

    server = Server(("127.0.0.1", 0), Handler)
    found.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield found
    server.shutdown()


@pytest.fixture
def pool(dsn: str) -> Iterator[ConnectionPool[Any]]:
    opened = open_pool(dsn, size=4, name="test")
    yield opened
    opened.close()


def outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the receiver for one at a public address."""
    monkeypatch.setattr("permille.out.calls.is_allowed", lambda _address, _reach: True)


class World:
    def __init__(self, db: psycopg.Connection[Any], pool: ConnectionPool[Any], receiver: Receiver) -> None:
        self.db, self.pool, self.receiver = db, pool, receiver
        self.config = Config(public_url="https://billing.example")
        self.shown: dict[UUID, dict[str, Any] | None] = {}
        self.now = NOW
        self.stopping = threading.Event()

    def organization(self, *, test_mode: bool = True) -> Organization:
        made = organizations.add(self.db, name="O", test_now=NOW if test_mode else None, entity={}, now=NOW)
        self.db.commit()
        return made

    def listen(
        self, organization: Organization, *, algo: str = "jwt", types: list[str] | None = None
    ) -> None:
        self.db.execute(
            "insert into webhook_endpoint (id, organization_id, webhook_url, signature_algo, event_types,"
            " created_at, updated_at) values (%s, %s, %s, %s, %s, %s, %s)",
            [new_id(NOW), organization.id, f"{self.receiver.url}/{algo}", algo, types, NOW, NOW],
        )
        self.db.commit()

    def happen(self, organization: Organization, *, count: int = 1, payload: Any = None) -> list[UUID]:
        ids = [new_id(NOW) for _ in range(count)]
        for number, each in enumerate(ids):
            self.shown[each] = {"lago_id": str(each), "number": number}
        webhooks.enqueue(
            self.db,
            organization_id=organization.id,
            webhook_type="invoice.created",
            object_type="invoice",
            object_ids=ids,
            payload=payload,
            now=NOW,
        )
        self.db.commit()
        return ids

    def deliver(self, render: Callable[[Any, UUID], Any] | None = None) -> int:
        """A turn for each endpoint; how many attempts were made."""
        endpoints = self.db.execute("select id from webhook_endpoint order by id").fetchall()
        self.db.commit()
        render = render or (lambda _conn, object_id: self.shown.get(object_id))

        def render_all(conn: Any, object_ids: Sequence[UUID]) -> dict[UUID, Any]:
            found = {each: render(conn, each) for each in object_ids}
            return {each: shown for each, shown in found.items() if shown is not None}

        context = self.process({"invoice": render_all})
        return sum(deliver(context, str(endpoint), clock=lambda: self.now) for (endpoint,) in endpoints)

    def process(self, renderers: Renderers) -> Context:
        """What the jobs of one process have at hand."""
        return Context(
            pool=self.pool, config=self.config, renderers=renderers, is_stopping=self.stopping.is_set
        )

    def rows(self) -> list[tuple[Any, ...]]:
        found = self.db.execute(
            "select status, attempts, http_status, response, next_attempt_at from webhook order by id"
        ).fetchall()
        self.db.commit()
        return found


@pytest.fixture
def world(db: psycopg.Connection[Any], pool: ConnectionPool[Any], receiver: Receiver) -> World:
    return World(db, pool, receiver)


def test_a_receiver_can_verify_both_signatures(world: World) -> None:
    organization = world.organization()
    world.listen(organization, algo="jwt")
    world.listen(organization, algo="hmac")
    (object_id,) = world.happen(organization)
    assert world.deliver() == 2
    pem = public_pem(webhooks.signing_key(world.db, draw=draw_private_key, now=NOW))
    assert len({headers["x-lago-unique-key"] for headers, _ in world.receiver.received}) == 2
    for headers, body in world.receiver.received:
        assert json.loads(body) == {
            "webhook_type": "invoice.created",
            "object_type": "invoice",
            "organization_id": str(organization.id),
            "invoice": {"lago_id": str(object_id), "number": 0},
        }
        signature = headers["x-lago-signature"]
        if headers["x-lago-signature-algorithm"] == "hmac":
            expected = hmac.new(organization.hmac_key.encode(), body, hashlib.sha256).digest()
            assert base64.b64decode(signature) == expected
        else:
            claims = jwt.decode(signature, pem, algorithms=["RS256"], issuer="https://billing.example")
            assert claims["data"] == body.decode()
    assert [row[:3] for row in world.rows()] == [("succeeded", 1, 200)] * 2


def test_three_attempts_with_the_same_bytes_and_key(world: World) -> None:
    organization = world.organization()
    world.listen(organization)
    (object_id,) = world.happen(organization)
    world.receiver.statuses = [500, 302, 206]
    waits = []
    for _ in range(3):
        assert world.deliver() == 1
        world.shown[object_id] = {"changed": True}
        (row,) = world.rows()
        if row[4] is not None:
            waits.append((row[4] - world.now).total_seconds())
            assert world.deliver() == 0
            world.now = row[4]
    assert [row[:3] for row in world.rows()] == [("failed", 3, 206)]
    assert 3 <= waits[0] <= 3.15
    assert 18 <= waits[1] <= 20.4
    world.now += timedelta(days=1)
    assert world.deliver() == 0
    assert len({(headers["x-lago-unique-key"], body) for headers, body in world.receiver.received}) == 1
    assert len(world.receiver.received) == 3  # the redirect was not followed


def test_a_live_organization_reaches_no_private_address(world: World) -> None:
    organization = world.organization(test_mode=False)
    world.listen(organization)
    world.happen(organization)
    assert world.deliver() == 1
    assert world.receiver.received == []
    ((status, attempts, http_status, response, _),) = world.rows()
    assert (status, attempts, http_status) == ("retrying", 1, None)
    assert "no public address" in response


def test_who_does_not_listen_is_not_notified(world: World) -> None:
    organization = world.organization()
    world.happen(organization)
    world.listen(organization, types=["customer.created"])
    world.happen(organization)
    assert world.rows() == []
    world.listen(organization, algo="hmac", types=["*"])
    world.happen(organization, payload={"ready": True})
    assert world.deliver() == 1
    assert json.loads(world.receiver.received[0][1])["invoice"] == {"ready": True}


def test_an_object_that_is_no_more(world: World) -> None:
    organization = world.organization()
    world.listen(organization)
    (object_id,) = world.happen(organization)
    world.shown[object_id] = None
    assert world.deliver() == 1
    assert world.rows() == [("failed", 1, None, "The invoice is no more.", None)]


def test_two_deliverers_send_each_once(world: World) -> None:
    organization = world.organization()
    world.listen(organization)
    world.happen(organization, count=150)
    counts: list[int] = []

    def deliver() -> None:
        while count := world.deliver():
            counts.append(count)

    threads = [threading.Thread(target=deliver) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(counts) == 150
    keys = [headers["x-lago-unique-key"] for headers, _ in world.receiver.received]
    assert len(keys) == len(set(keys)) == 150


def test_a_second_job_helps_where_more_is_due_than_is_claimed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("permille.out.webhooks.CLAIMED_MAX", AT_ONCE)
    organization = world.organization()
    world.listen(organization)
    for count, helpers in ((AT_ONCE - 1, 0), (AT_ONCE, 1), (3 * AT_ONCE, 1)):
        world.db.execute("delete from procrastinate_jobs")
        world.happen(organization, count=count)
        assert world.deliver() == count
        found = world.db.execute("select args from procrastinate_jobs where lock = 'beside'").fetchall()
        world.db.commit()
        assert len(found) == helpers


def test_a_second_job_in_the_same_process_asks_for_another_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(out_webhooks, "ask_for", asked.append)
    organization = world.organization()
    world.listen(organization)
    world.happen(organization)
    (endpoint,) = world.db.execute("select id::text from webhook_endpoint").fetchone() or ("",)
    world.db.commit()
    second: list[int] = []

    def render(_conn: object, ids: Sequence[UUID]) -> dict[UUID, object]:
        second.append(deliver(process, endpoint, clock=lambda: world.now))
        return {each: {"lago_id": str(each)} for each in ids}

    process = world.process({"invoice": render})
    assert deliver(process, endpoint, clock=lambda: world.now) == 1
    assert (second, asked) == ([0], [WORKING])
    world.happen(organization)
    assert deliver(process, endpoint, clock=lambda: world.now) == 1, "the first has ended"


def test_a_crash_between_claim_and_answer_repeats_the_attempt(world: World) -> None:
    organization = world.organization()
    world.listen(organization)
    world.happen(organization)
    with world.pool.connection() as conn:
        endpoint = conn.execute("select id from webhook_endpoint").fetchone()[0]
        claimed = webhooks.claim(conn, endpoint, now=NOW, lease_until=NOW + timedelta(minutes=5), limit=10)
    assert len(claimed) == 1
    assert world.deliver() == 0
    world.now = NOW + timedelta(minutes=5)
    assert world.deliver() == 1
    assert [row[:2] for row in world.rows()] == [("succeeded", 1)]


def test_old_ones_are_forgotten_and_waiting_ones_are_not(world: World) -> None:
    organization = world.organization()
    world.listen(organization)
    world.happen(organization)
    world.deliver()
    world.happen(organization)
    assert webhooks.delete_older(world.db, before=NOW + timedelta(days=1)) == 1
    assert [row[0] for row in world.rows()] == ["pending"]


def test_those_of_an_organization_whose_clock_is_years_behind_are_kept_as_long(world: World) -> None:
    organization = world.organization()
    world.listen(organization)
    world.happen(organization)
    world.deliver()
    world.db.execute("update webhook set created_at = created_at - interval '2 years'")
    assert webhooks.delete_older(world.db, before=NOW - timedelta(days=1)) == 0
    assert webhooks.delete_older(world.db, before=NOW + timedelta(days=1)) == 1


@pytest.mark.parametrize("breaks_transaction", [False, True])
def test_a_webhook_that_cannot_be_made_stops_those_of_nobody(
    world: World, caplog: pytest.LogCaptureFixture, breaks_transaction: bool
) -> None:
    broken, fine = world.organization(), world.organization()
    for organization in (broken, fine):
        world.listen(organization)
    (bad,) = world.happen(broken)
    world.happen(fine, count=2)

    def render(conn: psycopg.Connection[Any], object_id: UUID) -> Any:
        if object_id == bad:
            if breaks_transaction:
                conn.execute("select 1 / 0")
            raise KeyError("a bug")
        return world.shown[object_id]

    assert world.deliver(render) == 3
    assert len(world.receiver.received) == 2
    assert sorted(row[:2] for row in world.rows()) == [("retrying", 1), ("succeeded", 1), ("succeeded", 1)]
    assert str(broken.id) in caplog.text
    world.now = NOW + timedelta(minutes=1)  # once the bug is mended
    assert world.deliver() == 1
    assert [row[0] for row in world.rows()] == ["succeeded"] * 3


def test_the_lease_is_longer_than_an_attempt_and_outcomes_come_one_by_one(world: World) -> None:
    """Of two attempts one hangs: meanwhile the other is recorded, and nobody repeats the first."""
    world.config = Config(webhook_timeout_seconds=120)
    organization = world.organization()
    world.listen(organization)
    world.happen(organization, count=2)
    held = world.receiver.hold_first()
    thread = threading.Thread(target=world.deliver)
    thread.start()
    until(lambda: sorted(row[0] for row in world.rows()) == ["pending", "succeeded"])
    leases = [row[4] for row in world.rows() if row[4] is not None]
    assert [lease - NOW > timedelta(seconds=120) for lease in leases] == [True]
    assert len(world.receiver.received) == 2
    held.set()
    thread.join()
    assert [row[0] for row in world.rows()] == ["succeeded"] * 2


def test_what_is_sent_again_meanwhile_is_sent_again(world: World) -> None:
    organization = world.organization()
    world.listen(organization)
    world.happen(organization)
    held = world.receiver.hold_first()
    thread = threading.Thread(target=world.deliver)
    thread.start()
    until(lambda: world.receiver.received)
    ((webhook_id,),) = world.db.execute("select id from webhook").fetchall()
    assert webhook_log.replay(world.db, organization.id, webhook_id)
    world.db.commit()
    held.set()
    thread.join()
    world.deliver()
    assert len(world.receiver.received) == 2
    assert [row[:2] for row in world.rows()] == [("succeeded", 1)]


def test_nothing_that_was_read_from_inside_is_kept(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """F15: of an answer from loopback the status; of one from outside the text, too."""
    organization = world.organization()
    world.listen(organization)
    world.happen(organization)
    world.deliver()
    kept = "The answer came from a private address: its status is kept, its body is not."
    assert [row[2:4] for row in world.rows()] == [(200, kept)]
    logged, _ = webhook_log.listing(world.db, organization.id, status=None, limit=10, offset=0)
    assert "of the receiver" not in repr(logged)
    outside(monkeypatch)
    world.happen(organization)
    world.deliver()
    assert {row[3] for row in world.rows()} == {kept, "answer  of the receiver"}


def test_an_address_that_changes_after_its_check_is_not_reached(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F13: a name that is 8.8.8.8 for the first look-up, and 127.0.0.1 for each that follows."""
    look_up, looked, connected = socket.getaddrinfo, [], []

    def rebinding(host: str, *args: Any, **named: Any) -> Any:
        if host != "rebind.example":
            return look_up(host, *args, **named)
        looked.append(host)
        return look_up("8.8.8.8" if len(looked) == 1 else "127.0.0.1", *args, **named)

    connects, port = socket.create_connection, urlsplit(world.receiver.url).port

    def connect(address: tuple[str, int], *args: Any, **named: Any) -> Any:
        if address[1] != port:
            return connects(address, *args, **named)
        connected.append(address[0])
        raise ConnectionRefusedError("nobody")

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    monkeypatch.setattr(socket, "create_connection", connect)
    organization = world.organization(test_mode=False)
    world.receiver.url = world.receiver.url.replace("127.0.0.1", "rebind.example")
    world.listen(organization)
    world.happen(organization)
    for _ in range(3):
        world.deliver()
        world.now += timedelta(minutes=1)
    assert (connected, world.receiver.received) == (["8.8.8.8"], [])
    ((status, attempts, _, response, _),) = world.rows()
    assert (status, attempts) == ("failed", 3)
    assert "rebind.example is 127.0.0.1, which is no public address" in response


def test_a_packed_answer_is_not_read(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    outside(monkeypatch)
    organization = world.organization()
    world.listen(organization)
    world.happen(organization)
    world.receiver.packing = "gzip"
    world.deliver()
    assert world.rows()[0][3] == "The answer's body is packed (gzip); it was not read."


def test_a_test_organization_reaches_loopback_and_nothing_else_inside(world: World) -> None:
    organization = world.organization()
    world.receiver.url = "http://10.255.255.1"
    world.listen(organization)
    world.happen(organization)
    world.deliver()
    assert "10.255.255.1, which is no public address" in world.rows()[0][3]


def test_an_endpoint_is_slow_as_long_as_its_attempts_are(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    organization = world.organization()
    world.listen(organization)

    def is_slow() -> bool:
        world.happen(organization)
        world.deliver()
        ((found,),) = world.db.execute("select is_slow from webhook_endpoint").fetchall()
        return bool(found)

    assert not is_slow()
    monkeypatch.setattr("permille.out.webhooks.SLOW_SECONDS", 0.0)
    assert is_slow()
    monkeypatch.undo()
    assert not is_slow()


def test_a_turn_ends_and_leaves_the_rest_to_the_next(world: World) -> None:
    organization = world.organization()
    world.listen(organization)
    world.happen(organization, count=3)
    world.stopping.set()
    assert world.deliver() == 0
    assert world.db.execute("select count(*) from procrastinate_jobs").fetchone() == (1,)
    world.stopping.clear()
    assert world.deliver() == 3


def test_a_stop_cuts_attempts_short_that_are_made_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("permille.out.webhooks.STOP_SECONDS", 0.2)
    organization = world.organization()
    world.listen(organization)
    world.happen(organization)
    held = world.receiver.hold_first()
    thread = threading.Thread(target=world.deliver)
    thread.start()
    until(lambda: world.receiver.received)
    world.stopping.set()
    begun = time.monotonic()
    thread.join()
    held.set()
    assert time.monotonic() - begun < 5
    assert [row[:2] for row in world.rows()] == [("pending", 0)]
    world.stopping.clear()
    world.now += timedelta(minutes=2)
    assert world.deliver() == 1
    assert [row[:2] for row in world.rows()] == [("succeeded", 1)]


def test_what_was_claimed_and_not_begun_is_due_as_before(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a quick endpoint more are claimed than are sent at once; a stop gives back what waits."""
    monkeypatch.setattr("permille.out.webhooks.AT_ONCE", 1)
    monkeypatch.setattr("permille.out.webhooks._Turn._claimed_at_once", lambda _turn: 3)
    organization = world.organization()
    world.listen(organization)
    world.happen(organization, count=3)
    held = world.receiver.hold_first()
    thread = threading.Thread(target=world.deliver)
    thread.start()
    until(lambda: world.receiver.received)
    world.stopping.set()
    held.set()
    thread.join()
    assert [row[0] for row in world.rows()] == ["succeeded", "pending", "pending"]
    world.stopping.clear()
    assert world.deliver() == 2
    assert [row[:2] for row in world.rows()] == [("succeeded", 1)] * 3


def test_an_endpoint_that_fails_for_a_reason_of_ours_is_left_alone_longer_each_time(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It fails before any attempt is recorded; another one's webhooks go on, and it is shown as held meanwhile."""
    broken, fine = world.organization(), world.organization()
    for one in (broken, fine):
        world.listen(one)
        world.happen(one)
    real = out_webhooks._bodies
    mended = threading.Event()

    def bodies(conn: Any, claimed: Any, context: Any) -> Any:
        if claimed and claimed[0].organization_id == broken.id and not mended.is_set():
            raise ZeroDivisionError
        return real(conn, claimed, context)

    def jobs_due() -> int:
        world.db.execute("delete from procrastinate_jobs")
        webhooks.defer_due(world.db, now=world.now)
        queued = world.db.execute("select from procrastinate_jobs").fetchall()
        world.db.commit()
        return len(queued)

    monkeypatch.setattr(out_webhooks, "_bodies", bodies)
    assert world.deliver() == 1
    assert len(world.receiver.received) == 1
    pauses = []
    for _ in range(3):
        (fence,) = fences.of_organization(world.db, broken.id, limit=10)
        world.db.commit()
        assert fence.reason == "ZeroDivisionError"
        pauses.append((fence.retry_at - world.now).total_seconds())
        assert jobs_due() == world.deliver() == 0
        world.now = fence.retry_at
        assert jobs_due() == 1
        world.deliver()
    assert pauses == [5, 10, 20]
    mended.set()
    world.now += timedelta(minutes=1)
    assert world.deliver() == 1
    assert len(world.receiver.received) == 2
    assert fences.of_organization(world.db, broken.id, limit=10) == []


def test_a_deleted_endpoint_is_no_longer_shown_as_held(world: World) -> None:
    organization = world.organization()
    world.listen(organization)
    ((endpoint_id,),) = world.db.execute("select id from webhook_endpoint").fetchall()
    found = webhooks.pause_of(world.db, endpoint_id)
    assert found is not None
    webhooks.pause(world.db, found, reason="a bug", now=NOW)
    webhook_endpoints.delete(world.db, endpoint_id)
    assert fences.of_organization(world.db, organization.id, limit=10) == []
