"""Alerts on usage and balances, and what they have fired."""

from __future__ import annotations

from typing import Annotated

from permille.api.objects.base import (
    Answer,
    CreatedAt,
    Id,
    Input,
    instant_of,
    one_of,
    says,
    text_of_number,
)
from permille.api.objects.billable_metric import BillableMetric
from permille.core.alert import AlertType, Direction

Type = Annotated[
    str, one_of(*AlertType, says="What is looked at: amounts in the smallest unit, without taxes.")
]
AlertCode = Annotated[str, says("Your identifier, unique among alerts of the subscription or wallet.")]
AlertName = Annotated[str | None, says("Name for people.")]
ThresholdCode = Annotated[str | None, says("Your name of the threshold.", example="warn")]
Recurring = Annotated[
    bool, says("Whether it is a step that repeats from the last of the other thresholds on.")
]
SubscriptionOfAlert = Annotated[
    str | None, says("Your identifier of the subscription, if the alert is of one.", example="sub_42")
]
WalletId = Annotated[str | None, says("The wallet, if the alert is of one.")]
Value = Annotated[str, text_of_number("The value.", example="1500.0")]


class AlertThreshold(Answer):
    """A value to be reached."""

    code: ThresholdCode
    value: Value
    recurring: Recurring


class Alert(Answer, kw_only=True):
    """Thresholds on what a subscription uses or a wallet has; crossing any of them is a webhook."""

    lago_id: Id
    lago_organization_id: Annotated[str, says("The organization.")]
    external_subscription_id: SubscriptionOfAlert
    subscription_external_id: Annotated[str | None, says("Former name of external_subscription_id.")]
    lago_wallet_id: WalletId
    wallet_code: Annotated[str | None, says("Code of the wallet, if the alert is of one.")]
    alert_type: Type
    code: AlertCode
    name: AlertName
    direction: Annotated[str, one_of(*Direction, says="Which way the value crosses thresholds.")]
    previous_value: Annotated[str, text_of_number("What the value was at the last look.", example="1000.0")]
    last_processed_at: Annotated[
        str | None, instant_of("When the value was looked at last; null if it never was.")
    ]
    thresholds: Annotated[list[AlertThreshold], says("Values to be reached.")]
    billable_metric: Annotated[
        BillableMetric | None, says("The metric, where the alert is on the usage of one.")
    ]
    created_at: CreatedAt


class TriggeredAlert(Answer, kw_only=True):
    """What an alert has fired, with the figure that fired it."""

    lago_id: Id
    lago_organization_id: Annotated[str, says("The organization.")]
    lago_alert_id: Annotated[str, says("The alert, which may be deleted since.")]
    lago_subscription_id: Annotated[str | None, says("The subscription, if the alert is of one.")]
    external_subscription_id: SubscriptionOfAlert
    subscription_external_id: Annotated[str | None, says("Former name of external_subscription_id.")]
    lago_wallet_id: WalletId
    external_customer_id: Annotated[str, says("Your identifier of the customer.", example="cus_42")]
    customer_external_id: Annotated[str, says("Former name of external_customer_id.")]
    billable_metric_code: Annotated[str | None, says("Code of the metric, where the alert is on one.")]
    alert_name: AlertName
    alert_code: AlertCode
    alert_type: Type
    current_value: Annotated[str, text_of_number("The value that fired it.", example="3000.0")]
    previous_value: Annotated[str, text_of_number("The value before.", example="1000.0")]
    crossed_thresholds: Annotated[list[AlertThreshold], says("The thresholds between the two.")]
    triggered_at: Annotated[str, instant_of("When it fired.")]


class ThresholdInput(Input):
    """A value to be reached."""

    value: Annotated[str, text_of_number("The value; of a recurring one, the step.", example="1500")]
    code: ThresholdCode
    recurring: Recurring


class AlertInput(Input, kw_only=True):
    """Fields of an alert."""

    alert_type: Type
    code: AlertCode
    name: AlertName
    billable_metric_code: Annotated[str | None, says("The metric, for alerts on the usage of one.")]
    thresholds: Annotated[list[ThresholdInput], says("Up to 20, one of them recurring at most.")]
