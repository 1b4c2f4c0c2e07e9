"""Identifiers that are made one after another."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from permille.ids import new_id, ordered_ids


def test_ids_of_one_instant_are_in_the_order_in_which_they_were_made() -> None:
    at = datetime(2024, 3, 5, 10, tzinfo=UTC)
    made = [new_id(at), *ordered_ids(at, 20), *ordered_ids(at, 20), *(new_id(at) for _ in range(100))]
    assert sorted(made) == made
    assert new_id(at - timedelta(milliseconds=1)) < made[0] < new_id(at + timedelta(milliseconds=1))
    assert {each.version for each in made} == {7}
