"""From a Typst template and data to PDF bytes.

Typst holds Python's global lock while it works, so each document is set in a child process of its own: 0.1 s
of another core, nothing that stays in memory, and nothing in a document can stop or crash the server. The
data goes in as JSON on the child's standard input and reaches the template as a value, never as markup.
"""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, date, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

from permille import __version__
from permille.out.pdf.document import Logo
from permille.out.pdf.fonts import folders

log = logging.getLogger(__name__)

SECONDS_MAX = 60
# Marks that turn the direction of what follows: in a name they could make an invoice read otherwise than it is.
_DIRECTION_MARKS = dict.fromkeys([*range(0x202A, 0x202F), *range(0x2066, 0x206A)])
_FOLDER = Path(__file__).parent
LOGO_FILES = {"image/png": "logo.png", "image/svg+xml": "logo.svg"}


class UnableToTypeset(Exception):  # noqa: N818 -- what went wrong is the name
    """The document could not be set; the message is Typst's."""


class TooLongToTypeset(UnableToTypeset):
    """It was not done in time: of a machine that is busy, or a document that is very long."""


@cache
def template_of(name: str) -> bytes:
    """The text of a template of this folder, and the versions of what writes and sets it."""
    versions = f"{__version__} {version('typst')} {version('babel')}"
    return versions.encode() + (_FOLDER / name).read_bytes()


def typeset(
    template: str,
    data: Mapping[str, Any],
    *,
    dated: date,
    logo: Logo | None = None,
    seconds_max: int = SECONDS_MAX,
) -> bytes:
    """The PDF of a template of this folder, which finds `data` as JSON under sys.inputs.invoice.

    The logo is a file beside it, whose name the data has under `logo`. The same arguments give the same bytes.
    Raises UnableToTypeset.
    """
    file = LOGO_FILES[logo.media_type] if logo else None
    midnight = datetime(dated.year, dated.month, dated.day, tzinfo=UTC)
    order = {
        "template": template,
        "data": msgspec.json.encode({**data, "logo": file}).decode().translate(_DIRECTION_MARKS),
        "at": int(midnight.timestamp()),
        "fonts": [str(folder) for folder in folders()],
    }
    with TemporaryDirectory(prefix="permille-document-") as root:
        shutil.copy(_FOLDER / template, root)
        if logo and file:
            (Path(root) / file).write_bytes(logo.content)
        child = _child(msgspec.json.encode(order), root, seconds_max)
    said = child.stderr.decode(errors="replace").strip()
    if child.returncode:
        raise UnableToTypeset(said or f"the child process ended with {child.returncode}")
    if said:
        log.warning("Typesetting %s: %s", template, said)
    return child.stdout


def _child(order: bytes, root: str, seconds_max: int) -> subprocess.CompletedProcess[bytes]:
    """Set it in a process that sees the files of this folder alone."""
    try:
        return subprocess.run(
            [sys.executable, "-I", str(_FOLDER / "typst_child.py")],
            input=order,
            capture_output=True,
            timeout=seconds_max,
            cwd=root,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise TooLongToTypeset(f"not done after {seconds_max} s") from error
