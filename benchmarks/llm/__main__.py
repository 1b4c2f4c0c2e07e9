"""Usage of language models a second over HTTP: providers' answers and spans, beside the plain events that they become.

    .venv/bin/python -m benchmarks.llm [--calls N] [--rounds N] [--connections N]

The roads take turns in the same run, 100 calls a request. A call makes 2 to 6 events. Processor time is of all processes
of the stack, and counts until the roll-up has caught up: it depends less on what else the machine does.
"""

from __future__ import annotations

import argparse
import random
from dataclasses import dataclass
from statistics import median
from typing import Any

import psycopg

from benchmarks import load
from benchmarks.cost import cost_so_far
from benchmarks.llm.calls import BATCH, LISTED, MODELS, PLAIN, ROADS, SUBSCRIPTIONS, calls, events
from benchmarks.ratios import say
from benchmarks.stack import Stack, running_stack, save, settle

TABLES = ("event", "usage_cell", "series", "series_month")
WARM = 4_000
"""Calls of each road beforehand: series are remembered then, and plans are learned."""
PRICES = dict.fromkeys(LISTED["llm_tokens"]["type"], "1.5")


@dataclass(frozen=True, slots=True)
class Turn:
    """What a road did with so many calls."""

    events: int
    seconds: float
    refused: int
    server: float
    postgres: float
    """Processor seconds for 1,000 events, as `server`."""

    @property
    def rate(self) -> float:
        return self.events / self.seconds


def set_up(stack: Stack) -> str:
    """A new organization that prices these models, with customers who use them: its key."""
    key = str(stack.organization()["api_key"])
    models = [{"provider": provider, "model": model, "prices": PRICES} for provider, model in MODELS.items()]
    setup = {"plan_code": "models", "currency": "USD", "models": models, "calls": {"web_search": "0.01"}}
    stack.post("/llm/setup", {"setup": setup}, key)
    for number in range(SUBSCRIPTIONS):
        stack.post("/customers", {"customer": {"external_id": f"cus-{number}", "currency": "USD"}}, key)
        subscription = {
            "external_customer_id": f"cus-{number}",
            "plan_code": "models",
            "external_id": f"sub-{number}",
        }
        stack.post("/subscriptions", {"subscription": subscription}, key)
    return key


class Run:
    """One server, and all that is sent to it."""

    def __init__(self, stack: Stack, *, connections: int) -> None:
        self.stack = stack
        self.key = set_up(stack)
        self.connections = connections
        self.chance = random.Random(1)
        self.sent = 0
        self.conn = psycopg.connect(stack.dsn, autocommit=True)

    def turn(self, road: str, count: int) -> Turn:
        """Send so many new calls by a road."""
        made = calls(self.chance, count)
        batches = [made[first : first + BATCH] for first in range(0, count, BATCH)]
        path = self.stack.folder / "requests"
        load.write((ROADS[road](batch, self.key) for batch in batches), path)
        expected = sum(len(events(call)) for call in made)
        before = self._cost()
        answers = load.send(self.stack.port, path, connections=self.connections)
        settle(self.stack.dsn)
        cost = self._cost() - before
        self.sent += expected
        thousands = expected / 1_000
        return Turn(
            events=expected,
            seconds=answers.seconds,
            refused=answers.refused,
            server=cost.server / thousands,
            postgres=cost.postgres / thousands,
        )

    def _cost(self) -> Any:
        process = self.stack.process
        assert process is not None
        return cost_so_far(self.conn, [process.pid, *self.stack.children()], TABLES)

    def stored(self) -> int:
        row = self.conn.execute("select count(*) from event").fetchone()
        assert row is not None
        return int(row[0])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=8)
    options = parser.parse_args()
    with running_stack() as stack:
        run = Run(stack, connections=options.connections)
        for road in ROADS:
            run.turn(road, WARM)
        turns: dict[str, list[Turn]] = {road: [] for road in ROADS}
        for _ in range(options.rounds):
            for road, found in turns.items():
                found.append(run.turn(road, options.calls))
                shown(road, found[-1], turns[PLAIN][-1])
        result = {road: summed(found, turns[PLAIN]) for road, found in turns.items()}
        for road, row in result.items():
            print(
                f"{road:<20}{row['events_a_second']:>8,.0f} events/s, {row['of_plain']:.0%} of plain events;"
                f" processor {row['cpu_of_plain']:.2f} x",
                flush=True,
            )
            if road != PLAIN:
                say("llm", f"{road}, of plain events' rate", row["of_plain"])
                say("llm", f"{road}, plain events' processor time of it", 1 / row["cpu_of_plain"])
        stored = run.stored()
        print(f"events sent {run.sent:,}, stored {stored:,}")
        say("llm", "stored, of sent", stored / run.sent)
    save("llm", {"calls": options.calls, "sent": run.sent, "stored": stored, "roads": result})


def shown(road: str, turn: Turn, plain: Turn) -> None:
    print(
        f"  {road:<20}{turn.events:>8,} events{turn.rate:>9,.0f}/s {turn.rate / plain.rate:>6.0%} of plain"
        f"  processor s/1,000: server {turn.server:.3f}, postgres {turn.postgres:.3f}  refused {turn.refused}",
        flush=True,
    )


def summed(turns: list[Turn], plain: list[Turn]) -> dict[str, float]:
    """The median of the turns, each compared with the plain events of its round."""
    pairs = list(zip(turns, plain, strict=True))
    return {
        "events_a_second": median(turn.rate for turn in turns),
        "of_plain": median(turn.rate / base.rate for turn, base in pairs),
        "server": median(turn.server for turn in turns),
        "postgres": median(turn.postgres for turn in turns),
        "cpu_of_plain": median(
            (turn.server + turn.postgres) / (base.server + base.postgres) for turn, base in pairs
        ),
        "refused": sum(turn.refused for turn in turns),
    }


if __name__ == "__main__":
    main()
