"""How a document reads in a language: its words from languages/*.toml, numbers, money and dates by CLDR."""

from __future__ import annotations

import copy
import re
import tomllib
from collections.abc import Mapping
from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from functools import lru_cache
from pathlib import Path
from typing import Any

from babel import Locale, UnknownLocaleError
from babel.dates import format_date, format_interval
from babel.numbers import NumberPattern
from babel.units import format_unit

from permille.core.money import CURRENCIES, exact, subunits
from permille.core.record import Record

DEFAULT = "en"
MINUS = "\N{MINUS SIGN}"
_LEFT_TO_RIGHT = "\u200e"
_MARKS = "\u200e\u200f"
_AVERAGE = Decimal("0.000001")
_LETTER_BEFORE_DIGIT = re.compile(r"([^\W\d_])(\d)")
_FOLDER = Path(__file__).parent / "languages"
_TAG = re.compile(r"([a-z]{2,3})(?:[-_]([a-z]{4}))?(?:[-_]([a-z]{2}))?", re.IGNORECASE)
_SCRIPTS = ("Hans", "Hant")

LANGUAGES = tuple(sorted(path.stem for path in _FOLDER.glob("*.toml")))
"""The languages that documents can be written in. A regional variant, e.g. de-CH, has its language's words."""


class Language(Record, kw_only=True):
    """Words, and the formats of numbers, money and dates. Digits are always 0 to 9, minus is the true sign."""

    locale: Locale
    words: Mapping[str, str]

    @property
    def tag(self) -> str:
        """As HTML and Typst write it, e.g. zh."""
        return self.locale.language

    @property
    def words_name(self) -> str:
        """The language of the words, one of LANGUAGES."""
        return _words_name(self.locale)

    @property
    def is_right_to_left(self) -> bool:
        return self.locale.text_direction == "rtl"

    def word(self, key: str, **values: str) -> str:
        """A word or sentence with the values in their places; they are never read as a pattern."""
        text = self.words[key]
        return text.format_map(values) if values else text

    def money(self, cents: int, currency: str) -> str:
        """Smallest units as $1,234.50 or 1.234,50 €."""
        with exact():
            return self._currency(Decimal(cents) / subunits(currency), currency)

    def price(self, amount: Decimal, currency: str, short_name: str | None = None) -> str:
        """An amount in major units with every digit that it has: $0.0015, or 2.00 CR in a pricing unit."""
        return self.in_unit(amount, short_name) if short_name else self._currency(amount, currency)

    def average_price(self, amount: Decimal, currency: str, short_name: str | None = None) -> str:
        """A price that is a quotient: ≈ $0.333333."""
        with exact():
            short = amount.quantize(_AVERAGE, rounding=ROUND_HALF_UP)
        text = self.price(short, currency, short_name)
        return text if short == amount else f"≈ {text}"

    def in_unit(self, amount: Decimal, short_name: str) -> str:
        """An amount in a pricing unit: 1,234.50 CR."""
        return f"{self._number(amount, at_least=2)} {short_name}"

    def quantity(self, units: Decimal) -> str:
        """Units with every digit: 1,234,567 or 0.25."""
        return self._number(units, at_least=0)

    def percent(self, rate: Decimal) -> str:
        """19.5 as 19.5% or 19,5 %."""
        with exact():
            return self._formatted(_pattern(self.locale, "percent", 0), rate / 100)

    def day(self, on: date) -> str:
        """October 1, 2026, as the language writes it."""
        return format_date(on, "long", locale=self.locale)

    def days(self, first: date, last: date) -> str:
        """A span of days, both ends in it: Oct 1 – 31, 2026."""
        if first == last:
            return self.day(first)
        return format_interval(first, last, "yMMMd", locale=self.locale)

    def number_of_days(self, days: int) -> str:
        """30 days."""
        return format_unit(days, "duration-day", "long", locale=self.locale)

    def country(self, code: str) -> str:
        """The name of a country; a code that CLDR does not know is shown as it is."""
        return str(self.locale.territories.get(code, code))

    def _currency(self, amount: Decimal, currency: str) -> str:
        return self._formatted(_pattern(self.locale, "currency", CURRENCIES[currency]), amount, currency)

    def _number(self, amount: Decimal, *, at_least: int) -> str:
        return self._formatted(_pattern(self.locale, "decimal", at_least), amount)

    def _formatted(self, pattern: NumberPattern, amount: Decimal, currency: str | None = None) -> str:
        """All digits of the amount, idle zeros cut down to what the pattern asks for."""
        with exact():
            text = pattern.apply(
                amount.normalize(),
                self.locale,
                currency=currency,
                currency_digits=False,
                decimal_quantization=False,
            )
        text = _LETTER_BEFORE_DIGIT.sub("\\1\u00a0\\2", text.replace("-", MINUS))
        # Numbers read from left to right in every language; without marks, sign and currency change sides.
        return f"{_LEFT_TO_RIGHT}{text.strip(_MARKS)}{_LEFT_TO_RIGHT}" if self.is_right_to_left else text


@lru_cache
def _pattern(locale: Locale, kind: str, at_least: int) -> NumberPattern:
    """The locale's pattern with so many decimals at least, where CLDR's own currency digits may be others."""
    formats: Mapping[Any, NumberPattern] = getattr(locale, f"{kind}_formats")
    pattern = copy.copy(formats["standard" if kind == "currency" else None])
    pattern.frac_prec = (at_least, at_least)
    return pattern


def language_names(*others: str | None) -> list[tuple[str, str]]:
    """Every language with its own name, for a menu, and regional variants that are in use."""
    tags = dict.fromkeys([*LANGUAGES, *(each for each in others if each)])
    return [(tag, Locale.parse(tag.replace("-", "_")).get_display_name() or tag) for tag in tags]


def known_locale(text: str) -> str | None:
    """A language or regional variant that documents can be in, as BCP 47 writes it; None for any other."""
    found = _TAG.fullmatch(text)
    if found is None:
        return None
    language, script, territory = found.groups()
    parts = [
        language.lower(),
        *([script.title()] if script else []),
        *([territory.upper()] if territory else []),
    ]
    try:
        locale = Locale.parse("_".join(parts))
    except (UnknownLocaleError, ValueError):
        return None
    is_same = locale.language == language.lower() and locale.territory in (
        territory and territory.upper(),
        None,
    )
    is_ours = _words_name(locale) in LANGUAGES and (not script or script.title() in _SCRIPTS)
    return "-".join(parts) if is_same and is_ours else None


@lru_cache
def language_of(locale: str) -> Language:
    """The language of a document; English where the locale is not one of ours."""
    known = known_locale(locale) or DEFAULT
    parsed = Locale.parse(known.replace("-", "_"))
    words = tomllib.loads((_FOLDER / f"{_words_name(parsed)}.toml").read_text(encoding="utf-8"))
    return Language(locale=parsed, words=words)


def _words_name(locale: Locale) -> str:
    return "zh-Hant" if locale.language == "zh" and locale.script == "Hant" else locale.language
