"""Compare every locked package with the published advisories: `make audit`. 0: none; 1: some; 2: could not be checked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ("requirements.lock", "requirements-dev.lock", "requirements-fonts.lock", "requirements-uv.lock")
AUDIT = Path(sys.executable).with_name("pip-audit")
SECONDS_MAX = 300


def advisories(lock: Path, program: Path = AUDIT) -> tuple[bool | None, str]:
    """Whether there are any for the packages of the lock file, and what was said; None when nobody could say."""
    command = [str(program), "--strict", "--disable-pip", "--require-hashes", "--progress-spinner", "off", "--requirement", str(lock)]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS_MAX)
    except (OSError, subprocess.TimeoutExpired) as error:
        return None, str(error)
    said = (done.stdout + done.stderr).strip()
    if done.returncode == 0:
        return False, said
    return (True if "vulnerabilit" in done.stderr and "Found" in done.stderr else None), said


def main(program: Path = AUDIT) -> int:
    codes = []
    for name in LOCKS:
        found, said = advisories(ROOT / name, program)
        if found is None:
            last = said.splitlines()[-1] if said else "no reason given"
            print(
                f"{name}: NOT CHECKED: the advisories could not be fetched ({last}). Run `make audit` with a network."
            )
        else:
            print(f"{name}: {said if found else 'no known advisory'}")
        codes.append({None: 2, True: 1, False: 0}[found])
    return 1 if 1 in codes else max(codes)


if __name__ == "__main__":
    sys.exit(main())
