"""Make .venv with everything in it, on a machine that has only Python 3.11 and make.

Standard library only. It finds uv on the PATH, or takes the pinned wheel from the package index
through pip, or, where Python came without pip (a bare Debian), through the index's own simple page.
uv then makes the environment from requirements.lock, every file checked by its hash, and adds the Noto fonts
of requirements-fonts.lock, which it can do without.
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
FONTS_LOCK = ROOT / "requirements-fonts.lock"
STAMP = VENV / ".lock-digest"
FONTS_STAMP = VENV / ".fonts-digest"
FONTS_SECONDS_MAX = 300


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


def digest(*files: Path) -> str:
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def is_done(stamp: Path, wanted: str) -> bool:
    return stamp.exists() and stamp.read_text() == wanted


def make_environment(wanted: str) -> None:
    uv = find_uv()
    run(uv, "venv", "--quiet", "--allow-existing", "--python", sys.executable, VENV)
    run(uv, "pip", "sync", "--quiet", "--python", VENV / "bin" / "python", "--require-hashes", LOCK)
    run(uv, "pip", "install", "--quiet", "--python", VENV / "bin" / "python", "--no-deps", "--editable", ".")
    FONTS_STAMP.unlink(missing_ok=True)  # the sync has taken them away
    STAMP.write_text(wanted)
    print("Ready: .venv/bin/permille")


def add_fonts(wanted: str) -> None:
    """Without them everything works, but some scripts print as boxes: a failure is said, and stops nothing."""
    command = [str(find_uv()), "pip", "install", "--quiet", "--python", str(VENV / "bin" / "python"),
               "--require-hashes", "-r", str(FONTS_LOCK)]  # fmt: skip
    try:
        subprocess.run(command, check=True, cwd=ROOT, timeout=FONTS_SECONDS_MAX)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        print("The fonts for Asian scripts, Arabic, Hebrew and emoji could not be fetched: invoices print boxes for them. "
              "Everything else is ready; `make setup` tries again.", file=sys.stderr)  # fmt: skip
    else:
        FONTS_STAMP.write_text(wanted)


def main() -> None:
    if sys.version_info < (3, 11):
        sys.exit(f"Permille needs Python 3.11 or newer; this is {sys.version.split()[0]}.")
    wanted, wanted_fonts = digest(LOCK, ROOT / "pyproject.toml"), digest(FONTS_LOCK)
    if not is_done(STAMP, wanted):
        make_environment(wanted)
    if not is_done(FONTS_STAMP, wanted_fonts):
        add_fonts(wanted_fonts)


if __name__ == "__main__":
    main()
