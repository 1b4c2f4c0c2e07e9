"""How figures, money and dates look on a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any
from unicodedata import normalize
from urllib.parse import quote
from zoneinfo import ZoneInfo

import msgspec
from babel import Locale

from permille.api.addresses import path_segment
from permille.api.validation import country_codes
from permille.core.money import CURRENCIES, exact, subunits
from permille.core.rating.filters import ALL_FILTER_VALUES
from permille.core.rating.pricing_unit import SUBUNITS, InUnit
from permille.database.connections import exact_json
from permille.web import typed_number

_ENGLISH = Locale("en")
SYMBOLS = {"USD": "$", "EUR": "€", "GBP": "£", "JPY": "¥", "INR": "₹"}


def currencies() -> list[str]:
    """Every currency, the usual ones first."""
    return [*SYMBOLS, *sorted(set(CURRENCIES) - set(SYMBOLS))]


def countries(chosen: str | None = None) -> list[tuple[str, str]]:
    """For a menu: none, then every country by its name. One that was chosen before is there in any case."""
    named = [(code, country_name(code)) for code in country_codes() | ({chosen} if chosen else set())]
    return [("", "–"), *sorted(named, key=lambda each: normalize("NFKD", each[1]).encode("ascii", "ignore"))]


def country_name(code: str) -> str:
    """DE -> Germany"""
    return str(_ENGLISH.territories.get(code, code))


def units(value: Any) -> str:
    """1234567.50 -> 1,234,567.5"""
    text = f"{Decimal(str(value)):,f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def money(cents: Any, currency: str) -> str:
    """Smallest units -> $1,234.56"""
    with exact():
        amount = Decimal(str(cents or 0)) / subunits(currency)
        return _signed(f"{abs(amount):,.{CURRENCIES[currency]}f}", currency, negative=amount < 0)


def precise_money(cents: Decimal, currency: str) -> str:
    """Smallest units with a fraction -> major units, of less than one of them three digits that say something."""
    with exact():
        found = cents / subunits(currency)
        if found and abs(found) < 1:
            return amount(round(found, max(2 - found.adjusted(), CURRENCIES[currency])), currency)
    return money(cents, currency)


def in_unit(cents: Any, short_name: str) -> str:
    """Hundredths of a pricing unit -> 1,234.56 CR"""
    with exact():
        return f"{Decimal(str(cents)) / SUBUNITS:,.2f} {short_name}"


def shown_in_unit(found: InUnit | None) -> dict[str, Any] | None:
    """What `in_unit` needs to know, under the names that the API has for it."""
    if found is None:
        return None
    return {"amount_cents": found.amounts.amount_cents, "short_name": found.applied.unit.short_name}


def amount(value: Any, currency: str, short_name: str | None = None) -> str:
    """Major units with every digit, at least the currency's: 0.0015 -> $0.0015, or 0.0015 CR in a pricing unit."""
    try:
        found = Decimal(str(value))
    except InvalidOperation:
        return str(value)
    text = f"{abs(found):,f}"
    whole, _, rest = text.partition(".")
    rest = rest.rstrip("0").ljust(2 if short_name else CURRENCIES[currency], "0")
    shown = f"{whole}.{rest}" if rest else whole
    if short_name:
        return f"{'−' if found < 0 else ''}{shown} {short_name}"
    return _signed(shown, currency, negative=found < 0)


AVERAGE_DIGITS = 6


def rounded_amount(value: Any, currency: str, short_name: str | None = None) -> str:
    """As `amount`, with six digits that say something: 0.005783962180002 -> $0.00578396."""
    found = Decimal(str(value))
    if found:
        digits = max(AVERAGE_DIGITS - 1 - found.adjusted(), 2)
        found = round(found, digits)
    return amount(found, currency, short_name)


def _signed(text: str, currency: str, *, negative: bool) -> str:
    return f"{'−' if negative else ''}{symbol(currency)}{text}"


def symbol(currency: str) -> str:
    """What is written before an amount: $, or SEK and a space."""
    return SYMBOLS.get(currency, f"{currency} ")


def understood(text: str, currency: str = "", whole: bool = False) -> str:
    """How a number that was typed is read: 12,50 -> = $12.50; nothing when it is empty or can't be read."""
    value = typed_number.number_or_none(text, whole=whole)
    if value is None:
        return ""
    return f"= {amount(value, currency) if currency in CURRENCIES else units(value)}"


def _instant(at: Any, timezone: str) -> datetime | None:
    if not at:
        return None
    found = at if isinstance(at, datetime) else datetime.fromisoformat(str(at))
    return found if found.tzinfo is None else found.astimezone(ZoneInfo(timezone))


def day(at: Any, timezone: str = "UTC") -> str:
    """1 Oct 2026"""
    found = _instant(at, timezone)
    return f"{found.day} {found:%b %Y}" if found else "–"


def moment(at: Any, timezone: str = "UTC") -> str:
    """1 Oct 2026, 14:05"""
    found = _instant(at, timezone)
    return f"{found.day} {found:%b %Y, %H:%M}" if found else "–"


def json_text(value: Any) -> str:
    """A value of a JSON object: a text as it is, the rest as JSON with every digit."""
    return value if isinstance(value, str) else exact_json(value)


def json_lines(value: Any) -> str:
    """JSON on several lines, with every digit."""
    return msgspec.json.format(exact_json(value), indent=2)


def indented(text: str) -> str:
    """JSON as it is, on several lines."""
    return msgspec.json.format(text, indent=2)


def listed_text(key: str, listed: Sequence[str]) -> str:
    """The values of one dimension that a filter wants."""
    return f"any listed {key}" if ALL_FILTER_VALUES in listed else ", ".join(listed)


def values_text(values: Mapping[str, Sequence[str]]) -> str:
    """What a filter wants, in words."""
    return ", ".join(listed_text(key, listed) for key, listed in values.items())


def group_text(grouped_by: Mapping[str, str | None]) -> str:
    """The group that usage is in: project chatbot, or no project where the property is missing."""
    return ", ".join(f"{key} {value}" if value else f"no {key}" for key, value in grouped_by.items())


def in_path(text: Any) -> str:
    """An id as a segment of an address of ours; `from_path` gives it back.

    Browsers take `.` and `..` for directions, even encoded, so these get a `~` in front.
    """
    segment = str(text)
    return path_segment(f"~{segment}" if _is_dots(segment) else segment)


def from_path(segment: str) -> str:
    """The id that `in_path` has made a decoded segment of."""
    return segment.removeprefix("~") if _is_dots(segment) else segment


def _is_dots(segment: str) -> bool:
    return segment.lstrip("~") in (".", "..")


def in_query(text: Any) -> str:
    """A text as a value in the query of an address."""
    return quote(str(text), safe="")


def with_query(query: Mapping[str, str], **changed: Any) -> str:
    """The query of an address with some parameters changed."""
    kept = {**query, **{name: str(value) for name, value in changed.items()}}
    return "?" + "&".join(f"{quote(name)}={quote(value)}" for name, value in kept.items() if value)


def percent_change(share: str) -> str:
    """A share by which something changes: 0.25 -> +25 %"""
    return f"{(Decimal(share) * 100).normalize():+,f} %"


FILTERS = {
    "percent_change": percent_change,
    "country_name": country_name,
    "units": units,
    "money": money,
    "precise_money": precise_money,
    "amount": amount,
    "rounded_amount": rounded_amount,
    "in_unit": in_unit,
    "day": day,
    "moment": moment,
    "in_path": in_path,
    "in_query": in_query,
    "values_text": values_text,
    "group_text": group_text,
    "json_text": json_text,
    "json_lines": json_lines,
    "indented": indented,
    "symbol": symbol,
    "understood": understood,
    "two_readings": typed_number.two_readings,
}
