"""Work that gives way: processes that get a processor when others don't want it."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

NICE = 10
"""A tenth of what another process gets of a processor that both want."""


def lower(pid: int) -> None:
    """Lower the priority of a process of ours that has a session of its own, and of that session.

    Linux may share out processors among sessions before it looks at processes: what a process of low priority takes would
    be taken from the others of its session.
    """
    with suppress(OSError):  # it is another user's, or gone
        os.setpriority(os.PRIO_PROCESS, pid, max(os.getpriority(os.PRIO_PROCESS, pid), NICE))
        Path(f"/proc/{pid}/autogroup").write_text(str(NICE))
