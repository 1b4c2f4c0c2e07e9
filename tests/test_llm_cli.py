"""`permille llm check`: what a file with an answer becomes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from permille.cli.llm import check, read_answers
from tests.core.llm.samples import usages


def case(name: str) -> dict[str, object]:
    return dict(next(each["given"] for each in usages() if each["name"].startswith(name)))


def write(folder: Path, text: str) -> Path:
    path = folder / "answer.json"
    path.write_text(text)
    return path


def test_an_answer_is_shown_by_its_parts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, json.dumps(case("message: caches"), default=str))
    assert check(path, provider="anthropic") == 0
    shown = [line.split() for line in capsys.readouterr().out.splitlines() if line]
    assert ["id", "anthropic:msg_1"] in shown
    assert ["llm_tokens", "cached_input", "8000"] in shown
    assert ["llm_calls", "web_search", "2"] in shown


def test_a_stream_is_read_in_all_its_forms(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    events = case("stream: only the last")["stream"]
    assert isinstance(events, list)
    texts = [json.dumps(each) for each in events]
    forms = [
        json.dumps(events),
        "\n".join(texts),
        "".join(f"event: chunk\ndata: {text}\n\n" for text in texts) + "data: [DONE]\n",
    ]
    for form in forms:
        assert read_answers(form) == events
        assert check(write(tmp_path, form), provider="openai") == 0
        assert "cached_input" in capsys.readouterr().out


def test_what_would_be_held_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, json.dumps(case("stream without")["stream"]))
    assert check(path, provider="openai") == 1
    assert "stream_options.include_usage" in capsys.readouterr().err
    assert check(write(tmp_path, "no json"), provider="openai") == 1
    assert check(tmp_path / "none", provider="openai") == 1
