"""The registry of aggregations: each is one file, and nothing else knows it by its name."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path

import pytest

import permille
from permille.core.metering import aggregations
from permille.core.metering.aggregations import AGGREGATIONS, Aggregation, Needs, Reads, aggregation_of
from permille.core.metering.usage import Usage
from permille.core.money import ZERO

SRC = Path(permille.__file__).parent
LEVEL = Decimal(5)
FILES = {path.stem for path in Path(aggregations.__file__).parent.glob("*.py")} - {"__init__", "base"}


def test_every_file_is_an_aggregation_of_the_registry() -> None:
    assert {type(each).__module__.rsplit(".", 1)[1] for each in AGGREGATIONS} == FILES
    assert len({each.name for each in AGGREGATIONS}) == len(AGGREGATIONS) == len(FILES)


def test_an_aggregation_is_found_by_its_name_in_the_api() -> None:
    assert [aggregation_of(each.name) for each in AGGREGATIONS] == list(AGGREGATIONS)
    with pytest.raises(KeyError):
        aggregation_of("median_agg")


def test_no_other_code_knows_an_aggregation_by_its_name() -> None:
    named = re.compile("|".join(rf"\b{each.name}\b" for each in AGGREGATIONS))
    found = {
        str(path.relative_to(SRC))
        for path in SRC.rglob("*.py")
        if path.parent.name != "aggregations" and named.search(path.read_text())
    }
    assert found == set()


def names(*, chosen: bool, by: str) -> set[str]:
    return {each.name for each in AGGREGATIONS if getattr(each, by) is chosen}


def test_what_lago_allows_of_each() -> None:
    """semantics-metering.md sections 2.4 and 5.1."""
    assert names(by="can_recur", chosen=False) == {"count_agg", "max_agg", "latest_agg"}
    assert names(by="can_be_paid_in_advance", chosen=False) == {"max_agg", "latest_agg", "weighted_sum_agg"}
    assert names(by="can_be_prorated", chosen=False) == {"weighted_sum_agg", "custom_agg"}
    assert names(by="counts_every_event", chosen=True) == {"count_agg", "unique_count_agg", "custom_agg"}
    assert names(by="adds_one", chosen=True) == {"count_agg", "unique_count_agg"}


def test_what_is_read_for_each() -> None:
    needs = {each.name: each.needs for each in AGGREGATIONS if each.needs is not Needs.SUMS}
    assert needs == {
        "latest_agg": Needs.NEWEST,
        "unique_count_agg": Needs.UNIQUES,
        "custom_agg": Needs.EVENTS,
    }
    assert {each.name for each in AGGREGATIONS if each.reads is Reads.NUMBER} == {
        *("sum_agg", "max_agg", "latest_agg", "weighted_sum_agg"),
    }


@pytest.mark.parametrize("aggregation", AGGREGATIONS, ids=repr)
def test_negative_usage_has_no_units_and_a_weighted_sum_keeps_its_level(aggregation: Aggregation) -> None:
    owed = aggregation.nothing_owed(Usage(-LEVEL, 3, -LEVEL))
    level = -LEVEL if aggregation is aggregations.WEIGHTED_SUM else ZERO
    assert owed == Usage(ZERO, 3, level)
