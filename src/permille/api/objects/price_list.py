"""Price lists that come with the server."""

from __future__ import annotations

from typing import Annotated

from permille.api.objects.base import Answer, Input, Name, one_of, says
from permille.core.rating.unlisted import UnlistedValues


class PriceList(Answer):
    """A plan with its metrics that comes with the server."""

    slug: Annotated[str, says("Name to apply it by.", example="openai-gpt-4")]
    name: Name
    description: Annotated[str | None, says("What it prices.")]
    billable_metric_codes: Annotated[list[str], says("Codes of its metrics.")]
    plan_code: Annotated[str, says("Code of its plan.")]


class AppliedObject(Answer):
    """A metric or plan of a price list."""

    code: Annotated[str, says("Its code.")]
    created: Annotated[bool, says("Whether it was created; false if it was there.")]


class AppliedPriceList(Answer):
    """What applying a price list has done."""

    slug: Annotated[str, says("Name of the price list.")]
    billable_metrics: Annotated[list[AppliedObject], says("Its metrics.")]
    plan: Annotated[AppliedObject, says("Its plan.")]


class PriceListInput(Input):
    """A price list to apply."""

    slug: Annotated[str, says("Name of the price list.", example="openai-gpt-4")]
    unlisted_values: Annotated[
        str, one_of(*UnlistedValues, says="What is done with usage that no price lists.")
    ]
