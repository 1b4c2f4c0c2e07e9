"""Make .venv on a machine that has only Python 3.11 and make: with everything, or with --serving for serving only.

Standard library only. It takes uv from the package index through pip or, where Python came without pip (a bare
Debian), through the index's own simple page: the version and the hashes are those of requirements-uv.lock, whatever
the index names. uv then makes the environment from requirements.lock (what serves) or requirements-dev.lock (the same
and what tests need), every file checked by its hash, and adds the Noto fonts of requirements-fonts.lock, which it can
do without. Where there is a C compiler it builds the accelerator of events, which they do without as well. With --clients it makes .venv-clients and .venv-litellm from their own lock files, and with npm the
node_modules of tests/real_clients/javascript: the real clients that tests bill calls of, where none of what they need
can be in what serves.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / ".tools"
VENV = ROOT / ".venv"
UV_LOCK = ROOT / "requirements-uv.lock"
SERVING_LOCK = ROOT / "requirements.lock"
DEV_LOCK = ROOT / "requirements-dev.lock"
CLIENTS = ("clients", "litellm")
"""Each has an environment .venv-NAME and a lock file requirements-NAME.lock."""
JAVASCRIPT_CLIENTS = ROOT / "tests" / "real_clients" / "javascript"
FONTS_LOCK = ROOT / "requirements-fonts.lock"
STAMP = VENV / ".lock-digest"
FONTS_STAMP = VENV / ".fonts-digest"
ACCELERATOR = ROOT / "src" / "permille" / "accelerator"
ACCELERATOR_STAMP = VENV / ".accelerator-digest"
FONTS_SECONDS_MAX = 300
NPM_SECONDS_MAX = 600


def run(*command: str | Path) -> None:
    subprocess.run([str(part) for part in command], check=True, cwd=ROOT)


def pip_works() -> bool:
    probe = subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True, check=False)
    return probe.returncode == 0


def uv_version() -> str:
    return re.findall(r"^uv==(\S+)", UV_LOCK.read_text(), re.MULTILINE)[0]


def uv_hashes() -> set[str]:
    """The SHA-256 of each platform's wheel of uv."""
    return set(re.findall(r"--hash=sha256:([0-9a-f]{64})", UV_LOCK.read_text()))


def uv_with_pip(folder: Path) -> None:
    run(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:",
        "--dest", folder, "--require-hashes", "--requirement", UV_LOCK)  # fmt: skip


def uv_from_index(folder: Path) -> None:
    """For a Python without pip: find the wheel on the index's simple page."""
    index = os.environ.get("PIP_INDEX_URL") or os.environ.get("UV_INDEX_URL") or "https://pypi.org/simple"
    page_url = index.rstrip("/") + "/uv/"
    with urllib.request.urlopen(page_url, timeout=180) as page:
        links = re.findall(r'href="([^"]+)"', page.read().decode())
    wanted = f"uv-{uv_version()}-py3-none-manylinux_2_17_{os.uname().machine}"
    link = next(found for found in links if wanted in found)
    url = urllib.parse.urldefrag(urllib.parse.urljoin(page_url, link)).url
    with urllib.request.urlopen(url, timeout=180) as response:
        (folder / url.rsplit("/", 1)[-1]).write_bytes(response.read())


def checked(wheel: Path) -> Path:
    """The wheel, if it is one of ours: whatever pip and the index said about it."""
    if hashlib.sha256(wheel.read_bytes()).hexdigest() not in uv_hashes():
        wheel.unlink()
        sys.exit(f"{wheel.name} from the package index is not the uv that {UV_LOCK.name} names: not used.")
    return wheel


def find_uv() -> Path:
    """Our own, made from a wheel that was checked; never one that happens to be on the PATH."""
    own, origin, wanted = TOOLS / "uv", TOOLS / "uv.origin", digest(UV_LOCK)
    if own.exists() and is_done(origin, wanted):
        return own
    TOOLS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=TOOLS) as folder:
        if pip_works():
            uv_with_pip(Path(folder))
        else:
            uv_from_index(Path(folder))
        wheel = checked(next(Path(folder).glob("uv-*.whl")))
        with zipfile.ZipFile(wheel) as archive:
            member = next(name for name in archive.namelist() if name.endswith("/scripts/uv"))
            fresh = Path(folder) / "uv"
            fresh.write_bytes(archive.read(member))
        fresh.chmod(0o755)
        fresh.replace(own)
    origin.write_text(wanted)
    return own


def digest(*files: Path) -> str:
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def is_done(stamp: Path, wanted: str) -> bool:
    return stamp.exists() and stamp.read_text() == wanted


def make_environment(lock: Path, wanted: str) -> None:
    uv = find_uv()
    run(uv, "venv", "--quiet", "--allow-existing", "--python", sys.executable, VENV)
    run(uv, "pip", "sync", "--quiet", "--python", VENV / "bin" / "python", "--require-hashes", lock)
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


def build_accelerator(wanted: str) -> None:
    """Without it events are read by Python alone, which is said; it stops nothing."""
    command = [str(VENV / "bin" / "python"), "-m", "permille.accelerator.build"]
    try:
        done = subprocess.run(command, check=False, cwd=ROOT)
    except OSError as error:
        print(f"The accelerator of events could not be built: {error}", file=sys.stderr)
    else:
        if done.returncode == 0:
            ACCELERATOR_STAMP.write_text(wanted)


def make_clients(name: str) -> None:
    """Without them nothing is tested with real clients: that is said loudly, and stops no other test."""
    lock, venv = ROOT / f"requirements-{name}.lock", ROOT / f".venv-{name}"
    stamp, wanted = venv / ".lock-digest", digest(lock)
    if is_done(stamp, wanted):
        return
    uv = find_uv()
    try:
        run(uv, "venv", "--quiet", "--allow-existing", "--python", sys.executable, venv)
        run(uv, "pip", "sync", "--quiet", "--python", venv / "bin" / "python", "--require-hashes", lock)
    except subprocess.CalledProcessError:
        say_that_clients_are_missing(lock)
    else:
        stamp.write_text(wanted)


def make_javascript_clients() -> None:
    """The same for those of Node.js, from the npm registry."""
    lock = JAVASCRIPT_CLIENTS / "package-lock.json"
    stamp, wanted = JAVASCRIPT_CLIENTS / "node_modules" / ".lock-digest", digest(lock)
    if is_done(stamp, wanted):
        return
    npm = shutil.which("npm") or "npm"
    command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", str(JAVASCRIPT_CLIENTS)]
    try:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=NPM_SECONDS_MAX)
    except (OSError, subprocess.CalledProcessError, subprocess.TimeoutExpired):
        say_that_clients_are_missing(lock)
    else:
        stamp.write_text(wanted)


def say_that_clients_are_missing(lock: Path) -> None:
    line = "=" * 100
    said = f"THE REAL CLIENTS OF {lock.relative_to(ROOT)} COULD NOT BE INSTALLED, see above: no test of them runs."
    print(line, f"{said} `make setup-clients` tries again.", line, sep="\n", file=sys.stderr)


def main() -> None:
    if sys.version_info < (3, 11):
        sys.exit(f"Permille needs Python 3.11 or newer; this is {sys.version.split()[0]}.")
    if sys.argv[1:] == ["--clients"]:
        for name in CLIENTS:
            make_clients(name)
        make_javascript_clients()
        return
    project = ROOT / "pyproject.toml"
    everything, wanted_fonts = digest(DEV_LOCK, project), digest(FONTS_LOCK)
    lock, wanted = DEV_LOCK, everything
    if sys.argv[1:] == ["--serving"] and not is_done(
        STAMP, everything
    ):  # what is there already serves as well
        lock, wanted = SERVING_LOCK, digest(SERVING_LOCK, project)
    if not is_done(STAMP, wanted):
        make_environment(lock, wanted)
    if not is_done(FONTS_STAMP, wanted_fonts):
        add_fonts(wanted_fonts)
    sources = digest(*sorted(ACCELERATOR.glob("*.[ch]")), Path(sys.executable))
    if not is_done(ACCELERATOR_STAMP, sources) or not any(ACCELERATOR.glob("*.so")):
        build_accelerator(sources)


if __name__ == "__main__":
    main()
