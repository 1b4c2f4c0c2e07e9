"""Margins: what customers pay against what providers bill for it."""

from __future__ import annotations

from typing import Annotated

from msgspec import UNSET, UnsetType

from permille.api.objects.base import Answer, Currency, says, text_of_number


class UncostedUsage(Answer, kw_only=True):
    """Usage of a metric whose cost is not known: the catalogue has no price for it, or it has no quantity."""

    billable_metric_code: Annotated[str, says("Code of the metric.", example="llm_tokens")]
    quantity: Annotated[str, text_of_number("How much.", example="1920.0")]
    events_count: Annotated[int, says("Number of events.")]


class MarginTotal(Answer, kw_only=True):
    """Revenue, cost and margin in a currency. `margin_amount_cents` is too high by what `uncosted` usage costs, and the usage
    that `revenue_without_cost_amount_cents` pays for.
    """

    currency: Currency
    billed_amount_cents: Annotated[
        int, says("Fees on final invoices and fees without an invoice, before coupons and taxes.")
    ]
    unbilled_amount_cents: Annotated[int, says("Fees on drafts, and usage of open periods as it is now.")]
    revenue_amount_cents: Annotated[int, says("Both together.")]
    revenue_without_cost_amount_cents: Annotated[
        int, says("Of the revenue: usage by metrics of your own, whose cost is not looked up.")
    ]
    cost_usd: Annotated[str, text_of_number("What providers bill, in US dollars, unrounded.")]
    usd_exchange_rate: Annotated[
        str | None, text_of_number("What one US dollar is in the currency, as sent; null: it wasn't sent.")
    ]
    cost_amount_cents: Annotated[
        str | None,
        text_of_number("The cost in the currency's smallest unit, unrounded; null without a rate."),
    ]
    margin_amount_cents: Annotated[
        str | None, text_of_number("Revenue less cost, unrounded; null without a rate.")
    ]
    margin_share: Annotated[
        str | None,
        text_of_number("The margin as a share of the revenue; null without either.", example="0.1667"),
    ]
    uncosted: Annotated[list[UncostedUsage], says("Usage without a known cost, by metric.")]


class Margin(MarginTotal, kw_only=True):
    """The same of a group. Of the names that it can be grouped by it has those that were asked for; null: of none."""

    day: Annotated[str | UnsetType | None, says("The day, in the customer's timezone.")] = UNSET
    external_customer_id: Annotated[str | UnsetType | None, says("Your identifier of the customer.")] = UNSET
    plan_code: Annotated[str | UnsetType | None, says("Code of the plan.")] = UNSET
    provider: Annotated[str | UnsetType | None, says("Who served the usage.")] = UNSET
    model: Annotated[str | UnsetType | None, says("The model.")] = UNSET
    type: Annotated[str | UnsetType | None, says("The type of tokens or calls.")] = UNSET
