"""The configuration of the embedded PostgreSQL: durable always, tuned for many inserts on a small machine."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

MIB = 1024 * 1024
SUPERUSER = "postgres"
ROLE = "permille"  # owns the database, is no superuser
DATABASE = "permille"


def _memory_bytes() -> int:
    """The machine's memory or, in a container, its limit."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
    except OSError:
        return machine
    return min(machine, int(limit)) if limit.isdecimal() else machine


def _shared_memory_type() -> str:
    """POSIX segments where /dev/shm is a roomy one that every user may write to, as on any whole system.

    Docker gives it 64 MiB, too little for parallel queries, and a chroot may have none.
    """
    folder = Path("/dev/shm")  # noqa: S108 a mount point, not a temporary file
    try:
        is_open = bool(folder.stat().st_mode & stat.S_IWOTH)
        total = shutil.disk_usage(folder).total
    except OSError:
        return "sysv"
    return "posix" if is_open and total >= 1024 * MIB else "sysv"


def _shared_buffers_mib(*, memory_bytes: int, data_bytes: int) -> int:
    """Room for a fifth of the data, which holds the indexes of events, between an eighth and a quarter of the memory.

    The eighth is 1 GiB at most. Identities of events come at random: a page of their index that is not in PostgreSQL's own memory
    is read and another one written for nearly every event.
    """
    memory, wanted = memory_bytes // MIB, data_bytes // 5 // MIB
    return max(32, min(1024, memory // 8), min(wanted, memory // 4))


def bytes_below(folder: Path) -> int:
    """What the files of a folder take, as far as they are there."""
    found = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                found += Path(place, name).lstat().st_size
    return found


def tuned_settings(*, disk_bytes: int, data_bytes: int, wal_compression: str) -> dict[str, str]:
    """The default settings, for a file system and a database of these sizes. Figures behind them: docs/performance.md.

    Write-ahead log may take a tenth of the disk, 8 GiB at most: rare checkpoints mean few full-page writes.
    """
    memory = _memory_bytes()
    wal_max = min(8192, max(512, disk_bytes // 10 // MIB))
    return {
        "fsync": "on",
        "synchronous_commit": "on",
        "full_page_writes": "on",
        "wal_compression": wal_compression,
        "max_wal_size": f"{wal_max}MB",
        "min_wal_size": f"{min(512, wal_max // 2)}MB",
        "checkpoint_timeout": "15min",
        "shared_buffers": f"{_shared_buffers_mib(memory_bytes=memory, data_bytes=data_bytes)}MB",
        "effective_cache_size": f"{max(64, memory // 2 // MIB)}MB",
        "work_mem": "16MB",
        "maintenance_work_mem": f"{max(16, min(128, memory // 16 // MIB))}MB",
        "dynamic_shared_memory_type": _shared_memory_type(),
        "wal_buffers": "4MB",
        "max_connections": "100",
        "max_logical_replication_workers": "0",
        "random_page_cost": "1.1",
        "jit": "off",
        "autovacuum": "on",
        "timezone": "UTC",
        "log_timezone": "UTC",
        "lc_messages": "C",
        "cluster_name": "permille",
        "logging_collector": "on",
        "log_filename": "postgresql-%a.log",  # one for each day of the week, overwritten after a week
        "log_rotation_age": "1d",
        "log_rotation_size": "0",
        "log_truncate_on_rotation": "on",
        "log_line_prefix": "%m [%p] %u@%d %a ",
        "log_min_messages": "warning",
        "unix_socket_permissions": "0700",
    }


def _quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


def settings_text(settings: Mapping[str, str]) -> str:
    """The settings as a postgresql.conf."""
    head = "# Written by Permille at every start. To change a setting for good use ALTER SYSTEM as the role postgres.\n"
    return head + "".join(f"{name} = {_quoted(value)}\n" for name, value in settings.items())


HBA_TEXT = """\
# Written by Permille at every start. The kernel says who is calling (peer); nobody comes in over TCP.
local all all peer map=owner
"""


def ident_text(users: list[str]) -> str:
    """The pg_ident.conf: these users of the operating system may be either of our two roles."""
    lines = [f'owner "{user}" {role}\n' for user in dict.fromkeys(users) for role in (SUPERUSER, ROLE)]
    return "# Written by Permille at every start.\n" + "".join(lines)
