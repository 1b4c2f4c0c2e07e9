"""What the API's objects have in common: their base, described fields, and the types of values on the wire."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

from msgspec import Meta, Struct


class Answer(Struct, forbid_unknown_fields=True, gc=False):
    """An object of an answer: it has these fields and no others. A field that is UNSET is left out.

    None is in a circle of others, so the garbage collector need not look at it.
    """


class Number(Decimal):
    """A decimal that goes out as a JSON number, as it was sent; other decimals are texts."""


def says(description: str, *, example: Any = None) -> Meta:
    """A described field."""
    return Meta(description=description, examples=None if example is None else [example])


def one_of(*values: str | None, says: str) -> Meta:
    """A described field with a closed set of values."""
    return Meta(description=says, extra_json_schema={"enum": list(values)})


def instant_of(description: str) -> Meta:
    """A described instant: UTC, to the second unless it says otherwise."""
    return Meta(description=description, extra_json_schema={"format": "date-time"})


def text_of_number(description: str, *, example: str = "12.5") -> Meta:
    """A described decimal that is written as text, every digit kept."""
    return Meta(description=description, examples=[example])


Id = Annotated[UUID, says("The server's own identifier.")]
Code = Annotated[str, says("Your identifier, unique among objects of this kind.", example="pro")]
Name = Annotated[str, says("Name for people.")]
Description = Annotated[str | None, says("Internal note.")]
DisplayName = Annotated[str | None, says("Name shown on invoices instead of the internal one.")]
Currency = Annotated[str, says("Currency code (ISO 4217).", example="EUR")]
CreatedAt = Annotated[str, instant_of("When the object was created.")]
UpdatedAt = Annotated[str, instant_of("When the object last changed.")]
ExternalCustomerId = Annotated[str, says("Your identifier of the customer.", example="cus_42")]
ExternalSubscriptionId = Annotated[str, says("Your identifier of the subscription.", example="sub_42")]
GroupedBy = Annotated[
    Mapping[str, str | None],
    says("Values of the charge's pricing group keys that the usage belongs to; empty without grouping."),
]
Properties = Annotated[
    dict[str, Any],
    says("Prices, in the form of the charge model. Amounts are texts in major units, e.g. 0.03 for 3 cents."),
]
DimensionValues = Annotated[
    Mapping[str, Sequence[str]],
    says(
        "Dimension -> values that the filter matches. __ALL_FILTER_VALUES__ matches every value of the metric."
    ),
]
Metadata = Annotated[Mapping[str, str | None] | None, says("Your notes: texts by name.")]
EmptyList = Annotated[list[Any], says("Always empty: kept for clients of Lago's API.")]


class Input(Struct):
    """An object of a request. Fields may be left out unless the operation requires them; others are ignored."""
