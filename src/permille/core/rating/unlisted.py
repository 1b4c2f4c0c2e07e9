"""Values that no filter of a charge lists: what their usage costs, and whether anybody has decided that.

Lago prices them by the charge's own properties, whatever these are. A price of 0 there gives usage away that
nobody meant to: it counts, but has no price (docs/unpriced-usage.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from permille.core.rating.models import ChargeModel, is_free


class UnlistedValues(StrEnum):
    """What a charge with filters does with usage that none of them lists."""

    FREE = "free"
    """Lago's way: the charge's own price, which may be 0, and then it is reported as unpriced."""
    HELD = "held"
    """It has no price yet: an invoice with such usage stays a draft until it has one."""
    DEFAULT = "default"
    """The charge's own price, by decision, 0 included."""


def is_unpriced(choice: UnlistedValues, model: ChargeModel, properties: Mapping[str, Any]) -> bool:
    """Whether usage that no filter lists has no price, under the charge's own model and properties."""
    if choice is UnlistedValues.FREE:
        return is_free(model, properties)
    return choice is UnlistedValues.HELD
