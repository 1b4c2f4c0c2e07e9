"""Short forms of the benchmarks one after the other, each ratio compared with its floor in floors.toml.

    make bench          or: .venv/bin/python -m benchmarks [NAME ...]

A ratio is of two things of one run, so that it says the same on a fast and on a slow machine. Absolute figures, which depend on
the machine and what else it does, are printed and not judged.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
import tomllib
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.ratios import Ratio, Verdict, judged, read

FLOORS = Path(__file__).with_name("floors.toml")
SHORT = {
    "ingest": ("benchmarks.ingest", "--short", "--events", "100000"),
    "usage": ("benchmarks.usage", "--short"),
    "usage_many": ("benchmarks.usage.many", "--short"),
    "lists": ("benchmarks.lists", "--short"),
    "llm": ("benchmarks.llm", "--calls", "3000", "--rounds", "2"),
    "invoices": ("benchmarks.invoices", "--short", "--subscriptions", "12000"),
    "credits": ("benchmarks.invoices.credits", "--subscriptions", "2000"),
    "webhooks": ("benchmarks.webhooks", "--invoices", "1500"),
    "start": ("benchmarks.start", "--starts", "3"),
}
"""The program of each benchmark and what makes it short: a minute or so."""

console = Console()


def run(name: str) -> tuple[list[Ratio], int]:
    """The ratios that a benchmark says, and its exit code. What it prints is shown."""
    command = [sys.executable, "-m", *SHORT[name]]
    found = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        for line in program.stdout:
            print(line, end="", flush=True)
            ratio = read(line)
            if ratio is not None:
                found.append(ratio)
    return found, program.returncode


def show(verdicts: list[Verdict]) -> None:
    table = Table("benchmark", "ratio", "measured", "floor", "")
    for each in verdicts:
        table.add_row(
            each.benchmark,
            each.ratio,
            "none" if each.value is None else f"{each.value:.3f}",
            "" if each.floor is None else f"{each.floor:.3f}",
            "" if each.is_fine else "below",
        )
    console.print(table)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"some of {', '.join(SHORT)}; all by default")
    names = parser.parse_args().names or list(SHORT)
    unknown = [name for name in names if name not in SHORT]
    if unknown:
        parser.error(f"there is no benchmark {unknown[0]}")
    floors = tomllib.loads(FLOORS.read_text())
    verdicts: list[Verdict] = []
    failed = []
    for name in names:
        console.rule(f"{name}, load {os.getloadavg()[0]:.1f}")
        began = time.monotonic()
        found, code = run(name)
        console.print(f"{name}: {time.monotonic() - began:.0f} s")
        if code:
            failed.append(name)
        verdicts += judged(found, floors.get(name, {}), name)
    show(verdicts)
    if failed:
        console.print(f"ended with an error: {', '.join(failed)}")
    return 1 if failed or not all(each.is_fine for each in verdicts) else 0


if __name__ == "__main__":
    sys.exit(main())
