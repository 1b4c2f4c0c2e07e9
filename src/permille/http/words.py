"""Codes in words: what is wrong, for people, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from permille.core.errors import BadRequest, Invalid, Refusal, Unevaluable

PROBLEMS_NAMED = 5
ALLOWED_NAMED = 12

WORDS = {
    "value_is_mandatory": "Fill this in.",
    "alert_already_exists": "There is an alert of this kind already: change that one.",
    "duplicate_threshold_values": "Each threshold needs a value of its own.",
    "recurring_value_is_negative": "The step of a recurring threshold must be above 0.",
    "too_many_recurring_thresholds": "Only one threshold can be recurring.",
    "too_many_thresholds": "At most 20 thresholds.",
    "too_many_prices": "A plan has at most 10,000 charges and filters together, 100,000 with its earlier and later prices: leave some out, or make another plan.",
    "too_many_values": "The filters of a metric have at most 20,000 values together: leave some out.",
    "value_must_be_blank": "Leave this out: it isn't for this kind.",
    "value_not_in_select_options": "Choose one of the privilege's options.",
    "invalid_charge_model": "The price of this line depends on more than its units: give a price of a unit too.",
    "value_is_invalid": "This value can't be used.",
    "value_is_out_of_range": "This is too large or too small.",
    "value_is_too_long": "This is too long.",
    "too_many_properties": "An event has at most 1,000 properties, nested ones included.",
    "missing_amount_cents": "Give each threshold an amount.",
    "duplicated_values": "Give each amount once.",
    "multiple_recurring_thresholds": "Only one threshold can be recurring.",
    "incompatible_params": "Give only one of the fields that exclude each other.",
    "value_is_duplicated": "Give each one once.",
    "value_already_exist": "This is taken already.",
    "cannot_be_stored": "The database refuses a value in it, and always will; the server's log says which. Shorten or leave out what is unusual.",
    "late_usage_is_accepted": "It was written off already.",
    "late_usage_is_billed": "It is billed already, or will be by the next invoice.",
    "late_usage_is_gone": "There is no late usage any more: what came in later has undone it.",
    "value_is_negative": "It comes to less than was billed: only what comes to more can be billed.",
    "would_reprice_other_values": "With this change other prices would win, and usage of values that stay would cost something else. Change or take away these filters first:",
    "usage_without_price": "Usage on it has no price yet: price its values, or choose what unlisted values cost, in the plan's charge.",
    "held_needs_an_invoice": "Usage is held on an invoice, and this recurring charge in advance makes fees without one.",
    "unlisted_values_not_chosen": "Choose what is done with values that no price lists.",
    "value_is_not_listed": "The metric doesn't list one of these values.",
    "must_be_true_unless_pay_in_advance": "Only what is paid in advance goes without an invoice.",
    "only_compatible_with_pay_in_advance_and_non_invoiceable": "Only fees in advance that have no invoice are gathered.",
    "invalid_value": "This value can't be used.",
    "sent_a_moment_ago": "You sent the same a moment ago, and it was done. To do it once more, send it again.",
    "invalid_email_format": "Give an address like ap@example.com, or several with commas between them.",
    "subscription_has_plan": "A subscription with this id runs on this plan already: give the new one an id of its own.",
    "invalid_color": "Give a colour as six digits, like #1f4e79.",
    "color_is_too_light": "It can't be read on white: choose a darker one.",
    "invalid_date": "Give a date, like 2026-10-31.",
    "invalid_amount": "Give an amount of zero or more, like 0.03.",
    "invalid_units": "Give a number of zero or more.",
    "no_number": "Give a number, like 1234.50.",
    "no_whole_number": "Give a whole number, like 30.",
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
    "cannot_be_changed": "This stays as it is: leave it out, or make a new one.",
    "not_compatible_with_aggregation_type": "This doesn't go with the aggregation.",
    "relation_must_exist": "The metric doesn't have this dimension.",
    "url_invalid": "Give a whole address, like https://example.com/hooks.",
    "loopback_only_in_test_mode": "An address of this machine is allowed in test mode only.",
    "usage_is_counted": "This usage was counted already.",
    "provider_not_found": "The price catalogue has no provider of this name: look at GET /llm/current_models, or give the prices.",
    "price_not_found": "The price catalogue has no price of this model today: look for its name, or give the prices.",
    "model_is_deprecated": "Its provider no longer offers this model: choose another one, or ask for deprecated ones too.",
    "code_of_a_metric": "A metric counts events of this code: they would be billed twice.",
    "alias_is_missing": "Add an alias first that says which model this name is.",
    "charge_is_gone": "The charge is gone since.",
    "charge_is_changed": "The charge was saved again since: its prices may be others for that, too.",
    "late_usage": "There is late usage of the period: decide about both together.",
    "invoice_is_regenerated": "It replaces a voided invoice: its fees may have been changed by hand.",
    "usage_is_changed": "Events of the period came in or were amended since.",
    "price_is_gone": "Some of its usage has no price any more.",
    "minimum_commitment": "The plan has a minimum: what comes back may be missing to it.",
    "nothing_left_to_credit": "What has become cheaper came back already, by other credit notes.",
    "nothing_to_credit": "Nothing of it comes back by itself: look at its status and its problem.",
    "already_approved": "It is approved: charges may go by it. Import another version.",
    "outliers_not_accepted": "Some prices are gone, become 0 or change tenfold: name their models to accept that.",
    "unreadable_prices": "This can't be read as a price file of that source.",
    "provider_is_missing": "Give the provider too, like azure/prod-chat-eu.",
    "page_is_too_large": "These objects have too much in them for one page: ask for fewer with per_page, like 1.",
    "too_many_price_files": "There are 1,000 price files at most, of 250 MB together: withdraw pending versions, or leave out what you have no use for.",
    "exceeded_limit": "There are as many as there can be: delete one first.",
    "currencies_does_not_match": "An add-on has its price in another currency: give each fee a unit_amount_cents.",
    "wallet_limit_reached": "The customer has as many active wallets as it can have: terminate one first.",
    "wallet_is_terminated": "The wallet is terminated: open another one.",
    "insufficient_credits": "The wallet has fewer credits than that.",
    "amount_rounds_to_zero": "These credits are worth nothing: give more of them.",
    "amount_below_minimum": "This is less than the wallet's smallest amount at once.",
    "amount_above_maximum": "This is more than the wallet's largest amount at once.",
    "must_be_greater_than_or_equal_min": "The largest amount is below the smallest one.",
    "invalid_recurring_rule": "An interval needs an interval and credits, a threshold needs a threshold, and a target must not be below it.",
    "invalid_paid_credits": "Give credits as a number, like 12.5.",
    "invalid_granted_credits": "Give credits as a number, like 12.5.",
    "invalid_voided_credits": "Give credits as a number, like 12.5.",
    "plan_not_found": "There is no such plan.",
    "coupon_not_found": "There is no such coupon, or it has expired: choose another, or change its expiry.",
    "coupon_is_not_reusable": "This coupon may be applied once, and was: make another, or one that can be applied again.",
    "plan_overlapping": "The customer has another coupon for some of the same fees: remove that one first.",
    "only_one_limitation_type_per_coupon_allowed": "Limit a coupon to plans or to metrics, not to both.",
    "plans_not_found": "There is no plan with one of these codes.",
    "pricing_unit_not_found": "There is no such pricing unit.",
    "billable_metrics_not_found": "There is no such metric.",
    "attached_to_charges": "Charges of a plan are priced in it: give them another unit first.",
    "cannot_be_billed": "Something of this customer cannot be billed as it is: see why on the customer's page.",
    "amount_out_of_range": "What is to be billed comes to an amount that no invoice can have: correct the event or the price first.",
    "invalid_type_or_status": "The invoice isn't paid, or the wallet of its credits has ended since.",
    "higher_than_wallet_balance": "The wallet has less left than that.",
    "not_regenerable": "Only a voided invoice can be made again. Void it first.",
    "type_not_regenerable": "Only invoices of subscriptions can be made again: make a new invoice of the same fees, or top the wallet up again.",
    "already_regenerated": "It was made again already. Void that invoice first, and make that one again.",
    "not_voidable": "Only a final invoice can be voided, and once.",
    "total_amount_exceeds_invoice_amount": "It is more than what is left of the invoice, or than what was paid of it.",
    "no_voidable_amount": "There is no credit left to void.",
    "higher_than_remaining_fee_amount": "It is more than what is left of this fee.",
    "higher_than_remaining_invoice_amount": "It is more than what is left: of what was paid for a refund, of what is due for an offset.",
    "cannot_refund_unpaid_invoice": "The invoice isn't paid: there is nothing to refund.",
    "cannot_credit_invoice": "Prepaid credits can only be refunded.",
    "does_not_match_item_amounts": "Credit, refund and offset don't add up to what the items come to with taxes.",
    "total_amount_must_be_positive": "Say how much comes back.",
    "must_be_an_array": "Give a list of fees with amounts.",
    "update_on_voided_invoice": "The invoice is void: it stays as it is.",
    "not_deletable": "Only a draft can be deleted.",
    "fees_not_found": "Choose at least one add-on.",
    "values_are_invalid": "Give both ends of the period, or none.",
    "invoice_is_no_draft": "The invoice is no draft any more: it stays as it is.",
    "clock_is_moving": "The clock is on its way to another time: wait until it is there (moving_to is null then).",
    "cannot_go_back": "The clock can't go back.",
    "too_many_failures": "Too many failed attempts: try again in a quarter of an hour.",
    "too_many_sign_ins": "Many sign in at the moment: try again in a few seconds.",
    "sso_unknown_user": "There is no user with your email: ask an admin of your organization for an invitation.",
    "sso_other_identity": "Your email belongs to a user who is somebody else at the provider: ask the operator of the server.",
    "wrong_code": "This is not the code, or it was used already: wait for the next one.",
    "second_factor_is_on": "There is a second factor already.",
    "member_elsewhere": "This user is in other organizations too: ask an owner of the installation.",
    "wrong_password": "This is not your password.",
    "wrong_email_or_password": "This email and password don't belong together.",
    "password_too_short": "Use at least 10 characters (at most 200).",
    "own_user": "You can't remove yourself or change your own role. Ask another admin.",
    "owner_user": "An owner of the installation is an admin of every organization.",
    "no_active_subscription": "There is no active subscription whose period could end.",
    "role": "Your role doesn't allow this.",
    "feature_unavailable": "This isn't available.",
    "resource_not_found": "There is nothing at this address: look at its path and the ids in it.",
    "method_not_allowed": "This address doesn't take that method: the header Allow lists those that it takes.",
    "unauthorized": "The API key is missing or unknown: send it as Authorization: Bearer KEY.",
    "body_too_large": "The body is too large: send less at once, or raise PERMILLE_MAX_BODY_BYTES.",
    "unsupported_content_encoding": "The body has an encoding that isn't known: send it plain or as gzip.",
    "headers_too_large": "The headers are too large: send at most 100, and 64 kB of them.",
    "body_framing_too_large": "The body comes in too small pieces, or has too long trailers: send it in larger ones.",
    "request_too_slow": "The request didn't arrive in time: send it again.",
    "too_many_connections": "There are too many connections: close some, or wait, then send it again.",
    "not_http": "This isn't HTTP/1.1.",
    "unknown_transfer_encoding": "Send the body as it is, or in chunks: Transfer-Encoding can only be chunked.",
    "several_hosts": "Send one Host header.",
    "unknown_host": "The Host header names another server: see PERMILLE_ALLOWED_HOSTS.",
    "too_many_bytes": "Too much is being sent at once: wait for some of it to be answered, then send it again.",
    "too_many_documents": "Too many documents are being made at the moment: ask for it again in a moment.",
    "too_many_guesses": "There were too many wrong keys from this address: wait a minute, then send it again.",
    "too_many_requests": "These are too many requests at once: wait for some of them to be answered, then send it again.",
    "took_too_long": "It took too long, or something else was in its way: send it again, or ask for less at once.",
    "try_again": "The database can't be reached at the moment: send it again.",
    "crashed": "Something went wrong here, not in the request: the server's log has the request_id.",
    "invalid_format": "This can't be read: it has another form than it should have.",
    "no_events": "Give a list of events.",
    "too_many_events": "These are too many events for one request: send fewer at once.",
    "test_clock_not_available": "Only organizations in test mode have a clock of their own.",
    "period_is_billed": "The invoice of its period is final, so no invoice has it until somebody decides (late usage).",
    "no_subscription_at_that_time": "No subscription with this id runs at the event's time.",
    "value_is_not_valid_number": "Give a number, or a text of digits: this counts as nothing.",
    "no_units": "The metric's own rules make nothing of it.",
    "not_priced": "The subscription's plan doesn't price this metric.",
    "unpriced": "The event counts, but no price of the plan is for its values.",
    "invoice_is_not_final": "Only a final invoice can be paid: finalize the draft first.",
    "invoices_not_overdue": "All the invoices must be overdue: leave out those that are not.",
    "invoices_have_different_currencies": "The invoices must be in one currency: make a request for each.",
    "invoices_have_different_billing_entities": "The invoices must be of one billing entity: make a request for each.",
    "billing_entity_must_be_in_eu": "The seller must be in the European Union: set its country first.",
    "no_linked_payment_provider": "No payment provider is set: record the payment once the customer has paid.",
    "invalid_status": "The invoice has a status that doesn't go with this.",
    "invoiced_fee": "The fee is on an invoice, which is paid or not as a whole.",
}
_WHOLE_CENTS = "Give a whole number of the currency's smallest unit, like 1050 for 10.50 USD, or 11 for 11 JPY, which has no decimals."
_THRESHOLDS_TWICE = "Give usage_thresholds once: of the subscription or in plan_overrides."
_ADDRESSES = "Give addresses, like ada@example.com."
_WORDS_OF_FIELDS = {
    (
        "timestamp",
        "invalid_format",
    ): "Give seconds since 1970, or a date and time like 2026-10-31T14:05:00Z, of 1900 to 2199.",
    ("document_locale", "value_is_invalid"): (
        "Documents are not written in this language. Give one of those allowed, or a regional variant like de-CH."
    ),
    ("timezone", "value_is_invalid"): "Give the name of a timezone, like Europe/Paris.",
    ("properties", "invalid_value"): "A percentage doesn't go with the latest value.",
    ("amount_cents", "invalid_value"): "Give a whole number above 0, in the currency's smallest unit.",
    ("amount", "invalid_value"): "Give an amount above 0.",
    **dict.fromkeys([(each, "value_is_invalid") for each in ("to", "cc", "bcc")], _ADDRESSES),
    ("usage_thresholds", "incompatible_params"): _THRESHOLDS_TWICE,
    ("plan_overrides", "incompatible_params"): _THRESHOLDS_TWICE,
    ("external_subscription_id", "incompatible_params"): "Give a customer or a subscription, not both.",
    ("transaction_id", "value_already_exist"): "An event with this id is stored already: it counts once.",
}


def in_words(code: str, field: str = "") -> str:
    """A code of the API as a sentence: where it has another meaning in a field, that one."""
    if (field, code) in _WORDS_OF_FIELDS:
        return _WORDS_OF_FIELDS[field, code]
    if " " in code:
        return f"{code.removesuffix('.')}."
    if code == "value_is_invalid" and field.endswith("_cents"):
        return _WHOLE_CENTS
    if code in WORDS:
        return WORDS[code]
    resource, found, _ = code.partition("_not_found")
    text = code.replace("_", " ").capitalize()
    return f"There is no such {resource.replace('_', ' ')}." if found else f"{text}."


def message_of(refusal: Refusal) -> str:
    """What is wrong with a request, in plain sentences that name the fields."""
    if isinstance(refusal, BadRequest):
        return f"{refusal.reason[:1].upper()}{refusal.reason[1:].removesuffix('.')}."
    if not isinstance(refusal, Invalid | Unevaluable):
        return in_words(refusal.code or str(refusal.status))
    allowed = refusal.allowed if isinstance(refusal, Invalid) else {}
    problems = list(_problems(refusal.errors, allowed))
    named = " ".join(problems[:PROBLEMS_NAMED])
    more = len(problems) - PROBLEMS_NAMED
    return f"{named} And {more} more." if more > 0 else named


def _problems(
    errors: str | Mapping[str, Any], allowed: Mapping[str, tuple[str, ...]], place: str = ""
) -> Iterator[str]:
    """A sentence for each problem; in a batch, fields are under the index of their event."""
    if isinstance(errors, str):
        yield f"{place}{in_words(errors)}"
        return
    for name, found in errors.items():
        if not isinstance(found, list):
            yield from _problems(found, allowed, f"{place}{name}: ")
            continue
        for code in found:
            yield place + problem_in_words(name, code, allowed.get(name, ()))


def problem_in_words(field: str, code: str, allowed: Sequence[str] = ()) -> str:
    """What is wrong with a field, and what it may be when that is a short list."""
    sentence = in_words(code, field)
    choice = f" Use one of {', '.join(allowed)}." if 0 < len(allowed) <= ALLOWED_NAMED else ""
    return f"{sentence}{choice}" if field == "base" else f"{field}: {sentence}{choice}"
