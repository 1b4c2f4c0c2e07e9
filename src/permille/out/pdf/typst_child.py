"""The child process of typesetting.py: an order as JSON on standard input, the PDF on standard output.

It is run as a file, away from the package, to start fast; it knows nothing but Typst, and its working folder,
which has the template and the pictures, is all that a document can read.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import typst

# PDF/A-3b archives well, and needs a font for every character. The fonts inside Typst and the installed Noto
# fonts come first; the machine's own are asked only for what these lack, so that the usual invoice is the same
# bytes on every machine. What no font has becomes a box in a plain PDF.
ATTEMPTS: tuple[dict[str, Any], ...] = (
    {"ignore_system_fonts": True, "pdf_standards": "a-3b"},
    {"ignore_system_fonts": False, "pdf_standards": "a-3b"},
    {"ignore_system_fonts": False},
)
# A picture that unpacks to more than fits ends this process, and no other.
MEMORY_MAX = 4 * 1024**3
NO_FONT = "could not be displayed with"


def pdf(order: dict[str, Any]) -> bytes:
    for attempt, settings in enumerate(ATTEMPTS, 1):
        try:
            made: bytes = typst.compile(
                Path.cwd() / order["template"],
                root=Path.cwd(),
                format="pdf",
                font_paths=order["fonts"],
                sys_inputs={"invoice": order["data"]},
                timestamp=order["at"],
                **settings,
            )
        except typst.TypstError as error:
            if NO_FONT not in str(error) or attempt == len(ATTEMPTS):
                raise
            sys.stderr.write(f"{error}\n")
        else:
            return made
    raise AssertionError


def give_way() -> None:
    """Requests come first: as permille.niceness has it, which this process doesn't know."""
    os.setsid()
    os.nice(10)
    with suppress(OSError):
        Path("/proc/self/autogroup").write_text("10")


if __name__ == "__main__":
    give_way()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_MAX, MEMORY_MAX))
    try:
        sys.stdout.buffer.write(pdf(json.load(sys.stdin)))
    except typst.TypstError as refusal:
        sys.exit(str(refusal))
