"""Expressions that take long are evaluated in child processes of low priority: no thread here waits for their interpreter."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing import Pipe

from permille import niceness
from permille.core.metering.expression import Evaluation, EvaluationError, evaluate_all

log = logging.getLogger(__name__)

CHILD = "permille.ingest.evaluator_child"
END_SECONDS = 5.0


class _Child:
    def __init__(self) -> None:
        self._connection, theirs = Pipe()
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", CHILD, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        niceness.lower(self.process.pid)  # before it has begun: starting takes it as long as a request

    def evaluate(self, evaluations: Sequence[Evaluation]) -> list[str | EvaluationError]:
        """Raises OSError and EOFError when the child has ended."""
        self._connection.send(evaluations)
        found: list[str | EvaluationError] = self._connection.recv()
        return found

    def end(self) -> None:
        self._connection.close()
        try:
            self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Evaluators:
    """As many children as are used at once; each is started when it is wanted, and ends when it is idle."""

    def __init__(self) -> None:
        self._idle: deque[_Child] = deque()

    def evaluate(self, evaluations: Sequence[Evaluation]) -> list[str | EvaluationError]:
        """The values as texts, in the order of the evaluations, or why there is none. Any thread may call it."""
        with suppress(IndexError):
            if (found := self._by(self._idle.pop(), evaluations)) is not None:
                return found
        with suppress(OSError):
            if (found := self._by(_Child(), evaluations)) is not None:
                return found
        log.warning("No process evaluates long expressions: they are evaluated by a thread")
        return evaluate_all(evaluations)

    def _by(self, child: _Child, evaluations: Sequence[Evaluation]) -> list[str | EvaluationError] | None:
        """None when the child has ended."""
        try:
            found = child.evaluate(evaluations)
        except (OSError, EOFError):
            child.end()
            return None
        self._idle.append(child)
        return found

    def close(self) -> None:
        """End those that are idle."""
        while self._idle:
            self._idle.pop().end()
