"""Expressions that take long are evaluated by processes beside the server's."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from permille.core.metering.expression import Evaluation, EvaluationError, evaluate_all
from permille.ingest import evaluators as evaluators_module
from permille.ingest.evaluators import Evaluators
from permille.niceness import NICE

WANTED = [
    Evaluation("event.properties.a * 2", "m", 0, {"a": Decimal("1.50")}),
    Evaluation("concat(event.code, '-', event.properties.b)", "m", 0, {"b": "x", "c": [{"d": None}]}),
    Evaluation("event.properties.missing + 1", "m", 0, {"a": 1}),
]


@pytest.fixture
def evaluators(monkeypatch: pytest.MonkeyPatch) -> Iterator[Evaluators]:
    """Those whose children must do it."""

    def here(_: object) -> None:
        raise AssertionError("evaluated in the server's own process")

    monkeypatch.setattr(evaluators_module, "evaluate_all", here)
    made = Evaluators()
    yield made
    made.close()


def children() -> list[int]:
    """The children that evaluate, of this process."""
    found = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return [pid for pid in map(int, found) if b"evaluator_child" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def test_a_child_of_low_priority_finds_the_same_values(evaluators: Evaluators) -> None:
    before = children()
    for _ in range(2):
        found, here = evaluators.evaluate(WANTED), evaluate_all(WANTED)
        assert found[:2] == here[:2] == ["3.0", "m-x"]
        assert isinstance(found[2], EvaluationError)
        assert str(found[2]) == str(here[2])
    (child,) = set(children()) - set(before)
    assert os.getpriority(os.PRIO_PROCESS, child) == max(NICE, os.getpriority(os.PRIO_PROCESS, 0))
    assert os.getsid(child) == child, "what it takes is not taken from its parent's session"
    evaluators.close()
    assert children() == before


def test_a_child_has_a_low_priority_before_it_has_begun() -> None:
    child = evaluators_module._Child()
    priority, session = os.getpriority(os.PRIO_PROCESS, child.process.pid), os.getsid(child.process.pid)
    child.end()
    assert (priority, session) == (max(NICE, os.getpriority(os.PRIO_PROCESS, 0)), child.process.pid)


def test_one_that_has_died_is_replaced(evaluators: Evaluators) -> None:
    before = children()
    evaluators.evaluate(WANTED)
    (first,) = set(children()) - set(before)
    os.kill(first, signal.SIGKILL)
    assert evaluators.evaluate(WANTED)[0] == "3.0"
    assert first not in children()


def test_without_processes_a_thread_evaluates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluators_module, "CHILD", "permille.not_there")
    assert Evaluators().evaluate(WANTED)[0] == "3.0"
