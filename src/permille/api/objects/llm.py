"""Usage of language models: what is sent, what became of it, and what is kept aside."""

from __future__ import annotations

from typing import Annotated, Any

from permille.api.objects.base import Answer, CreatedAt, Id, Input, instant_of, one_of, says
from permille.core.llm.apis import APIS

Subscription = Annotated[str | None, says("Your identifier of the subscription that pays.", example="sub_42")]
Customer = Annotated[
    str | None,
    says("Or of the customer, if one of its running subscriptions is the only one that prices such usage."),
]
Identity = Annotated[
    str | None, says("Provider and id of the answer. It is counted once.", example="openai:resp_1")
]


class UsageInput(Input, kw_only=True):
    """A call of a language model: exactly one of `response`, `stream` and `usage`."""

    provider: Annotated[str, says("Who served it.", example="openai")]
    api: Annotated[
        str, one_of(*APIS, says="How the answer is to be read. By default that is seen from the answer.")
    ]
    model: Annotated[str, says("The model, where the answer doesn't name it.", example="gpt-5.4")]
    response: Annotated[
        dict[str, Any], says("The provider's answer as it is. Nothing of its content is kept.")
    ]
    stream: Annotated[list[dict[str, Any]], says("The events of a streamed answer, in order.")]
    usage: Annotated[dict[str, Any], says("Only the answer's usage object.")]
    id: Annotated[str, says("Identity of the answer where it has none, for example the header x-request-id.")]
    external_subscription_id: Subscription
    external_customer_id: Customer
    timestamp: Annotated[str | float, says("When it was: ISO 8601 or seconds since 1970; now by default.")]
    properties: Annotated[dict[str, Any], says("Free properties that the events get.")]


class UsageEvent(Answer, kw_only=True):
    """An event that was made of a usage."""

    transaction_id: Annotated[str, says("The usage's id, and what of it the event counts.")]
    code: Annotated[str, says("Code of the metric.", example="llm_tokens")]
    external_subscription_id: Subscription
    timestamp: Annotated[str, instant_of("When it was.")]
    properties: Annotated[dict[str, Any], says("Provider, model, type, quantity and the like.")]


class UsageWarning(Answer, kw_only=True):
    """Something to look at in a usage that is counted."""

    code: Annotated[str, says("Which kind of warning.", example="unknown_field")]
    message: Annotated[str, says("The warning in words.")]
    field: Annotated[str | None, says("The field that it is about.")]


class UsageProblem(Answer, kw_only=True):
    """Why a usage is not counted."""

    code: Annotated[str, says("Which kind of problem.", example="subscription_not_found")]
    message: Annotated[str, says("The problem in words, and what to do.")]


class CountedUsage(Answer, kw_only=True):
    """What became of a usage."""

    id: Identity
    status: Annotated[
        str,
        one_of(
            "counted",
            "repeated",
            "held",
            says="Counted now, counted before, or kept aside until it can be counted. None needs to be sent again.",
        ),
    ]
    held_usage_id: Annotated[str | None, says("Where it is kept aside.")]
    events: Annotated[list[UsageEvent], says("The events that were made of it.")]
    warnings: Annotated[list[UsageWarning], says("What to look at.")]
    problem: Annotated[UsageProblem | None, says("Why it is not counted.")]


class HeldUsage(Answer, kw_only=True):
    """A usage that could not be counted as it came."""

    lago_id: Id
    id: Identity
    provider: Annotated[str, says("Who served it.", example="openai")]
    model: Annotated[str | None, says("The model as it was sent.")]
    status: Annotated[str, one_of("held", "counted", says="Whether it was counted since.")]
    problem: Annotated[UsageProblem, says("Why it was not counted.")]
    external_subscription_id: Subscription
    external_customer_id: Customer
    timestamp: Annotated[str, instant_of("When it was.")]
    properties: Annotated[dict[str, Any], says("Free properties, as they were sent.")]
    sent: Annotated[
        dict[str, Any], says("Names and numbers of what was sent; nothing of prompts or answers.")
    ]
    created_at: CreatedAt
    counted_at: Annotated[str | None, instant_of("When it was counted.")]
    counted_for: Annotated[str | None, says("The subscription that it was counted for.")]


class AttributionInput(Input, kw_only=True):
    """Who pays for a usage, and what its answer did not say."""

    external_subscription_id: Subscription
    external_customer_id: Customer
    model: Annotated[str, says("The model, where the answer doesn't name it.")]
    id: Annotated[str, says("Identity of the answer, where it has none.")]
