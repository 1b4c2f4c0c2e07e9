"""Processes that give way: of low priority, in a session of their own, which has a low priority too."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from permille.niceness import NICE

PROGRAMS = {
    "lowered": "import os; from permille.niceness import lower; os.setsid(); lower(os.getpid())",
    "gives way": "from permille.out.pdf.typst_child import give_way; give_way()",
}


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_a_process_gives_way(program: str) -> None:
    program += "; import os, sys; print(os.getpid(), flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        assert os.getpriority(os.PRIO_PROCESS, pid) >= NICE
        assert os.getsid(pid) == pid
        group = Path(f"/proc/{pid}/autogroup")
        if group.exists():  # "/autogroup-123 nice 10"
            assert group.read_text().split()[-1] == str(NICE)
