"""Delivery of webhooks: claim what is due, send it, write down how it went.

A claim is a lease: it moves next_attempt_at ahead and is committed before anything is sent, so that a crash
repeats an attempt and never loses one. Receivers know repetitions by X-Lago-Unique-Key.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import httpx2
from psycopg import Connection
from psycopg_pool import ConnectionPool

from permille.config import Config
from permille.database.connections import is_passing
from permille.out.addresses import private_address
from permille.out.signing import draw_private_key, hmac_signature, jwt_signature
from permille.store import webhooks
from permille.store.webhooks import Claimed

log = logging.getLogger(__name__)

ATTEMPTS = 3
SUCCESSES = (200, 201, 202, 204)
AT_ONCE = 16
RESPONSE_KEPT = 2_000
LEASE = timedelta(minutes=5)

Renderers = Mapping[str, Callable[[Connection[Any], UUID], object]]
"""object_type -> the object as JSON, None when it is no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How an attempt went; `http_status` is None when there was no answer."""

    ok: bool
    http_status: int | None
    response: str


_CANNOT = "Webhook %s (%s) of organization %s cannot be sent; those of others are"
_CRASH = Outcome(ok=False, http_status=None, response="It could not be sent; the server's log says why.")


def deliver_due(
    pool: ConnectionPool[Connection[Any]],
    config: Config,
    renderers: Renderers,
    *,
    now: datetime,
    limit: int = 100,
) -> int:
    """Make one attempt for each of at most `limit` webhooks that are due; how many there were.

    Several may run at once. `now` is the system's clock.
    """
    with pool.connection() as conn:
        claimed = webhooks.claim(conn, now=now, lease_until=now + LEASE, limit=limit)
        private_pem = webhooks.signing_key(conn, draw=draw_private_key, now=now) if claimed else ""
        bodies = [_body(conn, one, renderers) for one in claimed]
    if not claimed:
        return 0
    with httpx2.Client(timeout=config.webhook_timeout_seconds, follow_redirects=False) as client:

        def attempt(one: Claimed, body: bytes | Outcome) -> Outcome:
            return body if isinstance(body, Outcome) else _sent(client, config, one, body, private_pem)

        with ThreadPoolExecutor(AT_ONCE) as threads:
            outcomes = list(threads.map(attempt, claimed, bodies))
    with pool.connection() as conn:
        for one, body, outcome in zip(claimed, bodies, outcomes, strict=True):
            _write_down(conn, one, outcome, now=now, is_hopeless=body is outcome and body is not _CRASH)
    return len(claimed)


def _body(conn: Connection[Any], one: Claimed, renderers: Renderers) -> bytes | Outcome:
    """What is sent, the same at every attempt: rendered at the first one, and frozen. Else why there is nothing to send."""
    if one.payload is not None:
        return one.payload.encode()
    try:
        with conn.transaction():
            shown = renderers[one.object_type](conn, one.object_id)
            if shown is None:
                return Outcome(ok=False, http_status=None, response=f"The {one.object_type} is no more.")
            body = webhooks.body_text(one.organization_id, one.webhook_type, one.object_type, shown)
            webhooks.freeze(conn, one.id, body)
            return body.encode()
    except Exception as error:
        if is_passing(error):
            raise
        log.exception(_CANNOT, one.id, one.webhook_type, one.organization_id)
        return _CRASH


def _sent(client: httpx2.Client, config: Config, one: Claimed, body: bytes, private_pem: str) -> Outcome:
    try:
        return send(client, config, one, body, private_pem=private_pem)
    except Exception:
        log.exception(_CANNOT, one.id, one.webhook_type, one.organization_id)
        return _CRASH


def send(client: httpx2.Client, config: Config, one: Claimed, body: bytes, *, private_pem: str) -> Outcome:
    """One attempt: whatever goes wrong at the other end or on the way is an outcome."""
    allowed = one.test_mode or config.webhook_allow_private
    if not allowed and (problem := private_address(one.webhook_url)) is not None:
        return Outcome(ok=False, http_status=None, response=problem)
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
    try:
        answer = client.post(one.webhook_url, content=body, headers=headers)
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
        return Outcome(
            ok=False, http_status=None, response=f"{type(error).__name__}: {error}"[:RESPONSE_KEPT]
        )
    text = answer.text.replace("\0", "")[:RESPONSE_KEPT]
    return Outcome(ok=answer.status_code in SUCCESSES, http_status=answer.status_code, response=text)


def wait_after(attempts: int) -> timedelta:
    """Lago's wait after so many failed attempts, a little of it by chance."""
    return timedelta(seconds=attempts**4 * random.uniform(1, 1.15) + 2)  # noqa: S311 - no secret


def _write_down(
    conn: Connection[Any], one: Claimed, outcome: Outcome, *, now: datetime, is_hopeless: bool
) -> None:
    attempts = one.attempts + 1
    is_last = outcome.ok or is_hopeless or attempts >= ATTEMPTS
    status = "succeeded" if outcome.ok else "failed" if is_last else "retrying"
    webhooks.write_down(
        conn,
        one.id,
        status=status,
        attempts=attempts,
        next_attempt_at=None if is_last else now + wait_after(attempts),
        http_status=outcome.http_status,
        response=outcome.response,
        now=now,
    )
