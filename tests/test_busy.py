"""How busy a process is: for how long without a pause, and when its patience ends."""

from __future__ import annotations

import time

from permille.busy import Busy, Patience


def test_it_is_busy_from_the_time_on_at_which_enough_work() -> None:
    busy = Busy(2)
    with busy:
        assert busy.seconds == 0
        began = time.monotonic()
        with busy:
            time.sleep(0.01)
            with busy:
                pass
            assert busy.seconds >= 0.01
        assert busy.seconds == 0
        with busy:
            assert busy.seconds <= time.monotonic() - began - 0.01
    assert busy.seconds == 0


def test_patience_ends_unless_it_begins_again() -> None:
    patience = Patience(0.02)
    time.sleep(0.015)
    patience.begin_again()
    assert Patience(60).is_over() is False
    time.sleep(0.025)
    assert patience.is_over()
