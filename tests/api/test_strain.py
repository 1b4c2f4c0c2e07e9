"""What others feel of those who take most: measured by how long the server and their work wait for a processor, and over soon after they don't."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from itertools import count

import pytest

from permille.app import feel
from permille.http import strain as under_test
from permille.http.shares import Loads
from permille.http.strain import (
    AVERAGE_SECONDS,
    CALM_SECONDS,
    LEAST,
    MOST,
    RAISED_SECONDS,
    TICK_SECONDS,
    WAITS,
    WAITS_OF_WORK,
    Strain,
)


def passes(
    strain: Strain, seconds: float, waits: float, *, work: float = 0.0, work_waits: float = 0.0
) -> None:
    """Time passes, of which the loop waits for so much, and others are at work, of which they wait for so much."""
    for _ in range(round(seconds / TICK_SECONDS)):
        if work:
            busy = work * TICK_SECONDS
            strain.worked(busy * (1 - work_waits), busy * work_waits)
        strain.note(waits * TICK_SECONDS, TICK_SECONDS)


def test_it_doubles_while_the_loop_waits_and_goes_down_slowly() -> None:
    strain = Strain()
    passes(strain, 10, WAITS / 2)
    assert strain.level == 0, "nobody feels that"
    levels = []
    for _ in range(10):
        passes(strain, RAISED_SECONDS, 5 * WAITS)
        levels.append(strain.level)
    raised = list(dict.fromkeys(levels))
    assert raised[:3] == [LEAST, 2 * LEAST, 4 * LEAST]
    assert raised[-1] == MOST
    passes(strain, CALM_SECONDS / 2, 0.0)
    assert MOST / 3 < strain.level < MOST * 2 / 3
    passes(strain, CALM_SECONDS, 0.0)
    assert strain.level == 0


def test_it_is_raised_while_work_of_others_waits_though_the_loop_does_not() -> None:
    strain = Strain()
    passes(strain, 10, WAITS / 2, work=0.3, work_waits=WAITS_OF_WORK * 0.9)
    assert strain.level == 0, "they wait for each other so long"
    passes(strain, AVERAGE_SECONDS + 4 * RAISED_SECONDS, WAITS / 2, work=0.3, work_waits=WAITS_OF_WORK * 1.3)
    assert strain.level == MOST
    passes(strain, CALM_SECONDS, WAITS / 2, work=0.3, work_waits=WAITS_OF_WORK * 1.1)
    assert strain.level == MOST, "as long as it goes on"
    passes(strain, 2 * CALM_SECONDS, WAITS / 2)
    assert strain.level == 0, "nobody is at work any more"
    passes(strain, 10, WAITS / 2, work=0.01, work_waits=0.9)
    assert strain.level == 0, "so little work says nothing"
    strain.worked(0.1, 0.9)
    strain.calm()
    passes(strain, 1, WAITS / 2)
    assert strain.level == 0, "it was alone since"


def test_a_moment_is_not_felt() -> None:
    strain = Strain()
    for _ in range(10):
        strain.note(TICK_SECONDS, TICK_SECONDS)
        passes(strain, 1, 0.0)
    assert strain.level == 0


@pytest.mark.parametrize(
    "waited",
    [
        pytest.param(count(step=0.01).__next__, id="said by Linux"),
        pytest.param(lambda: None, id="said by nobody"),
    ],
)
def test_a_server_feels_it_only_while_several_are_there(
    monkeypatch: pytest.MonkeyPatch, waited: Callable[[], float | None]
) -> None:
    monkeypatch.setattr(under_test, "_waited", waited)

    async def run() -> None:
        now = 0.0
        loads = Loads(lambda: now)
        loads.add("one", 0.1)
        feeling = asyncio.create_task(feel(loads, alone_seconds=TICK_SECONDS))

        async def goes_on() -> None:
            time.sleep(TICK_SECONDS / 2)  # noqa: ASYNC251 - what keeps the loop from waking up in time
            await asyncio.sleep(0)

        for _ in range(50):
            await goes_on()
        assert loads.strain.level == 0, "it is alone"
        loads.add("other", 0.1)
        while not loads.strain.level:
            await goes_on()
        now = 60.0
        while loads.strain.level:  # they are gone
            await goes_on()
        feeling.cancel()

    asyncio.run(run())


def test_a_busy_machine_makes_a_thread_wait() -> None:
    before = under_test._waited()
    time.sleep(0.01)
    after = under_test._waited()
    if before is None or after is None:
        pytest.skip("the kernel doesn't say")
    assert 0 <= before <= after
