"""Charge models: units in, money out. One file for each, and the list of them.

Source: semantics-metering.md sections 5.1 to 5.10. Amounts are in major units of the currency, unrounded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from decimal import Decimal
from enum import StrEnum
from typing import Any

from permille.core.money import ZERO, exact, subunits
from permille.core.rating.models import (
    catalogue,
    custom,
    dynamic,
    graduated,
    graduated_percentage,
    group_keys,
    package,
    percentage,
    standard,
    volume,
)
from permille.core.rating.models.price import Model, Price, Pricer, Quantity, in_texts

__all__ = [
    "ChargeModel",
    "Model",
    "Price",
    "Pricer",
    "Quantity",
    "clean",
    "defaults",
    "is_free",
    "model_of",
    "price",
    "pricer",
    "validate",
]


class ChargeModel(StrEnum):
    """How a charge prices its units."""

    STANDARD = "standard"
    GRADUATED = "graduated"
    GRADUATED_PERCENTAGE = "graduated_percentage"
    PACKAGE = "package"
    PERCENTAGE = "percentage"
    VOLUME = "volume"
    DYNAMIC = "dynamic"
    CUSTOM = "custom"
    CATALOGUE = "catalogue"


_MODELS: Mapping[ChargeModel, Model] = {
    ChargeModel.STANDARD: standard.MODEL,
    ChargeModel.GRADUATED: graduated.MODEL,
    ChargeModel.GRADUATED_PERCENTAGE: graduated_percentage.MODEL,
    ChargeModel.PACKAGE: package.MODEL,
    ChargeModel.PERCENTAGE: percentage.MODEL,
    ChargeModel.VOLUME: volume.MODEL,
    ChargeModel.DYNAMIC: dynamic.MODEL,
    ChargeModel.CUSTOM: custom.MODEL,
    ChargeModel.CATALOGUE: catalogue.MODEL,
}


def model_of(model: ChargeModel) -> Model:
    """What a charge model does, and what it can be combined with."""
    return _MODELS[model]


def pricer(model: ChargeModel, properties: Mapping[str, Any]) -> Pricer:
    """A model with its valid properties read once, to price any number of buckets under money.exact()."""
    with exact():
        return _MODELS[model].pricer(properties)


def price(
    model: ChargeModel,
    *,
    units: Decimal,
    properties: Mapping[str, Any],
    currency: str,
    events_count: int = 0,
    precise_amount_cents: Decimal = ZERO,
    full_units: Decimal | None = None,
    running_totals: Sequence[Decimal] = (),
    event_values: Sequence[Decimal] = (),
) -> Price:
    """The price of one bucket of usage. `properties` are valid; see Quantity for the other arguments."""
    with exact():
        return pricer(model, properties)(
            Quantity(
                units=units,
                events_count=events_count,
                precise_amount_cents=precise_amount_cents,
                subunits=subunits(currency),
                full_units=full_units,
                running_totals=running_totals,
                event_values=event_values,
            )
        )


def is_free(model: ChargeModel, properties: Mapping[str, Any]) -> bool:
    """Whether these valid properties give every usage away, whatever its units and events."""
    return _MODELS[model].is_free(properties)


def validate(model: ChargeModel, properties: Mapping[str, Any]) -> list[str]:
    """Lago's codes of all that is wrong with the properties, one for each offence; none when they are valid."""
    found = _MODELS[model].errors(properties)
    if model is not ChargeModel.CUSTOM:
        found = found + custom.errors(properties)
    return found + group_keys.errors(properties)


def defaults(model: ChargeModel) -> dict[str, Any]:
    """The properties of a charge that is created without any."""
    return deepcopy(dict(_MODELS[model].defaults))


def clean(
    model: ChargeModel, properties: Mapping[str, Any], *, of_custom_metric: bool = False
) -> dict[str, Any]:
    """The properties that belong to the model, amounts as texts, and the group keys under their present names.

    The rules of a custom aggregation look at custom properties, whatever the model.
    """
    keys = _MODELS[model].keys
    if of_custom_metric:
        keys = tuple(dict.fromkeys((*keys, *custom.KEYS)))
    kept = {key: properties[key] for key in keys if key in properties}
    return in_texts(kept) | group_keys.clean(properties, _MODELS[model].priced_by)
