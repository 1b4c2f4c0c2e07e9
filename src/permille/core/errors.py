"""Refusals: what we answer when a request asks for something that cannot be had.

A refusal is expected and becomes a 4xx with Lago's code; a bug is any other exception and becomes a 500.
Source: semantics-metering.md, appendix A.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Refusal(Exception):  # noqa: N818 -- a refusal is not an error of ours; the name is the vocabulary's
    """A request is turned down with an HTTP status and, usually, one of Lago's codes."""

    def __init__(self, *, status: int, code: str | None = None) -> None:
        super().__init__(code or str(status))
        self.status = status
        self.code = code


class NotFound(Refusal):
    """404 `<resource>_not_found`."""

    def __init__(self, resource: str) -> None:
        super().__init__(status=404, code=f"{resource}_not_found")
        self.resource = resource


class NotAllowed(Refusal):
    """405: the object exists, and its state does not allow this."""

    def __init__(self, code: str) -> None:
        super().__init__(status=405, code=code)


class Forbidden(Refusal):
    """403: nobody with this key may do this."""

    def __init__(self, code: str) -> None:
        super().__init__(status=403, code=code)


class BadRequest(Refusal):
    """400: the body cannot be read at all. It has a reason, and no code."""

    def __init__(self, reason: str) -> None:
        super().__init__(status=400)
        self.reason = reason
        self.args = (reason,)


class Invalid(Refusal):
    """422 `validation_errors`: field -> list of codes, every faulty field at once.

    `allowed` lists the values of the fields that take one of a closed set.
    """

    def __init__(
        self, errors: Mapping[str, Any], *, allowed: Mapping[str, tuple[str, ...]] | None = None
    ) -> None:
        super().__init__(status=422, code="validation_errors")
        self.errors = dict(errors)
        self.allowed = dict(allowed or {})
        self.args = (self.errors,)


class Unevaluable(Refusal):
    """422 for events whose metric's expression has no value: a text, or in a batch index -> text, as in Lago.

    Events of the batch that are wrong otherwise have their errors by field, as ever.
    """

    def __init__(self, errors: str | Mapping[str, Any]) -> None:
        super().__init__(status=422, code="validation_errors")
        self.errors = errors
        self.args = (errors,)


class Unpriced(Invalid):
    """422: there is usage on an invoice that has no price, and its charge says that it waits for one."""

    def __init__(self) -> None:
        super().__init__({"unlisted_values": ["usage_without_price"]})


class AmountOutOfRangeError(ArithmeticError):
    """An amount has more digits than money can have: its event or its price is absurd."""


class Unbillable(Invalid):
    """422: what is to be billed comes to an amount that no invoice can have, or cannot be billed for another reason."""

    def __init__(self, reason: str, *, code: str = "amount_out_of_range") -> None:
        super().__init__({"base": [code]})
        self.reason = reason
