"""Delivery of webhooks: one job for an endpoint claims what is due, sends it, and records how each attempt went.

A claim is a lease: it moves next_attempt_at ahead and is committed before anything is sent, so that a crash
repeats an attempt and never loses one. It is longer than an attempt may take. Receivers know repetitions by
X-Lago-Unique-Key.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from itertools import groupby
from queue import Empty, SimpleQueue
from typing import Any
from uuid import UUID

import msgspec
from psycopg import Connection

from permille.clock import system_now
from permille.config import Config
from permille.core.record import Record
from permille.database.connections import is_passing, is_unavailable
from permille.embedded.calls import WORKING, ask_for
from permille.out.addresses import reach_of
from permille.out.calls import Answer, CallError, Client
from permille.out.kind import Context, Kind, Renderer
from permille.out.signing import draw_private_key, hmac_signature, jwt_signature
from permille.store import webhooks
from permille.store.webhooks import Attempt, Claimed, Pause

log = logging.getLogger(__name__)

ATTEMPTS = 3
SUCCESSES = (200, 201, 202, 204)
AT_ONCE = 32
"""Attempts under way at one endpoint."""
CLAIMED_MAX = 256
CLAIMED_SECONDS = 1.0
"""More are claimed and rendered together than are sent at once where an endpoint is quick: so many at most, for so long."""
TURN_SECONDS = 20.0
"""After so long an endpoint goes to the end of the queue."""
SLOW_SECONDS = 5.0
"""Endpoints whose attempts take longer on average share the slots of the slow ones."""
LOOK_SECONDS = 1.0
STOP_SECONDS = 5.0
"""How long attempts under way may still take when the worker is to stop."""
BYTES_READ = 4_096
RESPONSE_KEPT = 2_000
"""Characters of an answer."""
LEASE_SPARE = timedelta(seconds=60)
"""For rendering, for threads that wait for a processor, and for recording what came of the attempt."""


class Outcome(Record, kw_only=True):
    """How an attempt went; `http_status` is None when there was no answer."""

    ok: bool
    http_status: int | None
    response: str
    is_hopeless: bool = False
    seconds: float = 0.0


_CANNOT = "Webhook %s (%s) of organization %s cannot be sent; those of others are"
_CRASH = Outcome(ok=False, http_status=None, response="It could not be sent; the server's log says why.")


def deliver(context: Context, endpoint: str, *, clock: Callable[[], datetime] = system_now) -> int:
    """Attempt what is due at an endpoint for a while, several at once; how many attempts that were.

    Each outcome is recorded when it comes. `clock` is the system's. An endpoint for which this fails for a reason of
    ours is left alone for a while, longer each time. Where this process is at the endpoint already nothing is done: a
    second job is for another process, which is asked for.
    """
    with context.pool.connection() as conn:
        found = webhooks.pause_of(conn, UUID(endpoint))
    if found is None or (found.retry_at is not None and found.retry_at > clock()):
        return 0
    try:
        with _alone_here(context, endpoint) as is_alone:
            if not is_alone:
                ask_for(WORKING)
                return 0
            with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="webhook") as threads:
                count = _Turn(context, found.id, threads, clock).run()
    except Exception as error:
        if is_passing(error) or is_unavailable(error):
            raise
        _pause(context, found, error, now=clock())
        return 0
    if found.retry_at is not None:
        with context.pool.connection() as conn:
            webhooks.end_pause(conn, found.id, found.organization_id)
    return count


@contextmanager
def _alone_here(context: Context, endpoint: str) -> Iterator[bool]:
    """Whether no other job of this process is at the endpoint; until it ends none is."""
    mine = object()
    is_alone = context.under_way.setdefault(endpoint, mine) is mine
    try:
        yield is_alone
    finally:
        if is_alone:
            del context.under_way[endpoint]


def _pause(context: Context, endpoint: Pause, error: Exception, *, now: datetime) -> None:
    with context.pool.connection() as conn:
        failures, retry_at = webhooks.pause(conn, endpoint, reason=type(error).__name__, now=now)
    log.error(
        "Webhooks of the endpoint %s of organization %s failed, %d times in a row. Those of others go on; it is tried again at %s.",
        endpoint.id,
        endpoint.organization_id,
        failures,
        retry_at.isoformat(),
        exc_info=error,
    )


JOB = Kind(name=webhooks.JOB, run=deliver)


class _Unsent(Record):
    """A webhook that waits for a sender until it is too late to begin under its lease."""

    webhook: Claimed
    body: bytes
    begin_by: float


class _Turn:
    """One endpoint's turn: the thread of the job claims, renders and records, senders sign and send, a thread each."""

    def __init__(
        self, context: Context, endpoint_id: UUID, threads: ThreadPoolExecutor, clock: Callable[[], datetime]
    ) -> None:
        self._context, self._endpoint_id, self._threads, self._clock = context, endpoint_id, threads, clock
        self._until = time.monotonic() + TURN_SECONDS
        self._unsent: SimpleQueue[_Unsent | None] = SimpleQueue()
        self._ended: SimpleQueue[tuple[Claimed, Outcome | None]] = SimpleQueue()
        self._clients: list[Client] = []
        self._under_way = 0
        self._looked = 0.0
        self._is_hurried = False
        self._private_pem = ""
        self._count, self._seconds = 0, 0.0

    def run(self) -> int:
        try:
            while self._start() or self._under_way:
                self._hurry_to_stop()
                self._record(self._ended_meanwhile())
        finally:
            for _ in self._clients:
                self._unsent.put(None)
        with self._context.pool.connection() as conn:
            if self._count:
                is_slow = self._seconds > SLOW_SECONDS * self._count
                webhooks.note_slowness(conn, self._endpoint_id, is_slow=is_slow)
            if self._is_over():
                webhooks.defer_due(conn, now=self._clock())
        return self._count

    def _is_over(self) -> bool:
        return time.monotonic() >= self._until or self._context.is_stopping()

    def _hurry_to_stop(self) -> None:
        if self._context.is_stopping() and not self._is_hurried:
            self._is_hurried = True
            for client in self._clients:
                client.hurry(STOP_SECONDS)

    def _ended_meanwhile(self) -> list[tuple[Claimed, Outcome | None]]:
        """What came of attempts since the last look; it waits for the first, but not for long."""
        found = []
        with suppress(Empty):
            found.append(self._ended.get(timeout=LOOK_SECONDS))
            while True:
                found.append(self._ended.get_nowait())
        self._under_way -= len(found)
        return found

    def _claimed_at_once(self) -> int:
        """As many as are sent in CLAIMED_SECONDS, as far as is known; as many as are under way at once, at least."""
        if not self._count:
            return AT_ONCE
        many = int(AT_ONCE * CLAIMED_SECONDS * self._count / max(self._seconds, 0.001))
        return max(AT_ONCE, min(CLAIMED_MAX, many))

    def _start(self) -> int:
        """Claim more once there is room for many, since they are rendered together; how many are due."""
        most = self._claimed_at_once()
        room = most - self._under_way
        is_early = room < most // 2 and time.monotonic() < self._looked + LOOK_SECONDS
        if room <= 0 or is_early or self._is_over():
            return 0
        self._looked = time.monotonic()
        now = self._clock()
        lease_until = now + timedelta(seconds=self._context.config.webhook_timeout_seconds) + LEASE_SPARE
        with self._context.pool.connection() as conn:
            claimed = webhooks.claim(conn, self._endpoint_id, now=now, lease_until=lease_until, limit=room)
            if claimed and len(claimed) == room and most == CLAIMED_MAX:
                webhooks.defer_beside(conn, self._endpoint_id, claimed[0].organization_id)
            if claimed and not self._private_pem:
                self._private_pem = webhooks.signing_key(conn, draw=draw_private_key, now=now)
            bodies = _bodies(conn, claimed, self._context)
        cannot: list[tuple[Claimed, Outcome | None]] = []
        begin_by = self._looked + LEASE_SPARE.total_seconds() / 2
        for one in claimed:
            body = bodies[one.id]
            if isinstance(body, Outcome):
                cannot.append((one, body))
            else:
                self._unsent.put(_Unsent(one, body, begin_by))
                self._under_way += 1
        if claimed:
            self._add_senders(claimed[0])
        self._record(cannot)
        return len(claimed)

    def _add_senders(self, like: Claimed) -> None:
        """As many as there is work for; all webhooks of an endpoint may go equally far."""
        while len(self._clients) < min(AT_ONCE, self._under_way):
            client = Client(reach_of(self._context.config, test_mode=like.test_mode))
            self._clients.append(client)
            self._threads.submit(self._send_all, client)

    def _send_all(self, client: Client) -> None:
        with client:
            while (each := self._unsent.get()) is not None:
                is_late = self._context.is_stopping() or time.monotonic() > each.begin_by
                self._ended.put((each.webhook, None if is_late else self._attempt(client, each)))

    def _attempt(self, client: Client, each: _Unsent) -> Outcome:
        one = each.webhook
        try:
            return send(client, self._context.config, one, each.body, private_pem=self._private_pem)
        except Exception:
            log.exception(_CANNOT, one.id, one.webhook_type, one.organization_id)
            return _CRASH

    def _record(self, ended: Sequence[tuple[Claimed, Outcome | None]]) -> None:
        outcomes = [(one, outcome) for one, outcome in ended if outcome is not None]
        if self._is_hurried:  # one without an answer was cut short: it is made again when its lease is over
            outcomes = [each for each in outcomes if each[1].http_status is not None]
        not_begun = [one for one, outcome in ended if outcome is None]
        if not outcomes and not not_begun:
            return
        self._count += len(outcomes)
        self._seconds += sum(outcome.seconds for _, outcome in outcomes)
        now = self._clock()
        with self._context.pool.connection() as conn:
            webhooks.record(conn, [_recorded(one, outcome, now) for one, outcome in outcomes], now=now)
            webhooks.give_back(conn, not_begun, now=now)


def _bodies(
    conn: Connection[Any], claimed: Sequence[Claimed], context: Context
) -> dict[UUID, bytes | Outcome]:
    """What is sent, the same at every attempt: rendered at the first one, and frozen. Else why there is nothing to send."""
    found: dict[UUID, bytes | Outcome] = {one.id: body for one in claimed if (body := one.body) is not None}
    renderers = context.renderers

    def kind(one: Claimed) -> str:
        return one.webhook_type if one.webhook_type in renderers else one.object_type

    unfrozen = sorted((one for one in claimed if one.id not in found), key=kind)
    for name, alike in groupby(unfrozen, key=kind):
        found.update(_rendered(conn, list(alike), renderers[name], context.config.base_url))
    return found


def _rendered(
    conn: Connection[Any], alike: Sequence[Claimed], render: Renderer, base_url: str
) -> dict[UUID, bytes | Outcome]:
    """The bodies of webhooks that are rendered alike; where that fails, each is tried by itself."""
    try:
        with conn.transaction():
            shown = render(conn, [one.object_id for one in alike])
            bodies = {
                one.id: webhooks.body_of(
                    one.organization_id,
                    one.webhook_type,
                    one.object_type,
                    _with_file(one, shown[one.object_id], base_url),
                )
                for one in alike
                if one.object_id in shown
            }
            webhooks.freeze(conn, bodies)
    except Exception as error:
        if is_passing(error):
            raise
        if len(alike) > 1:
            return {
                key: body for one in alike for key, body in _rendered(conn, [one], render, base_url).items()
            }
        (one,) = alike
        log.exception(_CANNOT, one.id, one.webhook_type, one.organization_id)
        return {one.id: _CRASH}
    return {one.id: bodies.get(one.id) or _gone(one.object_type) for one in alike}


def _with_file(one: Claimed, shown: object, base_url: str) -> object:
    """The object, in a webhook of its PDF with where that is."""
    if not (one.webhook_type.endswith(".generated") and isinstance(shown, msgspec.Struct)):
        return shown
    return msgspec.structs.replace(
        shown, file_url=f"{base_url}/api/v1/{one.object_type}s/{one.object_id}/pdf"
    )


def _gone(object_type: str) -> Outcome:
    return Outcome(ok=False, http_status=None, response=f"The {object_type} is no more.", is_hopeless=True)


def send(client: Client, config: Config, one: Claimed, body: bytes, *, private_pem: str) -> Outcome:
    """One attempt: whatever goes wrong at the other end or on the way is an outcome."""
    if one.signature_algo == "hmac":
        signature = hmac_signature(body, hmac_key=one.hmac_key)
    else:
        signature = jwt_signature(body, private_pem=private_pem, issuer=config.base_url)
    headers = {
        "Content-Type": "application/json",
        "X-Lago-Signature": signature,
        "X-Lago-Signature-Algorithm": one.signature_algo,
        "X-Lago-Unique-Key": str(one.id),
    }
    begun = time.monotonic()
    try:
        answer = client.call(
            "POST",
            one.webhook_url,
            headers=headers,
            content=body,
            seconds=config.webhook_timeout_seconds,
            bytes_max=BYTES_READ,
        )
    except CallError as error:
        ok, http_status, response = False, None, str(error)
    else:
        ok, http_status, response = answer.status in SUCCESSES, answer.status, _text(answer)
    return Outcome(
        ok=ok,
        http_status=http_status,
        response=response.replace("\0", "")[:RESPONSE_KEPT],
        seconds=time.monotonic() - begun,
    )


def _text(answer: Answer) -> str:
    """What is kept of an answer and shown in the log: nothing that was read from inside."""
    if answer.is_from_inside:
        return "The answer came from a private address: its status is kept, its body is not."
    packing = answer.headers.get("content-encoding", "identity")
    if packing != "identity":
        return f"The answer's body is packed ({packing}); it was not read."
    return answer.body.decode(errors="replace")


def wait_after(attempts: int) -> timedelta:
    """Lago's wait after so many failed attempts, a little of it by chance."""
    return timedelta(seconds=attempts**4 * random.uniform(1, 1.15) + 2)  # noqa: S311 - no secret


def _recorded(one: Claimed, outcome: Outcome, now: datetime) -> Attempt:
    attempts = one.attempts + 1
    is_last = outcome.ok or outcome.is_hopeless or attempts >= ATTEMPTS
    return Attempt(
        webhook=one,
        status="succeeded" if outcome.ok else "failed" if is_last else "retrying",
        next_attempt_at=None if is_last else now + wait_after(attempts),
        http_status=outcome.http_status,
        response=outcome.response,
    )
