"""Our own JSON for usage of language models: a provider's answer, stream or usage object as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec

from permille.core.errors import Invalid
from permille.core.instants import EPOCH, microseconds
from permille.core.llm.call import PreparedCall, SentCall
from permille.core.llm.litellm import usage_in
from permille.core.llm.payer import NAME_LENGTH_MAX, NAMES_MAX, PayerName, payer_names
from permille.core.llm.read import SentUsage, without_content
from permille.core.metering.event import timestamp_microseconds
from permille.events.draft import Errors, properties_errors
from permille.ingest.decoders.lago import json_of, timestamp_text
from permille.ingest.planned_call import PaidCall
from permille.ingest.usage_format import CallBatch, UsageFormat

CALLS_MAX = 1_000
TEXT_MAX = 200
COST_MAX = 10**9
_TEXTS = ("provider", "api", "model", "id", "tier", "external_subscription_id", "external_customer_id")
_GIVEN = ("response", "stream", "usage")

_encode = msgspec.json.Encoder(decimal_format="number").encode


def read_usages(body: bytes, _media_type: str) -> CallBatch:
    """The usages of a request. Raises BadRequest, and Invalid where there are none or too many."""
    sent = json_of(body)
    return CallBatch(usages=_many(sent), is_dry_run=sent.get("dry_run") is True)


def calls_of(usages: Sequence[Any], now: datetime) -> list[SentCall]:
    """Usages as calls, all or none. Raises Invalid with errors by their index."""
    usages = [_opened(each) for each in usages]
    if errors := {str(index): found for index, each in enumerate(usages) if (found := problems(each))}:
        raise Invalid(errors)
    return [call_of(each, now) for each in usages]


def _opened(one: Any) -> Any:
    """What LiteLLM says of a call, in place of a provider's answer, says who pays and when it was too."""
    if (
        not isinstance(one, dict)
        or one.get("provider") != "litellm"
        or not isinstance(one.get("response"), dict)
    ):
        return one
    said = {name: value for name, value in one.items() if name not in ("provider", "response")}
    return {"provider": "unknown", **said, **(usage_in(one["response"]) or {"api": "litellm", "usage": {}})}


def _many(sent: Any) -> Sequence[Any]:
    """The list that was sent, or the one usage as a list."""
    if isinstance(sent, dict) and isinstance(sent.get("usage"), dict):
        return [sent["usage"]]
    many = sent.get("usages") if isinstance(sent, dict) else None
    if not isinstance(many, list) or not many:
        raise Invalid({"usages": ["no_usages"]})
    if len(many) > CALLS_MAX:
        raise Invalid({"usages": ["too_many_usages"]})
    return many


def problems(one: Any) -> Errors:
    """What is wrong with a usage, by field; its answer is not looked into."""
    if not isinstance(one, dict):
        return {"usage": ["invalid_format"]}
    found = {}
    for name in _TEXTS:
        if (text := one.get(name)) is not None and (problem := _text_problem(text)):
            found[name] = problem
    if one.get("provider") is None:
        found["provider"] = "value_is_mandatory"
    given = [name for name in _GIVEN if one.get(name) is not None]
    if len(given) != 1:
        found["response"] = "incompatible_params" if given else "value_is_mandatory"
    elif not _is_readable(given[0], one[given[0]]):
        found[given[0]] = "invalid_format"
    if one.get("timestamp") is not None and timestamp_microseconds(one["timestamp"]) is None:
        found["timestamp"] = "invalid_format"
    if one.get("cost") is not None and not _is_amount(one["cost"]):
        found["cost"] = "value_is_invalid"
    if not _are_names(one.get("payer_names")):
        found["payer_names"] = "value_is_invalid"
    if type(one.get("payer_requested")) not in (bool, type(None)):
        found["payer_requested"] = "value_is_invalid"
    wrong = properties_errors(one.get("properties"))
    return {name: [problem] for name, problem in found.items()} | wrong if found else wrong


def _text_problem(value: Any) -> str | None:
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        return "value_is_invalid"
    return "value_is_too_long" if len(value) > TEXT_MAX else None


def _is_amount(value: Any) -> bool:
    try:
        return not isinstance(value, bool) and 0 <= Decimal(value) < COST_MAX
    except (ArithmeticError, TypeError, ValueError):
        return False


def _are_names(value: Any) -> bool:
    """Whether it is nothing, or names of who may pay by their kinds: a text or a list of texts each."""
    if value is None:
        return True
    if not isinstance(value, dict) or not value.keys() <= set(PayerName):
        return False
    lists = [each if isinstance(each, list) else [each] for each in value.values()]
    texts = [text for each in lists for text in each]
    return all(len(each) <= NAMES_MAX for each in lists) and not any(map(_name_problem, texts))


def _name_problem(value: Any) -> bool:
    return not isinstance(value, str) or not 0 < len(value) <= NAME_LENGTH_MAX or "\0" in value


def _is_readable(name: str, value: Any) -> bool:
    if name == "stream":
        return isinstance(value, list) and all(isinstance(each, dict) for each in value)
    return isinstance(value, dict)


def call_of(one: Mapping[str, Any], now: datetime, *, client: str | None = None) -> SentCall:
    """A usage without problems as a call, without its content."""
    usage = SentUsage(
        provider=one["provider"],
        response=one.get("response"),
        stream=one.get("stream"),
        usage=one.get("usage"),
        api=one.get("api"),
        model=one.get("model"),
        response_id=one.get("id"),
        tier=one.get("tier"),
        cost=None if one.get("cost") is None else str(one["cost"]),
    )
    return SentCall(
        usage=without_content(usage),
        external_subscription_id=one.get("external_subscription_id"),
        external_customer_id=one.get("external_customer_id"),
        at=called_at(one, now),
        properties=one.get("properties") or {},
        payer_names=payer_names(one.get("payer_names") or {}, one.get("properties") or {}),
        is_payer_requested=one.get("payer_requested") is True,
        client=client,
    )


def called_at(one: Mapping[str, Any], now: datetime) -> datetime:
    """When the call of a usage without problems was; `now` where it doesn't say."""
    at = None if one.get("timestamp") is None else timestamp_microseconds(one["timestamp"])
    return now if at is None else EPOCH + timedelta(microseconds=at)


def answer_calls(calls: Sequence[PreparedCall | PaidCall], batch: CallBatch) -> bytes:
    """What became of each call, in the order in which they were sent."""
    shown = {"usages": [_planned(call) if isinstance(call, PaidCall) else shown_call(call) for call in calls]}
    return _encode({**shown, "dry_run": True} if batch.is_dry_run else shown)


def _planned(call: PaidCall) -> msgspec.Raw:
    return call.answer(timestamp_text(microseconds(call.call.at)))


def shown_call(call: PreparedCall) -> dict[str, Any]:
    """What became of a call."""
    at = timestamp_text(microseconds(call.sent.at))
    return {
        "id": call.identity,
        "status": call.status,
        "held_usage_id": None if call.held_id is None else str(call.held_id),
        "events": [
            {
                "transaction_id": each.transaction_id,
                "code": each.code,
                "external_subscription_id": call.external_subscription_id,
                "timestamp": at,
                "properties": each.properties,
            }
            for each in (*call.events, *call.shared)
        ],
        "warnings": [
            {"code": each.code, "message": each.message, "field": each.field} for each in call.warnings
        ],
        "problem": None
        if call.problem is None
        else {"code": call.problem.code, "message": call.problem.message},
    }


USAGE = UsageFormat(path="/api/v1/llm/usage", decode=read_usages, calls=calls_of, answer=answer_calls)
