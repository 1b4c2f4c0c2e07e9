"""Make sure that there is a Chromium for the browser tests, through the system's package manager where that can be.

Standard library only. Where it cannot be installed the tests are skipped, and fail where CI is set.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

NAMES = ("chromium", "chromium-browser", "google-chrome")
PACKAGES = ("chromium", "fonts-dejavu-core")


def found() -> str | None:
    """The browser's program."""
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
    if found() or install():
        return 0
    print("No Chromium: the browser tests can't run. As root: apt-get install chromium", file=sys.stderr)
    return 1 if os.environ.get("CI") else 0


if __name__ == "__main__":
    sys.exit(main())
