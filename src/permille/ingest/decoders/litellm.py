"""What LiteLLM's `generic_api` callback sends: payloads as a JSON array, one a line (ndjson), or a single one."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec

from permille.core.errors import Invalid
from permille.core.llm.litellm import usage_in
from permille.ingest.decoders.lago import json_of
from permille.ingest.decoders.llm_usage import answer_calls, calls_of
from permille.ingest.usage_format import CallBatch, UsageFormat

_decode_lines = msgspec.json.Decoder(float_hook=Decimal).decode_lines


def _read(body: bytes, _media_type: str) -> CallBatch:
    """Raises BadRequest for what is no JSON, Invalid for what is no payload; the sender would repeat it in vain."""
    usages = [usage for payload in _payloads(body) if (usage := usage_in(payload)) is not None]
    return CallBatch(usages=[{"provider": "unknown", **usage} for usage in usages])


def _payloads(body: bytes) -> list[Mapping[str, Any]]:
    found = json_of(body, _decode_lines) if _is_lines(body) else json_of(body)
    payloads = found if isinstance(found, list) else [found]
    if not all(isinstance(payload, dict) for payload in payloads):
        raise Invalid({"payloads": ["invalid_format"]})
    return payloads


def _is_lines(body: bytes) -> bool:
    """Whether there is an object on each line; one object over several lines is no such body."""
    text = body.strip()
    return text.startswith(b"{") and b"}\n{" in text.replace(b"\r\n", b"\n")


LITELLM = UsageFormat(path="/api/v1/llm/litellm", decode=_read, calls=calls_of, answer=answer_calls)
