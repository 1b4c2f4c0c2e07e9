"""From a provider's answer, its stream or its usage object to a Usage."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from permille.core.llm.apis import APIS, candidates, named
from permille.core.llm.apis.envelopes import opened
from permille.core.llm.context import context_of
from permille.core.llm.model_name import Aliases, ModelName, name_model, provider_name
from permille.core.llm.parts import Modality, ModelRequest, Tier, UnreadableUsage, Usage, UsagePart, Warned
from permille.core.llm.redact import counts_kept, kept
from permille.core.llm.table import (
    Api,
    ModelUsage,
    Obj,
    Rest,
    Split,
    Total,
    at,
    decimal,
    first_at,
    has_any,
    quantity,
    text_at,
    unknown_fields,
)
from permille.core.money import ZERO
from permille.core.record import Record, replace


class SentUsage(Record, kw_only=True):
    """A usage as it was sent: an answer, the events of a stream, or only the usage object."""

    provider: str
    response: Obj | None = None
    stream: Sequence[Obj] | None = None
    usage: Obj | None = None
    api: str | None = None
    """How it is to be read. None: by the provider and by the answer's own marks."""
    model: str | None = None
    response_id: str | None = None
    tier: str | None = None
    """How it was served, where the answer doesn't say it."""
    cost: str | None = None
    """What the provider charges in USD, where the answer doesn't say it."""


def without_content(sent: SentUsage) -> SentUsage:
    """The same usage, with nothing of prompts or answers in it."""
    return SentUsage(
        provider=sent.provider,
        response=None if sent.response is None else kept(sent.response),
        stream=None if sent.stream is None else [found for each in sent.stream if (found := kept(each))],
        usage=None if sent.usage is None else counts_kept(sent.usage),
        api=sent.api,
        model=sent.model,
        response_id=sent.response_id,
        tier=sent.tier,
        cost=sent.cost,
    )


def read_usage(sent: SentUsage, aliases: Aliases | None = None) -> Usage:
    """What was used, with the organization's own names of models. Raises UnreadableUsage for what can't be counted as it is."""
    provider = provider_name(sent.provider)
    given: list[Obj] = list(sent.stream or ()) if sent.response is None else [sent.response]
    if sent.usage is not None:
        given = [{"usage": sent.usage}]
    if not given:
        raise UnreadableUsage("usage_missing", "there is neither an answer nor a stream nor a usage object")
    envelope = opened(given)
    api = _api(sent.api, provider, envelope.chunks, sent.usage)
    body = api.join(envelope.chunks) if sent.stream is not None else envelope.chunks[0]
    if sent.usage is not None:
        body = _placed(api, sent.usage)
    usage = first_at(body, api.usage)
    if not isinstance(usage, dict):
        raise UnreadableUsage("usage_missing", api.missing)
    return _usage(
        api,
        sent,
        _Answer(
            provider=provider,
            body=body,
            usage=usage,
            model=sent.model or text_at(body, api.model) or envelope.model,
            tier=envelope.tier,
            aliases=aliases,
        ),
    )


class _Answer(Record, kw_only=True):
    """An answer that has usage, with what is known of it beside its body."""

    provider: str
    body: Obj
    usage: Obj
    model: str | None
    tier: Tier | None
    aliases: Aliases | None


def _api(name: str | None, provider: str, chunks: Sequence[Obj], usage: Obj | None) -> Api:
    if name is not None:
        found = named(name, provider)
        if found is None:
            raise UnreadableUsage(
                "unknown_api", f"there is no api {name!r}: leave it out, or use one of {', '.join(APIS)}"
            )
        return found
    for api in candidates(provider):
        for chunk in chunks:
            if api.looks_like(chunk):
                return api
    for api in candidates(provider):
        if _has_counts(api, usage):
            return api
    raise UnreadableUsage(
        "unknown_api",
        f"this is like no answer of {provider} that is known: say by `api` how it is to be read",
    )


def _has_counts(api: Api, usage: Obj | None) -> bool:
    """Whether a usage object that was sent alone has counts of the API's tables."""
    return usage is not None and has_any(
        usage, (path for table in api.tables for count in table for path in count.paths)
    )


def _placed(api: Api, usage: Obj) -> Obj:
    """An answer that has only this usage object."""
    found: Any = usage
    for name in reversed(api.usage[0].split(".")) if api.usage[0] else ():
        found = {name: found}
    return dict(found)


def _usage(api: Api, sent: SentUsage, answer: _Answer) -> Usage:
    body, usage = answer.body, answer.usage
    warnings: list[Warned] = []
    requests: list[ModelRequest] = []
    names: list[ModelName] = []
    measured = [part for each in api.measures if (part := each.read(usage))] + api.more_parts(body, usage)
    for each in api.requests(body, usage, answer.model):
        name, request = _request(api, answer, each, warnings)
        names.append(name)
        requests.append(request)
    if measured:
        requests[0] = replace(requests[0], parts=(*requests[0].parts, *measured))
    warnings += [
        Warned(code="unknown_field", message=f"{path} is not known and was not counted", field=path)
        for path in unknown_fields(usage, api.known)
    ]
    return Usage(
        provider=answer.provider,
        api=api.name,
        requests=tuple(requests),
        tier=answer.tier or _tier(api, sent, body, warnings),
        region=text_at(body, api.region) or names[0].region,
        response_id=sent.response_id or text_at(body, api.response_id),
        cost=quantity(sent.cost, "cost") if (said := api.cost(body, usage)) is None else said,
        size=text_at(body, ("size",)),
        quality=text_at(body, ("quality",)),
        warnings=tuple(warnings),
    )


def _request(
    api: Api, answer: _Answer, each: ModelUsage, warnings: list[Warned]
) -> tuple[ModelName, ModelRequest]:
    if not has_any(each.usage, api.known):
        raise UnreadableUsage("usage_missing", api.missing)
    if not each.model:
        raise UnreadableUsage("model_missing", "the answer does not name its model: send it as `model`")
    parts = _parts(api, each.usage, warnings)
    name = name_model(answer.provider, each.model, aliases=answer.aliases)
    if name.model is None:
        warnings.append(_unknown_model(name.provider, each.model))
    return name, ModelRequest(
        model_sent=each.model,
        model=name.model,
        provider=name.provider,
        snapshot=name.snapshot,
        context=context_of(parts),
        parts=tuple(parts),
    )


def _unknown_model(provider: str, sent: str) -> Warned:
    return Warned(
        code="model_unknown",
        message=f"{provider}/{sent} says nothing about the model: it is counted under this name until it has an alias",
        field="model",
    )


def _tier(api: Api, sent: SentUsage, body: Obj, warnings: list[Warned]) -> Tier:
    """How the request was served; the first of the paths that says something else than the standard."""
    for path in (*api.tier, "tier"):
        said = sent.tier if path == "tier" else at(body, path)
        if not isinstance(said, str):
            continue
        tier = api.tiers.get(said.lower())
        if tier is None:
            warnings.append(
                Warned(
                    code="unknown_tier",
                    message=f"the tier {said!r} is not known: counted as standard",
                    field=path,
                )
            )
        elif tier is not Tier.STANDARD:
            return tier
    return Tier.STANDARD


def _parts(api: Api, usage: Obj, warnings: list[Warned]) -> list[UsagePart]:
    """The tokens, by the first of the tables that adds up to the provider's total."""
    total = None if api.total is None else quantity(at(usage, api.total.path), api.total.path)
    refusal: UnreadableUsage | None = None
    first: tuple[Split, Decimal] | None = None
    for table in api.tables:
        parts: Split = {}
        counted = ZERO
        try:
            for count in table:
                found = count.split(usage)
                if count.in_total:
                    counted = sum(found.values(), counted)
                _add(parts, found)
        except UnreadableUsage as error:
            refusal = refusal or error
            continue
        if total is None or counted == total:
            return _made(parts)
        first = first or (parts, total - counted)
    if first is None:
        assert refusal is not None, "a table is read or refused"
        raise refusal
    assert api.total is not None, "only a total makes a rest"
    return _with_rest(api, api.total, *first, warnings)


def _add(parts: Split, found: Split) -> None:
    for key, number in found.items():
        parts[key] = parts[key] + number if key in parts else number


def _with_rest(
    api: Api, total: Total, parts: Split, rest: Decimal, warnings: list[Warned]
) -> list[UsagePart]:
    words = f"{decimal(abs(rest))} tokens of {total.path} are in no part"
    if rest < 0:
        raise UnreadableUsage(
            "total_mismatch", f"the counts are {decimal(-rest)} tokens more than {total.path}"
        )
    if total.rest is Rest.REFUSED:
        raise UnreadableUsage("total_mismatch", words)
    if total.rest is Rest.OUTPUT:
        kind = next(count.type for count in api.tables[0] if count.type == "output")
        _add(parts, {(kind, Modality.TEXT): rest})
        words += ": they are counted as output"
    warnings.append(Warned(code="total_mismatch", message=words, field=total.path))
    return _made(parts)


def _made(parts: Split) -> list[UsagePart]:
    return [
        UsagePart(type=kind, modality=modality, quantity=number)
        for (kind, modality), number in parts.items()
        if number
    ]
