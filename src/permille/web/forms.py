"""What is wrong with a form, in words beside the field."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl

from starlette.requests import Request

from permille.api.bodies import read_body
from permille.core.errors import BadRequest, Invalid, Refusal
from permille.web.visit import Form, Problems

FORM_BYTES_MAX = 1_000_000
FIELDS_MAX = 5_000

WORDS = {
    "value_is_mandatory": "Fill this in.",
    "value_is_invalid": "This value can't be used.",
    "value_is_out_of_range": "This is too large or too small.",
    "value_is_too_long": "This is too long.",
    "value_already_exist": "This is taken already.",
    "would_reprice_other_values": "With this change other prices would win, and usage of values that stay would cost something else. Change or take away these filters first:",
    "usage_without_price": "Usage on it has no price yet: price its values, or choose what unlisted values cost, in the plan's charge.",
    "held_needs_an_invoice": "Usage is held on an invoice, and this recurring charge in advance makes fees without one.",
    "unlisted_values_not_chosen": "Choose what is done with values that no price lists.",
    "value_is_not_listed": "The metric doesn't list one of these values.",
    "must_be_true_unless_pay_in_advance": "Only what is paid in advance goes without an invoice.",
    "only_compatible_with_pay_in_advance_and_non_invoiceable": "Only fees in advance that have no invoice are gathered.",
    "invalid_value": "A percentage doesn't go with the latest value.",
    "invalid_date": "Give a date, like 2026-10-31.",
    "invalid_amount": "Give an amount of zero or more, like 0.03.",
    "invalid_units": "Give a number of zero or more.",
    "no_number": "Give a number, like 1234.50.",
    "invalid_expression": "This is no expression. Try event.properties.tokens / 1000.",
    "invalid_json": 'Give a JSON object, like {"model": "8K", "tokens": 617}.',
    "invalid_time": "Give a time in UTC, like 2026-10-31 14:05:00.",
    "invalid_custom_properties": 'Give a JSON object of numbers and texts, like {"price": "0.12"}.',
    "missing_custom_properties": "The metric's own rules look at a property that is not given here.",
    "invalid_rate": "Give a percentage of zero or more, like 2.5.",
    "invalid_fixed_amount": "Give the fixed price as an amount of zero or more.",
    "invalid_free_units_per_events": "Give the free events as a whole number of at least 1.",
    "invalid_free_units_per_total_aggregation": "Give the free units as a number of zero or more.",
    "per_transaction_max_lower_than_per_transaction_min": "The greatest price is below the least.",
    "missing_graduated_ranges": "Give at least one tier.",
    "invalid_graduated_ranges": "Each tier ends above its start, and only the last one is open.",
    "missing_volume_ranges": "Give at least one tier.",
    "invalid_volume_ranges": "Each tier ends above its start, and only the last one is open.",
    "missing_graduated_percentage_ranges": "Give at least one tier.",
    "invalid_graduated_percentage_ranges": "Each tier ends above its start, and only the last one is open.",
    "invalid_aggregation_type_or_charge_model": "This doesn't go with the metric's aggregation.",
    "invalid_billable_metric_or_charge_model": "Only recurring metrics are prorated, by the unit, by tiers or by volume.",
    "not_compatible_with_pay_in_advance": "This doesn't go with payment in advance.",
    "invalid_package_size": "Give a whole number of at least 1.",
    "invalid_free_units": "Give a whole number of at least 0.",
    "not_supported_yet": "This isn't built yet.",
    "not_compatible_with_aggregation_type": "This doesn't go with the aggregation.",
    "relation_must_exist": "The metric doesn't have this dimension.",
    "url_invalid": "Give a whole address, like https://example.com/hooks.",
    "loopback_only_in_test_mode": "An address of this machine is allowed in test mode only.",
    "exceeded_limit": "There are as many as there can be: delete one first.",
    "currencies_does_not_match": "The customer pays in another currency than the plan's.",
    "plan_not_found": "There is no such plan.",
    "pricing_unit_not_found": "There is no such pricing unit.",
    "billable_metrics_not_found": "There is no such metric.",
    "attached_to_charges": "Charges of a plan are priced in it: give them another unit first.",
    "cannot_be_billed": "Something of this customer cannot be billed as it is: see why on the customer's page.",
    "amount_out_of_range": "What is to be billed comes to an amount that no invoice can have: correct the event or the price first.",
    "cannot_go_back": "The clock can't go back.",
    "too_many_failures": "Too many failed attempts: try again in a quarter of an hour.",
    "wrong_email_or_password": "This email and password don't belong together.",
    "password_too_short": "Use at least 10 characters (at most 200).",
    "own_user": "You can't remove yourself or change your own role. Ask another admin.",
    "owner_user": "An owner of the installation is an admin of every organization.",
    "no_active_subscription": "There is no active subscription whose period could end.",
    "late_usage_is_accepted": "It was written off already.",
    "late_usage_is_billed": "It is billed already, or will be by the next invoice.",
    "late_usage_is_gone": "There is no late usage any more: what came in later has undone it.",
    "value_is_negative": "It comes to less than was billed: only what comes to more can be billed.",
    "role": "Your role doesn't allow this.",
    "feature_unavailable": "This isn't available.",
}
PLACES = {
    "plan_not_found": "plan_code",
    "billable_metrics_not_found": "billable_metric_code",
}


def problems_of(refusal: Refusal) -> Problems:
    """Field -> codes; what belongs to no field is under `base`."""
    if isinstance(refusal, Invalid):
        return {name: _codes(found) for name, found in refusal.errors.items()}
    if isinstance(refusal, BadRequest):
        return {"base": [refusal.reason]}
    code = refusal.code or str(refusal.status)
    return {PLACES.get(code, "base"): [code]}


def _codes(found: Any) -> list[str]:
    if isinstance(found, Mapping):
        return [code for each in found.values() for code in _codes(each)]
    return (
        [str(code) for code in found]
        if isinstance(found, Sequence) and not isinstance(found, str)
        else [str(found)]
    )


def read_json(text: str) -> Any:
    """JSON with exact numbers; a text that is none stays itself, for the API to say what is wrong with it."""
    try:
        return json.loads(text, parse_float=Decimal, parse_constant=str)
    except (ValueError, RecursionError):
        return text


async def read_form(request: Request) -> Form:
    """The fields of an urlencoded form. Raises Refusal for what is too large, BadRequest for what is none."""
    sent = await read_body(request.headers.raw, request.receive, FORM_BYTES_MAX)
    try:
        text = sent.decode()
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=FIELDS_MAX, errors="strict")
    except ValueError as error:
        raise BadRequest("the form can't be read") from error
    if any("\0" in key or "\0" in value for key, value in pairs):
        raise BadRequest("the form has a NUL character")
    return Form(pairs=tuple(pairs))
