"""Pending subscriptions start, or take over from what they follow."""

from permille.store.due import Instant
from permille.usecases import subscriptions
from permille.usecases.due.turns import kind_of

STARTS = kind_of(Instant.START, lambda conn, rows, at: subscriptions.start_all(conn, rows, now=at))
