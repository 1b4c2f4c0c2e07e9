"""What a process says on standard error: one line a message, as text or as JSON, with the request that it is about.

An error is named by its kind and its place. Its own words are left out where they may quote what somebody sent: a property's
text, a key, a row.
"""

from __future__ import annotations

import logging
import re
import time
import traceback
from datetime import UTC, datetime
from typing import Any

import msgspec

from permille import request_ids, telemetry

FORMAT = "%(asctime)s %(levelname)s %(name)s%(request)s: %(message)s"
CHARACTERS_MAX = 16_000
_OF_OPERATION = ("08", "40", "53", "55", "57", "58")
"""Beginnings of SQLSTATEs whose messages speak of connections, locks and room, and never of a row."""


_OF_CONNECTIONS = ("OperationalError", "PoolTimeout", "PoolClosed")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_OURS = ("permille.embedded", "permille.database", "permille.usecases.watch", "permille.server")


def harmless(error: BaseException) -> str:
    """The error's kind, and its words where they quote nobody."""
    kind = type(error).__name__
    if _quotes_nobody(error):
        return str(error) or kind
    state = getattr(error, "sqlstate", None)
    return f"{kind} ({state})" if state else kind


def _quotes_nobody(error: BaseException) -> bool:
    kind = type(error)
    if hasattr(error, "sqlstate"):
        return (
            error.sqlstate.startswith(_OF_OPERATION) if error.sqlstate else kind.__name__ in _OF_CONNECTIONS
        )
    return (
        isinstance(error, OSError) or kind.__name__ == "UnavailableError" or kind.__module__.startswith(_OURS)
    )


class _Lines(logging.Formatter):
    """Errors among the arguments of a message, and those with a stack, are made harmless."""

    def format(self, record: logging.LogRecord) -> str:
        """The whole line. Other handlers see the record as it was."""
        safe = logging.makeLogRecord(record.__dict__)
        safe.exc_text = None
        if isinstance(safe.args, tuple):
            safe.args = tuple(
                harmless(each) if isinstance(each, BaseException) else each for each in safe.args
            )
        return self.line(safe)

    def line(self, record: logging.LogRecord) -> str:
        """What is said of the record."""
        return super().format(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802 -- the name is logging's
        """The stacks of the error and of what has caused it, each with its kind."""
        parts: list[str] = []
        error: BaseException | None = ei[1]
        while error is not None and len(parts) < 10:
            frames = "".join(traceback.format_tb(error.__traceback__))
            parts.append(f"{frames}{harmless(error)}")
            error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        return "\n  which was caused by\n".join(parts)[:CHARACTERS_MAX]


class TextLines(_Lines):
    """Lines that name the request that they are about, where there is one."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 -- the name is logging's
        """A line without its traceback. What somebody sent begins no line of its own, and commands no terminal."""
        name = request_ids.current.get()
        record.request = "" if name is None else f" [{name}]"
        return _CONTROL.sub(lambda found: repr(found[0])[1:-1], super().formatMessage(record))


class JsonLines(_Lines):
    """One JSON object a message."""

    def line(self, record: logging.LogRecord) -> str:
        """Fields that have no value are left out."""
        seen = telemetry.current.get()
        fields = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage()[:CHARACTERS_MAX],
            "request_id": request_ids.current.get(),
            "organization_id": seen.organization_id if seen else None,
            **getattr(record, "fields", {}),
            "error": self.formatException(record.exc_info) if record.exc_info else None,
        }
        return msgspec.json.encode(
            {name: value for name, value in fields.items() if value is not None}
        ).decode()


def configure(level: str, form: str = "text") -> None:
    """Set it up once, at the start of a process, by Config.log_level and Config.log_format."""
    logging.Formatter.converter = time.gmtime
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if form == "json" else TextLines(FORMAT))
    logging.basicConfig(level=level.upper(), handlers=[handler])
    logging.getLogger("httpx2").setLevel(logging.WARNING)
