"""Simulated worlds: whatever customers do, they owe what the specification says."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

import permille
from permille.usecases.due import due

from .faults import Kills
from .oracle import Oracle
from .play import run, run_with_deaths
from .script import COMPONENTS, Script

FIXED = (1, 2, 3, 4, 6, 7, 14, 16, 24, 31, 41, 47, 73, 79, 83, 95, 172, 276, 283, 336)
"""Together they play all that there is."""
FRESH = 5
BESIDES = (
    "waits",
    "thresholds_of_wallets",
    "thresholds_of_wallets_and_usage",
    "own_plans",
    "cascades",
    "cascades_of_the_catalogue",
    "catalogue",
    "catalogue_filters",
    "corrections",
    "catalogue_at_thresholds",
    "gates",
    "gates_timed_out",
    "gates_paid_late",
    "gated_changes",
    "gated_changes_paid",
    "gated_changes_late",
    "catches_up",
    "own_plans_with_dated_prices",
    "catalogue_tiers",
    "catalogue_units",
    "catalogue_free",
    "catalogue_holds",
    "catalogue_priced_later",
    "prices_from_the_past",
    "prices_that_became_equal",
    "own_entities_apart",
    "voided_with_credit",
    "voided_with_refund",
    "void_after_note",
    "note_given_up",
    "credited_again",
    "fees_of_own_plans",
    "changes_made_by_a_fee",
    "changes_called_off_by_a_fee",
    "dunned",
    "dunned_again",
    "dunned_by_own_campaign",
    "edited_while_dunned",
    "excluded_of_a_campaign",
    "preview_of_next",
    "preview_of_end",
    "preview_of_change",
    "preview_of_offer",
    "preview_of_later_start",
    "preview_with_coupons",
    "late_usage_billed",
    "late_usage_accepted",
    "late_usage_of_a_commitment",
    "late_usage_alone",
)
"""What else there is, of which any world may have some."""
WITH_DEATHS = 3
WITH_KILLS = 1
BY_STEPS = 700_019, 800_081
"""A plan that changes and a period that ends at the same instant, and many late bills, both beside wallets that top themselves up."""


def worlds() -> list[int]:
    """Those of SEED, as `7` or `1-1000`; else some that are always the same, and five that are new with each change."""
    asked = os.environ.get("SEED")
    if asked:
        first, _, last = asked.partition("-")
        return [*range(int(first), int(last or first) + 1)]
    return [*FIXED, *fresh()]


def fresh() -> list[int]:
    """Seeds that follow from the source: others after each change of it, and the same wherever that is tested."""
    files = sorted(
        path for path in Path(permille.__file__).parent.rglob("*") if path.suffix in {".py", ".sql"}
    )
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in files)).digest()
    return [int.from_bytes(digest[4 * number : 4 * number + 4]) % 10**9 for number in range(FRESH)]


def test_the_fixed_worlds_play_all_that_there_is() -> None:
    """A component or an action that none of them meets needs another seed, or more of it in script.py."""
    wanted, played = {*COMPONENTS, *BESIDES}, set()
    for world in FIXED:
        oracle = Oracle()
        for action in Script(world).actions:
            wanted.add(action["do"])
            oracle.do(action)
        played |= oracle.played
    assert wanted - played == set()


@pytest.mark.parametrize("world", worlds())
def test_customers_owe_what_the_specification_says(server, world: int) -> None:
    found = run(server, world)
    assert not found, found


@pytest.mark.parametrize("world", BY_STEPS)
def test_the_steps_in_which_a_clock_moves_change_nothing(server, world: int, monkeypatch) -> None:
    monkeypatch.setattr(due, "STEP_SECONDS", 0.001)
    found = run(server, world)
    assert not found, found


@pytest.mark.parametrize("world", worlds()[:WITH_DEATHS])
def test_processes_that_die_between_two_statements_change_nothing(server, world: int) -> None:
    found = run_with_deaths(server, world)
    assert not found, found


@pytest.mark.parametrize("world", worlds()[:WITH_KILLS])
def test_workers_that_are_killed_change_nothing(server, world: int) -> None:
    found = run_with_deaths(server, world, Kills)
    assert not found, found
