"""The engine that this installation keeps events in. Nothing else knows which one it is."""

from __future__ import annotations

from permille.events.log import Amendments, EventLog, Upkeep
from permille.events.postgres import engine as postgres
from permille.events.usage import UsageReader

event_log: EventLog = postgres.Log()
amendments: Amendments = postgres.Amendments()
usage: UsageReader = postgres.Usage()
upkeep: Upkeep = postgres.Upkeep()
