"""The collector rests while batches are made, however many threads make one."""

from __future__ import annotations

import gc

import pytest

from permille.memory import paused_collector


def test_the_collector_rests_until_the_last_batch_is_done() -> None:
    with paused_collector():
        with paused_collector():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()


def test_the_collector_works_again_after_a_batch_that_failed() -> None:
    with pytest.raises(ValueError, match="broken"), paused_collector():
        raise ValueError("broken")
    assert gc.isenabled()
