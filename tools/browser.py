"""Make sure that there is a Chromium for the browser tests, through the system's package manager where that can be.

Standard library only. Where it cannot be installed this says so, and the browser tests are skipped.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys

NAMES = ("chromium", "chromium-browser", "google-chrome")
DRIVER_NEEDS = "libatomic.so.1"
"""The only library of Playwright's driver that a bare Debian lacks."""
PACKAGES = ("chromium", "fonts-dejavu-core", "libatomic1")


def found() -> str | None:
    """The browser's program, where tests can drive it."""
    try:
        ctypes.CDLL(DRIVER_NEEDS)
    except OSError:
        return None
    return next((path for path in map(shutil.which, NAMES) if path), None)


def install() -> bool:
    """Whether Debian's package manager could put it in."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return False
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    print("Installing Chromium for the browser tests ...", flush=True)
    for command in (["update"], ["install", "--yes", "--no-install-recommends", *PACKAGES]):
        done = subprocess.run(
            ["apt-get", "-qq", *command], env=environment, stdout=subprocess.DEVNULL, check=False
        )
        if done.returncode:
            return False
    return found() is not None


def main() -> int:
    if not found() and not install():
        print(
            "The browser tests are SKIPPED, as there is no Chromium or no libatomic1 and I could not install them.\n"
            f"As root: apt-get install {' '.join(PACKAGES)}",
            file=sys.stderr,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
