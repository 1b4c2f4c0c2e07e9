"""Single events at half the capacity, 64 connections, while one client reads usage in a loop: with the reader and without, in turns.

    .venv/bin/python -m benchmarks.reader [--groups N] [--rounds N] [--short]

Each has a `permille up` of its own with the same events. Beside it what a light read costs with the reader (four filters), the
memory of both while nothing happens, and that their answers are equal.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from benchmarks import load
from benchmarks.cost import seconds_of
from benchmarks.ingest.events import Traffic, requests
from benchmarks.ratios import say
from benchmarks.stack import Stack, running_stack, save, settle
from benchmarks.usage.many import Case, Reader, feed, set_up
from permille.database.connections import use_exact_json

SINGLE = Traffic(name="single events", batch=1, connections=64)
LIGHT = Case("filters-4", "model", 4, 4_000, 100)
LIGHT_READS = 100


@dataclass(slots=True)
class Arm:
    """An installation with the reader or without."""

    name: str
    stack: Stack
    key: str
    """Of the organization whose usage is read."""
    events_key: str
    """Of the one that sends events."""
    p99: list[float] = field(default_factory=list)
    p99_alone: list[float] = field(default_factory=list)
    reads: list[float] = field(default_factory=list)
    light: list[float] = field(default_factory=list)
    light_processor: list[float] = field(default_factory=list)

    def send(self, count: int, rate: float = 0) -> load.Answers:
        """Single events, as fast as they go or at a rate."""
        path = self.stack.folder / "requests"
        load.write(requests(SINGLE, [self.events_key], count), path)
        answers = load.send(self.stack.port, path, connections=SINGLE.connections, rate=rate)
        assert not answers.refused, answers
        return answers

    @contextmanager
    def reading(self, case: Case) -> Iterator[None]:
        """One client reads meanwhile."""
        done = threading.Event()

        def read() -> None:
            reader = Reader(self.stack, self.key)
            while not done.is_set():
                self.reads.append(reader.answer(case)[1])

        thread = threading.Thread(target=read)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def processor(self) -> float:
        """Seconds of our own processes."""
        assert self.stack.process is not None
        ours = [pid for pid, command in self.stack.children().items() if "postgres" not in command]
        return sum(seconds_of(pid)[0] for pid in ours)

    def read_lightly(self) -> None:
        """What light reads take, and cost."""
        reader = Reader(self.stack, self.key)
        before = self.processor()
        times = [reader.answer(LIGHT)[1] for _ in range(LIGHT_READS)]
        self.light_processor.append((self.processor() - before) / LIGHT_READS * 1_000)
        self.light.append(median(times))


def arm(stack: Stack, name: str, cases: list[Case]) -> Arm:
    """An installation with the same events as the other."""
    chance = random.Random(1)
    organization, key = set_up(stack, cases)
    for case in cases:
        feed(stack.dsn, organization, case, case.events, chance)
    sender = str(stack.organization()["api_key"])
    stack.sell(sender, "tokens", {"aggregation_type": "sum_agg", "field_name": "tokens"}, {})
    settle(stack.dsn)
    return Arm(name, stack, key, sender)


@contextmanager
def both(cases: list[Case]) -> Iterator[tuple[Arm, Arm]]:
    """With the reader, and without."""
    with ExitStack() as stacks:
        found = []
        for setting in ("on", "off"):
            os.environ["PERMILLE_READER"] = setting
            found.append(arm(stacks.enter_context(running_stack()), f"reader {setting}", cases))
        yield found[0], found[1]


def units(arm: Arm, case: Case) -> Any:
    """What is answered, but for ids."""
    (charge,) = json.loads(Reader(arm.stack, arm.key).answer(case)[0])["customer_usage"]["charges_usage"]
    return charge["units"], charge["filters"] and len(charge["filters"]), charge["grouped_usage"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--groups", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--short", action="store_true")
    options = parser.parse_args()
    rounds, seconds = (2, 2.0) if options.short else (options.rounds, 4.0)
    use_exact_json()
    heavy = Case(f"groups-{options.groups}", "user", options.groups, 4 * options.groups, 20)
    with both([heavy, LIGHT]) as arms:
        equal = units(arms[0], heavy) == units(arms[1], heavy)
        for each in arms:
            each.send(2_000)
        rate = min(each.send(10_000).rate for each in arms) / 2
        print(f"{rate:,.0f} events a second; equal answers {equal}")
        for _ in range(rounds):
            for each in arms:
                each.read_lightly()
                each.p99_alone.append(each.send(int(rate * seconds), rate).p99)
                with each.reading(heavy):
                    each.p99.append(each.send(int(rate * seconds), rate).p99)
                print(
                    f"{each.name}: events' p99 alone {each.p99_alone[-1]:.0f} ms, while usage is read {each.p99[-1]:.0f};"
                    f" a light read {each.light[-1]:.1f} ms, processor {each.light_processor[-1]:.2f};"
                    f" load {os.getloadavg()[0]:.0f}",
                    flush=True,
                )
        time.sleep(5 if options.short else 60)
        memory = [each.stack.memory().pss for each in arms]
    found = {
        each.name: {
            "p99": median(each.p99),
            "p99_alone": median(each.p99_alone),
            "read_p50": median(each.reads),
            "light_p50": median(each.light),
            "light_processor": min(each.light_processor),
            "pss": pss,
        }
        for each, pss in zip(arms, memory, strict=True)
    }
    for name, row in found.items():
        print(name, ", ".join(f"{what} {value:.2f}" for what, value in row.items()))
    with_reader, without = found.values()
    say("reader", "events' p99 without the reader, of that with it", without["p99"] / with_reader["p99"])
    save("reader", {"rate": rate, "equal": equal, **found})


if __name__ == "__main__":
    main()
