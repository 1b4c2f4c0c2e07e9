"""The README's walk-through, pasted as one block into a shell: only its port is another one."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

from tests.live import free_port

ROOT = Path(__file__).resolve().parent.parent
SECTION = re.compile(r"^## Bill by the token, step by step$(.*?)^## ", re.MULTILINE | re.DOTALL)
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PORT = "8080"


def walk_through() -> str:
    section = SECTION.search((ROOT / "README.md").read_text())
    assert section is not None
    return "\n".join(BLOCK.findall(section[1]))


def test_the_walk_through_bills_what_it_says(reachable_path: Path) -> None:
    script, port = walk_through(), str(free_port())
    assert script.count(PORT) == 3, "the server, the admin API and the API"
    locks = [path.name for path in ROOT.glob("*.lock")]
    for name in (".venv", ".tools", "tools", "src", "Makefile", "pyproject.toml", *locks):
        (reachable_path / name).symlink_to(ROOT / name)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PERMILLE_")}
    try:
        done = subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", script.replace(PORT, port)],
            cwd=reachable_path,
            env=clean,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert '"status":4' not in done.stdout, "no request of it is refused"
        answers = [
            json.loads(line) for line in re.findall(r'\{"invoice":.*?\}(?=\{"|Stopped|$)', done.stdout)
        ]
        assert [answer["invoice"]["total_amount_cents"] for answer in answers] == [72]
        assert (reachable_path / "invoice.pdf").read_bytes().startswith(b"%PDF")
        assert "Stopped Permille" in done.stdout
    finally:
        subprocess.run(
            [ROOT / ".venv/bin/permille", "stop", "--data-dir", reachable_path / "permille-data"],
            capture_output=True,
            check=False,
        )
