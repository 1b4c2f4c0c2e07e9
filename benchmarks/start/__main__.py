"""How long `permille up` takes to answer on a database that there is, and its memory while nothing happens.

    .venv/bin/python -m benchmarks.start [--starts N]

In turns with the embedded PostgreSQL alone. Processor time is of all processes until the first answer. PSS counts a page that n processes
share as 1/n in each; an installation's Python has bytecode of all that it imports, so this run makes it first.
"""

from __future__ import annotations

import argparse
import compileall
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.cost import seconds_of
from benchmarks.ratios import say
from benchmarks.stack import Stack, running_stack, save
from permille.config import from_environment
from permille.embedded.postgres import EmbeddedPostgres

IDLE_SECONDS = 60
SECONDS_AIM, PSS_AIM = 1.0, 150.0
ROOT = Path(__file__).parents[2]


def with_bytecode() -> None:
    """As an installation has it, also where this environment keeps none."""
    folder = Path(tempfile.gettempdir()) / f"permille-bytecode-{os.getuid()}"
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix = str(folder)
    compileall.compile_dir(ROOT / "src", quiet=2)


def timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def database_alone(stack: Stack) -> float:
    """Seconds until the embedded PostgreSQL takes connections."""
    server = EmbeddedPostgres(stack.folder / "data", bin_dir=from_environment().pg_bin)
    try:
        return timed(server.start)
    finally:
        server.stop()


def again(stack: Stack) -> tuple[float, float]:
    """Seconds until it answers, and processor seconds of all processes until then."""
    began = time.perf_counter()
    stack.start()
    while not stack.healthy():
        time.sleep(0.01)
    seconds = time.perf_counter() - began
    assert stack.process is not None
    return seconds, sum(seconds_of(pid)[0] for pid in (stack.process.pid, *stack.children()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--starts", type=int, default=7)
    starts = parser.parse_args().starts
    with_bytecode()
    with running_stack() as stack:
        stack.stop()
        again(stack)  # fills the caches
        rows = []
        for _ in range(starts):
            stack.stop()
            alone = database_alone(stack)
            seconds, processor = again(stack)
            rows.append({"alone": alone, "seconds": seconds, "processor": processor})
            print(
                f"{seconds:.2f} s, processor {processor:.2f} s; the database alone {alone:.2f} s", flush=True
            )
        time.sleep(IDLE_SECONDS)
        memory = stack.memory()
    found: dict[str, Any] = {name: median(row[name] for row in rows) for name in rows[0]}
    print(
        f"median {found['seconds']:.2f} s; idle: {memory.processes} processes, PSS {memory.pss:.0f} MiB, RSS {memory.rss:.0f} MiB"
    )
    say("start", "the database alone, of all", median(row["alone"] / row["seconds"] for row in rows))
    say("start", f"{SECONDS_AIM:g} processor second, of a start", SECONDS_AIM / found["processor"])
    say("start", f"{PSS_AIM:g} MiB, of idle PSS", PSS_AIM / memory.pss)
    save("start", {"median": found, "starts": rows, "idle_memory": asdict(memory)})


if __name__ == "__main__":
    main()
