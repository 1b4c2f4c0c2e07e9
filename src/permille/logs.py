"""What a process says on standard error: one line a message, with the time in UTC."""

from __future__ import annotations

import logging
import time


def configure(level: str) -> None:
    """Set it up once, at the start of a process. `level` is one of Config.log_level."""
    logging.Formatter.converter = time.gmtime
    logging.basicConfig(level=level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx2").setLevel(logging.WARNING)
