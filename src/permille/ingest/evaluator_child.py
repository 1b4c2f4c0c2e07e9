"""The child process of evaluators.py: evaluations come over a connection, their values go back.

It ends when its parent does, and when nothing has come for a while.
"""

from __future__ import annotations

import sys
from multiprocessing.connection import Connection

from permille.core.metering.expression import evaluate_all

IDLE_SECONDS = 60.0


def main() -> None:
    with Connection(int(sys.argv[1])) as parent:
        try:
            while parent.poll(IDLE_SECONDS):
                parent.send(evaluate_all(parent.recv()))
        except (EOFError, BrokenPipeError):
            return


if __name__ == "__main__":
    main()
