"""One table line of a price model's test: properties, usage, and what it comes to."""

from decimal import Decimal
from typing import Any

from permille.core.pricing import ChargeModel, Price, price


def tier(
    from_value: Any, to_value: Any, amount: str, flat: str = "0", *, key: str = "per_unit_amount"
) -> Any:
    return {"from_value": from_value, "to_value": to_value, key: amount, "flat_amount": flat}


def priced(model: ChargeModel, properties: dict[str, Any], units: str, **quantity: Any) -> Price:
    return price(model, units=Decimal(units), properties=properties, currency="EUR", **quantity)
