"""The ends of running subscriptions are announced."""

from permille.store.due import Instant
from permille.usecases import subscriptions
from permille.usecases.due.turns import kind_of

END_ALERTS = kind_of(Instant.END_ALERT, lambda conn, rows, at: subscriptions.announce_ends(conn, rows, at=at))
