"""Colours that texts can be read in."""

from __future__ import annotations

from decimal import Decimal

import pytest

from permille.core.color import color_of, contrast_with_white, is_readable


@pytest.mark.parametrize(
    ("color", "contrast"),
    [
        ("#000000", "21"),
        ("#ffffff", "1"),
        ("#ff0000", "4.00"),
        ("#0000ff", "8.59"),
        ("#008000", "5.14"),
        ("#767676", "4.54"),
        ("#777777", "4.48"),
    ],
)
def test_the_contrast_is_that_of_wcag(color: str, contrast: str) -> None:
    """Known values of the usual checkers."""
    assert abs(contrast_with_white(color) - Decimal(contrast)) < Decimal("0.01")
    assert is_readable(color) == (Decimal(contrast) >= Decimal("4.5"))


def test_a_colour_is_six_digits() -> None:
    assert color_of(" #1F4E79 ") == "#1f4e79"
    assert [each for each in ("", "#123", "1f4e79", "#1f4e7g", "#1f4e79;", "red") if color_of(each)] == []
