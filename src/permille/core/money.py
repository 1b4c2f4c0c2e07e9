"""Money: exact Decimals inside, integers of the smallest unit after one named rounding.

An `..._amount` is a Decimal in major units (dollars); `..._cents` is an integer, or a Decimal where it says
precise, in the currency's smallest unit: cents of a dollar, whole yen, thousandths of a Kuwaiti dinar.
Source of the currency table: semantics-metering.md section 5.15, ISO 4217 for what Lago does not list.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from decimal import (
    ROUND_FLOOR,
    ROUND_HALF_UP,
    Context,
    Decimal,
    DivisionByZero,
    InvalidOperation,
    Overflow,
    getcontext,
    localcontext,
)
from types import MappingProxyType
from typing import NamedTuple

from permille.core.errors import AmountOutOfRangeError

AMOUNT_MAX = 2**63 - 1
"""What an amount may come to, in the currency's smallest unit."""

# Quantities have at most 38 digits on each side of the point (event.py): a sum of 10^12 of them times a
# price of 27 digits is still exact.
_EXACT = Context(
    prec=120,
    rounding=ROUND_HALF_UP,
    Emin=-999_999,
    Emax=999_999,
    traps=[InvalidOperation, DivisionByZero, Overflow],
)

_AS_IT_IS = nullcontext(_EXACT)

# Lago's scale of the precise_... columns.
PRECISE_DIGITS = 15
_PRECISE = Decimal(1).scaleb(-PRECISE_DIGITS)
_WHOLE = Decimal(1)
ZERO = Decimal(0)
PERCENT = Decimal("0.01")
"""To multiply with: dividing exactly takes ten times as long."""

_TWO_DECIMALS = """
    AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF
    CNY COP CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HRK HTG
    IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MKD MMK MNT MOP MRU MUR MVR MWK
    MXN MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP
    SLE SLL SOS SRD SSP STD STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD UYU UZS VED VES WST XCD
    XCG YER ZAR ZMW ZWG
"""
# HUF counts as undivided, as in Lago, although ISO 4217 gives it two decimals; MGA and MRO have fifths.
_UNDIVIDED = "BIF CLP DJF GNF HUF ISK JPY KMF KRW MGA PYG RWF UGX VND VUV XAF XOF XPF"
_THREE_DECIMALS = "BHD IQD JOD KWD LYD OMR TND"

CURRENCIES: Mapping[str, int] = MappingProxyType(
    dict.fromkeys(_TWO_DECIMALS.split(), 2)
    | dict.fromkeys(_UNDIVIDED.split(), 0)
    | dict.fromkeys(_THREE_DECIMALS.split(), 3)
    | {"CLF": 4, "MRO": 1}
)
"""Currency code -> number of decimals of its smallest unit."""

_SUBUNITS: dict[str, int] = {code: 10**exponent for code, exponent in CURRENCIES.items()} | {"MRO": 5}


def exact() -> AbstractContextManager[Context]:
    """Decimal arithmetic that neither rounds nor overflows for our sizes; each thread has its own.

    Within itself it changes nothing: a bill's functions enter it a hundred times.
    """
    current = getcontext()
    if current.prec == _EXACT.prec and current.rounding == _EXACT.rounding:
        return _AS_IT_IS
    return localcontext(_EXACT)


def subunits(currency: str) -> int:
    """How many smallest units make one of the currency: 100 for USD, 1 for JPY. KeyError for an unknown one."""
    return _SUBUNITS[currency]


def minor(amount: Decimal, currency: str) -> Decimal:
    """The amount in smallest units, unrounded."""
    with exact():
        return amount * _SUBUNITS[currency]


def round_cents(precise_cents: Decimal) -> int:
    """Smallest units with a fraction to whole ones, half rounded away from zero. Raises AmountOutOfRangeError."""
    with exact():
        return whole_cents(precise_cents)


def whole_cents(precise_cents: Decimal) -> int:
    """As round_cents; call it under exact()."""
    try:
        return int(precise_cents.quantize(_WHOLE))
    except InvalidOperation as error:
        raise _out_of_range(precise_cents) from error


def precise(value: Decimal) -> Decimal:
    """The value as the precise_... columns keep it: 15 decimals, half rounded away from zero."""
    with exact():
        return precise_cents(value)


def precise_cents(value: Decimal) -> Decimal:
    """As precise; call it under exact()."""
    try:
        cut = value.quantize(_PRECISE)
    except InvalidOperation as error:
        raise _out_of_range(value) from error
    return value if cut == value else cut


def _out_of_range(value: Decimal) -> AmountOutOfRangeError:
    return AmountOutOfRangeError(f"{value:.6e} is out of range")


class LineAmounts(NamedTuple):
    """The money of a priced line: whole and precise, of the line and of one unit."""

    amount_cents: int
    precise_amount_cents: Decimal
    unit_amount_cents: int
    precise_unit_amount: Decimal


def line_amounts(amount: Decimal, unit_amount: Decimal, per_unit: int) -> LineAmounts:
    """Both amounts, in major units of `per_unit` smallest ones, as a fee states them. Call under exact().

    The amount is rounded half away from zero; the cents of one unit are cut off, as Lago does. The precise
    unit amount stays in major units.
    """
    cents = amount * per_unit
    try:
        whole, cut, unit_cut = (
            cents.quantize(_WHOLE),
            cents.quantize(_PRECISE),
            unit_amount.quantize(_PRECISE),
        )
    except InvalidOperation as error:
        raise _out_of_range(max(cents, unit_amount, key=abs)) from error
    return LineAmounts(
        int(whole),
        cents if cut == cents else cut,
        int(unit_amount * per_unit),
        unit_amount if unit_cut == unit_amount else unit_cut,
    )


def apportion(precise_cents: Sequence[Decimal]) -> list[int]:
    """Whole cents of amounts that are rounded together: they sum to the rounded sum, each within one cent of its amount.

    Each is cut off, and the cents that are left go to the largest remainders, of equal ones to the earlier. Where
    rounding each amount by itself gives that sum, these are the same cents.
    """
    with exact():
        if len(precise_cents) == 1:
            return [whole_cents(precise_cents[0])]
        cut = [int(each.to_integral_value(ROUND_FLOOR)) for each in precise_cents]
        remainders = [each - cents for each, cents in zip(precise_cents, cut, strict=True)]
        left = round_cents(sum(precise_cents, ZERO)) - sum(cut)
    for i in sorted(range(len(cut)), key=lambda i: (-remainders[i], i))[:left]:
        cut[i] += 1
    return cut


def allocate(total: int, weights: Sequence[Decimal]) -> list[int]:
    """Split a total in proportion to the weights; the parts sum to it exactly.

    Each part is its exact share rounded down or up; the units left over go to the largest remainders, of
    equal ones to the earlier. Weights are not negative; when all are zero they count as equal.
    """
    if not weights:
        raise ValueError("there is nothing to allocate to")
    if min(weights) < 0:
        raise ValueError("weights are not negative")
    if total < 0:
        return [-part for part in allocate(-total, weights)]
    with exact():
        shares = list(weights) if any(weights) else [_WHOLE] * len(weights)
        whole = sum(shares, ZERO)
        divided = [divmod(total * share, whole) for share in shares]
    parts = [int(quotient) for quotient, _ in divided]
    by_remainder = sorted(range(len(parts)), key=lambda i: (-divided[i][1], i))
    for i in by_remainder[: total - sum(parts)]:
        parts[i] += 1
    return parts


def decimal_text(value: Decimal) -> str:
    """Lago's wire form of a decimal: plain notation with a fraction and no idle zeros ("4.0", "0.5", "0.0")."""
    if not value:
        return "0.0"
    text = str(value)
    if "E" in text:
        text = format(value, "f")
    if "." not in text:
        return text + ".0"
    text = text.rstrip("0")
    return text + "0" if text.endswith(".") else text
