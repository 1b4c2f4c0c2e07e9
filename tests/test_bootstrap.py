"""Set-up: the fonts are pinned, and everything else is ready where they cannot be fetched."""

from __future__ import annotations

import importlib.util
import re
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

from permille.out.pdf import fonts

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def bootstrap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """tools/bootstrap.py on a folder of its own, with a uv that writes down how it is called."""
    spec = importlib.util.spec_from_file_location("bootstrap", ROOT / "tools" / "bootstrap.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    venv = tmp_path / ".venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").symlink_to("/bin/true")
    monkeypatch.setattr(module, "VENV", venv)
    monkeypatch.setattr(module, "STAMP", venv / "lock")
    monkeypatch.setattr(module, "FONTS_STAMP", venv / "fonts")
    monkeypatch.setattr(module, "ACCELERATOR_STAMP", venv / "accelerator")
    monkeypatch.setattr(module, "find_uv", lambda: tmp_path / "uv")
    return module


def uv(tmp_path: Path, last_line: str) -> Path:
    """A uv that logs its arguments, then does the last line."""
    log = tmp_path / "calls"
    program = tmp_path / "uv"
    program.write_text(f'#!/bin/sh\necho "$@" >> {log}\n{last_line}\n')
    program.chmod(0o755)
    return log


def test_what_is_done_is_not_done_again(bootstrap: ModuleType, tmp_path: Path) -> None:
    calls = uv(tmp_path, "exit 0")
    bootstrap.main()
    assert "requirements-fonts.lock" in calls.read_text()
    done = calls.read_text()
    bootstrap.main()
    assert calls.read_text() == done


def test_without_the_fonts_everything_else_is_ready_and_they_are_tried_again(
    bootstrap: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = uv(tmp_path, 'case "$*" in *requirements-fonts.lock*) exit 2;; esac')
    bootstrap.main()
    said = capsys.readouterr()
    assert "Ready" in said.out
    assert "could not be fetched" in said.err
    assert "`make setup` tries again" in said.err
    before = calls.read_text().count("\n")
    uv(tmp_path, "exit 0")
    bootstrap.main()
    assert calls.read_text().count("\n") == before + 1, "only the fonts"
    assert capsys.readouterr().err == ""


def test_fonts_that_hang_are_given_up(
    bootstrap: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    uv(tmp_path, 'case "$*" in *requirements-fonts.lock*) exec sleep 30;; esac')
    monkeypatch.setattr(bootstrap, "FONTS_SECONDS_MAX", 0.5)
    bootstrap.main()
    assert "could not be fetched" in capsys.readouterr().err


def test_the_extra_and_the_lock_name_the_packages_that_fonts_are_looked_for_in() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extra = {re.split(r"[<>=]", each)[0] for each in project["optional-dependencies"]["fonts"]}
    locked = set(re.findall(r"^([a-z-]+)==", (ROOT / "requirements-fonts.lock").read_text(), re.MULTILINE))
    assert extra == locked == {name.replace("_", "-") for name in (fonts.NOTO_PACKAGE, fonts.HAN_PACKAGE)}
    assert "--hash=sha256:" in (ROOT / "requirements-fonts.lock").read_text()


def test_a_registry_that_lacks_a_client_of_node_is_said_loudly(
    bootstrap: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "clients"
    folder.mkdir()
    (folder / "package-lock.json").write_text("{}")
    monkeypatch.setattr(bootstrap, "ROOT", tmp_path)
    monkeypatch.setattr(bootstrap, "JAVASCRIPT_CLIENTS", folder)
    npm = tmp_path / "npm"
    monkeypatch.setenv("PATH", str(tmp_path), prepend=None)
    stamp = folder / "node_modules" / ".lock-digest"
    for program in (None, "#!/bin/sh\nexit 1\n"):
        if program:
            npm.write_text(program)
            npm.chmod(0o755)
        bootstrap.make_javascript_clients()
        said = capsys.readouterr().err
        assert "THE REAL CLIENTS OF clients/package-lock.json COULD NOT BE INSTALLED" in said
        assert not stamp.exists()
    npm.write_text(f"#!/bin/sh\n/bin/mkdir {folder}/node_modules\n")
    bootstrap.make_javascript_clients()
    assert stamp.exists()
    npm.unlink()
    bootstrap.make_javascript_clients()
    assert capsys.readouterr().err == ""


def test_without_a_compiler_everything_else_is_ready(
    bootstrap: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    uv(tmp_path, "exit 0")
    python = tmp_path / ".venv" / "bin" / "python"
    python.unlink()
    python.symlink_to(sys.executable)
    monkeypatch.setenv("CC", str(tmp_path / "no-such-compiler"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    bootstrap.main()
    said = capfd.readouterr()
    assert "Ready" in said.out
    assert said.err.count("could not be built, so Python alone reads them") == 1
    assert not bootstrap.ACCELERATOR_STAMP.exists()
