"""What an operation of the API is: its address, what it takes, what it answers, and the function that does it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import GenericAlias
from typing import Annotated, Any, Generic, TypeVar

from permille.api.http import Endpoint
from permille.api.objects.base import Answer, Input, says
from permille.api.objects.pagination import Pagination
from permille.api.objects.price_preview import PricePreview

E_co = TypeVar("E_co", covariant=True)

Shape = Mapping[str, Any]
"""Fields of an object of JSON: name -> type."""


@dataclass(frozen=True, slots=True)
class Body:
    """What a request sends."""

    fields: Shape
    """The root object, and what may be sent beside it."""
    required: tuple[str, ...] = ()
    """Fields that the root object must have."""


@dataclass(frozen=True, slots=True)
class Operation(Generic[E_co]):
    """An operation, as it is routed and as the OpenAPI document describes it."""

    method: str
    path: str
    endpoint: E_co
    summary: str
    answers: Shape | str
    """The object that is answered, or the media type of what is no JSON."""
    description: str = field(default="", kw_only=True)
    query: Shape = field(default_factory=dict, kw_only=True)
    requires_query: tuple[str, ...] = field(default=(), kw_only=True)
    """Names of parameters in the query that cannot be left out."""
    body: Body | None = field(default=None, kw_only=True)
    otherwise: Shape | None = field(default=None, kw_only=True)
    """What it may answer instead."""
    goes_on: bool = field(default=False, kw_only=True)
    """Whether it may answer 202, with the same object, while what was asked for goes on."""
    errors: tuple[int, ...] = field(default=(), kw_only=True)
    """Statuses that it refuses with, beside those that follow from what it takes."""


@dataclass(frozen=True, slots=True)
class OperationGroup:
    """Operations on one kind of object."""

    name: str
    description: str
    operations: tuple[Operation[Endpoint], ...]


def list_of(item: type[Answer | Input]) -> Any:
    """The type of a list of these objects."""
    return GenericAlias(list, (item,))


def page_of(root: str, item: type[Answer]) -> Shape:
    """A page of a list."""
    return {
        root: Annotated[list_of(item), says("The objects of this page.")],
        "meta": Annotated[Pagination, says("Where the page is in the list.")],
    }


def sends(root: str, item: type[Input], *required: str, **beside: Any) -> Body:
    """A body with one root object."""
    return Body({root: item, **beside}, required)


PREVIEW: Shape = {"dry_run": PricePreview}
"""What an edit of prices answers with `dry_run`."""
