"""Usual bodies of events in one pass of C, from JSON to columns and the answer, where it was built.

`python -m permille.accelerator.build` builds it, which `make setup` does. Without it everything works the same, slower
(docs/decisions/013-accelerator.md).
"""

from __future__ import annotations

from permille.accelerator.source import source_digest

try:
    from permille.accelerator import _usual as usual
except ImportError:
    IS_BUILT, WHY_NOT = False, "not built"
else:
    IS_BUILT, WHY_NOT = source_digest() == usual.SOURCE, "built from another source"

__all__ = ["IS_BUILT", "WHY_NOT", "state", "usual"]


def state(*, is_wanted: bool) -> str:
    """Which way events are read, in words."""
    if not is_wanted:
        return "off (PERMILLE_ACCELERATOR)"
    return "on" if IS_BUILT else f"off ({WHY_NOT}: `make setup` builds it where there is a C compiler)"
