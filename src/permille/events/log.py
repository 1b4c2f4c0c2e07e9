"""The log of events: what is appended to it, and who may."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol
from uuid import UUID

from permille.core.metering.encoding import Metering
from permille.core.metering.expression import EvaluationError, Event, read_expression, value_text
from permille.events.draft import Draft
from permille.events.identity import event_identities


@dataclass(slots=True)
class Request:
    """One request's events; `duplicates` are the indices for which it was refused, None while it waits."""

    organization_id: UUID
    drafts: Sequence[Draft]
    created_at: int
    """Microseconds since 1970."""
    identities: list[bytes] = field(default_factory=list)
    duplicates: list[int] | None = None
    failure: Exception | None = None
    codes: set[str] = field(default_factory=set)
    unevaluable: dict[int, str] = field(default_factory=dict)
    """Index of an event -> why its metric's expression has no value: then nothing of the request is stored."""
    originals: dict[int, dict[str, Any]] = field(default_factory=dict)
    """Properties as they were sent, where an expression has looked at them since."""

    def derive(self, meterings: Mapping[str, Metering]) -> None:
        """Let the expressions of these codes make their properties, from what was sent."""
        self.unevaluable = {}
        for index, draft in enumerate(self.drafts):
            how = meterings[draft.code]
            sent = self.originals.get(index, draft.properties)
            if how.expression is None or how.expression_field is None:
                draft.properties = sent
                continue
            self.originals[index] = sent
            try:
                value = read_expression(how.expression).evaluate(
                    Event(draft.code, draft.at // 1_000_000, sent)
                )
            except EvaluationError as error:
                self.unevaluable[index] = f"expression_evaluation_failed: {error}"
            else:
                draft.properties = {**sent, how.expression_field: value_text(value)}

    def __post_init__(self) -> None:
        self.codes = {draft.code for draft in self.drafts}
        self.identities = event_identities(
            self.organization_id.bytes,
            [draft.external_subscription_id for draft in self.drafts],
            [draft.transaction_id for draft in self.drafts],
        )


class UnavailableError(Exception):
    """The log cannot be reached at the moment: nobody knows whether the events are in, and their senders repeat."""


class Writer(Protocol):
    """One that appends groups of requests to the log, one group after the other."""

    async def append(self, requests: Sequence[Request]) -> None:
        """Store every request that has no duplicate, all of its events or none; `duplicates` of each says how it went.

        Raises UnavailableError.
        """

    async def close(self) -> None:
        """Give back what it holds; it appends again after that."""
