"""What serves is installed without the test tools, and every tool that installs is checked by a hash of ours."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from tools import audit, bootstrap

from tests.live import PATIENCE_SECONDS, free_port, is_healthy, wait_until

ROOT = Path(__file__).resolve().parent.parent
SERVING, DEV = ROOT / "requirements.lock", ROOT / "requirements-dev.lock"
TEST_TOOLS = {"pytest", "playwright", "mypy", "hypothesis", "ruff", "pip-audit"}


def locked(lock: Path) -> dict[str, str]:
    """name -> version and hashes."""
    text = re.sub(r"^\s+# .*\n", "", lock.read_text(), flags=re.MULTILINE)
    return dict(re.findall(r"^([a-z0-9_.-]+)(?:\[[^]]*])?==((?:.+\\\n)*.+)$", text, re.MULTILINE))


def test_the_lock_of_what_serves_has_no_test_tools_and_the_other_has_the_same_and_more() -> None:
    serving, everything = locked(SERVING), locked(DEV)
    assert not TEST_TOOLS & set(serving)
    assert set(everything) >= TEST_TOOLS
    assert {name: everything.get(name) for name in serving} == serving
    for lock in (SERVING, DEV, ROOT / "requirements-fonts.lock", ROOT / "requirements-uv.lock"):
        assert all("--hash=sha256:" in pins for pins in locked(lock).values()), lock.name
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {re.split(r"[\[<>=]", each)[0] for each in project["dependencies"]} <= set(serving)


def test_the_serving_environment_serves(tmp_path: Path, dsn: str) -> None:
    uv, venv = bootstrap.find_uv(), tmp_path / "venv"
    python = venv / "bin" / "python"
    for command in (
        ["venv", "--quiet", "--python", sys.executable, venv],
        ["pip", "sync", "--quiet", "--python", python, "--require-hashes", SERVING],
        ["pip", "install", "--quiet", "--python", python, "--no-deps",
         "--editable", ROOT],
    ):  # fmt: skip
        subprocess.run([str(part) for part in (uv, *command)], check=True)
    listed = subprocess.run(
        [uv, "pip", "list", "--python", python], check=True, capture_output=True, text=True
    )
    assert not TEST_TOOLS & {line.split()[0] for line in listed.stdout.splitlines() if line}
    port = free_port()
    server = subprocess.Popen(
        [venv / "bin" / "permille", "serve", "--port", str(port)],
        env={**os.environ, "PERMILLE_DATABASE_URL": dsn, "PERMILLE_ALLOW_ROOT": "true"},
        cwd=tmp_path,
    )
    try:
        wait_until(lambda: is_healthy(f"http://127.0.0.1:{port}"))
    finally:
        server.terminate()
        server.wait(PATIENCE_SECONDS)


def fake_wheel(folder: Path) -> Path:
    wheel = folder / "uv-0.0.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("uv-0.0.0.data/scripts/uv", "#!/bin/sh\necho a stranger's\n")
    return wheel


@pytest.mark.parametrize("has_pip", [True, False])
def test_a_uv_that_is_not_ours_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_pip: bool
) -> None:
    monkeypatch.setattr(bootstrap, "TOOLS", tmp_path / "tools")
    monkeypatch.setattr(bootstrap, "pip_works", lambda: has_pip)
    monkeypatch.setattr(bootstrap, "uv_with_pip", fake_wheel)
    monkeypatch.setattr(bootstrap, "uv_from_index", fake_wheel)
    with pytest.raises(SystemExit, match="not the uv that requirements-uv"):
        bootstrap.find_uv()
    assert not (tmp_path / "tools" / "uv").exists()


def test_a_uv_on_the_path_or_of_another_lock_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "uv").write_text("#!/bin/sh\n")
    (tmp_path / "bin" / "uv").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "uv").write_text("an old one")
    wheel = fake_wheel(tmp_path)
    lock = tmp_path / "requirements-uv.lock"
    lock.write_text(f"uv==0.0.0 --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n")
    monkeypatch.setattr(bootstrap, "TOOLS", tools)
    monkeypatch.setattr(bootstrap, "UV_LOCK", lock)
    monkeypatch.setattr(bootstrap, "pip_works", lambda: True)
    monkeypatch.setattr(bootstrap, "uv_with_pip", fake_wheel)
    assert bootstrap.find_uv() == tools / "uv"
    assert "a stranger's" in (tools / "uv").read_text(), "made from the wheel that the lock names"
    monkeypatch.setattr(bootstrap, "uv_with_pip", lambda _folder: pytest.fail("it is there"))
    assert bootstrap.find_uv() == tools / "uv"


def test_serving_takes_its_lock_and_leaves_a_whole_environment_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[Path] = []
    monkeypatch.setattr(bootstrap, "STAMP", tmp_path / "stamp")
    monkeypatch.setattr(bootstrap, "add_fonts", lambda _wanted: None)

    def make(lock: Path, wanted: str) -> None:
        taken.append(lock)
        (tmp_path / "stamp").write_text(wanted)

    monkeypatch.setattr(bootstrap, "make_environment", make)
    for arguments in (["--serving"], ["--serving"], [], ["--serving"]):
        monkeypatch.setattr(sys, "argv", ["bootstrap.py", *arguments])
        bootstrap.main()
    assert taken == [SERVING, DEV]


@pytest.mark.parametrize(
    ("script", "code", "said"),
    [
        ("exit 0", 0, "no known advisory"),
        ('echo "Found 2 known vulnerabilities in 1 package" >&2; echo "jinja2 3.1.0 GHSA-1"; exit 1', 1, "GHSA-1"),
        ('echo "ConnectionError: no route" >&2; exit 1', 2, "NOT CHECKED: the advisories could not be fetched"),
    ],
)  # fmt: skip
def test_the_audit_says_when_it_could_not_look(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], script: str, code: int, said: str
) -> None:
    program = tmp_path / "pip-audit"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    assert audit.main(program) == code
    assert capsys.readouterr().out.count(said) == len(audit.LOCKS)
