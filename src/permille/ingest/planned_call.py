"""Calls of models that a plan fits, and their events as texts."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from permille.core.llm.call import CallEvent, PreparedCall, SentCall
from permille.core.llm.plan import Plan
from permille.core.llm.read import SentUsage
from permille.core.llm.shape import Shape

_encode = msgspec.json.Encoder(decimal_format="number").encode


def in_json(value: Any) -> str:
    """As it is answered."""
    return _encode(value).decode()


class ShapedUsage(msgspec.Struct, frozen=True, kw_only=True):
    """A well-formed usage, taken apart."""

    shape: Shape
    external_subscription_id: str | None
    external_customer_id: str | None
    has_payer_names: bool
    """Whether rules may say who pays."""
    client: str | None
    at: datetime
    properties: str
    """Those of the sender, as the beginning of an object in JSON."""


class PlannedCall(ShapedUsage, frozen=True, kw_only=True):
    """A usage that a plan fits."""

    plan: Plan
    identity: str


class PaidCall(msgspec.Struct, frozen=True, kw_only=True):
    """A planned call and who pays for it."""

    call: PlannedCall
    external_subscription_id: str
    subscription: str
    """The same in JSON."""

    def events(self, time: str) -> str:
        """In JSON with a comma between them, with this in the place of their time."""
        call = self.call
        return call.plan.write(call.shape.counts, call.shape.ids, self.subscription, call.properties, time)

    def answer(self, time: str) -> msgspec.Raw:
        """What its sender is answered once it is counted; `time` is when it was, as it is answered."""
        events = self.events(f'"{time}"')
        return msgspec.Raw(
            f'{{"id":"{self.call.identity}","status":"counted","held_usage_id":null,"events":[{events}]'
            ',"warnings":[],"problem":null}'
        )

    @property
    def events_count(self) -> int:
        """How many events it has."""
        return self.call.plan.count

    def prepared(self) -> PreparedCall:
        """As if it had been read, but without what it was read from."""
        call, plan = self.call, self.call.plan
        return PreparedCall(
            sent=SentCall(
                usage=SentUsage(provider=plan.provider_sent, model=plan.model_sent),
                external_subscription_id=call.external_subscription_id,
                external_customer_id=call.external_customer_id,
                at=call.at,
                properties={},
                client=call.client,
            ),
            identity=call.identity,
            external_subscription_id=self.external_subscription_id,
            events=tuple(
                CallEvent(
                    transaction_id=each["transaction_id"], code=each["code"], properties=each["properties"]
                )
                for each in msgspec.json.decode(f"[{self.events('0')}]")
            ),
        )


def paid(call: PlannedCall, external_subscription_id: str) -> PaidCall:
    """The call as one that this subscription pays."""
    return PaidCall(
        call=call,
        external_subscription_id=external_subscription_id,
        subscription=in_json(external_subscription_id),
    )
