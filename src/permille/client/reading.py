"""The usage in the bytes of an answer: one JSON object, or a stream of server-sent events."""

import json
import re
import zlib
from collections.abc import Iterator
from typing import Any

from permille.client.pruning import has_usage, prune

_END_OF_EVENT = re.compile(rb"\r?\n\r?\n")


class WholeAnswer:
    """Collects the bytes of an answer that is one JSON object."""

    def __init__(self, encoding: str = "") -> None:
        self._bytes = bytearray()
        self._encoding = encoding

    def take(self, data: bytes) -> bytes:
        self._bytes += data
        return data

    def rest(self) -> bytes:
        return b""

    def usage(self) -> dict[str, Any]:
        """The field of a usage that holds what was answered, as `POST /api/v1/llm/usage` takes it."""
        content = bytes(self._bytes)
        try:
            if self._encoding in {"gzip", "deflate"}:
                content = zlib.decompress(content, zlib.MAX_WBITS | 32)
            answer = json.loads(content)
        except (ValueError, zlib.error):
            return {"response": {}}
        if isinstance(answer, list):
            return {"stream": _with_usage([prune(chunk) for chunk in answer if isinstance(chunk, dict)])}
        return {"response": prune(answer) if isinstance(answer, dict) else {}}


class StreamedAnswer:
    """Reads the events of a stream as they pass; keeps those with usage.

    `hide` takes the chunk out that has nothing but the usage: where the application did not ask for it, it
    does not expect a chunk without choices.
    """

    def __init__(self, *, hide: bool = False) -> None:
        self._hide = hide
        self._open = b""
        self._chunks: list[dict[str, Any]] = []
        self._first: dict[str, Any] | None = None

    def take(self, data: bytes) -> bytes:
        """What of these bytes (and of those that were waiting for their event's end) goes on to the application."""
        *whole, self._open = _END_OF_EVENT.split(self._open + data)
        passed = b"".join(event + b"\n\n" for event in whole if self._see(event))
        return passed if self._hide else data

    def rest(self) -> bytes:
        """What is left when the stream has ended without the empty line after its last event."""
        left, self._open = self._open, b""
        seen = self._see(left)
        return left if self._hide and seen else b""

    def usage(self) -> dict[str, Any]:
        """As `WholeAnswer.usage`; a stream that was cut before its usage is kept with its id and model."""
        return {"stream": _with_usage(self._chunks) or ([self._first] if self._first else [])}

    def _see(self, event: bytes) -> bool:
        """Keep the usage of one event; False where the application is not to see it."""
        chunk = _chunk(event)
        if chunk is None:
            return True
        pruned = prune(chunk)
        if self._first is None:
            self._first = pruned
        if has_usage(pruned):
            self._chunks.append(pruned)
        return not (self._hide and chunk.get("choices") == [] and has_usage(pruned))


def _chunk(event: bytes) -> dict[str, Any] | None:
    data = b"\n".join(_data_lines(event))
    if not data or data == b"[DONE]":
        return None
    try:
        chunk = json.loads(data)
    except ValueError:
        return None
    return chunk if isinstance(chunk, dict) else None


def _data_lines(event: bytes) -> Iterator[bytes]:
    for line in event.splitlines():
        if line.startswith(b"data:"):
            yield line.removeprefix(b"data:").strip()


def _with_usage(chunks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The chunks that count. Google repeats its counts in each chunk: the last one has them all."""
    counted = [chunk for chunk in chunks if has_usage(chunk)]
    return counted[-1:] if counted and "usageMetadata" in counted[-1] else counted
