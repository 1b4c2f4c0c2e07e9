"""Build the accelerator beside its source, with the compiler that Python was built with. Standard library only."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from permille.accelerator.source import FOLDER, source_digest

FLAGS = ("-O2", "-fPIC", "-shared", "-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra")
SECONDS_MAX = 300


def library(folder: Path = FOLDER) -> Path:
    """Where Python finds it."""
    return folder / f"_usual{sysconfig.get_config_var('EXT_SUFFIX')}"


def command(target: Path, *flags: str) -> list[str]:
    """The compiler's command line."""
    compiler = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
    undefined = ("-undefined", "dynamic_lookup") if sys.platform == "darwin" else ()
    return [
        *shlex.split(compiler), *FLAGS, *flags, *undefined, f'-DSOURCE_DIGEST="{source_digest()}"',
        f"-I{sysconfig.get_path('include')}", "-o", str(target), str(FOLDER / "_usual.c"),
    ]  # fmt: skip


def build(folder: Path = FOLDER, *flags: str) -> str | None:
    """Build it; why that was not possible, None where it was. What was there before is replaced at once, and only by what compiles."""
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix=".build-") as temporary:
            fresh = Path(temporary) / "library"
            compiling = command(fresh, *flags)
            done = subprocess.run(compiling, capture_output=True, text=True, timeout=SECONDS_MAX, check=False)
            if done.returncode:
                return (done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"])[0]
            fresh.replace(library(folder))
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return None


def main() -> None:
    """Say in one line how it went; without it everything works."""
    why_not = build()
    if why_not is not None:
        sys.exit(f"The accelerator of events could not be built, so Python alone reads them: {why_not}")
    print("The accelerator of events is built.")


if __name__ == "__main__":
    main()
