"""`permille llm`: see what an answer of a language model becomes, without sending it anywhere."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

from permille.core.llm.parts import UnreadableUsage, Usage
from permille.core.llm.read import SentUsage, read_usage, without_content
from permille.core.llm.table import decimal


def check(
    path: Path,
    *,
    provider: str,
    api: str | None = None,
    model: str | None = None,
    response_id: str | None = None,
) -> int:
    """Print what a file becomes; 1 if it can't be read or counted."""
    try:
        given = read_answers(path.read_text())
    except (OSError, ValueError) as error:
        print(f"permille: {path} can't be read: {error}", file=sys.stderr)
        return 1
    is_stream = isinstance(given, list)
    sent = SentUsage(
        provider=provider,
        response=None if is_stream else given,
        stream=given if is_stream else None,
        api=api,
        model=model,
        response_id=response_id,
    )
    try:
        usage = read_usage(without_content(sent))
    except UnreadableUsage as refused:
        print(f"It would be held. {refused}", file=sys.stderr)
        return 1
    print("\n".join(lines(usage)))
    return 0


def read_answers(text: str) -> Any:
    """An answer, or the list of a stream's events: JSON, a list of it, lines of it, or server-sent events."""
    try:
        found = json.loads(text, parse_float=Decimal)
    except ValueError:
        found = [json.loads(line, parse_float=Decimal) for line in _data(text)]
    events = found if isinstance(found, list) else [found]
    if not events or not all(isinstance(each, dict) for each in events):
        raise ValueError("it is neither an object of JSON nor a list of such")
    return found


def _data(text: str) -> Iterator[str]:
    """The lines with JSON; of server-sent events their data."""
    for line in text.splitlines():
        content = line.removeprefix("data:").strip()
        if content and content != "[DONE]" and not line.startswith(("event:", "id:", ":")):
            yield content


def lines(usage: Usage) -> Iterator[str]:
    """What is counted, a line each."""
    yield f"id        {usage.identity or 'none: send `id` with it'}"
    yield f"api       {usage.api}"
    yield f"tier      {usage.tier}"
    if usage.region:
        yield f"region    {usage.region}"
    if usage.cost is not None:
        yield f"cost      {decimal(usage.cost)} USD, as the provider says"
    for request in usage.requests:
        yield f"\n{request.model or request.model_sent}, context {request.context}"
        for part in request.parts:
            kind = f"{part.type}" if part.modality in (None, "text") else f"{part.type} ({part.modality})"
            yield f"  {part.metric:<12} {kind:<26} {decimal(part.quantity):>12}"
    for warned in usage.warnings:
        yield f"\nwarning   {warned.code}: {warned.message}"
