"""What LiteLLM's `generic_api` callback sends: payloads as a JSON array, one a line (ndjson), or a single one."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec

from permille.core.errors import BadRequest, Invalid
from permille.core.llm.litellm import usage_in
from permille.ingest.decoders.llm_usage import answer_calls, call_of, problems
from permille.ingest.usage_format import CallBatch, UsageFormat

_decoder = msgspec.json.Decoder(float_hook=Decimal)


def _read(body: bytes, now: datetime, _media_type: str) -> CallBatch:
    """Raises BadRequest for what is no JSON, Invalid for what is no payload; the sender would repeat it in vain."""
    usages = [usage for payload in _payloads(body) if (usage := usage_in(payload)) is not None]
    named = [{"provider": "unknown", **usage} for usage in usages]
    errors = {str(index): found for index, usage in enumerate(named) if (found := problems(usage))}
    if errors:
        raise Invalid(errors)
    return CallBatch(calls=[call_of(usage, now) for usage in named])


def _payloads(body: bytes) -> list[Mapping[str, Any]]:
    try:
        found = _decoder.decode_lines(body) if _is_lines(body) else _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, ArithmeticError, ValueError, RecursionError) as error:
        raise BadRequest(f"the body is not valid JSON: {error}") from error
    payloads = found if isinstance(found, list) else [found]
    if not all(isinstance(payload, dict) for payload in payloads):
        raise Invalid({"payloads": ["invalid_format"]})
    return payloads


def _is_lines(body: bytes) -> bool:
    """Whether there is an object on each line; one object over several lines is no such body."""
    text = body.strip()
    return text.startswith(b"{") and b"}\n{" in text.replace(b"\r\n", b"\n")


LITELLM = UsageFormat(path="/api/v1/llm/litellm", decode=_read, answer=answer_calls)
