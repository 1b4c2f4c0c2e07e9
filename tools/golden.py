"""Golden answers, for changes that must change nothing: what the tests and the scenarios saw before and after.

    python tools/golden.py record FOLDER      before the change (twice, into two folders, shows what is never the same)
    python tools/golden.py compare OLD NEW [UNSTABLE]

A test whose answers differ between OLD and UNSTABLE, two recordings of one program, is left out of the comparison.
"""

from __future__ import annotations

import difflib
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SUITES = ("tests/api", "tests/usecases")
SCENARIOS = ROOT.parent / "shared" / "conformance"
SHOWN_LINES = 40
SHOWN_CHARACTERS = 400


def record(folder: Path) -> int:
    folder.mkdir(parents=True)
    environment = {**os.environ, "GOLDEN": str(folder.resolve()), "PYTHONPATH": str(ROOT)}
    options = ["-p", "tests.golden", "-p", "no:randomly", "--hypothesis-seed=0"]
    pytest = [sys.executable, "-m", "pytest", "-q", *options, *SUITES]
    scenarios = [sys.executable, "tools/conformance.py", str(SCENARIOS), *options]
    codes = [
        subprocess.run(one, cwd=ROOT, env=environment, check=False).returncode for one in (pytest, scenarios)
    ]
    print(f"{len(list(folder.iterdir()))} tests recorded in {folder}")
    return max(codes)


def texts(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def compare(old: Path, new: Path, unstable: Path | None) -> int:
    before, after = texts(old), texts(new)
    again = texts(unstable) if unstable else before
    compared = [name for name in sorted(before) if again.get(name) == before[name]]
    different = [name for name in compared if after.get(name) != before[name]]
    for name in different:
        lines = difflib.unified_diff(
            before[name].split("\n"), after.get(name, "").split("\n"), "old", "new", lineterm="", n=1
        )
        print(f"\n{name}")
        print("\n".join(line[:SHOWN_CHARACTERS] for line in list(lines)[:SHOWN_LINES]))
    print(f"\n{len(compared)} of {len(before)} tests compared, {len(different)} different")
    return 1 if different else 0


def main() -> int:
    match sys.argv[1:]:
        case ["record", folder]:
            return record(Path(folder))
        case ["compare", old, new, *rest]:
            return compare(Path(old), Path(new), Path(rest[0]) if rest else None)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    sys.exit(main())
