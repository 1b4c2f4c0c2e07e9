"""Intakes: events of other programs, sent to `/events` as they are, that are usage of language models."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from permille.core.llm import lago_agent, litellm
from permille.core.llm.payer import SET_BY_REQUESTS, PayerName
from permille.core.record import Record


class IntakeFormat(StrEnum):
    """What sends them."""

    LAGO_AGENT = "lago_agent"
    LITELLM_LAGO = "litellm_lago"
    OPENMETER = "openmeter"


class Intake(Record, kw_only=True):
    """Events of these codes are calls, or counts of calls; there is one intake for each format."""

    id: UUID
    organization_id: UUID
    format: IntakeFormat
    codes: tuple[str, ...]
    payer_kind: PayerName | None
    """Which kind of name the event's subscription is. None: the application names the subscription itself."""
    created_at: datetime


class FormatRules(Record, kw_only=True):
    """What is particular to a format."""

    codes: tuple[str, ...]
    has_own_code: bool
    """Whether an operator may have chosen another code."""
    payer_kind: PayerName | None
    """Who the event's subscription usually is."""
    usage: Callable[[str, str, Mapping[str, Any]], dict[str, Any]]
    """Code, transaction id and properties of an event as a usage of `POST /api/v1/llm/usage`."""


RULES: Mapping[IntakeFormat, FormatRules] = {
    IntakeFormat.LAGO_AGENT: FormatRules(
        codes=lago_agent.CODES, has_own_code=False, payer_kind=None, usage=lago_agent.usage_in_event
    ),
    IntakeFormat.LITELLM_LAGO: FormatRules(
        codes=("litellm",),
        has_own_code=True,
        payer_kind=PayerName.END_USER,
        usage=litellm.usage_in_lago_event,
    ),
    IntakeFormat.OPENMETER: FormatRules(
        codes=("litellm_tokens",),
        has_own_code=True,
        payer_kind=PayerName.END_USER,
        usage=litellm.usage_in_cloud_event,
    ),
}

Intakes = Mapping[str, Intake]
"""An organization's intakes by each of their codes."""


def by_code(intakes: Iterable[Intake]) -> Intakes:
    """The intakes by their codes."""
    return {code: each for each in intakes for code in each.codes}


def usage_in(
    intake: Intake,
    *,
    code: str,
    transaction_id: str,
    external_subscription_id: str | None,
    properties: Mapping[str, Any],
) -> dict[str, Any]:
    """An event as a usage of `POST /api/v1/llm/usage`.

    Its subscription may be a customer's id. Where an end user's request chose it, rules about who pays go before it.
    """
    usage = RULES[intake.format].usage(code, transaction_id, properties)
    payer = external_subscription_id
    if payer is None:
        return usage
    usage |= {"external_subscription_id": payer}
    if intake.payer_kind is None:
        return usage
    return usage | {
        "payer_names": {str(intake.payer_kind): [payer]},
        "payer_requested": intake.payer_kind in SET_BY_REQUESTS,
    }
