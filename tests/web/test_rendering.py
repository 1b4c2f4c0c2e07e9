"""Templates are compiled once for a user of the machine, and usable where that can't be kept."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2
import pytest

from permille.web import rendering, templating


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where temporary folders are made; nothing was compiled yet."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    templating.environment.cache_clear()
    yield tmp_path
    templating.environment.cache_clear()


def use_all() -> None:
    environment = templating.environment(rendering.static_url)
    for name in environment.list_templates():
        environment.get_template(name)


def test_what_was_compiled_is_read_at_the_next_start(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_all()
    templating.environment.cache_clear()
    compiled: list[str] = []
    real: Any = jinja2.Environment.compile

    def noted(self: Any, source: str, *more: Any) -> Any:
        compiled.append(source)
        return real(self, source, *more)

    monkeypatch.setattr(jinja2.Environment, "compile", noted)
    use_all()
    assert compiled == []
    assert [each.stat().st_mode & 0o777 for each in folder.iterdir()] == [0o700]


def test_templates_are_usable_where_the_disk_is_full(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_words: object, **_named: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.NamedTemporaryFile", full)
    use_all()


def test_templates_are_usable_where_another_has_the_folder(folder: Path) -> None:
    (folder / f"_jinja2-cache-{os.getuid()}").write_text("in the way")
    use_all()
