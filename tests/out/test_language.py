"""How documents read in each language: every text is there, numbers, money and dates are the locale's."""

import tomllib
from datetime import date
from decimal import Decimal
from pathlib import Path
from string import Formatter

import pytest

from permille.out.pdf import language
from permille.out.pdf.language import LANGUAGES, known_locale, language_of

FOLDER = Path(language.__file__).parent / "languages"
WANTED = {"en", "de", "fr", "es", "it", "pt", "nl", "ja", "zh", "ko", "ar"}


def words(name: str) -> dict[str, str]:
    return tomllib.loads((FOLDER / f"{name}.toml").read_text(encoding="utf-8"))


def places(text: str) -> set[str]:
    return {field for _, field, _, _ in Formatter().parse(text) if field is not None}


def test_the_languages_that_were_promised():
    assert set(LANGUAGES) >= WANTED


@pytest.mark.parametrize("name", LANGUAGES)
def test_a_language_has_every_text_with_the_same_places(name):
    english, own = words("en"), words(name)
    assert own.keys() == english.keys()
    assert {key: places(text) for key, text in own.items()} == {
        key: places(text) for key, text in english.items()
    }
    assert all(text.strip() for text in own.values())


@pytest.mark.parametrize("name", [name for name in LANGUAGES if name != "en"])
def test_a_language_is_translated(name):
    english, own = words("en"), words(name)
    assert sum(own[key] == english[key] for key in english) <= 4


@pytest.mark.parametrize(
    ("given", "known"),
    [
        ("en", "en"),
        ("EN_gb", "en-GB"),
        ("pt-br", "pt-BR"),
        ("de-CH", "de-CH"),
        ("zh-TW", "zh-TW"),
        ("zh_hant", "zh-Hant"),
        ("ar-EG", "ar-EG"),
        ("xx", None),
        ("he", None),
        ("de-US", None),
        ("en-001", None),
        ("zh-Latn", None),
        ("english", None),
        ("en-US-POSIX", None),
        ("../en", None),
        ("e\u0301n", None),
        ("", None),
    ],
)
def test_which_locales_are_known(given, known):
    assert known_locale(given) == known


def test_a_locale_that_is_not_known_reads_english():
    assert language_of("tlh").word("invoice") == "Invoice"


def test_regions_have_the_words_of_their_language():
    assert language_of("de-AT").word("invoice") == "Rechnung"
    assert language_of("zh-TW").word("invoice") == "帳單"
    assert language_of("zh-CN").word("invoice") == "账单"


MONEY = [
    ("en", "−$1,234.50", "KWD\u00a01,234.567"),
    ("de", "−1.234,50\u00a0$", "1.234,567\u00a0KWD"),
    ("fr", "−1\u202f234,50\u00a0$US", "1\u202f234,567\u00a0KWD"),
    ("pt", "−US$\u00a01.234,50", "KWD\u00a01.234,567"),
    ("ja", "−$1,234.50", "KWD\u00a01,234.567"),
    ("ar", "\u200e−1,234.50\u00a0US$\u200e", "\u200e1,234.567\u00a0د.ك.\u200e"),
]


@pytest.mark.parametrize(("locale", "dollars", "dinars"), MONEY)
def test_money(locale, dollars, dinars):
    assert language_of(locale).money(-123_450, "USD") == dollars
    assert language_of(locale).money(1_234_567, "KWD") == dinars


def test_currencies_have_our_decimals_and_prices_all_their_digits():
    german = language_of("de")
    assert german.money(12_345, "CLF") == "1,2345\u00a0CLF"
    assert german.money(6, "MRO") == "1,2\u00a0MRO"
    assert german.money(1_234, "JPY") == "1.234\u00a0¥"
    assert german.price(Decimal("0.00150"), "EUR") == "0,0015\u00a0€"
    assert german.price(Decimal(2), "EUR", "CR") == "2,00 CR"
    assert german.average_price(Decimal(1) / 3, "EUR") == "≈ 0,333333\u00a0€"
    assert german.average_price(Decimal("0.5"), "EUR") == "0,50\u00a0€"


def test_no_digit_of_a_quantity_is_lost():
    english = language_of("en")
    assert english.quantity(Decimal("123456789012345678901234567890.12345678901234567890123456789")) == (
        "123,456,789,012,345,678,901,234,567,890.12345678901234567890123456789"
    )
    assert english.quantity(Decimal("1E+6")) == "1,000,000"
    assert english.quantity(Decimal("1.500")) == "1.5"
    assert english.quantity(Decimal(0)) == "0"
    assert language_of("en-IN").quantity(Decimal(1_234_567)) == "12,34,567"


def test_rates_dates_terms_and_countries():
    german, japanese = language_of("de"), language_of("ja")
    assert german.percent(Decimal("19.5")) == "19,5\u00a0%"
    assert german.percent(Decimal("0.005")) == "0,005\u00a0%"
    assert german.day(date(2026, 11, 1)) == "1. November 2026"
    assert language_of("en-GB").day(date(2026, 11, 1)) == "1 November 2026"
    assert japanese.day(date(2026, 11, 1)) == "2026年11月1日"
    assert german.days(date(2026, 10, 1), date(2026, 10, 31)) == "1.–31. Okt. 2026"
    assert german.days(date(2026, 10, 1), date(2026, 10, 1)) == "1. Oktober 2026"
    assert german.number_of_days(1) == "1 Tag"
    assert german.number_of_days(30) == "30 Tage"
    assert german.country("DE") == "Deutschland"
    assert german.country("ZZZ") == "ZZZ"


def test_values_in_a_sentence_are_never_a_pattern():
    assert language_of("en").word("total_of", name="{0.__class__} {name}") == "Total of {0.__class__} {name}"
