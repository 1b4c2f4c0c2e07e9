"""Simulated worlds: whatever customers do, they owe what the specification says."""

from __future__ import annotations

import os
import secrets

import pytest

from .play import run, run_with_deaths

FIXED = 20
FRESH = 5
WITH_DEATHS = 3


def worlds() -> list[int | str]:
    """Those of SEED, as `7` or `1-1000`; else twenty that are always the same, and five new ones."""
    asked = os.environ.get("SEED")
    if asked:
        first, _, last = asked.partition("-")
        return [*range(int(first), int(last or first) + 1)]
    return [*range(1, FIXED + 1), *(f"new {number}" for number in range(1, FRESH + 1))]


@pytest.mark.parametrize("world", worlds())
def test_customers_owe_what_the_specification_says(server, world: int | str) -> None:
    found = run(server, world if isinstance(world, int) else secrets.randbelow(10**9))
    assert not found, found


@pytest.mark.parametrize("world", worlds()[:WITH_DEATHS])
def test_processes_that_die_between_two_statements_change_nothing(server, world: int) -> None:
    found = run_with_deaths(server, world)
    assert not found, found
