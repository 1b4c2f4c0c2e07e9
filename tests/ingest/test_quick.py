"""Usual requests, answered in the protocol: the same bytes get the same answers as through the application."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast
from uuid import UUID

import pytest
import uvicorn
from hypothesis import given, settings, strategies as st
from uvicorn.server import ServerState

from permille import logs, telemetry
from permille.core.api_key import ApiKey
from permille.core.errors import Refusal
from permille.core.llm.intake import Intakes
from permille.core.organization import Organization
from permille.events.columns import Columns, UsualEvents
from permille.events.draft import Draft
from permille.events.log import ChangingError, Request, UnacceptableError, UnavailableError, Writer
from permille.http.bodies import BodyMemory
from permille.http.door import DoorLimits
from permille.http.quick import BODY_MAX, QuickProtocol, ShortWay, find_request, quick
from permille.http.requests import Requests
from permille.ingest import asgi, quick as desks, senders
from permille.ingest.asgi import EventIntake
from permille.ingest.decoders.lago import BATCH, EVENT
from permille.ingest.queue import AwaitedRequest, WaitingRequest
from permille.ingest.quick import QuickDesk
from permille.ingest.senders import Answers, SenderMemory

NOW = datetime(2026, 10, 1, 12, 30, 15, 250_000, tzinfo=UTC)
LIVE, TEST, READER = UUID(int=1), UUID(int=2), UUID(int=3)


class Log:
    """A writer that remembers, and does as transaction ids say."""

    def __init__(self) -> None:
        self.stored: list[tuple[str, str]] = []
        self.changing: set[str] = set()

    def read_usual(
        self,
        _: UUID,
        body: bytes,
        *,
        created_at: int,
        most: int,
        is_batch: bool,
        is_answered: bool = True,
    ) -> UsualEvents | None:
        if b'"usual"' not in body:
            return None
        try:
            drafts = (BATCH if is_batch else EVENT).decode(body, NOW, most)
        except Refusal:
            return None
        columns = Columns(
            count=len(drafts),
            series_ids=b"",
            ats=b"",
            identities=b"\0\0\0\x10" + bytes(16) * len(drafts),
            amounts=None,
            transaction_ids=b"",
            precise=None,
            extras=None,
        )
        codes = {draft.code for draft in drafts}
        answer = b'{"usual":%d,"at":%d}' % (len(drafts), created_at) if is_answered else b""
        return UsualEvents(columns=columns, codes=codes, version=0, answer=answer)

    def words(self, request: Request) -> int:
        return 10**6 if any(draft.code == "wordy" for draft in request.drafts) else 0

    def derive(self, request: Request) -> None:
        for draft in request.drafts:
            draft.properties = {**draft.properties, "derived": 1}

    async def append(self, requests: Sequence[Request]) -> None:
        await asyncio.sleep(0)
        for request in requests:
            ids = [draft.transaction_id for draft in request.drafts]
            if "down" in ids:
                raise UnavailableError("down")
            if "poison" in ids:
                raise UnacceptableError("poison")
            if fresh := {one for one in ids if one.startswith("changing")} - self.changing:
                self.changing |= fresh
                raise ChangingError([request.organization_id])
            taken = [each for _, each in self.stored]
            if "long" in ids:
                request.too_long = {ids.index("long"): "model"}
            elif "senseless" in ids:
                request.unevaluable = {ids.index("senseless"): "no value"}
            else:
                request.duplicates = [
                    place for place, one in enumerate(ids) if one in taken or one in ids[:place]
                ]
                if not request.duplicates:
                    self.stored += [(str(request.organization_id), one) for one in ids]

    async def close(self) -> None:
        pass


class Pipe(asyncio.Transport):
    """A connection whose other end is the test."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.9", 1), "sockname": ("127.0.0.1", 2)})
        self.written = b""
        self.is_over = False
        self.is_paused = False

    def write(self, data: Any) -> None:
        assert not self.is_over, "nothing is written to a connection that is closed"
        self.written += data

    def close(self) -> None:
        self.is_over = True

    abort = close

    def is_closing(self) -> bool:
        return self.is_over

    def write_eof(self) -> None:
        pass

    def pause_reading(self) -> None:
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False

    def get_write_buffer_size(self) -> int:
        return 0


def key_of(secret: str) -> ApiKey | None:
    owners = {"live": LIVE, "other": UUID(int=4), "test": TEST, "reader": READER}
    if secret not in owners:
        return None
    owner = Organization(
        id=owners[secret],
        name=secret,
        test_mode=secret == "test",
        test_now=NOW if secret == "test" else None,
        hmac_key="",
        created_at=NOW,
    )
    permissions = {"event": ["read"]} if secret == "reader" else None
    return ApiKey(
        id=owners[secret], organization=owner, permissions=cast("Any", permissions), expires_at=None
    )


def no_intakes(_: UUID) -> Intakes:
    return {}


class NoCalls:
    """A desk that is asked nothing."""

    async def close(self) -> None:
        pass


def answers(**more: Any) -> Answers:
    def nothing(*_: Any, **__: Any) -> Any:
        return None

    asked = {
        "key": key_of,
        "intakes": no_intakes,
        "used": nothing,
        "warnings": lambda *_: [],
        "unevaluable": lambda *_: {},
        "unacceptable": lambda request: [each.transaction_id for each in request.drafts].index("poison"),
        "calls": NoCalls(),
        "notes": nothing,
    }
    return Answers(**cast("Any", asked | more))


@dataclass
class Server:
    """Connections to an intake; the short way may be open."""

    is_short: bool
    log: Log = field(default_factory=Log)
    limits: dict[str, Any] = field(default_factory=dict)
    memory: BodyMemory = field(default_factory=lambda: BodyMemory(10**6))
    logs_requests: bool = False
    taken: int = 0
    """Requests that went the short way."""

    async def start(self) -> None:
        self.intake = EventIntake(
            [cast("Writer", self.log)], answers(), self.memory, max_body_bytes=100_000, batch_max=5
        )
        await self.intake.start()
        requests = Requests(
            self.route, fixed=("/api/v1/events", "/api/v1/events/batch"), logs_requests=self.logs_requests
        )
        self.config = uvicorn.Config(
            requests, log_config=None, access_log=False, lifespan="off", timeout_keep_alive=75
        )
        self.config.load()
        self.state = ServerState()
        self.state.default_headers = [(b"date", b"today")]
        self.protocol = quick(DoorLimits(**self.limits))
        desk = QuickDesk(self.intake)
        take = desk.take

        def counted(*given: Any) -> bool:
            is_taken = take(*given)
            self.taken += is_taken
            return is_taken

        desk.take = cast("Any", counted)  # type: ignore[method-assign]
        if self.is_short:
            self.protocol.short_way = ShortWay(desk, requests)

    async def route(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["method"] == "POST" and scope["path"] in ("/api/v1/events", "/api/v1/events/batch"):
            await self.intake(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    def connect(self) -> tuple[QuickProtocol, Pipe]:
        pipe = Pipe()
        connection = self.protocol(self.config, self.state, {}, asyncio.get_running_loop())
        connection.connection_made(pipe)
        return connection, pipe

    async def stop(self) -> None:
        await self.intake.stop()
        sweeping = self.protocol.door.sweeping
        if sweeping is not None:
            sweeping.cancel()

    async def send(self, connection: QuickProtocol, pipe: Pipe, pieces: Sequence[bytes], pauses: int) -> None:
        for piece in pieces:
            await until(lambda: not pipe.is_paused)
            connection.data_received(piece)
            for _ in range(pauses):
                await asyncio.sleep(0)

    async def settle(self, connection: QuickProtocol) -> None:
        """Until nothing goes on but for waiting for the rest of a request."""

        def is_quiet() -> bool:
            cycle = connection.cycle
            is_waiting = cycle is not None and not cycle.response_complete and not cycle.more_body
            looks_up = self.intake.lookups._shares
            return not (is_waiting or connection.asked or connection.pipeline or looks_up)

        for _ in range(5):
            await until(is_quiet)
            await asyncio.sleep(0)


async def until(holds: Callable[[], bool]) -> None:
    for turn in range(20_000):
        if holds():
            return
        await asyncio.sleep(0.000_5 if turn > 50 else 0)
    raise AssertionError("it is not so after 10 s")


def read(written: bytes) -> Iterator[tuple[int, dict[bytes, bytes], Any]]:
    while written:
        head, _, rest = written.partition(b"\r\n\r\n")
        first, *lines = head.split(b"\r\n")
        headers = dict(line.split(b": ", 1) for line in lines)
        length = int(headers.pop(b"content-length", b"0"))
        body: Any = rest[:length]
        if headers.get(b"content-type") == b"application/json":
            body = json.loads(body)
            if "request_id" in body:
                assert body["request_id"].encode() == headers[b"x-request-id"]
                body["request_id"] = ""
        if headers.get(b"x-request-id", b"mine") != b"mine":
            headers[b"x-request-id"] = b"ours"
        yield int(first.split()[1]), headers, body
        written = rest[length:]


def counts() -> Counter[Any]:
    found: Counter[Any] = Counter()
    for labels, tally in telemetry.answers._tallies.items():
        found[labels] = sum(tally.buckets)
    for outcome in ("stored", "duplicate", "refused", "unavailable"):
        found[outcome] = int(telemetry.events.labels(outcome)._value.get())
    return found


async def talk(
    server: Server, pieces: Sequence[bytes], pauses: int, warm: Sequence[bytes]
) -> tuple[Any, list[tuple[str, str]], Counter[Any], bool]:
    await server.start()
    before = counts()
    for request in warm:  # what their heads say is known from now on
        connection, pipe = server.connect()
        await server.send(connection, pipe, [request], 1)
        await server.settle(connection)
        connection.connection_lost(None)
    connection, pipe = server.connect()
    await server.send(connection, pipe, pieces, pauses)
    await server.settle(connection)
    is_over = pipe.is_over or connection.is_refused
    pipe.is_over = True
    connection.connection_lost(None)
    await until(lambda: not server.state.tasks)
    await server.stop()
    assert server.memory._taken == 0
    assert not server.memory._taken_by
    door = server.protocol.door
    assert (door.count, door.bodies, door.heads, door.idle) == (0, {}, {}, {})
    # Of what is no request, the door says why at once only where no answer is owed before it.
    found = [each for each in read(pipe.written) if b"x-request-id" in each[1]]
    for _, headers, _ in found:
        headers.pop(b"connection", None)
    return found, server.log.stored, counts() - before, is_over


def sent(
    path: str, body: bytes, *, key: str = "live", more: str = "", length: str = "Content-Length"
) -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {key}\r\n{more}"
        f"Content-Type: application/json\r\n{length}: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def event(transaction: str, **more: Any) -> dict[str, Any]:
    return {"transaction_id": transaction, "code": "c", "external_subscription_id": "s", **more}


def one(transaction: str, **more: Any) -> bytes:
    return json.dumps({"event": event(transaction, **more)}).encode()


TRANSACTIONS = st.sampled_from(
    ["a", "b", "c", "d", "e", "down", "poison", "long", "senseless", "changing-1", "changing-2", "é", ""]
)
EVENTS = st.builds(
    event,
    TRANSACTIONS,
    properties=st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=3), max_size=2),
    code=st.sampled_from(["c", "usual", "wordy"]),
    timestamp=st.none() | st.integers(0, 2**31) | st.just("x"),
)
BODIES = st.one_of(
    EVENTS.map(lambda each: json.dumps({"event": each}).encode()),
    st.lists(EVENTS, max_size=6).map(lambda each: json.dumps({"events": each}).encode()),
    st.sampled_from([b"", b"{", b"[]", b"\xff", b'{"event":5}', b" " * (BODY_MAX + 1), b" " * 100_001]),
)
HEADERS = st.sampled_from(
    [""] * 6
    + [
        "X-Request-Id: mine\r\n",
        "x-request-id: mine\r\nTraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n",
        "X-Request-Id: other\r\nX-Request-Id: mine\r\n",
        "X-Request-Id: other\r\nX-Request-Id:\r\n",
        "X-Request-Id: mine\r\nX-Request-Id: b c\r\n",
        "X-Request-Id:mine\r\n",
        "X-Request-Id:  mine \r\n",
        "traceparent: \r\n",
        "traceparent: a\tb\r\n",
        "traceparent:c\r\n",
        "tracestate: x\r\n y\r\n",
        "Idempotency-Key: \x01\r\n",
        "X-Request-Id: not well-formed\r\n",
        "Expect: 100-continue\r\n",
        "Connection: close\r\n",
        "Connection: keep-alive\r\n",
        "Connection: upgrade\r\nUpgrade: h2c\r\n",
        "Content-Encoding: gzip\r\n",
        "Content-Type: application/cloudevents+json\r\n",
        "Host: b\r\n",
        "Content-Length: 3\r\n",
        "Transfer-Encoding: chunked\r\n",
        "X: a\r\n b\r\n",
        "X:\t a \r\n",
        "X a\r\n",
    ]
)
REQUESTS = st.one_of(
    st.builds(
        sent,
        st.sampled_from(["/api/v1/events", "/api/v1/events/batch"]),
        BODIES,
        key=st.sampled_from(["live", "live", "live", "other", "test", "reader", "nobody"]),
        more=HEADERS,
        length=st.sampled_from(["Content-Length", "content-length", "Content-length"]),
    ),
    st.sampled_from(
        [
            sent("/api/v1/events?strict=true", one("f")),
            sent("/api/v1/events/", one("g")),
            sent("/api/v1/eventsx", one("h")),
            b"GET /api/v1/events HTTP/1.1\r\nHost: a\r\n\r\n",
            b"\r\n",
            b"nonsense\r\n\r\n",
            sent("/api/v1/events", one("i")).replace(b"HTTP/1.1", b"HTTP/1.0"),
            sent("/api/v1/events", one("j")).replace(b"\r\n", b"\n"),
            sent("/api/v1/events", one("k")).replace(b"Content-Length: ", b"Content-Length: 0"),
        ]
    ),
)


@pytest.fixture(autouse=True, scope="module")
def _hasty() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asgi, "RECONNECT_SECONDS", 0)
        patch.setattr(asgi, "REPEAT_SECONDS", 0)
        patch.setattr(asgi, "system_now", lambda: NOW)
        patch.setattr(desks, "system_now", lambda: NOW)
        logging.getLogger("permille.ingest").setLevel(logging.CRITICAL)
        yield
        logging.getLogger("permille.ingest").setLevel(logging.NOTSET)


@settings(max_examples=60)
@given(st.data())
def test_the_same_bytes_get_the_same_answers_either_way(data: st.DataObject) -> None:
    requests = data.draw(st.lists(REQUESTS, min_size=1, max_size=4))
    every = b"".join(requests)
    if data.draw(st.booleans()):
        every = every[: data.draw(st.integers(1, len(every)))]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(every)), max_size=3)))
    pieces = [every[a:b] for a, b in zip([0, *cuts], [*cuts, len(every)], strict=True) if a < b]
    pauses = data.draw(st.sampled_from([0, 1, 50]))
    warm = [
        sent(path, b"{}", key=key)
        for path in ("/api/v1/events", "/api/v1/events/batch")
        for key in ("live", "other")
    ]
    found = [
        asyncio.run(talk(Server(is_short), pieces, pauses, [*warm, *requests[:1]]))
        for is_short in (False, True)
    ]
    assert found[0] == found[1]


def run(conversation: Callable[[Server], Any], **more: Any) -> Server:
    server = Server(is_short=True, **more)

    async def running() -> None:
        await server.start()
        try:
            connection, pipe = server.connect()
            await server.send(connection, pipe, [sent("/api/v1/events", one("warm"))], 1)
            await server.settle(connection)
            await conversation(server)
        finally:
            await server.stop()

    asyncio.run(running())
    return server


def test_usual_requests_go_the_short_way_whole_in_pieces_and_in_a_row() -> None:
    async def conversation(server: Server) -> None:
        connection, pipe = server.connect()
        whole = sent("/api/v1/events", one("a"))
        await server.send(connection, pipe, [whole], 1)
        await server.settle(connection)
        cut = sent("/api/v1/events", one("b" * 40))
        await server.send(connection, pipe, [cut[:-100], cut[-100:-50], cut[-50:]], 1)
        await server.settle(connection)
        await server.send(
            connection, pipe, [b"".join(sent("/api/v1/events", one(f"p{n}")) for n in range(40))], 0
        )
        for _ in range(40):
            await server.settle(connection)
        found = list(read(pipe.written))
        assert [status for status, _, _ in found] == [200] * 42
        for nth in range(3):
            more = f"X-Request-Id: r{nth}\r\nTraceparent: 00-{nth}\r\n"
            await server.send(connection, pipe, [sent("/api/v1/events", one(f"q{nth}"), more=more)], 1)
            await server.settle(connection)
        ids = re.findall(rb"x-request-id: (\S+)", pipe.written)
        assert ids[-3:] == [b"r0", b"r1", b"r2"]
        assert [body["event"]["transaction_id"] for _, _, body in found][2:] == [f"p{n}" for n in range(40)]

    assert run(conversation).taken == 44, "but the first with headers of its own"


def test_a_slow_body_gets_408_and_an_idle_connection_is_closed() -> None:
    async def conversation(server: Server) -> None:
        connection, pipe = server.connect()
        await server.send(connection, pipe, [sent("/api/v1/events", one("a"))[:-1]], 1)
        door = server.protocol.door
        assert connection.coming
        door.bodies[connection] -= door.limits.request_seconds + 1
        door._sweep(asyncio.get_running_loop())
        assert pipe.written.startswith(b"HTTP/1.1 408")
        assert server.memory._taken == 0
        idle, quiet = server.connect()
        await server.send(idle, quiet, [sent("/api/v1/events", one("b"))], 1)
        await server.settle(idle)
        assert not quiet.is_over
        door.idle[idle] -= idle.timeout_keep_alive + 1
        door._sweep(asyncio.get_running_loop())
        assert quiet.is_over

    run(conversation)


def test_a_server_that_ends_answers_what_it_took_and_closes() -> None:
    async def conversation(server: Server) -> None:
        taken, pipe = server.connect()
        taken.data_received(sent("/api/v1/events", one("a")))
        slow, other = server.connect()
        cut = sent("/api/v1/events", one("b"))
        slow.data_received(cut[:-1])
        taken.shutdown()
        slow.shutdown()
        assert (pipe.is_over, other.is_over) == (False, False)
        slow.data_received(cut[-1:])
        await server.settle(taken)
        await server.settle(slow)
        for each in (pipe, other):
            ((status, headers, _),) = read(each.written)
            assert (status, headers[b"connection"], each.is_over) == (200, b"close", True)

    run(conversation)


def test_a_connection_that_is_lost_meanwhile_is_no_harm() -> None:
    async def conversation(server: Server) -> None:
        lost, pipe = server.connect()
        lost.data_received(sent("/api/v1/events", one("a")) + b"POST")
        pipe.close()
        lost.connection_lost(None)
        await server.settle(lost)
        assert pipe.written == b""

    server = run(conversation)
    assert [each for _, each in server.log.stored] == ["warm", "a"]


def test_memory_for_bodies_bounds_those_that_are_coming_in() -> None:
    async def conversation(server: Server) -> None:
        first, _ = server.connect()
        whole = sent("/api/v1/events", one("a", properties={"x": "y" * 700}))
        first.data_received(whole[:-1])
        assert server.memory._taken > 700
        second, pipe = server.connect()
        await server.send(second, pipe, [whole], 5)
        await server.settle(second)
        assert pipe.written.startswith(b"HTTP/1.1 503")
        first.connection_lost(None)
        await asyncio.sleep(0)
        assert server.memory._taken == 0

    run(conversation, memory=BodyMemory(1_500))


def test_lines_of_the_log_name_the_request_and_its_organization(caplog: pytest.LogCaptureFixture) -> None:
    lines = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(json.loads(logs.JsonLines().format(record)))

    handler = Handler()
    logger = logging.getLogger("permille.requests")
    logger.addHandler(handler)
    caplog.set_level(logging.INFO, "permille.requests")

    async def conversation(server: Server) -> None:
        connection, pipe = server.connect()
        await server.send(connection, pipe, [sent("/api/v1/events", one("a"))], 1)
        await server.settle(connection)
        ((_, _, _),) = read(pipe.written)
        name = pipe.written.split(b"x-request-id: ")[1].split(b"\r\n")[0].decode()
        assert lines[-1]["request_id"] == name

    try:
        assert run(conversation, logs_requests=True).taken == 1
    finally:
        logger.removeHandler(handler)
    ordinary, short = ({**line, "at": "", "request_id": "", "seconds": 0} for line in lines)
    assert ordinary == short
    assert short["organization_id"] == str(LIVE)


def test_what_is_like_no_usual_head_is_not_looked_at() -> None:
    whole = sent("/api/v1/events", b"x" * 10)
    found = find_request(whole)
    assert found is not None
    assert whole[found.begins : found.ends] == b"x" * 10
    for wrong in (
        whole[:-12],
        whole.replace(b": 10", b": +10"),
        whole.replace(b": 10", b": 010"),
        whole.replace(b": 10", b": " + b"9" * 4_000),
        whole.replace(b": 10", b":10"),
        whole.replace(b"Host: a", b"Host: " + b"a" * 5_000),
    ):
        assert find_request(wrong) is None, wrong


class Keys:
    """Answers after a while, and counts."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.intakes_asked = 0

    def key(self, secret: str) -> ApiKey | None:
        self.asked[secret] += 1
        return key_of(secret)

    def intakes(self, _: UUID) -> Intakes:
        self.intakes_asked += 1
        return {}


def test_a_key_that_many_wait_for_is_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def running() -> None:
        keys = Keys()
        memory = SenderMemory(answers(key=keys.key, intakes=keys.intakes))
        found = await asyncio.gather(*(memory.sender("live") for _ in range(50)))
        assert {each.key.id for each in found if each} == {LIVE}
        assert keys.asked["live"] == 1
        assert memory.remembered("live") is not None
        memory.forget(LIVE)
        assert memory.remembered("live") is None
        await memory.sender("live")
        assert keys.asked["live"] == 2
        monkeypatch.setattr(senders, "REFRESH_SECONDS", senders.KEY_SECONDS + 1)
        for _ in range(10):
            assert memory.remembered("live") is not None, "who asks does not wait for the refresh"
        await asyncio.gather(*memory._looking.values())
        assert keys.asked["live"] == 3

    asyncio.run(running())


def test_in_test_mode_the_clock_and_the_intakes_are_read_for_each_request() -> None:
    async def running() -> None:
        keys = Keys()
        memory = SenderMemory(answers(key=keys.key, intakes=keys.intakes))
        await asyncio.gather(*(memory.sender("test") for _ in range(5)))
        assert keys.asked["test"] == 5
        before = keys.intakes_asked
        await memory.sender("test")
        assert (keys.asked["test"], keys.intakes_asked) == (6, before + 1)
        assert await memory.sender("nobody") is None
        assert memory.remembered("test") is None

    asyncio.run(running())


def test_a_refresh_that_fails_leaves_the_key_until_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    def unavailable(_: str) -> ApiKey | None:
        raise Refusal(status=503, code="try_again")

    async def running() -> None:
        memory = SenderMemory(answers())
        await memory.sender("live")
        monkeypatch.setattr(senders, "REFRESH_SECONDS", senders.KEY_SECONDS + 1)
        for key in (unavailable, lambda _: None):
            memory.answers = answers(key=key)
            assert memory.remembered("live") is not None
            await asyncio.gather(*memory._looking.values(), return_exceptions=True)
            await asyncio.sleep(0)
        assert memory.remembered("live") is None, "it is nobody's key any more"

    asyncio.run(running())


def test_calls_of_language_models_and_what_the_key_may_not_go_the_ordinary_way() -> None:
    async def conversation(server: Server) -> None:
        desk, memory = QuickDesk(server.intake), server.intake.keys
        memory.forget(None)
        memory.answers = answers(intakes=lambda _: {"call": None})
        heads = {secret: desks.EventHead(secret, EVENT) for secret in ("live", "reader", "nobody", "test")}
        for secret in heads:
            await memory.sender(secret)
        asker = cast("Any", None)
        for secret, code in (("live", "call"), ("reader", "c"), ("nobody", "c"), ("test", "c")):
            assert not desk.take(heads[secret], one("x", code=code), asker)
            assert (desk.room(heads[secret], 10) is None) == (secret != "live")
        assert not desk.take(heads["live"], one("x", code="c", properties={"x": "y" * 100_000}), asker)
        assert (server.intake.queue.requests, server.memory._taken) == (0, 10)

    run(conversation)


class Unanswerable(WaitingRequest):
    """A request whose connection fails when it is answered."""

    def decide(self) -> None:
        raise RuntimeError("no way back")


def test_an_answer_that_fails_keeps_no_other_from_its_own() -> None:
    async def conversation(server: Server) -> None:
        def request(name: str) -> Request:
            return Request(LIVE, [Draft(name, "c", "s", 0, None, {})], 0)

        answered = asyncio.get_running_loop().create_future()
        queue = server.intake.queue
        assert queue.put(Unanswerable(request("a")))
        assert queue.put(AwaitedRequest(request("b"), answered))
        async with asyncio.timeout(5):
            await answered
        assert [name for _, name in server.log.stored] == ["warm", "a", "b"]

    run(conversation)
