"""One table line of a price model's test: properties, usage, and what it comes to; and tiers to draw from."""

from decimal import Decimal
from typing import Any, NamedTuple

from hypothesis import strategies as st

from permille.core.rating.models import ChargeModel, Price, price
from tests.core.given import decimals


def tier(
    from_value: Any, to_value: Any, amount: str, flat: str = "0", *, key: str = "per_unit_amount"
) -> Any:
    return {"from_value": from_value, "to_value": to_value, key: amount, "flat_amount": flat}


def priced(model: ChargeModel, properties: dict[str, Any], units: str, **quantity: Any) -> Price:
    return price(model, units=Decimal(units), properties=properties, currency="EUR", **quantity)


class Ladder(NamedTuple):
    """Tiers: the upper bounds of all but the last, and what each of them costs."""

    bounds: list[int]
    rates: list[Decimal]
    flats: list[Decimal]

    def tiers(self, *, gap: int, key: str = "per_unit_amount") -> list[Any]:
        """As a plan has them: each starts at the bound before it, plus the gap."""
        starts, ends = [0, *(bound + gap for bound in self.bounds)], [*self.bounds, None]
        rows = zip(starts, ends, self.rates, self.flats, strict=True)
        return [tier(start, end, str(rate), str(flat), key=key) for start, end, rate, flat in rows]

    def between(self, low: Decimal, high: Decimal) -> Decimal:
        """What it costs to come from one level up to another: of each tier the part of the way that lies in it.

        The flat amount of a tier is for leaving the one before it; the first tier's is not in here.
        """
        total = Decimal(0)
        for place, (rate, flat) in enumerate(zip(self.rates, self.flats, strict=True)):
            bottom = Decimal(self.bounds[place - 1]) if place else Decimal(0)
            top = Decimal(self.bounds[place]) if place < len(self.bounds) else max(high, bottom)
            total += rate * max(min(high, top) - max(low, bottom), Decimal(0))
            if place and low <= bottom < high:
                total += flat
        return total


@st.composite
def ladders(draw: st.DrawFn) -> Ladder:
    """Any tiers of whole numbers, none of them of a single unit."""
    bounds = sorted(2 * bound for bound in draw(st.sets(st.integers(1, 20), max_size=4)))
    count = len(bounds) + 1
    rates = draw(st.lists(decimals(0, 10, 3), min_size=count, max_size=count))
    flats = draw(st.lists(decimals(0, 10, 2), min_size=count, max_size=count))
    return Ladder(bounds, rates, flats)
