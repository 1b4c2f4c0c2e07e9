"""What an operation of the API is: its address, what it takes, what it answers, and the function that does it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import GenericAlias
from typing import Annotated, Any, Generic, TypedDict, TypeVar, Unpack

from permille.api.http import Endpoint
from permille.api.objects.base import Answer, Input, instant_of, one_of, says
from permille.api.objects.pagination import Pagination
from permille.api.objects.price_preview import PricePreview
from permille.core.record import Record

E = TypeVar("E")
E_co = TypeVar("E_co", covariant=True)

Shape = Mapping[str, Any]
"""Fields of an object of JSON: name -> type."""


class Body(Record):
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
    also: str | None = field(default=None, kw_only=True)
    """The media type of what it may answer that is no JSON."""
    goes_on: bool = field(default=False, kw_only=True)
    """Whether it may answer 202, with the same object, while what was asked for goes on."""
    errors: tuple[int, ...] = field(default=(), kw_only=True)
    """Statuses that it refuses with, beside those that follow from what it takes."""


class OperationGroup(Record):
    """Operations on one kind of object."""

    name: str
    resource: str
    """What permissions of API keys call it, one of RESOURCES."""
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

PAGE: Shape = {
    "page": Annotated[int, says("Number of the page, from 1.")],
    "per_page": Annotated[int, says("Objects on a page: 100 by default, 1000 at most.")],
}
DRY_RUN: Shape = {
    "dry_run": Annotated[bool, says("Answer what it would do to the running bills, and save nothing.")],
    "cascade_updates": Annotated[bool, says("Whether plans of single subscriptions follow.")],
}
"""What an edit that can be tried out takes, in the query or in the body beside its root object."""
SINCE: Shape = {
    "effective": Annotated[
        str, one_of("now", "next_period", says="Whether prices apply to running periods or to the next ones.")
    ],
    "effective_at": Annotated[str, instant_of("Prices apply to periods that begin from then on.")],
    **DRY_RUN,
}
"""What an edit of prices takes likewise."""


class Details(TypedDict, total=False):
    """What an operation of a resource has beside its address, its endpoint and its summary."""

    description: str
    query: Shape
    takes: type[Input]
    """The root object of the body."""
    needs: tuple[str, ...]
    """Fields that the root object must have."""
    beside: Shape
    """What the body may have beside the root object."""
    previews: bool
    """Whether it takes DRY_RUN, and answers a preview with `dry_run`."""
    reprices: bool
    """Whether it is an edit of prices: it takes SINCE, and answers a preview likewise."""
    otherwise: Shape
    errors: tuple[int, ...]
    goes_on: bool


class Resource(Record):
    """A kind of object and its addresses: operations on it, each in the words that differ."""

    path: str
    """The address of the list; its last part is the name of the list in answers."""
    key: str
    """The parameter of the path that names one object; empty where there is only one."""
    root: str
    item: Any
    """The type of an object."""
    listed: Any = None
    """What a list shows of each object, if that is less."""

    def create(self, endpoint: E, summary: str, **details: Unpack[Details]) -> Operation[E]:
        return self._operation("POST", self.path, endpoint, summary, details)

    def page(self, endpoint: E, summary: str, query: Shape | None = None) -> Operation[E]:
        """A page of the list."""
        answers = page_of(self.path.rsplit("/", 1)[-1], self.listed or self.item)
        return Operation("GET", self.path, endpoint, summary, answers, query={**(query or {}), **PAGE})

    def show(self, endpoint: E, summary: str, **details: Unpack[Details]) -> Operation[E]:
        return self.action("GET", "", endpoint, summary, **details)

    def update(self, endpoint: E, summary: str, **details: Unpack[Details]) -> Operation[E]:
        return self.action("PUT", "", endpoint, summary, **details)

    def delete(self, endpoint: E, summary: str, **details: Unpack[Details]) -> Operation[E]:
        return self.action("DELETE", "", endpoint, summary, **details)

    def action(
        self, method: str, below: str, endpoint: E, summary: str, **details: Unpack[Details]
    ) -> Operation[E]:
        """What is done with one object, at an address below its own."""
        path = f"{self.path}/{{{self.key}}}" if self.key else self.path
        return self._operation(method, path + below, endpoint, summary, details)

    def _operation(self, method: str, path: str, endpoint: E, summary: str, details: Details) -> Operation[E]:
        since = SINCE if details.get("reprices") else DRY_RUN if details.get("previews") else {}
        takes = details.get("takes")
        beside = details.get("beside", {})
        body = sends(self.root, takes, *details.get("needs", ()), **beside, **since) if takes else None
        return Operation(
            method,
            path,
            endpoint,
            summary,
            {self.root: self.item},
            description=details.get("description", ""),
            query={**details.get("query", {}), **since},
            body=body or (Body(beside) if beside else None),
            otherwise=PREVIEW if since else details.get("otherwise"),
            errors=details.get("errors", ()),
            goes_on=details.get("goes_on", False),
        )
