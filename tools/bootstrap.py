"""Make .venv with everything in it, on a machine that has only Python 3.11 and make.

Standard library only. It finds uv on the PATH, or takes the pinned wheel from the package index
through pip, or, where Python came without pip (a bare Debian), through the index's own simple page.
uv then makes the environment from requirements.lock, every file checked by its hash.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import urllib.parse
import urllib.request
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / ".tools"
VENV = ROOT / ".venv"
UV_VERSION = "0.13.9"
LOCK = ROOT / "requirements.lock"
STAMP = VENV / ".lock-digest"


def run(*command: str | Path) -> None:
    subprocess.run([str(part) for part in command], check=True, cwd=ROOT)


def pip_works() -> bool:
    probe = subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True, check=False)
    return probe.returncode == 0


def uv_with_pip(folder: Path) -> None:
    run(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:",
        "--dest", folder, f"uv=={UV_VERSION}")  # fmt: skip


def uv_from_index(folder: Path) -> None:
    """For a Python without pip: read the index's simple page and check the hash it names."""
    index = os.environ.get("PIP_INDEX_URL") or os.environ.get("UV_INDEX_URL") or "https://pypi.org/simple"
    page_url = index.rstrip("/") + "/uv/"
    with urllib.request.urlopen(page_url, timeout=180) as page:
        links = re.findall(r'href="([^"]+)"', page.read().decode())
    wanted = f"uv-{UV_VERSION}-py3-none-manylinux_2_17_{os.uname().machine}"
    link = next(found for found in links if wanted in found)
    url, _, fragment = urllib.parse.urljoin(page_url, link).partition("#")
    with urllib.request.urlopen(url, timeout=180) as response:
        body = response.read()
    digest = fragment.removeprefix("sha256=")
    if digest and hashlib.sha256(body).hexdigest() != digest:
        sys.exit("The uv wheel from the package index does not match its hash: try again.")
    (folder / url.rsplit("/", 1)[-1]).write_bytes(body)


def find_uv() -> Path:
    own = TOOLS / "uv"
    if own.exists():
        return own
    found = shutil.which("uv")
    if found:
        return Path(found)
    TOOLS.mkdir(exist_ok=True)
    if pip_works():
        uv_with_pip(TOOLS)
    else:
        uv_from_index(TOOLS)
    wheel = next(TOOLS.glob("uv-*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        member = next(name for name in archive.namelist() if name.endswith("/scripts/uv"))
        own.write_bytes(archive.read(member))
    own.chmod(0o755)
    wheel.unlink()
    return own


def lock_digest() -> str:
    return hashlib.sha256(LOCK.read_bytes() + (ROOT / "pyproject.toml").read_bytes()).hexdigest()


def main() -> None:
    if sys.version_info < (3, 11):
        sys.exit(f"Permille needs Python 3.11 or newer; this is {sys.version.split()[0]}.")
    if STAMP.exists() and STAMP.read_text() == lock_digest():
        return
    uv = find_uv()
    run(uv, "venv", "--quiet", "--allow-existing", "--python", sys.executable, VENV)
    run(uv, "pip", "sync", "--quiet", "--python", VENV / "bin" / "python", "--require-hashes", LOCK)
    run(uv, "pip", "install", "--quiet", "--python", VENV / "bin" / "python", "--no-deps", "--editable", ".")
    STAMP.write_text(lock_digest())
    print("Ready: .venv/bin/permille")


if __name__ == "__main__":
    main()
