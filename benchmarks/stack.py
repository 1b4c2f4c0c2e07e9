"""A real `permille up` for a benchmark, and what it costs in memory."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import psycopg
from tests.live import LiveServer

from permille.embedded.postgres import dsn_of, erase

RESULTS = Path(__file__).parent / "results"


@dataclass(slots=True)
class Memory:
    """Of a process tree, in MiB. PSS counts a page shared by n processes as 1/n in each."""

    processes: int
    rss: float
    pss: float


class Stack(LiveServer):
    @property
    def dsn(self) -> str:
        found = dsn_of(self.folder / "data")
        assert found is not None
        return found

    def memory(self) -> Memory:
        assert self.process is not None
        pids = [self.process.pid, *self.children()]
        totals = {"Rss": 0, "Pss": 0}
        alive = 0
        for pid in pids:
            try:
                lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            except OSError:
                continue
            alive += 1
            for line in lines:
                name = line.split(":")[0]
                if name in totals:
                    totals[name] += int(line.split()[1])
        return Memory(alive, totals["Rss"] / 1024, totals["Pss"] / 1024)

    def post(self, path: str, body: dict[str, Any], key: str) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {key}"}
        answer = httpx2.post(f"{self.url}/api/v1{path}", json=body, headers=headers, timeout=60)
        if answer.status_code != 200:
            raise SystemExit(f"{path}: {answer.status_code} {answer.text[:500]}")
        return answer.json()

    def sell(self, key: str, code: str, fields: dict[str, Any], charge: dict[str, Any]) -> None:
        """A metric of the property n and a plan of one charge of 0.01 on it, both with that code."""
        body = {"name": code, "code": code, "field_name": "n", **fields}
        metric = self.post("/billable_metrics", {"billable_metric": body}, key)["billable_metric"]
        price = {
            "billable_metric_id": metric["lago_id"],
            "charge_model": "standard",
            "properties": {"amount": "0.01"},
        }
        plan = {
            "name": code,
            "code": code,
            "interval": "monthly",
            "amount_cents": 0,
            "amount_currency": "USD",
        }
        charges = [{**price, **charge}]
        self.post("/plans", {"plan": {**plan, "pay_in_advance": False, "charges": charges}}, key)


def month() -> datetime:
    """When the present one began."""
    return datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)


@contextmanager
def running_stack() -> Iterator[Stack]:
    folder = Path(tempfile.mkdtemp(prefix="permille-bench-", dir="/tmp"))
    folder.chmod(0o711)
    stack = Stack(folder)
    stack.start()
    try:
        stack.wait_ready()
        yield stack
    finally:
        stack.stop()
        erase(folder / "data")
        shutil.rmtree(folder, ignore_errors=True)


def machine() -> dict[str, Any]:
    cpu = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        "unknown",
    )
    return {
        "cores": os.cpu_count(),
        "cpu": cpu,
        "python": platform.python_version(),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
        ).stdout.strip(),
    }


def save(name: str, result: dict[str, Any]) -> None:
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps({"machine": machine(), **result}, indent=1) + "\n")
    print(f"written to {RESULTS / f'{name}.json'}")


def settle(dsn: str) -> None:
    """Wait until the roll-up has caught up."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        for _ in range(600):
            row = conn.execute(
                "select (select last_value from event_seq_seq) - rolled_up_to from metering_state"
            ).fetchone()
            assert row is not None
            if row[0] <= 0:
                return
            time.sleep(0.2)


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]
