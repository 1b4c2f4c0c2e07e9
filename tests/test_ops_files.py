"""The files in ops/: units that systemd takes, and samples that name settings and addresses that there are."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from permille.config import settings

ROOT = Path(__file__).resolve().parent.parent
UNITS = sorted((ROOT / "ops" / "systemd").iterdir())
COMMANDS = {"up", "serve", "work", "db"}


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze")
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    for unit in UNITS:
        text = unit.read_text().replace("/opt/permille/.venv/bin/permille", "/bin/true")
        (tmp_path / unit.name).write_text(
            re.sub(r"^(User|Group)=permille$", r"\1=root", text, flags=re.MULTILINE)
        )
    done = subprocess.run(
        ["systemd-analyze", "verify", *(tmp_path / unit.name for unit in UNITS)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_units_run_commands_that_there_are_and_nothing_as_root() -> None:
    services = [unit for unit in UNITS if unit.suffix == ".service"]
    assert len(services) == 4
    for unit in services:
        text = unit.read_text()
        commands = re.findall(r"/bin/permille (\w+)", text)
        assert set(commands) <= COMMANDS, unit.name
        assert "User=permille\n" in text
        assert "NoNewPrivileges=yes\n" in text


def test_the_guide_and_the_samples_name_settings_that_there_are() -> None:
    known = {setting.variable for setting in settings().values()}
    for path in (
        ROOT / "docs" / "operating.md",
        ROOT / "ops" / "nginx.conf",
        ROOT / "ops" / "Caddyfile",
        *UNITS,
    ):
        assert set(re.findall(r"PERMILLE_[A-Z_]+", path.read_text())) <= known, path.name


def test_the_files_that_the_guide_names_are_there() -> None:
    guide = ROOT / "docs" / "operating.md"
    for target in re.findall(r"\]\(([^)#]+)\)", guide.read_text()):
        assert (guide.parent / target).exists(), target
    for test in re.findall(r"`(tests/[\w/]+\.py)`", guide.read_text()):
        assert (ROOT / test).exists(), test
