"""What a process says on standard error: one line a message, with the time in UTC and the request that it is about."""

from __future__ import annotations

import logging
import time

from permille import request_ids

FORMAT = "%(asctime)s %(levelname)s %(name)s%(request)s: %(message)s"


class Lines(logging.Formatter):
    """Lines that name the request that they are about, where there is one."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 -- the name is logging's
        """A line without its traceback."""
        name = request_ids.current.get()
        record.request = "" if name is None else f" [{name}]"
        return super().formatMessage(record)


def configure(level: str) -> None:
    """Set it up once, at the start of a process. `level` is one of Config.log_level."""
    logging.Formatter.converter = time.gmtime
    handler = logging.StreamHandler()
    handler.setFormatter(Lines(FORMAT))
    logging.basicConfig(level=level.upper(), handlers=[handler])
    logging.getLogger("httpx2").setLevel(logging.WARNING)
