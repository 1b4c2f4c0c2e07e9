"""One organization does its worst on every front at once; what another one does takes as long as before."""

from __future__ import annotations

from pathlib import Path

from tests.faults.measurements import is_once_quick
from tests.faults.neighbour import Neighbour, measure, neighbours, percentile

QUIET_SECONDS, NOISY_SECONDS = 2.0, 4.0
FLOOR = {"event": 0.08, "read": 0.1, "usage": 0.12, "bill": 0.5, "webhook": 0.6}
"""Below it nothing is called slow: the machine may be busy with other things. Before organizations gave way, each was above it on an idle one."""


def slowed(neighbour: Neighbour, port: int, noisy_key: str) -> dict[str, tuple[float, float]]:
    """The kinds of requests that the noise makes slow, each with its p99 without and with it."""
    found = measure(neighbour, port, noisy_key, quiet=QUIET_SECONDS, noise=NOISY_SECONDS)
    print(found.table())
    for front, answers in found.answers.items():
        assert not answers.keys() & {"500"}, (front, answers)
    figures = {
        kind: (percentile(found.quiet[kind], 0.99), percentile(found.noisy[kind], 0.99)) for kind in FLOOR
    }
    return {kind: each for kind, each in figures.items() if each[1] > max(2 * each[0], FLOOR[kind])}


def test_a_neighbour_that_does_its_worst_is_hardly_felt(reachable_path: Path) -> None:
    with neighbours(reachable_path) as (neighbour, port, key):
        is_once_quick(lambda: slowed(neighbour, port, key))
