"""Whom a call is billed to: a subscription or a customer, and free properties of its events."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True)
class BilledTo:
    subscription: str | None = None
    customer: str | None = None
    properties: dict[str, str] = field(default_factory=dict)

    def fields(self) -> dict[str, Any]:
        """The fields of a usage that say whom it is billed to; none where that is not known yet."""
        given = {
            "external_subscription_id": self.subscription,
            "external_customer_id": None if self.subscription else self.customer,
            "properties": self.properties,
        }
        return {name: value for name, value in given.items() if value}


_CURRENT: ContextVar[BilledTo | None] = ContextVar("permille_billed_to", default=None)


def current(default: BilledTo) -> BilledTo:
    """What `billed_to` says around this call, over what the meter was made with."""
    here = _CURRENT.get()
    if here is None:
        return default
    properties = default.properties | here.properties
    if here.subscription is None and here.customer is None:
        return replace(default, properties=properties)
    return replace(here, properties=properties)


@contextmanager
def billed_to(
    subscription: str | None = None, *, customer: str | None = None, **properties: str
) -> Iterator[None]:
    """Bill the calls inside to this subscription (or customer's only one). Works across `await`."""
    outer = _CURRENT.get() or BilledTo()
    named = subscription is not None or customer is not None
    inner = BilledTo(
        subscription if named else outer.subscription,
        customer if named else outer.customer,
        outer.properties | properties,
    )
    token = _CURRENT.set(inner)
    try:
        yield
    finally:
        _CURRENT.reset(token)
