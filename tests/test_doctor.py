"""`permille doctor` finds what is wrong, says what to do, and changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg
import pytest

from permille import accelerator
from permille.cli.doctor import Check, checks, report
from permille.config import Config
from permille.embedded.postgres import EmbeddedPostgres
from permille.out.pdf import fonts


def by_name(config: Config) -> dict[str, Check]:
    return {check.name: check for check in checks(config)}


def failures(config: Config) -> set[str]:
    return {check.name for check in checks(config) if not check.ok}


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PERMILLE_DATABASE_URL", "PERMILLE_ADMIN_KEY"):
        monkeypatch.delenv(name, raising=False)


def test_a_fresh_machine_is_well_and_stays_untouched(tmp_path: Path) -> None:
    config = Config(data_dir=tmp_path / "data")
    assert report(config) == 0
    assert not config.data_dir.exists()


def test_it_says_which_way_events_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def said(**settings: Any) -> str:
        return by_name(Config(data_dir=tmp_path / "data", **settings))["accelerator of events"].detail

    monkeypatch.setattr(accelerator, "IS_BUILT", True)
    assert said() == "on"
    assert said(accelerator="off") == "off (PERMILLE_ACCELERATOR)"
    monkeypatch.setattr(accelerator, "IS_BUILT", False)
    assert said().startswith("off (")


def test_a_running_embedded_database_is_looked_at(reachable_path: Path) -> None:
    config = Config(data_dir=reachable_path / "data")
    with EmbeddedPostgres(config.data_dir):
        found = by_name(config)
        assert found["durability"].ok
        assert found["clock"].ok
        assert not found["schema"].ok
        assert "migrations to apply" in found["schema"].detail
    stopped = by_name(config)["database"]
    assert not stopped.ok
    assert "permille up" in stopped.todo


def test_a_migrated_database_that_is_not_durable_is_reported(
    dsn: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = Config(database_url=dsn)  # the tests' server runs without fsync
    assert failures(config) == {"durability"}
    assert report(config) == 1
    lines = capsys.readouterr().out.splitlines()
    at = next(n for n, line in enumerate(lines) if line.startswith("FAIL  durability: fsync=off"))
    assert lines[at + 1].strip().startswith("-> Turn it on")


def test_an_edited_migration_is_reported(dsn: str) -> None:
    with psycopg.connect(dsn) as conn:
        conn.execute("update schema_migration set checksum = 'other'")
    assert "was edited" in by_name(Config(database_url=dsn))["schema"].todo


def test_a_database_that_does_not_answer_is_reported() -> None:
    found = by_name(Config(database_url="postgresql://127.0.0.1:1/none"))
    assert not found["database"].ok
    assert "PERMILLE_DATABASE_URL" in found["database"].todo


def test_a_mistyped_variable_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PERMILLE_PROT", "80")
    assert "PERMILLE_PROT" in by_name(Config(data_dir=tmp_path))["settings"].detail


def test_missing_programs_are_reported(tmp_path: Path) -> None:
    config = Config(data_dir=tmp_path / "data", pg_bin=tmp_path)
    assert failures(config) == {"database programs"}


def test_scripts_without_a_font_are_advice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = Config(data_dir=tmp_path / "data")
    assert by_name(config)["fonts"].ok
    monkeypatch.setattr(fonts, "folders", tuple)
    found = by_name(config)["fonts"]
    assert found.ok
    assert "Japanese" in found.detail
    assert "permille[fonts]" in found.todo
    assert report(config) == 0
