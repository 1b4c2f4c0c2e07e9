"""The events of a request as columns, as they go into the database."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TypeVar, overload

import msgspec

Made = TypeVar("Made")


class Columns(msgspec.Struct, frozen=True, gc=False):
    """`count` events in the order in which they were sent.

    The first three are elements of arrays in PostgreSQL's binary form, each with its length before it: bigint, timestamptz
    and uuid. The others are elements of array literals with commas between them; None where every one is NULL.
    """

    count: int
    series_ids: bytes
    ats: bytes
    identities: bytes
    amounts: bytes | None
    transaction_ids: bytes
    precise: bytes | None
    extras: bytes | None


class UsualEvents(msgspec.Struct, frozen=True):
    """A request that was read in one pass: what is stored of it, and what its sender is answered then."""

    columns: Columns
    codes: set[str]
    version: int
    """The organization's metering that the columns were made by: they are of no use under another one."""
    answer: bytes
    """Empty where it was not asked for."""

    def identities(self) -> list[bytes]:
        """16 bytes for each event."""
        sized = self.columns.identities
        return [sized[end - 16 : end] for end in range(20, len(sized) + 1, 20)]


class OnDemand(Sequence[Made]):
    """A sequence whose length is known; what is in it is made when somebody looks at it."""

    __slots__ = ("_length", "_made", "_make")

    def __init__(self, length: int, make: Callable[[], Sequence[Made]]) -> None:
        self._length = length
        self._make = make
        self._made: Sequence[Made] | None = None

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> Made: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Made]: ...
    def __getitem__(self, index: int | slice) -> Made | Sequence[Made]:
        if self._made is None:
            self._made = self._make()
            assert len(self._made) == self._length
        return self._made[index]


def joined(pieces: Collection[tuple[int, bytes | None]]) -> bytes:
    """The literal of an array from pieces of it, each with how many elements it has; empty, that is NULL, where all are NULL."""
    if not any(piece for _, piece in pieces):
        return b"{}"
    every = [piece or b",".join([b"NULL"] * count) for count, piece in pieces]
    return b"{" + b",".join(every) + b"}"
