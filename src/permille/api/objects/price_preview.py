"""What an edit of prices would do to the running bills."""

from __future__ import annotations

from typing import Annotated

from permille.api.objects.base import Answer, Currency, ExternalCustomerId, ExternalSubscriptionId, says

ByCurrency = dict[str, int]


class BillChange(Answer):
    """What would change for one subscription."""

    external_subscription_id: ExternalSubscriptionId
    external_customer_id: ExternalCustomerId
    currency: Currency
    amount_cents_before: Annotated[int, says("The running bill as it is.")]
    amount_cents_after: Annotated[int, says("The running bill with the edit.")]
    difference: Annotated[int, says("The difference.")]


class PricePreview(Answer):
    """What an edit of prices would do; nothing was saved."""

    subscriptions: Annotated[int, says("Running subscriptions that it reaches.")]
    compared: Annotated[int, says("Those of them whose bills were compared.")]
    changed: Annotated[int, says("Those of them whose bill changes.")]
    amount_cents_before: Annotated[ByCurrency, says("Currency -> sum of the running bills as they are.")]
    amount_cents_after: Annotated[ByCurrency, says("Currency -> sum with the edit.")]
    difference: Annotated[ByCurrency, says("Currency -> difference.")]
    most_changed: Annotated[list[BillChange], says("Bills that change most, the most first.")]
