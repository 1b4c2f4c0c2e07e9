"""What an event may hold at most, and what its metric's expression may cost."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import psycopg
import pytest

from permille.core.bounds import (
    EVENT_MAX,
    EXPRESSION_WORK_AT_ONCE,
    NAME_MAX,
    PROPERTIES_MAX,
    PROPERTY_MAX,
)
from permille.core.metering.encoding import SeriesLayout
from permille.core.metering.expression import Evaluation, EvaluationError
from permille.events.draft import properties_errors
from permille.events.log import Evaluate, Request
from permille.ingest.evaluators import Evaluators

from .test_asgi import Client, add_metric, event, keys, post, talk, values

__all__ = ["keys"]

LONG = "value_is_too_long"


@pytest.mark.parametrize(
    ("properties", "errors"),
    [
        ({"a": "x" * PROPERTY_MAX}, {"properties.a": [LONG]}),
        ({"a": "x" * (PROPERTY_MAX - 1)}, {}),
        ({"b": 1, "a": {"c": ["x" * 40_000, "x" * 40_000]}}, {"properties.a": [LONG]}),
        ({"a": [0] * PROPERTY_MAX}, {"properties.a": [LONG]}),
        ({"a" * NAME_MAX: 1}, {}),
        ({"a" * (NAME_MAX + 1): 1}, {"properties": [LONG]}),
        ({"a": {"b" * (NAME_MAX + 1): 1}}, {"properties.a": [LONG]}),
        ({f"p{number}": number for number in range(PROPERTIES_MAX)}, {}),
        ({f"p{number}": number for number in range(PROPERTIES_MAX + 1)}, {"properties": ["too_many_properties"]}),
        ({"a": {str(number): 1 for number in range(PROPERTIES_MAX)}}, {"properties": ["too_many_properties"]}),
        ({f"p{number}": "x" * (EVENT_MAX // 5) for number in range(5)}, {"properties": [LONG]}),
        ({"a": "x" * 2_000, "b": 1}, {}),
    ],
)  # fmt: skip
def test_an_event_is_bounded_by_the_name_of_what_is_too_long(
    dsn: str, keys: dict[str, str], properties: Mapping[str, Any], errors: dict[str, list[str]]
) -> None:
    assert properties_errors(properties) == errors

    async def conversation(client: Client) -> None:
        answer = await post(client, "", {"event": event("t1", properties=properties)})
        assert answer.status_code == (422 if errors else 200)
        if errors:
            assert answer.json()["error_details"] == errors
        batch = [event("t2", properties={"ok": 1}), event("t3", properties=properties)]
        answer = await post(client, "/batch", {"events": batch})
        assert answer.status_code == (422 if errors else 200)
        if errors:
            assert answer.json()["error_details"] == {"1": errors}

    talk(dsn, keys["live"], conversation)


def test_long_expressions_are_evaluated_in_a_process_of_their_own(
    dsn: str, db: psycopg.Connection[Any], keys: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    add_metric(db, " / ".join(["event.properties.a"] * 100))  # 199 words
    seen: list[tuple[int, str]] = []
    beside: list[int] = []
    real, really = Request.derive, Evaluators.evaluate

    def noted(self: Request, meterings: Mapping[str, SeriesLayout], *evaluate: Evaluate) -> None:
        seen.append((len(self.drafts), threading.current_thread().name))
        real(self, meterings, *evaluate)

    def noted_beside(self: Evaluators, evaluations: Sequence[Evaluation]) -> list[str | EvaluationError]:
        beside.append(len(evaluations))
        return really(self, evaluations)

    monkeypatch.setattr(Request, "derive", noted)
    monkeypatch.setattr(Evaluators, "evaluate", noted_beside)

    def sent(name: str, size: int) -> dict[str, Any]:
        return {"events": [event(f"{name}{number}", properties={"a": 1}) for number in range(size)]}

    async def conversation(client: Client) -> None:
        for name, size in (
            ("known from now on", 1),
            ("short", EXPRESSION_WORK_AT_ONCE // 199),
            ("long", 500),
        ):
            answer = await post(client, "/batch", sent(name, size))
            assert answer.status_code == 200, answer.text
        seen_before = len(seen)
        assert [size for size, name in seen if name == "MainThread"] == [EXPRESSION_WORK_AT_ONCE // 199]
        assert [size for size, name in seen if name.startswith("expressions")] == [500]
        answer = await post(client, "/batch", sent("too much", 1_000 + 6))
        assert answer.status_code == 422
        assert "send fewer at once" in answer.json()["error_details"]["0"]
        assert "MainThread" not in {name for _, name in seen[seen_before:]}

    talk(dsn, keys["live"], conversation, events_batch_max=2_000)
    assert beside == [500]
    assert len(values(db)) == 1 + EXPRESSION_WORK_AT_ONCE // 199 + 500


def test_long_expressions_that_this_process_does_not_know_yet_are_evaluated_beside_it_too(
    dsn: str, db: psycopg.Connection[Any], keys: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    add_metric(db, " / ".join(["event.properties.a"] * 100))
    beside: list[int] = []
    really = Evaluators.evaluate

    def noted_beside(self: Evaluators, evaluations: Sequence[Evaluation]) -> list[str | EvaluationError]:
        beside.append(len(evaluations))
        return really(self, evaluations)

    def here(evaluations: Sequence[Evaluation]) -> list[str | EvaluationError]:
        raise AssertionError("evaluated in the server's own process")

    monkeypatch.setattr(Evaluators, "evaluate", noted_beside)
    monkeypatch.setattr("permille.events.postgres.writer._derive.__defaults__", (here,))
    sent = [event(f"t{number}", properties={"a": 1}) for number in range(500)]

    async def conversation(client: Client) -> None:
        answer = await post(client, "/batch", {"events": sent})
        assert answer.status_code == 200, answer.text

    talk(dsn, keys["live"], conversation)
    assert beside == [500]
    assert len(values(db)) == 500


def test_an_expression_that_repeats_a_text_is_refused(
    dsn: str, db: psycopg.Connection[Any], keys: dict[str, str]
) -> None:
    add_metric(db, "concat(" + ", ".join(["event.properties.a"] * 240) + ")")

    async def conversation(client: Client) -> None:
        for size, error in (
            (1_200_000, {"properties.a": [LONG]}),
            (60_000, "expression_evaluation_failed: concat makes more than 10000 characters"),
        ):
            answer = await post(client, "", {"event": event("t", properties={"a": "x" * size})})
            assert answer.status_code == 422
            assert answer.json()["error_details"] == error
        assert (await post(client, "", {"event": event("t", properties={"a": "x" * 41})})).status_code == 200

    talk(dsn, keys["live"], conversation)
