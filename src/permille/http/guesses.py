"""Wrong guesses of a secret: an address has so many in a minute."""

from __future__ import annotations

import time
from collections import Counter

from permille.core.errors import Refusal

GUESSES_A_MINUTE = 20
ADDRESSES_REMEMBERED = 10_000
_SECONDS = 60.0


class Guesses:
    """Counts on one event loop, by address; all counts begin again each minute."""

    def __init__(self) -> None:
        self._wrong: Counter[str] = Counter()
        self._since = time.monotonic()

    def check(self, address: str) -> None:
        """Raises Refusal with 429 when the address has guessed wrong too often in this minute."""
        if time.monotonic() - self._since > _SECONDS or len(self._wrong) > ADDRESSES_REMEMBERED:
            self._wrong.clear()
            self._since = time.monotonic()
        if self._wrong[address] >= GUESSES_A_MINUTE:
            raise Refusal(status=429, code="too_many_guesses")

    def add(self, address: str) -> None:
        """The address has guessed wrong."""
        self._wrong[address] += 1
