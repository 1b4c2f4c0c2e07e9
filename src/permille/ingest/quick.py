"""Usual requests of events: taken from the protocol, queued, answered when their group is stored, without a task for each."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextvars import Context
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

import msgspec

from permille import request_ids, telemetry
from permille.clock import system_now
from permille.core.api_key import Mode
from permille.core.errors import Refusal
from permille.core.instants import EPOCH, microseconds
from permille.core.record import Record
from permille.events.log import Request
from permille.http.bodies import BodyShare
from permille.http.refusals import error_body, refusal_body
from permille.http.words import in_words
from permille.ingest.asgi import (
    EventBatch,
    EventIntake,
    count_refused,
    secret_of,
    wire_of,
)
from permille.ingest.queue import WaitingRequest
from permille.ingest.senders import ApiSender
from permille.ingest.wire_format import WireFormat

log = logging.getLogger(__name__)

_encode = msgspec.json.Encoder(decimal_format="number").encode


class Asker(Protocol):
    """Who waits for the answer to a request."""

    name: str
    """The request's id."""

    def answer(self, status: int, body: bytes, seen: telemetry.Seen) -> None:
        """The answer, in JSON."""


class EventHead(Record):
    """What the head of a request says: who sends, and what."""

    secret: str
    wire: WireFormat


@dataclass(slots=True)
class QuickRequest(WaitingRequest):
    """A request in the queue whose answer goes straight to its connection."""

    wire: WireFormat
    asker: Asker
    size: int
    """The bytes of its body."""
    desk: QuickDesk

    def decide(self) -> None:
        self.desk.decided(self)


class QuickDesk:
    """Takes what the intake would store as it is. The rest is left to it: nothing was done then."""

    def __init__(self, intake: EventIntake) -> None:
        self.intake = intake

    def recognize(self, path: str, headers: Sequence[tuple[bytes, bytes]]) -> EventHead | None:
        """Events in the usual format, with a key."""
        secret, wire = secret_of(headers), wire_of(path, headers)
        return None if secret is None or wire is None or wire.media_type else EventHead(secret, wire)

    def room(self, kind: EventHead, size: int) -> BodyShare | None:
        """Memory for a body that is still coming in."""
        sender = self._sender(kind)
        if sender is None or size > self.intake.max_body_bytes:
            return None
        share = self.intake.bodies.of(sender.key.organization.id)
        try:
            share.take(size)
        except Refusal:
            return None
        return share

    def take(self, kind: EventHead, body: bytes, asker: Asker) -> bool:
        """Queue a request."""
        intake, sender = self.intake, self._sender(kind)
        if sender is None or len(body) > intake.max_body_bytes:
            return False
        organization = sender.key.organization
        now = organization.now(system_now())
        request = self._read(kind.wire, sender, body, now)
        if request is None:
            return False
        try:
            intake.bodies.take(organization.id.int, len(body))
        except Refusal:
            return False
        if intake.queue.put(QuickRequest(request, kind.wire, asker, len(body), self)):
            return True
        intake.bodies.give_back(organization.id.int, len(body))
        return False

    def _read(self, wire: WireFormat, sender: ApiSender, body: bytes, now: datetime) -> Request | None:
        """The request that a body is; None for one that is wrong, takes long or brings calls of language models."""
        intake, owner, created_at = self.intake, sender.key.organization.id, microseconds(now)
        usual = intake.read_usual(wire, sender, body, now)
        if usual is not None:
            return Request(owner, intake.drafts_of(usual, wire, body, now), created_at, usual=usual)
        try:
            drafts = wire.decode(body, now, intake.batch_max)
        except Refusal:
            return None
        if sender.intakes and any(draft.code in sender.intakes for draft in drafts):
            return None
        request = Request(owner, drafts, created_at)
        return None if intake.may_take_long(request) else request

    def _sender(self, kind: EventHead) -> ApiSender | None:
        """The key, if it is remembered and may send events."""
        sender = self.intake.keys.remembered(kind.secret)
        if sender is None:
            return None
        try:
            sender.key.require("event", Mode.WRITE)
        except Refusal:
            return None
        return sender

    def decided(self, waiting: QuickRequest) -> None:
        """It is known how a request went."""
        request = waiting.request
        if request.is_stored:
            telemetry.stored.inc(len(request.drafts))
            usual = request.usual
            self._answer(waiting, 200, waiting.wire.answer(request, None) if usual is None else usual.answer)
            return
        task = asyncio.get_running_loop().create_task(self._refuse(waiting), context=Context())
        self.intake.repeating.add(task)
        task.add_done_callback(self.intake.repeating.discard)

    async def _refuse(self, waiting: QuickRequest) -> None:
        """Answer one that was not stored."""
        request = waiting.request
        request_ids.current.set(waiting.asker.name)
        telemetry.current.set(telemetry.Seen())
        telemetry.belongs_to(request.organization_id)
        telemetry.brings(len(request.drafts))
        batch = EventBatch(
            wire=waiting.wire,
            scope={},
            organization_id=request.organization_id,
            drafts=request.drafts,
            places=range(len(request.drafts)),
            at=EPOCH + timedelta(microseconds=request.created_at),
        )
        try:
            refusal = await self.intake.refusal(request, batch)
        except Refusal as other:
            refusal = other
        except Exception:
            log.exception("A request was not answered")
            self._answer(waiting, 500, _encode(error_body(500, in_words("crashed"))))
            return
        count_refused(refusal)
        self._answer(waiting, refusal.status, _encode(refusal_body(refusal)))

    def _answer(self, waiting: QuickRequest, status: int, body: bytes) -> None:
        owner = waiting.request.organization_id
        self.intake.bodies.give_back(owner.int, waiting.size)
        waiting.asker.answer(status, body, telemetry.Seen(owner, len(waiting.request.drafts)))
