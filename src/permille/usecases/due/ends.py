"""Running subscriptions come to their last day."""

from permille.store.due import Instant
from permille.usecases import subscriptions
from permille.usecases.due.turns import kind_of

ENDS = kind_of(Instant.END, lambda conn, rows, at: subscriptions.terminate_all(conn, rows, at=at))
