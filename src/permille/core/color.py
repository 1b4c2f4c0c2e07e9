"""Colours: what a text in one can be read on."""

from __future__ import annotations

import re
from decimal import Decimal, localcontext

CONTRAST_MIN = Decimal("4.5")
"""What WCAG 2 asks of texts (AA)."""
_COLOR = re.compile(r"#[0-9a-f]{6}")
_SHARES = (Decimal("0.2126"), Decimal("0.7152"), Decimal("0.0722"))
_EXPONENT = Decimal("2.4")


def color_of(text: str) -> str | None:
    """A colour like #1f4e79 in lower case; None for what is none."""
    found = text.strip().lower()
    return found if _COLOR.fullmatch(found) else None


def is_readable(color: str) -> bool:
    """Whether a text in this colour can be read on white, and a white one on it."""
    return contrast_with_white(color) >= CONTRAST_MIN


def contrast_with_white(color: str) -> Decimal:
    """The contrast of WCAG 2: 1 for white, 21 for black."""
    with localcontext() as context:
        context.prec = 20
        parts = (int(color[place : place + 2], 16) for place in (1, 3, 5))
        luminance = sum(
            (share * _linear(part) for share, part in zip(_SHARES, parts, strict=True)), Decimal(0)
        )
        return Decimal("1.05") / (luminance + Decimal("0.05"))


def _linear(part: int) -> Decimal:
    share = Decimal(part) / 255
    if share <= Decimal("0.04045"):
        return share / Decimal("12.92")
    return ((share + Decimal("0.055")) / Decimal("1.055")) ** _EXPONENT
