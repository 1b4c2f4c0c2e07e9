from __future__ import annotations

from typing import Any

import pytest

from tests.conformance import patient_clock


class World:
    """Its clock is on its way when a move is answered, and for as many looks as that."""

    def __init__(self, looks: int) -> None:
        self.looks = looks

    def put(self, path: str, body: Any) -> Any:
        return self.get(path) if path == "/test_clock" else body

    def get(self, path: str) -> Any:
        assert path == "/test_clock"
        self.looks -= 1
        return {
            "test_clock": {
                "now": "2024-04-01T00:00:00Z" if self.looks < 0 else None,
                "moving_to": self.looks + 1 or None,
            }
        }


@pytest.mark.parametrize("looks", [0, 1, 3])
def test_a_clock_has_arrived_when_its_move_returns(monkeypatch: pytest.MonkeyPatch, looks: int) -> None:
    monkeypatch.setattr(patient_clock, "PAUSE_SECONDS", 0)
    world = World(looks)
    put = patient_clock.patient(World.put)
    assert put(world, "/test_clock", {})["test_clock"] == {"now": "2024-04-01T00:00:00Z", "moving_to": None}
    assert world.looks == -1, "and it is not looked at again"
    assert put(world, "/plans/pro", {"plan": 1}) == {"plan": 1}
