"""Numbers as people type them: one rule for every form (docs/numbers.md).

A point is decimal, as in the API. A comma is decimal too, except where it groups thousands: before a decimal point,
or several times. A single comma before exactly three digits can be read in two ways and is refused.
"""

from __future__ import annotations

import re
from decimal import Decimal

from permille.core.metering.event import numeric_value

SPACES = re.compile("[ \u00a0\u2009\u202f'’]")
"""What groups thousands and is never decimal."""
SPACED = re.compile(rf"[1-9]\d{{0,2}}(?:{SPACES.pattern}\d{{3}})+(?:[.,]\d+)?", re.ASCII)
GROUPS = re.compile(r"[1-9]\d{0,2}(?:([.,])\d{3})(?:\1\d{3})*", re.ASCII)
ONE_GROUP = re.compile(r"[1-9]\d{0,2}[.,]\d{3}", re.ASCII)


class AmbiguousNumberError(ValueError):
    """The text can be read as two numbers; the message says which, and what to type instead."""


def number_or_none(text: str, *, whole: bool = False) -> Decimal | None:
    """The number that was typed, None where the text can't be read as one, or can be read as two."""
    try:
        return numeric_value(_plain(text, whole=whole))
    except AmbiguousNumberError:
        return None


def plain_number(text: str, *, whole: bool = False) -> str:
    """The number as the API takes it; a text that can't be read stays itself, for the API to refuse."""
    value = number_or_none(text, whole=whole)
    return text if value is None else f"{value:f}"


def json_number(text: str, *, whole: bool = False) -> int | Decimal | str:
    """The number as a JSON number; a text that can't be read stays itself, for the API to refuse."""
    value = number_or_none(text, whole=whole)
    if value is None:
        return text
    return int(value) if value == value.to_integral_value() else value


def two_readings(text: str, whole: bool = False) -> str:
    """What to say of a text that can be read as two numbers; nothing of any other."""
    try:
        _plain(text, whole=whole)
    except AmbiguousNumberError as error:
        return str(error)
    return ""


def _plain(text: str, *, whole: bool) -> str:
    """The text without its grouping marks and with a decimal point."""
    given = text.strip().replace("−", "-")
    sign, digits = ("-", given[1:]) if given.startswith("-") else ("", given)
    if SPACED.fullmatch(digits):
        return sign + SPACES.sub("", digits).replace(",", ".")
    head, mark, tail = _split(digits)
    if not mark:
        return sign + digits
    if whole and ONE_GROUP.fullmatch(digits):
        return sign + head + tail
    if mark == "," and ONE_GROUP.fullmatch(digits):
        raise AmbiguousNumberError(
            f"{text.strip()} can be read as {sign}{head}{tail} or as {sign}{head}.{tail}. Type one of these."
        )
    if digits.count(mark) > 1:
        return sign + digits.replace(mark, "") if GROUPS.fullmatch(digits) else text
    if "," in head or "." in head:
        if not GROUPS.fullmatch(head):
            return text
        head = head.replace(",", "").replace(".", "")
    return f"{sign}{head or '0'}.{tail}"


def _split(digits: str) -> tuple[str, str, str]:
    """What is before and after the last point or comma, which is the middle part."""
    at = max(digits.rfind("."), digits.rfind(","))
    return (digits, "", "") if at < 0 else (digits[:at], digits[at], digits[at + 1 :])
