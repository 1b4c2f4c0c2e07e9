"""Folders that a command fills and may empty again: those that carry its mark, and no others."""

from __future__ import annotations

import shutil
from pathlib import Path

from permille.embedded.postgres import erase

MARK = ".made-by-permille"


class NotOursError(Exception):
    """A folder holds what we did not make; the message names it."""


def make_empty(folder: Path, *, purpose: str) -> None:
    """Make the folder, or empty it if `purpose` made it before. Raises NotOursError, and then nothing has changed."""
    if folder.is_dir() and any(folder.iterdir()):
        if not is_ours(folder, purpose=purpose):
            raise NotOursError(
                f"{folder} is not empty, and `permille {purpose}` did not make it. "
                "Choose another folder, or empty it yourself."
            )
        _empty(folder)
    elif folder.exists() and not folder.is_dir():
        raise NotOursError(f"{folder} is no folder. Choose another one.")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARK).write_text(f"{purpose}\n")


def is_ours(folder: Path, *, purpose: str) -> bool:
    """Whether `purpose` made the folder."""
    mark = folder / MARK
    return mark.is_file() and mark.read_text(errors="replace").strip() == purpose


def _empty(folder: Path) -> None:
    """The mark goes last, so that an interrupted run is still recognized."""
    erase(folder / "data")
    for entry in folder.iterdir():
        if entry.name == MARK:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
