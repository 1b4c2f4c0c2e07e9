"""How amounts, quantities and dates read on paper, in English."""

from __future__ import annotations

from datetime import date
from decimal import ROUND_HALF_UP, Decimal

from permille.core.money import CURRENCIES, exact, subunits

MINUS = "\N{MINUS SIGN}"
_SIGNS = {"USD": "$", "EUR": "€", "GBP": "£", "JPY": "¥"}
_AVERAGE = Decimal("0.000001")
_MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)


def money(cents: int, currency: str) -> str:
    """Smallest units as $1,234.50, ¥1,234, CHF 12.00, −$5.00."""
    with exact():
        return _signed(Decimal(cents) / subunits(currency), currency)


def price(amount: Decimal, currency: str, short_name: str | None = None) -> str:
    """An amount in major units with every digit that it has: $0.0015, $2.00, or 2.00 CR in a pricing unit."""
    return in_unit(amount, short_name) if short_name else _signed(amount, currency)


def average_price(amount: Decimal, currency: str, short_name: str | None = None) -> str:
    """A price that is a quotient: ≈ $0.333333."""
    with exact():
        short = amount.quantize(_AVERAGE, rounding=ROUND_HALF_UP)
    text = price(short, currency, short_name)
    return text if short == amount else f"≈ {text}"


def in_unit(amount: Decimal, short_name: str) -> str:
    """An amount in a pricing unit: 1,234.50 CR."""
    return f"{MINUS if amount < 0 else ''}{_grouped(abs(amount), at_least=2)} {short_name}"


def _signed(amount: Decimal, currency: str) -> str:
    minus = MINUS if amount < 0 else ""
    return minus + _SIGNS.get(currency, f"{currency} ") + _grouped(abs(amount), at_least=CURRENCIES[currency])


def quantity(units: Decimal) -> str:
    """Units with every digit: 1,234,567 or 0.25."""
    return (MINUS if units < 0 else "") + _grouped(abs(units), at_least=0)


def _grouped(value: Decimal, *, at_least: int) -> str:
    """Plain notation with thousands separators, idle zeros cut down to so many decimals."""
    whole, _, fraction = format(value, ",f").partition(".")
    fraction = fraction.rstrip("0").ljust(at_least, "0")
    return f"{whole}.{fraction}" if fraction else whole


def day(on: date) -> str:
    """1 October 2026, the same to everybody."""
    return f"{on.day} {_MONTHS[on.month - 1]} {on.year}"


def days(first: date, last: date) -> str:
    """A span of days, both ends in it: 1 to 31 October 2026."""
    if first == last:
        return day(last)
    if (first.year, first.month) == (last.year, last.month):
        return f"{first.day} to {day(last)}"
    if first.year == last.year:
        return f"{first.day} {_MONTHS[first.month - 1]} to {day(last)}"
    return f"{day(first)} to {day(last)}"
