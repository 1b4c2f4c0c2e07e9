"""Which characters can be printed: the fonts inside Typst, and the Noto fonts of the `fonts` extra."""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from permille.core.record import Record

SERIF = "Libertinus Serif"
_LAST = ("New Computer Modern", "DejaVu Sans Mono")
_NOTO = (
    *(
        f"Noto Sans {script}"
        for script in (
            "Arabic", "Armenian", "Bengali", "Devanagari", "Ethiopic", "Georgian", "Gujarati", "Gurmukhi",
            "Hebrew", "Kannada", "Khmer", "Lao", "Malayalam", "Myanmar", "Oriya", "Sinhala", "Tamil",
            "Telugu", "Thai",
        )
    ),
    "Noto Sans",
    "Noto Sans Symbols",
    "Noto Emoji",
)  # fmt: skip
_HAN = {"ja": "JP", "ko": "KR", "zh-Hant": "TC", "zh": "SC"}
_HAN_OF_COUNTRY = {"JP": "JP", "KR": "KR", "TW": "TC", "HK": "TC", "MO": "TC"}

NOT_DRAWN = ("Cc", "Cf", "Zs", "Zl", "Zp")
"""The categories of characters that need no glyph."""

NOTO_PACKAGE, HAN_PACKAGE = "manimgx_fonts", "manimgx_fonts_cjk"
DESCRIBED_MAX = 5
TO_INSTALL = "Run `make setup` again, or install `permille[fonts]`."

SCRIPTS = {
    "Arabic": "ع",
    "Bengali": "ক",
    "Chinese": "汉漢",
    "Devanagari": "क",
    "emoji": "😀",
    "Hebrew": "א",
    "Japanese": "あ",
    "Korean": "한",
    "Tamil": "க",
    "Thai": "ก",
}
"""What `permille doctor` looks for: a script and some of its characters."""


class Coverage(Record):
    """A set of characters as ranges in order, both ends in them."""

    firsts: tuple[int, ...]
    lasts: tuple[int, ...]

    def has(self, character: str) -> bool:
        at = bisect_right(self.firsts, ord(character)) - 1
        return at >= 0 and ord(character) <= self.lasts[at]


def coverage_of(codes: Iterable[int]) -> Coverage:
    """The ranges of a set of code points."""
    firsts: list[int] = []
    lasts: list[int] = []
    for code in sorted(set(codes)):
        if lasts and lasts[-1] == code - 1:
            lasts[-1] = code
        else:
            firsts.append(code)
            lasts.append(code)
    return Coverage(tuple(firsts), tuple(lasts))


def missing(text: str, *coverages: Coverage) -> list[str]:
    """The characters of the text that none of the fonts has, each once, in order of their first use.

    What is never drawn needs no font: controls, joiners, direction marks, spaces, variation selectors.
    """
    return [
        character
        for character in dict.fromkeys(text)
        if _is_drawn(character) and not any(each.has(character) for each in coverages)
    ]


def _is_drawn(character: str) -> bool:
    is_selector = "\ufe00" <= character <= "\ufe0f" or "\U000e0100" <= character <= "\U000e01ef"
    return not is_selector and unicodedata.category(character) not in NOT_DRAWN


def unprintable(text: str) -> list[str]:
    """The characters for which neither Typst nor the installed Noto fonts have a glyph."""
    rest = missing(text, typst_coverage())
    return missing("".join(rest), _covered_by(folders())) if rest else []


def described(characters: Sequence[str]) -> str:
    """Characters with their names, a few of them: 猫 (CJK UNIFIED IDEOGRAPH-732B)."""
    named = [
        f"{each} ({unicodedata.name(each, f'U+{ord(each):04X}')})" for each in characters[:DESCRIBED_MAX]
    ]
    rest = len(characters) - len(named)
    return ", ".join([*named, *([f"{rest} more"] if rest else [])])


def scripts() -> dict[str, bool]:
    """Every script of SCRIPTS, and whether it can be printed."""
    return {name: not unprintable(sample) for name, sample in SCRIPTS.items()}


def folders() -> tuple[Path, ...]:
    """Where the installed Noto fonts are."""
    found = [find_spec(name) for name in (NOTO_PACKAGE, HAN_PACKAGE)]
    return tuple(Path(spec.origin).parent for spec in found if spec is not None and spec.origin)


def families(language: str, country: str | None) -> list[str]:
    """The fonts to set a document in, the first that has a character wins.

    Chinese, Japanese and Korean write some of the same characters differently: those of the language come
    first, else those of the customer's country.
    """
    installed = {folder.name for folder in folders()}
    first = _HAN.get(language) or _HAN_OF_COUNTRY.get(country or "", "SC")
    han = [first, *(each for each in _HAN.values() if each != first)]
    return [
        SERIF,
        *(f"Noto Sans CJK {each}" for each in han if HAN_PACKAGE in installed),
        *(family for family in _NOTO if NOTO_PACKAGE in installed),
        *_LAST,
    ]


@lru_cache
def typst_coverage() -> Coverage:
    """What the fonts inside Typst have, from a table that tools/typst_coverage.py writes."""
    lines = (Path(__file__).parent / "typst_coverage.txt").read_text().split()
    pairs = [line.split("-") for line in lines]
    return Coverage(tuple(int(pair[0], 16) for pair in pairs), tuple(int(pair[-1], 16) for pair in pairs))


@lru_cache
def _covered_by(where: tuple[Path, ...]) -> Coverage:
    from fontTools.ttLib import TTFont

    codes: set[int] = set()
    for folder in where:
        for path in sorted(folder.glob("*.[to]t[fc]")):
            with TTFont(path, fontNumber=0, lazy=True) as font:
                codes |= set(font.getBestCmap())
    return coverage_of(codes)
