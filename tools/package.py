"""Build the wheel, install it where there is nothing else, and do the main job with it: `make package`.

The versions of the dependencies are those of requirements.lock. The wheel is left in dist/.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
UV = ROOT / ".tools" / "uv"
DIST = ROOT / "dist"


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, check=False, text=True, stdout=subprocess.PIPE
    )
    if done.returncode:
        sys.exit(f"{' '.join(str(part) for part in command)} ended with {done.returncode}:\n{done.stdout}")
    return done.stdout


def version() -> str:
    found = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert found, "pyproject.toml names no version"
    return found[1]


def main() -> None:
    shutil.rmtree(DIST, ignore_errors=True)
    uv = UV if UV.exists() else Path(shutil.which("uv") or "uv")
    run(uv, "build", "--quiet", "--wheel", "--out-dir", DIST)
    wheel = next(DIST.glob("*.whl"))
    folder = Path(tempfile.mkdtemp(prefix="permille-package-", dir="/tmp"))
    folder.chmod(0o711)
    try:
        environment = folder / "venv"
        run(uv, "venv", "--quiet", "--python", sys.executable, environment)
        python, permille = environment / "bin" / "python", environment / "bin" / "permille"
        run(uv, "pip", "install", "--quiet", "--python", python, "-r", ROOT / "requirements.lock")
        run(uv, "pip", "install", "--quiet", "--python", python, "--no-deps", wheel)
        assert version() in run(permille, "--version", cwd=folder)
        run(permille, "demo", cwd=folder)
        run(permille, "stop", "--data-dir", folder / "demo-data" / "data", cwd=folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{wheel.relative_to(ROOT)} works by itself")


if __name__ == "__main__":
    main()
