"""A plugin of pytest for the scenarios: a move of a clock that is answered with 202 is waited for.

The scenarios' kit takes every answer for an arrival. On a machine that is busy with other work a move can take longer
than a request may; the worker then goes on with it, and the answer says where to.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from typing import Any

from tests.live import PATIENCE_SECONDS

PAUSE_SECONDS = 0.2


def pytest_collection_finish() -> None:
    world = importlib.import_module("kit").World
    world.put = patient(world.put)


def patient(put: Callable[..., Any]) -> Callable[..., Any]:
    """The method of a world that puts, and after a move of its clock gets the clock until that has arrived."""

    def put_and_wait(world: Any, path: str, *arguments: Any, **named: Any) -> Any:
        answer = put(world, path, *arguments, **named)
        until = time.monotonic() + PATIENCE_SECONDS
        while path == "/test_clock" and isinstance(answer, dict) and answer["test_clock"]["moving_to"]:
            assert time.monotonic() < until, f"not there within {PATIENCE_SECONDS} s: {answer}"
            time.sleep(PAUSE_SECONDS)
            answer = world.get(path)
        return answer

    return put_and_wait
