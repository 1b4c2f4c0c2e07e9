"""Every path of the API: the function that answers it, what it takes and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from msgspec import UnsetType

from permille.api import (
    activity_logs,
    add_ons,
    alerts,
    amendments,
    analytics,
    api_logs,
    billable_metrics,
    billing_entities,
    catalogue_versions,
    charges,
    coupons,
    credit_notes,
    custom_sections,
    customers,
    daily_usage,
    dunning_campaigns,
    entitlements,
    estimates,
    events,
    explanations,
    features,
    fees,
    fixed_charges,
    held_groups,
    held_usages,
    invoice_preview,
    invoices,
    late_usage,
    lifetime_usage,
    llm_intakes,
    llm_setup,
    mail_servers,
    mails,
    margin,
    model_aliases,
    one_off,
    organization_settings,
    organizations,
    payer_rules,
    payment_requests,
    payments,
    plan_metadata,
    plans,
    price_lists,
    pricing_units,
    recent_usages,
    regenerated_invoices,
    scheduled_changes,
    sign_in_links,
    subscriptions,
    taxes,
    unknown_models,
    usage,
    wallet_transactions,
    wallets,
    webhook_endpoints,
    webhooks,
)
from permille.api.addresses import Route
from permille.api.alerts import AlertEndpoints
from permille.api.http import AdminEndpoint, Apart, Endpoint, Engine, Reads, admin_route, read_apart, route
from permille.api.not_built import NOT_BUILT, not_built
from permille.api.objects import (
    activity_log,
    add_on,
    alert,
    analytics as analytics_objects,
    api_log,
    billable_metric,
    billing_entity,
    charge,
    coupon,
    credit_note,
    custom_section,
    customer,
    dunning_campaign,
    event,
    feature,
    fee,
    fee_explanation,
    fixed_charge,
    invoice,
    late_usage as late_usage_objects,
    llm,
    mail,
    margin as margin_objects,
    organization,
    payment,
    plan,
    price_list,
    pricing_unit,
    sign_in_link,
    subscription,
    tax,
    usage as usage_objects,
    wallet,
    webhook_endpoint,
)
from permille.api.objects.base import Answer, Metadata, instant_of, one_of, says
from permille.api.operations import (
    PAGE,
    Body,
    Operation,
    OperationGroup,
    Resource,
    Shape,
    list_of,
    page_of,
    sends,
)
from permille.core.api_key import Mode
from permille.core.coupon import CouponStatus
from permille.core.feature import Value
from permille.core.invoice.late_usage import LateUsageStatus
from permille.core.metering.amendment import AmendmentKind
from permille.core.period import BillingTime
from permille.core.record import replace
from permille.core.wallet import TransactionStatus

API = "/api/v1"
ADMIN = "/admin/v1"
PDF = "application/pdf"

CUSTOMER = Annotated[str, says("Only those of this customer.")]
SUBSCRIPTION = Annotated[str, says("Your identifier of the subscription.")]
CURRENCY = Annotated[str, says("Only those in this currency.")]
STATUS = Annotated[str, says("Status of the subscription, if not the active one.")]
SEARCH = Annotated[str, says("Only those that have this text in a name or number.")]
SELF_BILLED = Annotated[bool, says("Only those of partners, or the others.")]
OF_ENTITY = Annotated[str, says("Only what this billing entity bills, by code.")]
ENTITIES = Annotated[list[str], says("Only those of these billing entities, by code.")]
METADATA = Annotated[dict[str, str], says("Only those with these notes: metadata[key]=value.")]


def on_or_after(what: str) -> Any:
    """A lower bound."""
    return Annotated[str, instant_of(f"Only those {what} then or later.")]


def on_or_before(what: str) -> Any:
    """An upper bound."""
    return Annotated[str, instant_of(f"Only those {what} then or earlier.")]


INVOICE_FILTERS: Shape = {
    "external_customer_id": CUSTOMER,
    "status": Annotated[list[str], says("Only those with these statuses.")],
    "statuses": Annotated[list[str], says("The same.")],
    "payment_status": Annotated[list[str], says("Only those with these payment statuses.")],
    "payment_statuses": Annotated[list[str], says("The same.")],
    "payment_overdue": Annotated[bool, says("Only those that are overdue, or that are not.")],
    "payment_dispute_lost": Annotated[bool, says("Only those whose dispute was lost, or the others.")],
    "self_billed": SELF_BILLED,
    "invoice_type": Annotated[list[str], says("Only these kinds of invoices.")],
    "invoice_types": Annotated[list[str], says("The same.")],
    "billing_entity_codes": ENTITIES,
    "currency": CURRENCY,
    "issuing_date_from": on_or_after("dated"),
    "issuing_date_to": on_or_before("dated"),
    "amount_from": Annotated[int, says("Only those with at least this total, in the smallest unit.")],
    "amount_to": Annotated[int, says("Only those with at most this total.")],
    "search_term": SEARCH,
    "metadata": METADATA,
    **PAGE,
}
COUPON_FILTERS: Shape = {
    "status": Annotated[str, one_of(*CouponStatus, says="Only those of this status.")],
    "coupon_code": Annotated[list[str], says("Only those of these coupons.")],
}
OF_INVOICE: Shape = {"invoice_id": Annotated[str, says("Only those of this invoice, by lago_id.")]}
PAYMENT_REQUEST_FILTERS: Shape = {
    "payment_status": Annotated[
        str, one_of(*payment.REQUEST_STATUSES, says="Only those with this payment status.")
    ],
    "currency": CURRENCY,
    "billing_entity_codes": ENTITIES,
}
VOID: Shape = {
    "generate_credit_note": Annotated[bool, says("Whether credit notes are issued for what it came to.")],
    "refund_amount": Annotated[int, says("What of it is paid back, in the currency's smallest unit.")],
    "credit_amount": Annotated[int, says("What of it is credit for later invoices.")],
}
CREDIT_NOTE_FILTERS: Shape = {
    "external_customer_id": CUSTOMER,
    "credit_status": Annotated[str, says("Only those with this status of their credit.")],
    "refund_status": Annotated[str, says("Only those with this status of their refund.")],
    "reason": Annotated[str, says("Only those issued for this reason.")],
    "currency": CURRENCY,
    "invoice_number": Annotated[str, says("Only those of this invoice.")],
    "issuing_date_from": on_or_after("dated"),
    "issuing_date_to": on_or_before("dated"),
    "amount_from": Annotated[int, says("Only those of at least this amount.")],
    "amount_to": Annotated[int, says("Only those of at most this amount.")],
    "search_term": SEARCH,
    "billing_entity_codes": ENTITIES,
    "self_billed": SELF_BILLED,
}
SUBSCRIPTION_FILTERS: Shape = {
    "status": Annotated[list[str], says("Only those of these statuses; the active ones by default.")],
    "external_customer_id": CUSTOMER,
    "plan_code": Annotated[str, says("Only those on this plan.")],
    "currency": Annotated[list[str], says("Only those in these currencies.")],
    "billing_entity_codes": ENTITIES,
    **PAGE,
}
USAGE_FILTERS: Shape = {
    "charge_id": Annotated[str, says("Only this charge, by lago_id.")],
    "charge_code": Annotated[str, says("Only this charge, by code.")],
    "billable_metric_code": Annotated[str, says("Only this metric.")],
    "filter_by_charge_id": Annotated[str, says("Former name of charge_id.")],
    "filter_by_charge_code": Annotated[str, says("Former name of charge_code.")],
    "filter_by_metric_code": Annotated[str, says("Former name of billable_metric_code.")],
    "group": Annotated[dict[str, str], says("Only this pricing group: group[key]=value, or a JSON object.")],
    "filter_by_group": Annotated[dict[str, str], says("Former name of group.")],
    "skip_grouping": Annotated[bool, says("Add up pricing groups.")],
    "filter_by_presentation": Annotated[str, says("JSON list of the properties to break units down by.")],
    "full_usage": Annotated[bool, says("Since the start of the subscription instead of the period.")],
    "apply_taxes": Annotated[bool, says("Whether taxes are computed; true by default.")],
}


STATUS_OF: Mapping[str, Shape] = {
    "plan": {},
    "wallet": {},
    "subscription": {"subscription_status": STATUS, "status": STATUS},
}
OWN_UNITS = (
    "Units alone are the subscription's own. Anything else gives it a copy of its plan, if it has none yet."
)
OWN_PLAN = "The subscription gets a copy of its plan, if it has none yet; other subscriptions keep theirs."


def _filters_of(path: str, owner: str) -> tuple[Operation[Endpoint], ...]:
    """Filters of a charge, of a plan or of a subscription."""
    filters, query = Resource(path, "filter_id", "filter", charge.ChargeFilter), STATUS_OF[owner]
    return (
        filters.create(
            charges.create_filter,
            f"Create a filter of a {owner}'s charge",
            takes=charge.ChargeFilterInput,
            needs=("values",),
            query=query,
            reprices=True,
        ),
        filters.page(charges.list_filters, f"List the filters of a {owner}'s charge", query=query),
        filters.show(charges.show_filter, f"Get a filter of a {owner}'s charge", query=query),
        filters.update(
            charges.update_filter,
            f"Change a filter of a {owner}'s charge",
            takes=charge.ChargeFilterInput,
            query=query,
            reprices=True,
        ),
        filters.delete(
            charges.delete_filter,
            f"Delete a filter of a {owner}'s charge",
            description="Its usage gets the price of the next filter that matches, or the charge's own.",
            query=query,
            reprices=True,
        ),
    )


def _charges_of(path: str, owner: str) -> tuple[Operation[Endpoint], ...]:
    """Charges of a plan or of a subscription."""
    those, query = Resource(path, "charge_code", "charge", charge.Charge), STATUS_OF[owner]
    return (
        those.page(charges.list_charges, f"List a {owner}'s charges", query=query),
        those.show(charges.show_charge, f"Get a {owner}'s charge", query=query),
        those.update(
            charges.update_charge,
            f"Change a {owner}'s charge",
            description=OWN_PLAN if owner == "subscription" else "",
            takes=charge.ChargeInput,
            query=query,
            reprices=True,
        ),
    )


def _wallets_at(
    wallets_: Resource, create: Endpoint, page: Endpoint, query: Shape, needs: tuple[str, ...]
) -> tuple[Operation[Endpoint], ...]:
    """Wallets, at the address of their own or at those of their customer."""
    whose = "a customer's " if wallets_ is CUSTOMERS_WALLETS else "a "
    notes = Resource(f"{wallets_.path}/{{{wallets_.key}}}/metadata", "", "metadata", Metadata)
    sent = {"metadata": Metadata}
    return (
        wallets_.create(create, f"Open {whose}wallet", takes=wallet.WalletInput, needs=needs, errors=(404,)),
        wallets_.page(page, "List wallets" if whose == "a " else "List a customer's wallets", query=query),
        wallets_.show(wallets.show_wallet, f"Get {whose}wallet"),
        wallets_.update(
            wallets.update_wallet, f"Change {whose}wallet", takes=wallet.WalletUpdate, errors=(405,)
        ),
        wallets_.delete(
            wallets.terminate_wallet,
            f"Terminate {whose}wallet",
            description="What is in it pays for nothing any more.",
        ),
        notes.create(
            wallets.replace_metadata, f"Replace the notes of {whose}wallet", beside=sent, errors=(405,)
        ),
        notes.action(
            "PATCH", "", wallets.merge_metadata, f"Add notes to {whose}wallet", beside=sent, errors=(405,)
        ),
        notes.delete(wallets.delete_metadata, f"Delete the notes of {whose}wallet", errors=(405,)),
        notes.action(
            "DELETE", "/{key}", wallets.delete_metadata_key, f"Delete a note of {whose}wallet", errors=(405,)
        ),
    )


def _fixed_charges_of(path: str, owner: str) -> tuple[Operation[Endpoint], ...]:
    """Fixed charges of a plan or of a subscription."""
    those = Resource(path, "fixed_charge_code", "fixed_charge", fixed_charge.FixedCharge)
    query = STATUS_OF[owner]
    return (
        those.page(fixed_charges.list_fixed_charges, f"List a {owner}'s fixed charges", query=query),
        those.show(fixed_charges.show_fixed_charge, f"Get a {owner}'s fixed charge", query=query),
        those.update(
            fixed_charges.update_fixed_charge,
            f"Change a {owner}'s fixed charge",
            description=OWN_UNITS if owner == "subscription" else "",
            takes=fixed_charge.OwnFixedCharge if owner == "subscription" else fixed_charge.FixedChargeInput,
            query=query,
            previews=True,
        ),
    )


ONE_EVENT = sends("event", event.EventInput, "code", "external_subscription_id")
EVENTS = Resource("/events", "transaction_id:path", "event", event.EventDetails)
AMENDMENTS = Resource("/events/amendments", "", "amendment", event.AmendmentDetails)
LIFETIME_USAGE = Resource(
    "/subscriptions/{external_id}/lifetime_usage", "", "lifetime_usage", usage_objects.LifetimeUsage
)
CUSTOMERS_SUBSCRIPTIONS = Resource(
    "/customers/{external_id}/subscriptions", "", "subscription", subscription.Subscription
)
CUSTOMERS_INVOICES = Resource("/customers/{external_id}/invoices", "", "invoice", invoice.Invoice)
CUSTOMERS = Resource("/customers", "external_id", "customer", customer.Customer)
SUBSCRIPTIONS = Resource("/subscriptions", "external_id", "subscription", subscription.Subscription)
INVOICES = Resource("/invoices", "lago_id", "invoice", invoice.InvoiceDetails, invoice.Invoice)
FEES = Resource("/fees", "lago_id", "fee", fee.Fee)
CREDIT_NOTES = Resource("/credit_notes", "lago_id", "credit_note", credit_note.CreditNote)
COUPONS = Resource("/coupons", "code", "coupon", coupon.Coupon)
APPLIED_COUPONS = Resource(
    "/applied_coupons", "lago_id", "applied_coupon", coupon.AppliedCoupon, coupon.AppliedCouponWithCredits
)
CUSTOMERS_COUPONS = replace(APPLIED_COUPONS, path="/customers/{external_id}/applied_coupons")
PAYMENTS = Resource("/payments", "lago_id", "payment", payment.Payment)
CUSTOMERS_PAYMENTS = Resource("/customers/{external_id}/payments", "", "payment", payment.Payment)
INVOICES_PAYMENTS = Resource("/invoices/{lago_id}/payments", "", "payment", payment.Payment)
DUNNING_CAMPAIGNS = Resource(
    "/dunning_campaigns", "code", "dunning_campaign", dunning_campaign.DunningCampaign
)
CUSTOM_SECTIONS = Resource(
    "/invoice_custom_sections", "code", "invoice_custom_section", custom_section.InvoiceCustomSection
)
PAYMENT_RECEIPTS = Resource("/payment_receipts", "lago_id", "payment_receipt", payment.PaymentReceipt)
PAYMENT_REQUESTS = Resource("/payment_requests", "lago_id", "payment_request", payment.PaymentRequest)
CUSTOMERS_PAYMENT_REQUESTS = Resource(
    "/customers/{external_id}/payment_requests", "", "payment_request", payment.PaymentRequest
)
PAYMENT_METHODS = Resource(
    "/customers/{external_id}/payment_methods", "lago_id", "payment_method", payment.CustomerPaymentMethod
)
CREDIT_NOTES_METADATA = Resource("/credit_notes/{lago_id}/metadata", "", "metadata", Metadata)
CUSTOMERS_CREDIT_NOTES = Resource(
    "/customers/{external_id}/credit_notes", "", "credit_note", credit_note.CreditNote
)
LATE_USAGE = Resource("/late_usage", "lago_id", "late_usage", late_usage_objects.LateUsage)
METRICS = Resource("/billable_metrics", "code", "billable_metric", billable_metric.BillableMetric)
PLANS = Resource("/plans", "code", "plan", plan.Plan)
FIXED_CHARGES = Resource(
    "/plans/{code}/fixed_charges", "fixed_charge_code", "fixed_charge", fixed_charge.FixedCharge
)
NOTES = Resource("/plans/{code}/metadata", "", "metadata", Metadata)
CHARGES = Resource("/plans/{code}/charges", "charge_code", "charge", charge.Charge)
PRICING_UNITS = Resource("/pricing_units", "code", "pricing_unit", pricing_unit.PricingUnit)
ADD_ONS = Resource("/add_ons", "code", "add_on", add_on.AddOn)
WALLETS = Resource("/wallets", "lago_id", "wallet", wallet.Wallet)
CUSTOMERS_WALLETS = Resource("/customers/{external_id}/wallets", "wallet_code", "wallet", wallet.Wallet)
WALLET_TRANSACTIONS = Resource(
    "/wallet_transactions", "lago_id", "wallet_transaction", wallet.WalletTransaction
)
WALLETS_TRANSACTIONS = Resource(
    "/wallets/{lago_id}/wallet_transactions", "", "wallet_transaction", wallet.WalletTransaction
)
TAXES = Resource("/taxes", "code", "tax", tax.Tax)
WEBHOOK_ENDPOINTS = Resource(
    "/webhook_endpoints", "lago_id", "webhook_endpoint", webhook_endpoint.WebhookEndpoint
)
ORGANIZATION = Resource("/organizations", "", "organization", organization.Organization)
BILLING_ENTITIES = Resource("/billing_entities", "code", "billing_entity", billing_entity.BillingEntity)
API_LOGS = Resource("/api_logs", "request_id", "api_log", api_log.ApiLogEntry)
ACTIVITY_LOGS = Resource("/activity_logs", "activity_id", "activity_log", activity_log.ActivityLog)
TEST_CLOCK = Resource("/test_clock", "", "test_clock", organization.TestClock)


def _by_mail(
    path: str, what: str, endpoint: Endpoint, *, errors: tuple[int, ...] = ()
) -> Operation[Endpoint]:
    """Send one of these by mail."""
    return Operation(
        "POST",
        f"{path}/{{lago_id}}/resend_email",
        endpoint,
        f"Send {what} by mail",
        {"mail": mail.Mail},
        description="To the addresses in the body, or to the customer's email. docs/mail.md says what it needs.",
        body=Body({"to": mail.Addresses, "cc": mail.Addresses, "bcc": mail.Addresses}),
        errors=errors,
    )


def _alerts_of(path: str, owner: str, does: AlertEndpoints) -> OperationGroup:
    """Alerts of a subscription or of a wallet."""
    those = Resource(path, "code", "alert", alert.Alert)
    query = STATUS_OF[owner]
    every = {"alerts": Annotated[list_of(alert.Alert), says("The alerts.")]}
    return OperationGroup(
        f"Alerts of {owner}s",
        "alert",
        "Webhooks when usage or a balance crosses a threshold.",
        (
            those.create(
                does.create,
                f"Create alerts of a {owner}",
                description="Send alerts, a list, for several at once: all are made or none, and the answer is a list too.",
                takes=alert.AlertInput,
                needs=("alert_type", "code", "thresholds"),
                beside={"alerts": list_of(alert.AlertInput)},
                otherwise=every,
                query=query,
                errors=(404,),
            ),
            those.page(does.listing, f"List the alerts of a {owner}", query),
            Operation("DELETE", path, does.delete_all, f"Delete all alerts of a {owner}", every, query=query),
            those.show(does.show, f"Get an alert of a {owner}", query=query),
            those.update(does.update, f"Change an alert of a {owner}", takes=alert.AlertInput, query=query),
            those.delete(does.delete, f"Delete an alert of a {owner}", query=query),
        ),
    )


HELD_USAGES = Resource("/llm/held_usages", "lago_id", "held_usage", llm.HeldUsage)
HELD_USAGE_GROUP = OperationGroup(
    "Held usage of language models",
    "event",
    "Usage that could not be counted as it came: nobody was named who pays, or it does not add up.",
    (
        HELD_USAGES.page(
            held_usages.list_held_usages,
            "List held usages",
            {
                "status": Annotated[
                    str, one_of("held", "counted", says="Those that wait, or that were counted since.")
                ]
            },
        ),
        HELD_USAGES.show(held_usages.show_held_usage, "Get a held usage"),
        HELD_USAGES.action(
            "POST",
            "/attribute",
            held_usages.attribute_held_usage,
            "Count a held usage",
            description="Say who pays, or what the answer did not say. With nothing said it is tried again as it is.",
            takes=llm.AttributionInput,
        ),
    ),
)
PAYER_RULES = Resource("/llm/payer_rules", "lago_id", "payer_rule", llm.PayerRule)
PAYER_RULE_GROUP = OperationGroup(
    "Payer rules",
    "customer",
    "Who pays for calls of language models that name nobody, by their key, team, user or the like.",
    (
        PAYER_RULES.create(
            payer_rules.create_payer_rule,
            "Create a payer rule",
            description="Held usages with the name are counted at once, 10,000 at most.",
            takes=llm.PayerRuleInput,
            needs=("field", "value"),
            errors=(404,),
        ),
        PAYER_RULES.page(payer_rules.list_payer_rules, "List payer rules"),
        PAYER_RULES.show(payer_rules.show_payer_rule, "Get a payer rule"),
        PAYER_RULES.update(
            payer_rules.update_payer_rule,
            "Change a payer rule",
            description="Who pays from now on. Held usages with the name are counted, 10,000 at most; what is counted stays.",
            takes=llm.PayerRuleInput,
        ),
        PAYER_RULES.delete(payer_rules.delete_payer_rule, "Delete a payer rule"),
    ),
)
HELD_GROUP_GROUP = OperationGroup(
    "Held usage by groups",
    "event",
    "Held usages that have the reason, the payer, the key, the team and the user in common, so that they are counted at once.",
    (
        Resource("/llm/held_usage_groups", "", "held_usage_group", llm.HeldUsageGroup).page(
            held_groups.list_held_groups, "List groups of held usages"
        ),
        Resource("/llm/held_usage_groups/attribute", "", "held_usage_group", llm.CountedGroup).create(
            held_groups.attribute_held_group,
            "Count a group of held usages",
            description="The oldest 200 of it, each at its own time: repeat it while waiting_count is not 0.",
            takes=llm.HeldUsageGroupInput,
            needs=("code",),
            errors=(404,),
        ),
    ),
)
INTAKES = Resource("/llm/intakes", "format", "intake", llm.Intake)
INTAKE_GROUP = OperationGroup(
    "Intakes",
    "billable_metric",
    "Events that other programs send to `/events`, and that are usage of language models: Lago's agent SDK, LiteLLM's"
    " callbacks for Lago and OpenMeter. They count for events that come from then on.",
    (
        INTAKES.create(
            llm_intakes.create_intake, "Create an intake", takes=llm.IntakeInput, needs=("format",)
        ),
        INTAKES.page(llm_intakes.list_intakes, "List intakes"),
        INTAKES.show(llm_intakes.show_intake, "Get an intake"),
        INTAKES.delete(llm_intakes.delete_intake, "Delete an intake"),
    ),
)
MODEL_ALIASES = Resource("/llm/model_aliases", "name", "model_alias", llm.ModelAlias)
MODEL_ALIAS_GROUP = OperationGroup(
    "Model aliases",
    "billable_metric",
    "Your own names of models (deployments of Azure, inference profiles of Bedrock, a router's names), and the models that"
    " are billed for them. They count for usage that comes from then on.",
    (
        MODEL_ALIASES.create(
            model_aliases.create_alias,
            "Create a model alias",
            takes=llm.ModelAliasInput,
            needs=("name", "model"),
        ),
        MODEL_ALIASES.page(model_aliases.list_aliases, "List model aliases"),
        MODEL_ALIASES.show(model_aliases.show_alias, "Get a model alias"),
        MODEL_ALIASES.update(model_aliases.update_alias, "Change a model alias", takes=llm.ModelAliasInput),
        MODEL_ALIASES.delete(model_aliases.delete_alias, "Delete a model alias"),
    ),
)
CATALOGUE_VERSIONS = Resource("/llm/catalogue_versions", "lago_id", "catalogue_version", llm.CatalogueVersion)
CATALOGUE_VERSION_GROUP = OperationGroup(
    "Price catalogue",
    "plan",
    "Versions of what providers ask for. Nothing changes before you approve it; what was used before keeps its prices.",
    (
        CATALOGUE_VERSIONS.create(
            catalogue_versions.import_version,
            "Import a version",
            description="It is pending until it is approved.",
            takes=llm.CatalogueVersionInput,
            needs=("label", "prices"),
        ),
        CATALOGUE_VERSIONS.page(catalogue_versions.list_versions, "List versions"),
        CATALOGUE_VERSIONS.show(catalogue_versions.show_version, "Get a version"),
        CATALOGUE_VERSIONS.delete(
            catalogue_versions.withdraw_version,
            "Withdraw a pending version",
            errors=(405,),
        ),
        CATALOGUE_VERSIONS.action(
            "POST",
            "/approve",
            catalogue_versions.approve_version,
            "Approve a version",
            description="Charges of the catalogue model go by it from a UTC date on. A date in the past corrects prices of periods"
            " that are not billed.",
            takes=llm.ApprovalInput,
            errors=(405,),
        ),
        Operation(
            "GET",
            "/llm/catalogue_versions/{lago_id}/changes",
            catalogue_versions.list_changes,
            "List what a version changes",
            page_of("changes", llm.PriceChange),
            description="Against the version of its source that was approved last; outliers first.",
            query={"on": Annotated[str, says("The prices of which UTC date; today by default.")], **PAGE},
        ),
        Operation(
            "GET",
            "/llm/catalogue_versions/{lago_id}/unread_prices",
            catalogue_versions.list_unread,
            "List what of a version's file is not understood",
            page_of("unread_prices", llm.UnreadPrices),
            description="It is left out, never guessed: such usage is priced by another source, by an own price, or is unpriced.",
            query=PAGE,
        ),
    ),
)
PRICE_CORRECTION_GROUP = OperationGroup(
    "Price corrections",
    "credit_note",
    "What final invoices would come to by prices of the catalogue that were approved from a past date on, and credit notes for it.",
    (
        Operation(
            "GET",
            "/llm/catalogue_versions/{lago_id}/corrections",
            catalogue_versions.list_corrections,
            "List what final invoices would come to",
            page_of("corrections", llm.PriceCorrection),
            description="Of a version that is approved from a past date on: the invoices with usage since then that were final before the"
            " approval, the newest first.",
            query=PAGE,
        ),
        Operation(
            "POST",
            "/llm/catalogue_versions/{lago_id}/corrections/credit",
            catalogue_versions.credit_corrections,
            "Give back what final invoices have billed too much",
            {
                "credit_notes": Annotated[
                    list_of(llm.CorrectionNote), says("The credit notes that were made.")
                ]
            },
            description="One credit note for each invoice with the status to_credit, off what is due on it, the rest as credit for later ones."
            " Repeat it while it answers any; what came back doesn't come back again.",
            body=sends("correction", llm.CorrectionInput),
            errors=(422,),
        ),
    ),
)
UNKNOWN_MODELS = Resource("/llm/unknown_models", "name", "unknown_model", llm.UnknownModel)
UNKNOWN_MODEL_GROUP = OperationGroup(
    "Unknown models",
    "event",
    "Names of models that say nothing, and the calls that are counted under them until the names have an alias.",
    (
        UNKNOWN_MODELS.page(unknown_models.list_unknown_models, "List unknown models"),
        Resource("/llm/unknown_models", "name", "unknown_model", llm.CountedModel).action(
            "POST",
            "/count",
            unknown_models.count_unknown_model,
            "Count calls under the model of their alias",
            description="Up to 500 calls at once: repeat it while calls_count is not 0. Their events are amended."
            " Calls on final invoices, and those that you have amended, stay as they are.",
            errors=(422,),
        ),
    ),
)
RECENT_USAGE_GROUP = OperationGroup(
    "Recent usage of language models",
    "event",
    "The last 200 usages that came in by any road, a second after they did: what they became, or why not.",
    (
        Resource("/llm/recent_usages", "lago_id", "recent_usage", llm.RecentUsage).page(
            recent_usages.list_recent_usages, "List recent usages"
        ),
    ),
)
LLM_SETUP = Resource("/llm/setup", "", "setup", llm.ModelSetup)
LLM_SETUP_GROUP = OperationGroup(
    "Setup for language models",
    "plan",
    "The metrics that answers of language models are counted by, and prices of models.",
    (
        LLM_SETUP.create(
            llm_setup.set_up_models,
            "Make the metrics and a plan of models",
            description="What is there already is left as it is; metrics get the values that they don't list yet.",
            takes=llm.SetupInput,
            needs=("plan_code", "models"),
        ),
        Operation(
            "GET",
            "/llm/current_models",
            llm_setup.list_current_models,
            "List the models that the catalogue prices today",
            page_of("models", llm.CurrentModel),
            description="By the versions of the catalogue that you have approved. `/llm/setup` takes them as they are.",
            query={
                "provider": Annotated[str, says("Only those of a provider.", example="openai")],
                "include_deprecated": Annotated[
                    bool, says("Whether those that their providers no longer offer are listed too.")
                ],
                **PAGE,
            },
        ),
    ),
)
FEATURES = Resource("/features", "code", "feature", feature.Feature)
ENTITLED = {
    "entitlements": Annotated[
        Mapping[str, Mapping[str, Value]],
        says("Feature -> privilege -> value; a feature may have no values."),
    ]
}


def _entitlements_of(path: str, owner: str, item: type[Answer]) -> tuple[Shape, Resource]:
    """The list of what a plan or a subscription grants, and the resource of one of them."""
    every = {"entitlements": Annotated[list_of(item), says(f"The features of the {owner}.")]}
    return every, Resource(path, "feature_code", "entitlement", item)


PLAN_GRANTS, PLAN_GRANT = _entitlements_of("/plans/{code}/entitlements", "plan", feature.PlanEntitlement)
OWN_GRANTS, OWN_GRANT = _entitlements_of(
    "/subscriptions/{external_id}/entitlements", "subscription", feature.SubscriptionEntitlement
)
PRIVILEGE = "/privileges/{privilege_code}"
MONTHS: Shape = {
    "months": Annotated[int, says("How many months, with the one that is running; 12 by default.")],
    "currency": CURRENCY,
    "billing_entity_code": OF_ENTITY,
}
MONTHS_OF_CUSTOMER: Shape = {**MONTHS, "external_customer_id": CUSTOMER}


def _figures(
    name: str, endpoint: Endpoint, summary: str, root: str, item: type[Answer], *, query: Shape
) -> Operation[Endpoint]:
    """Figures by month."""
    shown = {root: Annotated[list_of(item), says("The figures, oldest first.")]}
    return Operation("GET", f"/analytics/{name}", endpoint, summary, shown, query=query, errors=(404,))


FEATURE_GROUP = OperationGroup(
    "Features",
    "feature",
    "What plans grant beside prices, with values; subscriptions can have values of their own.",
    (
        FEATURES.create(
            features.create_feature, "Create a feature", takes=feature.FeatureInput, needs=("code",)
        ),
        FEATURES.page(features.list_features, "List features", {"search_term": SEARCH}),
        FEATURES.show(features.show_feature, "Get a feature"),
        FEATURES.update(features.update_feature, "Change a feature", takes=feature.FeatureInput),
        FEATURES.delete(
            features.delete_feature, "Delete a feature", description="Nobody is entitled to it any more."
        ),
        FEATURES.action("DELETE", PRIVILEGE, features.delete_privilege, "Delete a privilege of a feature"),
        Operation(
            "GET",
            PLAN_GRANT.path,
            entitlements.list_plan_entitlements,
            "List what a plan grants",
            PLAN_GRANTS,
        ),
        Operation(
            "POST",
            PLAN_GRANT.path,
            entitlements.replace_plan_entitlements,
            "Set what a plan grants",
            PLAN_GRANTS,
            body=Body(ENTITLED),
            errors=(404,),
        ),
        Operation(
            "PATCH",
            PLAN_GRANT.path,
            entitlements.merge_plan_entitlements,
            "Add to what a plan grants",
            PLAN_GRANTS,
            body=Body(ENTITLED),
            errors=(404,),
        ),
        PLAN_GRANT.show(entitlements.show_plan_entitlement, "Get a feature that a plan grants"),
        PLAN_GRANT.delete(entitlements.delete_plan_entitlement, "Let a plan no longer grant a feature"),
        PLAN_GRANT.action(
            "DELETE", PRIVILEGE, entitlements.delete_plan_privilege, "Let a plan no longer grant a privilege"
        ),
        Operation(
            "GET",
            OWN_GRANT.path,
            entitlements.list_subscription_entitlements,
            "List what a subscription is entitled to",
            OWN_GRANTS,
            query=STATUS_OF["subscription"],
        ),
        Operation(
            "PATCH",
            OWN_GRANT.path,
            entitlements.merge_subscription_entitlements,
            "Give a subscription values of its own",
            OWN_GRANTS,
            query=STATUS_OF["subscription"],
            body=Body(ENTITLED),
            errors=(404,),
        ),
        OWN_GRANT.delete(
            entitlements.delete_subscription_entitlement,
            "Take a feature away from a subscription",
            query=STATUS_OF["subscription"],
        ),
        OWN_GRANT.action(
            "DELETE",
            PRIVILEGE,
            entitlements.delete_subscription_privilege,
            "Take a privilege away from a subscription",
            query=STATUS_OF["subscription"],
        ),
    ),
)
ANALYTICS_GROUP = OperationGroup(
    "Analytics",
    "analytics",
    "Figures by month.",
    (
        _figures(
            "gross_revenue",
            analytics.gross_revenue,
            "Get what was billed",
            "gross_revenues",
            analytics_objects.GrossRevenue,
            query=MONTHS_OF_CUSTOMER,
        ),
        _figures(
            "invoice_collection",
            analytics.invoice_collection,
            "Get how far invoices are paid",
            "invoice_collections",
            analytics_objects.InvoiceCollection,
            query=MONTHS,
        ),
        _figures(
            "invoiced_usage",
            analytics.invoiced_usage,
            "Get usage on invoices by metric",
            "invoiced_usages",
            analytics_objects.InvoicedUsage,
            query=MONTHS,
        ),
        _figures(
            "mrr",
            analytics.mrr,
            "Get recurring revenue by month",
            "mrrs",
            analytics_objects.Mrr,
            query=MONTHS,
        ),
        _figures(
            "overdue_balance",
            analytics.overdue_balance,
            "Get what is overdue",
            "overdue_balances",
            analytics_objects.OverdueBalance,
            query=MONTHS_OF_CUSTOMER,
        ),
        _figures(
            "usage",
            analytics.usage,
            "Get usage by day, week, month or year",
            "usages",
            analytics_objects.UsageFigure,
            query={
                "time_granularity": Annotated[
                    str, one_of("daily", "weekly", "monthly", "yearly", says="By what; daily by default.")
                ],
                "from_date": on_or_after("of invoices dated"),
                "to_date": on_or_before("of invoices dated"),
                "currency": CURRENCY,
                "billing_entity_code": OF_ENTITY,
                "customer_type": Annotated[str, says("Only of this kind of customer.")],
                "external_customer_id": CUSTOMER,
                "customer_country": Annotated[str, says("Only of customers in this country.")],
                "external_subscription_id": SUBSCRIPTION,
                "is_billable_metric_recurring": Annotated[
                    bool, says("Only of recurring metrics, or others.")
                ],
                "plan_code": Annotated[str, says("Only on this plan.")],
                "billable_metric_code": Annotated[str, says("Only of this metric.")],
            },
        ),
        Operation(
            "GET",
            "/analytics/margin",
            margin.margin,
            "Get revenue, cost and margin",
            {
                **page_of("margins", margin_objects.Margin),
                "totals": Annotated[
                    list_of(margin_objects.MarginTotal), says("All groups together, by currency.")
                ],
            },
            description=(
                "Fees count on the last day of their period, or on the day they were made if that was before; usage of "
                "open periods on the present day; costs on the day of the usage. Days are the customer's."
            ),
            query={
                "from": Annotated[str, says("First day; the first of the month by default.")],
                "to": Annotated[str, says("Last day; today by default.")],
                "group_by": Annotated[
                    list[str],
                    says(
                        "model, customer, plan, provider, type, day: several, also with commas; model by default."
                    ),
                ],
                "usd_exchange_rates": Annotated[
                    dict[str, str], says("What one US dollar is in a currency: usd_exchange_rates[EUR]=0.92.")
                ],
                "format": Annotated[str, one_of("json", "csv", says="csv: all groups in one file.")],
                **PAGE,
            },
            also="text/csv",
        ),
    ),
)

SCHEDULED = ("lago_id", "scheduled_change", plan.ScheduledChange)


def _estimate(
    name: str, endpoint: Endpoint, summary: str, item: type[Answer], body: Body = ONE_EVENT
) -> Operation[Endpoint]:
    answers = {"fees": Annotated[list_of(item), says("A fee for each charge that prices an event.")]}
    return Operation(
        "POST",
        f"/events/{name}",
        endpoint,
        summary,
        answers,
        description="Nothing is stored.",
        body=body,
        errors=(404,),
    )


GROUPS = (
    OperationGroup(
        "Events",
        "event",
        "What subscriptions have used. An event is sent once; sent again with the same transaction_id it is refused.",
        (
            EVENTS.page(
                events.list_events,
                "List events",
                query={
                    "code": Annotated[str, says("Only events of this metric.")],
                    "external_subscription_id": SUBSCRIPTION,
                    "timestamp_from": on_or_after("that happened"),
                    "timestamp_to": on_or_before("that happened"),
                    "timestamp_from_started_at": Annotated[
                        bool, says("Only those since the start of the subscription that is named.")
                    ],
                },
            ),
            Operation(
                "GET",
                "/events_enriched",
                events.list_enriched_events,
                "List enriched events",
                {},
                description="Not available: always refused with 403, as Lago does on PostgreSQL.",
                errors=(403,),
            ),
            AMENDMENTS.action(
                "POST",
                "",
                amendments.create_amendments,
                "Amend events",
                description="Voids or replaces events. Send amendments, a list, for several at once: "
                "all are made or none, and the answer is a list too.",
                takes=event.AmendmentInput,
                needs=("transaction_id", "event_transaction_id", "kind", "reason"),
                beside={"amendments": list_of(event.AmendmentInput)},
                otherwise={"amendments": list_of(event.AmendmentDetails)},
            ),
            AMENDMENTS.page(
                amendments.list_amendments,
                "List amendments",
                query={
                    "event_transaction_id": Annotated[str, says("Only those of this event.")],
                    "external_subscription_id": SUBSCRIPTION,
                    "kind": Annotated[str, one_of(*AmendmentKind, says="Only those of this kind.")],
                    "created_from": on_or_after("made"),
                    "created_to": on_or_before("made"),
                },
            ),
            _estimate(
                "estimate_fees",
                estimates.estimate_fees,
                "Estimate what an event would cost on top of the usage so far",
                fee.Fee,
            ),
            _estimate(
                "estimate_instant_fees",
                estimates.estimate_instant_fees,
                "Estimate what an event would cost by itself",
                fee.InstantFee,
            ),
            _estimate(
                "batch_estimate_instant_fees",
                estimates.batch_estimate_instant_fees,
                "Estimate what events would cost, each by itself",
                fee.InstantFee,
                Body({"events": list_of(event.EventInput)}),
            ),
            EVENTS.show(events.show_event, "Get an event"),
        ),
    ),
    OperationGroup(
        "Usage",
        "customer_usage",
        "What subscriptions have used in a period, priced.",
        (
            Operation(
                "GET",
                "/customers/{external_id}/current_usage",
                usage.show_current_usage,
                "Get usage of the running period",
                {"customer_usage": usage_objects.Usage},
                query={"external_subscription_id": SUBSCRIPTION, **USAGE_FILTERS},
                requires_query=("external_subscription_id",),
                errors=(405,),
            ),
            Operation(
                "GET",
                "/customers/{external_id}/projected_usage",
                usage.show_projected_usage,
                "Get usage as it will be at the period's end at this pace",
                {"customer_projected_usage": usage_objects.Usage},
                query={"external_subscription_id": SUBSCRIPTION, "apply_taxes": USAGE_FILTERS["apply_taxes"]},
                requires_query=("external_subscription_id",),
                errors=(405,),
            ),
            Operation(
                "GET",
                "/customers/{external_id}/past_usage",
                usage.list_past_usage,
                "List usage of billed periods, newest first",
                page_of("usage_periods", usage_objects.Usage),
                query={
                    "external_subscription_id": SUBSCRIPTION,
                    "billable_metric_code": USAGE_FILTERS["billable_metric_code"],
                    "periods_count": Annotated[int, says("Periods on a page, instead of per_page.")],
                    **PAGE,
                },
                requires_query=("external_subscription_id",),
            ),
            Operation(
                "GET",
                "/subscriptions/{external_id}/daily_usage",
                daily_usage.list_daily_usage,
                "List usage by day, oldest first",
                page_of("daily_usage", usage_objects.DailyUsage),
                query={
                    "from_date": on_or_after("on days"),
                    "to_date": on_or_before("on days"),
                    "status": STATUS,
                    **USAGE_FILTERS,
                    **PAGE,
                },
                errors=(405,),
            ),
            LIFETIME_USAGE.show(
                lifetime_usage.show_lifetime_usage,
                "Get usage since the start of a subscription",
                query={"status": STATUS},
            ),
            LIFETIME_USAGE.update(
                lifetime_usage.update_lifetime_usage,
                "Set what a subscription used before it came here",
                takes=usage_objects.LifetimeUsageInput,
                needs=("external_historical_usage_amount_cents",),
                query={"status": STATUS},
            ),
        ),
    ),
    OperationGroup(
        "Customers",
        "customer",
        "Who pays.",
        (
            CUSTOMERS.create(
                customers.upsert_customer,
                "Create or change a customer",
                takes=customer.CustomerInput,
                needs=("external_id",),
                errors=(404,),
            ),
            CUSTOMERS.page(
                customers.list_customers,
                "List customers",
                query={
                    "search_term": SEARCH,
                    "account_type": Annotated[list[str], says("Only these kinds of accounts.")],
                    "billing_entity_codes": ENTITIES,
                    "countries": Annotated[list[str], says("Only those in these countries.")],
                    "currencies": Annotated[list[str], says("Only those who pay in these currencies.")],
                    "states": Annotated[list[str], says("Only those in these states.")],
                    "zipcodes": Annotated[list[str], says("Only those with these postal codes.")],
                    "customer_type": Annotated[str, says("Only this kind of customer.")],
                    "has_customer_type": Annotated[bool, says("Only those with a kind, or without.")],
                    "has_tax_identification_number": Annotated[
                        bool, says("Only those with a tax number, or without.")
                    ],
                    "metadata": METADATA,
                },
            ),
            CUSTOMERS.show(customers.show_customer, "Get a customer"),
            CUSTOMERS.delete(
                customers.delete_customer,
                "Delete a customer",
                description="Its subscriptions end now and are billed; its invoices stay.",
                errors=(422,),
            ),
        ),
    ),
    _alerts_of("/subscriptions/{external_id}/alerts", "subscription", alerts.OF_SUBSCRIPTIONS),
    _alerts_of("/customers/{external_id}/wallets/{wallet_code}/alerts", "wallet", alerts.OF_WALLETS),
    FEATURE_GROUP,
    HELD_USAGE_GROUP,
    PAYER_RULE_GROUP,
    HELD_GROUP_GROUP,
    INTAKE_GROUP,
    MODEL_ALIAS_GROUP,
    CATALOGUE_VERSION_GROUP,
    PRICE_CORRECTION_GROUP,
    UNKNOWN_MODEL_GROUP,
    RECENT_USAGE_GROUP,
    LLM_SETUP_GROUP,
    ANALYTICS_GROUP,
    OperationGroup(
        "Subscriptions",
        "subscription",
        "Customers on plans.",
        (
            SUBSCRIPTIONS.create(
                subscriptions.create_subscription,
                "Create a subscription, or change its plan",
                description="An unknown customer is created. The same plan again changes nothing.",
                takes=subscription.SubscriptionInput,
                needs=("external_customer_id", "plan_code", "external_id"),
                errors=(404,),
            ),
            SUBSCRIPTIONS.page(subscriptions.list_subscriptions, "List subscriptions", SUBSCRIPTION_FILTERS),
            CUSTOMERS_SUBSCRIPTIONS.page(
                subscriptions.list_customer_subscriptions,
                "List a customer's subscriptions",
                SUBSCRIPTION_FILTERS,
            ),
            SUBSCRIPTIONS.show(
                subscriptions.show_subscription, "Get a subscription", query={"status": STATUS}
            ),
            SUBSCRIPTIONS.update(
                subscriptions.update_subscription,
                "Change a subscription",
                takes=subscription.SubscriptionUpdate,
                beside={"status": STATUS},
                query={"status": STATUS},
                reprices=True,
                errors=(405,),
            ),
            SUBSCRIPTIONS.delete(
                subscriptions.terminate_subscription,
                "End a subscription",
                description="It ends now and is billed; one that waits for its start is canceled.",
                query={
                    "status": Annotated[str, says("pending to cancel one that waits for its start.")],
                    "on_termination_credit_note": Annotated[
                        str, one_of("credit", "refund", "skip", says="What becomes of a fee paid in advance.")
                    ],
                    "on_termination_invoice": Annotated[
                        str, one_of(*subscription.INVOICES, says="Whether open usage is invoiced.")
                    ],
                },
            ),
            *_charges_of("/subscriptions/{external_id}/charges", "subscription"),
            *_fixed_charges_of("/subscriptions/{external_id}/fixed_charges", "subscription"),
            *_filters_of("/subscriptions/{external_id}/charges/{charge_code}/filters", "subscription"),
            Resource("/subscriptions/{external_id}/scheduled_changes", *SCHEDULED).delete(
                scheduled_changes.cancel_scheduled_change,
                "Cancel a price change of a subscription that is to come",
                query=STATUS_OF["subscription"],
                reprices=True,
            ),
        ),
    ),
    OperationGroup(
        "Invoices",
        "invoice",
        "What was billed. Amounts are in the currency's smallest unit.",
        (
            INVOICES.page(invoices.list_invoices, "List invoices", INVOICE_FILTERS),
            INVOICES.create(
                one_off.create_one_off,
                "Create a one-off invoice",
                description="Of add-ons; it is final at once, and takes no coupons and no credit.",
                takes=invoice.OneOffInput,
                needs=("external_customer_id", "fees"),
                errors=(404,),
            ),
            INVOICES.delete(
                invoices.delete_invoice,
                "Delete a draft",
                description="What it bills is billed by no other invoice.",
                errors=(405,),
            ),
            CUSTOMERS_INVOICES.page(
                invoices.list_customer_invoices, "List a customer's invoices", INVOICE_FILTERS
            ),
            Operation(
                "POST",
                "/invoices/preview",
                invoice_preview.preview_invoice,
                "Preview an invoice",
                {"invoice": invoice.InvoiceDetails},
                description=(
                    "The next invoice of subscriptions that a customer has, that of their end or of a change of plan; or "
                    "the first one of a plan that somebody might take. Nothing is stored."
                ),
                body=Body(
                    {
                        "customer": customer.CustomerInput,
                        "subscriptions": subscription.PreviewedSubscriptions,
                        "coupons": Annotated[
                            list[coupon.PreviewedCoupon],
                            says("Coupons as if the customer had these and no others."),
                        ],
                        "plan_code": Annotated[str, says("Plan that the customer might take.")],
                        "billing_time": Annotated[
                            str, one_of(*BillingTime, says="Whether its periods follow the calendar.")
                        ],
                        "subscription_at": Annotated[str, instant_of("Its start; by default now.")],
                        "billing_entity_code": Annotated[
                            str, says("Code of the billing entity of a customer that there is not yet.")
                        ],
                    }
                ),
                errors=(404, 405),
            ),
            INVOICES.show(invoices.show_invoice, "Get an invoice"),
            INVOICES.update(
                invoices.update_invoice,
                "Record a payment, or change the notes of an invoice",
                takes=invoice.InvoiceUpdate,
                errors=(405,),
            ),
            INVOICES.action(
                "PUT", "/refresh", invoices.refresh_invoice, "Price a draft again", errors=(422,)
            ),
            INVOICES.action("PUT", "/finalize", invoices.finalize_invoice, "Finalize a draft", errors=(422,)),
            INVOICES.action(
                "POST",
                "/void",
                invoices.void_invoice,
                "Void an invoice",
                description="It keeps its number. With generate_credit_note, the two amounts are credited and refunded"
                " by a credit note, and the rest of what it came to by another one, which is void.",
                beside=VOID,
                errors=(405, 422),
            ),
            INVOICES.action(
                "POST",
                "/regenerate",
                regenerated_invoices.regenerate_invoice,
                "Make a voided invoice again",
                description="A final invoice of the same periods replaces a voided one of subscriptions. Fees that are not"
                " named are as they were; units alone are priced by the fee's charge. Taxes are those of today, and coupons,"
                " credit notes and wallets pay it. Later events and amendments change nothing of it.",
                beside={"fees": Annotated[list[invoice.RegeneratedFeeInput], says("What is changed.")]},
                errors=(405, 422),
            ),
            INVOICES.action(
                "POST",
                "/lose_dispute",
                invoices.lose_dispute,
                "Record that a payment dispute was lost",
                errors=(405,),
            ),
            INVOICES.action(
                "PUT",
                "/lose_dispute",
                invoices.lose_dispute,
                "Record that a payment dispute was lost, at its former address",
                errors=(405,),
            ),
            INVOICES.action(
                "POST",
                "/retry",
                invoices.retry_invoice,
                "Retry an invoice that failed",
                description="No invoice fails here: what can't be billed is held and tried again by itself.",
                errors=(405,),
            ),
            INVOICES.action(
                "POST", "/download", invoices.download_invoice, "Get the address of an invoice's PDF"
            ),
            INVOICES.action(
                "POST",
                "/download_pdf",
                invoices.download_invoice,
                "Get the address of an invoice's PDF, as newer clients do",
            ),
            _by_mail("/invoices", "an invoice", mails.resend_invoice, errors=(405,)),
            Operation(
                "GET",
                "/invoices/{lago_id}/pdf",
                invoices.invoice_pdf,
                "Get an invoice's PDF",
                PDF,
            ),
        ),
    ),
    OperationGroup(
        "Fees",
        "fee",
        "The lines of invoices, and fees in advance that have none.",
        (
            FEES.page(
                fees.list_fees,
                "List fees",
                query={
                    "external_subscription_id": SUBSCRIPTION,
                    "external_customer_id": CUSTOMER,
                    "currency": CURRENCY,
                    "fee_type": Annotated[str, says("Only this kind of fee, e.g. charge.")],
                    "billable_metric_code": Annotated[str, says("Only fees of this metric.")],
                    "payment_status": Annotated[
                        str, one_of(*fee.PAYMENT_STATUSES, says="Only fees with this payment status.")
                    ],
                    "event_transaction_id": Annotated[str, says("Only the fees of this event.")],
                    **{
                        f"{name}_at_{end}": bound(name)
                        for name in ("created", "succeeded", "failed", "refunded")
                        for end, bound in (("from", on_or_after), ("to", on_or_before))
                    },
                },
            ),
            FEES.show(fees.show_fee, "Get a fee"),
            FEES.update(
                fees.update_fee,
                "Record the payment of a fee without an invoice",
                takes=fee.FeeUpdate,
                errors=(405,),
            ),
            FEES.delete(
                fees.delete_fee,
                "Delete a fee without an invoice",
                description="Its event makes no other fee.",
                errors=(405,),
            ),
            Operation(
                "GET",
                "/fees/{lago_id}/explanation",
                explanations.explain_fee,
                "Explain a fee",
                {"fee_explanation": fee_explanation.FeeExplanation},
                description="Its formula, the price that matched, its events, and whether it comes out the same now.",
                query={
                    "cursor": Annotated[str, says("next_cursor of the page before.")],
                    "per_page": PAGE["per_page"],
                },
            ),
        ),
    ),
    OperationGroup(
        "Payments",
        "payment",
        "What customers have paid. Payments are recorded by hand, as no payment provider is built yet.",
        (
            PAYMENTS.create(
                payments.create_payment,
                "Record a payment",
                description="Of an invoice or of a part of it, at most what is due. Once nothing is due, the invoice is paid.",
                takes=payment.PaymentInput,
                needs=("invoice_id", "amount_cents", "reference"),
                errors=(403, 404),
            ),
            PAYMENTS.page(
                payments.list_payments, "List payments", {"external_customer_id": CUSTOMER, **OF_INVOICE}
            ),
            CUSTOMERS_PAYMENTS.page(
                payments.list_customer_payments, "List a customer's payments", OF_INVOICE
            ),
            INVOICES_PAYMENTS.page(payments.list_invoice_payments, "List the payments of an invoice"),
            PAYMENTS.show(payments.show_payment, "Get a payment"),
            Operation(
                "POST",
                "/invoices/{lago_id}/payment_url",
                payments.payment_url,
                "Get the address where an invoice is paid",
                {},
                description="Always refused: no payment provider is built yet.",
                errors=(422,),
            ),
            Operation(
                "POST",
                "/invoices/{lago_id}/retry_payment",
                payments.retry_payment,
                "Try again to collect a payment",
                "text/plain",
                description="Without a payment provider the webhook invoice.payment_failure says that there is none.",
                errors=(405,),
            ),
            Operation(
                "GET",
                "/customers/{external_id}/portal_url",
                customers.portal_url,
                "Get the address of a customer's portal",
                {},
                description="Always refused with `feature_unavailable`: there is no portal yet.",
                errors=(403,),
            ),
            Operation(
                "POST",
                "/customers/{external_id}/checkout_url",
                payments.checkout_url,
                "Get the address where a customer enters a means of payment",
                {},
                description="Always refused: no payment provider is built yet.",
                errors=(422,),
            ),
            PAYMENT_METHODS.page(payments.list_payment_methods, "List a customer's payment methods"),
            PAYMENT_METHODS.action(
                "PUT",
                "/set_as_default",
                payments.change_payment_method,
                "Make a payment method the default one",
            ),
            PAYMENT_METHODS.delete(payments.change_payment_method, "Delete a payment method"),
        ),
    ),
    OperationGroup(
        "Dunning campaigns",
        "dunning_campaign",
        "When customers with overdue invoices are asked to pay them. Applied to customers and to billing entities.",
        (
            DUNNING_CAMPAIGNS.create(
                dunning_campaigns.create_campaign,
                "Create a dunning campaign",
                takes=dunning_campaign.DunningCampaignInput,
                needs=("code", "name", "thresholds", "days_between_attempts", "max_attempts"),
            ),
            DUNNING_CAMPAIGNS.page(dunning_campaigns.list_campaigns, "List dunning campaigns"),
            DUNNING_CAMPAIGNS.show(dunning_campaigns.show_campaign, "Get a dunning campaign"),
            DUNNING_CAMPAIGNS.update(
                dunning_campaigns.update_campaign,
                "Change a dunning campaign",
                description="With other thresholds, days or attempts the dunning of its customers begins again.",
                takes=dunning_campaign.DunningCampaignUpdate,
            ),
            DUNNING_CAMPAIGNS.delete(dunning_campaigns.delete_campaign, "Delete a dunning campaign"),
        ),
    ),
    OperationGroup(
        "Payment receipts",
        "payment_receipt",
        "The receipts of payments.",
        (
            PAYMENT_RECEIPTS.page(payments.list_receipts, "List payment receipts", OF_INVOICE),
            PAYMENT_RECEIPTS.show(payments.show_receipt, "Get a payment receipt"),
            Operation(
                "GET",
                "/payment_receipts/{lago_id}/pdf",
                payments.receipt_pdf,
                "Get a payment receipt's PDF",
                PDF,
            ),
            _by_mail("/payment_receipts", "a payment receipt", mails.resend_receipt),
        ),
    ),
    OperationGroup(
        "Payment requests",
        "payment_request",
        "Requests to pay several overdue invoices of a customer together.",
        (
            PAYMENT_REQUESTS.create(
                payment_requests.create_payment_request,
                "Request the payment of overdue invoices",
                takes=payment.PaymentRequestInput,
                needs=("external_customer_id", "lago_invoice_ids"),
                errors=(404, 405),
            ),
            PAYMENT_REQUESTS.page(
                payment_requests.list_payment_requests,
                "List payment requests",
                {"external_customer_id": CUSTOMER, **PAYMENT_REQUEST_FILTERS},
            ),
            CUSTOMERS_PAYMENT_REQUESTS.page(
                payment_requests.list_customer_payment_requests,
                "List a customer's payment requests",
                PAYMENT_REQUEST_FILTERS,
            ),
            PAYMENT_REQUESTS.show(payment_requests.show_payment_request, "Get a payment request"),
            _by_mail("/payment_requests", "a payment request", mails.resend_request),
        ),
    ),
    OperationGroup(
        "Credit notes",
        "credit_note",
        "What comes back of invoices.",
        (
            CREDIT_NOTES.page(
                credit_notes.list_credit_notes,
                "List credit notes",
                query=CREDIT_NOTE_FILTERS,
            ),
            CUSTOMERS_CREDIT_NOTES.page(
                credit_notes.list_customer_credit_notes, "List a customer's credit notes", CREDIT_NOTE_FILTERS
            ),
            CREDIT_NOTES.show(credit_notes.show_credit_note, "Get a credit note"),
            CREDIT_NOTES.create(
                credit_notes.create_credit_note,
                "Issue a credit note",
                description="Of a final invoice. What it credits pays the customer's next invoices.",
                takes=credit_note.CreditNoteInput,
                needs=("invoice_id", "items"),
                errors=(404, 405),
            ),
            Operation(
                "POST",
                "/credit_notes/estimate",
                credit_notes.estimate_credit_note,
                "Estimate a credit note",
                {"estimated_credit_note": credit_note.EstimatedCreditNote},
                description="Nothing is stored.",
                body=sends("credit_note", credit_note.CreditNoteEstimateInput, "invoice_id", "items"),
                errors=(404, 405),
            ),
            CREDIT_NOTES.update(
                credit_notes.update_credit_note,
                "Record the refund of a credit note, or change its notes",
                takes=credit_note.CreditNoteUpdate,
            ),
            CREDIT_NOTES.action(
                "PUT",
                "/void",
                credit_notes.void_credit_note,
                "Void what is left of a credit note",
                errors=(405,),
            ),
            *(
                CREDIT_NOTES.action(
                    "POST",
                    f"/{name}",
                    credit_notes.download_credit_note,
                    f"Get the address of a credit note's PDF{asked}",
                )
                for name, asked in (("download", ""), ("download_pdf", ", as newer clients do"))
            ),
            Operation(
                "GET",
                "/credit_notes/{lago_id}/pdf",
                credit_notes.credit_note_pdf,
                "Get a credit note's PDF",
                PDF,
            ),
            _by_mail("/credit_notes", "a credit note", mails.resend_credit_note),
            CREDIT_NOTES_METADATA.create(
                credit_notes.replace_metadata,
                "Replace the metadata of a credit note",
                beside={"metadata": Metadata},
                errors=(404,),
            ),
            CREDIT_NOTES_METADATA.action(
                "PATCH",
                "",
                credit_notes.merge_metadata,
                "Change some metadata of a credit note",
                beside={"metadata": Metadata},
            ),
            CREDIT_NOTES_METADATA.delete(
                credit_notes.delete_metadata, "Delete the metadata of a credit note"
            ),
            CREDIT_NOTES_METADATA.action(
                "DELETE",
                "/{key}",
                credit_notes.delete_metadata_key,
                "Delete one of the metadata of a credit note",
            ),
        ),
    ),
    OperationGroup(
        "Coupons",
        "coupon",
        "Discounts that can be given to customers.",
        (
            COUPONS.create(
                coupons.create_coupon,
                "Create a coupon",
                takes=coupon.CouponInput,
                needs=("name", "code", "coupon_type", "frequency", "expiration"),
                errors=(404, 405),
            ),
            COUPONS.page(coupons.list_coupons, "List coupons"),
            COUPONS.show(coupons.show_coupon, "Get a coupon"),
            COUPONS.update(
                coupons.update_coupon,
                "Change a coupon",
                description="Of a coupon that was applied, only name, description and expiry change.",
                takes=coupon.CouponInput,
                errors=(405,),
            ),
            COUPONS.delete(
                coupons.delete_coupon,
                "Delete a coupon",
                description="The coupons that customers have of it end.",
            ),
        ),
    ),
    OperationGroup(
        "Applied coupons",
        "applied_coupon",
        "Coupons that customers have: they take something off their invoices before taxes.",
        (
            APPLIED_COUPONS.create(
                coupons.apply_coupon,
                "Apply a coupon to a customer",
                takes=coupon.AppliedCouponInput,
                needs=("external_customer_id", "coupon_code"),
                errors=(404, 405),
            ),
            APPLIED_COUPONS.page(
                coupons.list_applied_coupons,
                "List applied coupons",
                query={"external_customer_id": CUSTOMER, **COUPON_FILTERS},
            ),
            CUSTOMERS_COUPONS.page(
                coupons.list_customer_applied_coupons, "List a customer's coupons", query=COUPON_FILTERS
            ),
            CUSTOMERS_COUPONS.delete(coupons.end_applied_coupon, "Take a coupon from a customer"),
        ),
    ),
    OperationGroup(
        "Wallets",
        "wallet",
        "Prepaid credits: they pay invoices, the wallet with the lowest priority number first.",
        (
            *_wallets_at(
                WALLETS,
                wallets.create_wallet,
                wallets.list_wallets,
                {"external_customer_id": CUSTOMER, "currency": CURRENCY, "billing_entity_codes": ENTITIES},
                ("external_customer_id", "rate_amount", "currency"),
            ),
            *_wallets_at(
                CUSTOMERS_WALLETS,
                wallets.create_customer_wallet,
                wallets.list_customer_wallets,
                {"currency": CURRENCY, "billing_entity_codes": ENTITIES},
                ("rate_amount", "currency"),
            ),
            Operation(
                "POST",
                "/wallet_transactions",
                wallet_transactions.create_wallet_transactions,
                "Buy, give and void credits",
                {
                    "wallet_transactions": Annotated[
                        list_of(wallet.WalletTransaction), says("One for each kind.")
                    ]
                },
                body=sends("wallet_transaction", wallet.WalletTransactionInput, "wallet_id"),
            ),
            WALLET_TRANSACTIONS.show(
                wallet_transactions.show_wallet_transaction, "Get a transaction of a wallet"
            ),
            WALLETS_TRANSACTIONS.page(
                wallet_transactions.list_wallet_transactions,
                "List the transactions of a wallet, newest first",
                query={
                    "status": Annotated[
                        str, one_of("pending", "settled", "failed", says="Only those of this status.")
                    ],
                    "transaction_status": Annotated[
                        str, one_of(*TransactionStatus, says="Only those of this kind.")
                    ],
                    "transaction_type": Annotated[
                        str, one_of("inbound", "outbound", says="Only those that fill, or that empty.")
                    ],
                },
            ),
            Operation(
                "POST",
                "/wallet_transactions/{lago_id}/payment_url",
                wallet_transactions.payment_url,
                "Get the address where bought credits are paid",
                {},
                description="Always refused: no payment provider is built yet.",
                errors=(422,),
            ),
            Operation(
                "GET",
                "/wallet_transactions/{lago_id}/consumptions",
                wallet_transactions.list_consumptions,
                "List what has taken of a transaction that filled a wallet",
                page_of("wallet_transaction_consumptions", wallet.WalletTransactionPart),
                query=PAGE,
                errors=(422,),
            ),
            Operation(
                "GET",
                "/wallet_transactions/{lago_id}/fundings",
                wallet_transactions.list_fundings,
                "List what a transaction that emptied a wallet has taken of",
                page_of("wallet_transaction_fundings", wallet.WalletTransactionPart),
                query=PAGE,
                errors=(422,),
            ),
        ),
    ),
    OperationGroup(
        "Late usage",
        "late_usage",
        "Usage that came in after its period was billed, and what is done with it.",
        (
            LATE_USAGE.page(
                late_usage.list_late_usage,
                "List late usage, newest first",
                query={
                    "status": Annotated[
                        str, one_of(*LateUsageStatus, says="Only late usage of this status.")
                    ],
                    "external_subscription_id": SUBSCRIPTION,
                },
            ),
            LATE_USAGE.show(late_usage.show_late_usage, "Get late usage"),
            LATE_USAGE.action(
                "POST",
                "/bill",
                late_usage.bill_late_usage,
                "Bill late usage",
                description="On the subscription's next invoice, or at once if it is over.",
                errors=(405, 422),
            ),
            LATE_USAGE.action(
                "POST",
                "/accept",
                late_usage.accept_late_usage,
                "Write off late usage",
                takes=late_usage_objects.LateUsageAcceptance,
                needs=("reason",),
                errors=(405,),
            ),
        ),
    ),
    OperationGroup(
        "Billable metrics",
        "billable_metric",
        "What is measured.",
        (
            METRICS.create(
                billable_metrics.create_billable_metric,
                "Create a metric",
                takes=billable_metric.BillableMetricInput,
                needs=("name", "code", "aggregation_type"),
            ),
            Operation(
                "POST",
                "/billable_metrics/evaluate_expression",
                billable_metrics.evaluate_expression,
                "Try an expression",
                {"expression_result": billable_metric.ExpressionResult},
                body=Body(
                    {
                        "expression": Annotated[str, says("The expression.")],
                        "event": billable_metric.ExpressionEvent,
                    }
                ),
            ),
            METRICS.page(billable_metrics.list_billable_metrics, "List metrics"),
            METRICS.show(billable_metrics.show_billable_metric, "Get a metric"),
            METRICS.update(
                billable_metrics.update_billable_metric,
                "Change a metric",
                takes=billable_metric.BillableMetricInput,
            ),
            METRICS.delete(
                billable_metrics.delete_billable_metric,
                "Delete a metric",
                description="Its charges go at once, its events stay.",
            ),
        ),
    ),
    OperationGroup(
        "Plans",
        "plan",
        "What subscriptions cost: a fee for each interval, and charges for usage.",
        (
            PLANS.create(
                plans.create_plan,
                "Create a plan",
                takes=plan.PlanInput,
                needs=("name", "code", "interval", "amount_cents", "amount_currency"),
                errors=(404,),
            ),
            PLANS.page(plans.list_plans, "List plans"),
            PLANS.show(plans.show_plan, "Get a plan"),
            PLANS.update(plans.update_plan, "Change a plan", takes=plan.PlanInput, reprices=True),
            PLANS.delete(
                plans.delete_plan,
                "Delete a plan",
                description="Its subscriptions end now and are billed.",
                errors=(422,),
            ),
            NOTES.create(
                plan_metadata.replace_metadata,
                "Replace the notes of a plan",
                beside={"metadata": Metadata},
            ),
            NOTES.action(
                "PATCH",
                "",
                plan_metadata.merge_metadata,
                "Change some notes of a plan",
                beside={"metadata": Metadata},
            ),
            NOTES.delete(plan_metadata.delete_metadata, "Delete the notes of a plan"),
            NOTES.action("DELETE", "/{key}", plan_metadata.delete_metadata_key, "Delete a note of a plan"),
            CHARGES.create(
                charges.create_charge,
                "Create a charge of a plan",
                takes=charge.ChargeInput,
                needs=("billable_metric_id", "code", "charge_model"),
                reprices=True,
            ),
            *_charges_of("/plans/{code}/charges", "plan"),
            CHARGES.delete(
                charges.delete_charge,
                "Delete a charge of a plan",
                description="Its usage is not billed any more.",
                reprices=True,
            ),
            *_filters_of("/plans/{code}/charges/{charge_code}/filters", "plan"),
            FIXED_CHARGES.create(
                fixed_charges.create_fixed_charge,
                "Create a fixed charge of a plan",
                takes=fixed_charge.FixedChargeInput,
                needs=("charge_model",),
                previews=True,
            ),
            *_fixed_charges_of("/plans/{code}/fixed_charges", "plan"),
            FIXED_CHARGES.delete(
                fixed_charges.delete_fixed_charge,
                "Delete a fixed charge of a plan",
                description="It is not billed any more.",
                previews=True,
            ),
            Resource("/plans/{code}/scheduled_changes", *SCHEDULED).delete(
                scheduled_changes.cancel_scheduled_change,
                "Cancel a price change of a plan that is to come",
                reprices=True,
            ),
        ),
    ),
    OperationGroup(
        "Pricing units",
        "pricing_unit",
        "What charges can be priced in instead of money.",
        (
            PRICING_UNITS.create(
                pricing_units.create_pricing_unit,
                "Create a pricing unit",
                takes=pricing_unit.PricingUnitInput,
                needs=("name", "code", "short_name"),
            ),
            PRICING_UNITS.page(pricing_units.list_pricing_units, "List pricing units"),
            PRICING_UNITS.show(pricing_units.show_pricing_unit, "Get a pricing unit"),
            PRICING_UNITS.update(
                pricing_units.update_pricing_unit,
                "Change a pricing unit",
                takes=pricing_unit.PricingUnitInput,
            ),
            PRICING_UNITS.delete(pricing_units.delete_pricing_unit, "Delete a pricing unit", errors=(405,)),
        ),
    ),
    OperationGroup(
        "Custom sections",
        "invoice_custom_section",
        "Texts of your own on invoices. Chosen for billing entities, or for a customer instead of those of its billing entity.",
        (
            CUSTOM_SECTIONS.create(
                custom_sections.create_section,
                "Create a custom section",
                takes=custom_section.CustomSectionInput,
                needs=("name", "code"),
            ),
            CUSTOM_SECTIONS.page(custom_sections.list_sections, "List custom sections"),
            CUSTOM_SECTIONS.show(custom_sections.show_section, "Get a custom section"),
            CUSTOM_SECTIONS.update(
                custom_sections.update_section,
                "Change a custom section",
                description="Invoices that are final keep what they say.",
                takes=custom_section.CustomSectionInput,
            ),
            CUSTOM_SECTIONS.delete(custom_sections.delete_section, "Delete a custom section"),
        ),
    ),
    OperationGroup(
        "Add-ons",
        "add_on",
        "What is sold beside usage: once, or in every period as a plan's fixed charge.",
        (
            ADD_ONS.create(
                add_ons.create_add_on,
                "Create an add-on",
                takes=add_on.AddOnInput,
                needs=("name", "code", "amount_cents", "amount_currency"),
                errors=(404,),
            ),
            ADD_ONS.page(add_ons.list_add_ons, "List add-ons"),
            ADD_ONS.show(add_ons.show_add_on, "Get an add-on"),
            ADD_ONS.update(add_ons.update_add_on, "Change an add-on", takes=add_on.AddOnInput),
            ADD_ONS.delete(add_ons.delete_add_on, "Delete an add-on"),
        ),
    ),
    OperationGroup(
        "Taxes",
        "tax",
        "Tax rates. Invoices that are made keep theirs.",
        (
            TAXES.create(
                taxes.create_tax, "Create a tax", takes=tax.TaxInput, needs=("name", "code", "rate")
            ),
            TAXES.page(taxes.list_taxes, "List taxes"),
            TAXES.show(taxes.show_tax, "Get a tax"),
            TAXES.update(taxes.update_tax, "Change a tax", takes=tax.TaxInput),
            TAXES.delete(taxes.delete_tax, "Delete a tax"),
        ),
    ),
    OperationGroup(
        "Webhooks",
        "webhook_endpoint",
        "Where changes are sent to, and how to check that they are ours.",
        (
            WEBHOOK_ENDPOINTS.create(
                webhook_endpoints.create_webhook_endpoint,
                "Create a webhook endpoint",
                takes=webhook_endpoint.WebhookEndpointInput,
                needs=("webhook_url",),
            ),
            WEBHOOK_ENDPOINTS.page(webhook_endpoints.list_webhook_endpoints, "List webhook endpoints"),
            WEBHOOK_ENDPOINTS.show(webhook_endpoints.show_webhook_endpoint, "Get a webhook endpoint"),
            WEBHOOK_ENDPOINTS.update(
                webhook_endpoints.update_webhook_endpoint,
                "Change a webhook endpoint",
                takes=webhook_endpoint.WebhookEndpointInput,
            ),
            WEBHOOK_ENDPOINTS.delete(webhook_endpoints.delete_webhook_endpoint, "Delete a webhook endpoint"),
            Operation(
                "GET",
                "/webhooks/json_public_key",
                webhooks.show_public_key,
                "Get the key that webhooks are verified with",
                {"webhook": webhook_endpoint.WebhookKey},
            ),
            Operation(
                "GET",
                "/webhooks/public_key",
                webhooks.plain_public_key,
                "Get the same key as plain text",
                "text/plain",
            ),
        ),
    ),
    OperationGroup(
        "Activity logs",
        "activity_log",
        "What was changed, object by object: with keys, in the web admin and from the command line.",
        (
            ACTIVITY_LOGS.page(
                activity_logs.list_activity_logs,
                "List what was changed",
                query={
                    "from_date": Annotated[str, says("Only changes on this day (UTC) or later.")],
                    "to_date": Annotated[str, says("Only changes on this day (UTC) or earlier.")],
                    "activity_types": Annotated[list[str], says("Only these, such as plan.updated.")],
                    "activity_sources": Annotated[
                        list[str], says("Only those with a key (api), in the web admin (front), or system.")
                    ],
                    "user_emails": Annotated[list[str], says("Only those by these users.")],
                    "resource_ids": Annotated[list[str], says("Only those of these objects.")],
                    "resource_types": Annotated[
                        list[str], says("Only these kinds of objects, such as BillableMetric.")
                    ],
                    "external_customer_id": CUSTOMER,
                    "external_subscription_id": SUBSCRIPTION,
                },
            ),
            ACTIVITY_LOGS.show(activity_logs.show_activity_log, "Get what was changed of an object"),
        ),
    ),
    OperationGroup(
        "API logs",
        "api_log",
        "Requests with the organization's keys that write, or try to: what was sent, and what came of it. Sending events is not in it.",
        (
            API_LOGS.page(
                api_logs.list_api_logs,
                "List requests that wrote",
                query={
                    "from_date": Annotated[str, says("Only those on this day (UTC) or later.")],
                    "to_date": Annotated[str, says("Only those on this day (UTC) or earlier.")],
                    "http_methods": Annotated[list[str], says("Only these methods, such as post.")],
                    "http_statuses": Annotated[
                        list[str], says("Only these statuses: numbers, succeeded, or failed.")
                    ],
                    "api_version": Annotated[str, says("Only this version of the API: v1 is the only one.")],
                    "request_paths": Annotated[list[str], says("Only those with this in their path.")],
                },
            ),
            API_LOGS.show(api_logs.show_api_log, "Get a request that wrote"),
        ),
    ),
    OperationGroup(
        "Organization",
        "organization",
        "Your own settings, and the clock of an organization in test mode.",
        (
            ORGANIZATION.show(organization_settings.show_organization, "Get the organization"),
            ORGANIZATION.update(
                organization_settings.update_organization,
                "Change the organization",
                takes=organization.OrganizationInput,
            ),
            BILLING_ENTITIES.create(
                billing_entities.create_billing_entity,
                "Create a billing entity",
                description="Customers that name it in billing_entity_code belong to it; others to the default one.",
                takes=billing_entity.BillingEntityInput,
                needs=("code", "name"),
                errors=(404,),
            ),
            Operation(
                "GET",
                "/billing_entities",
                billing_entities.list_billing_entities,
                "List billing entities, the default one first",
                {"billing_entities": Annotated[list_of(billing_entity.BillingEntity), says("All of them.")]},
            ),
            BILLING_ENTITIES.show(billing_entities.show_billing_entity, "Get a billing entity"),
            BILLING_ENTITIES.update(
                billing_entities.update_billing_entity,
                "Change a billing entity",
                takes=billing_entity.BillingEntityUpdate,
            ),
            TEST_CLOCK.show(organizations.show_test_clock, "Get the test clock", errors=(403,)),
            TEST_CLOCK.update(
                organizations.move_test_clock,
                "Move the test clock",
                description="Everything that becomes due up to then has run, in order, when this answers 200. What takes "
                "longer than 20 seconds goes on after a 202: the clock shows where it is and, in moving_to, where it is going.",
                takes=organization.TestClockInput,
                needs=("now",),
                goes_on=True,
                errors=(403,),
            ),
        ),
    ),
)
OPERATIONS = tuple(operation for group in GROUPS for operation in group.operations)
ENDPOINTS = [(each.method, each.path, each.endpoint) for each in OPERATIONS]

WARNINGS: Any = Annotated[
    list_of(event.EventWarning) | UnsetType, says("With strict: why events of the request will not count.")
]
STRICT: Shape = {"strict": Annotated[bool, says("Answer also why events will not count.")]}
ONE_USAGE = sends("usage", llm.UsageInput, "provider")
INTAKE_OPERATIONS: tuple[Operation[None], ...] = (
    Operation(
        "POST",
        "/llm/usage",
        None,
        "Send usage of language models",
        {
            "usages": Annotated[
                list_of(llm.CountedUsage), says("What became of each, in the order in which they were sent.")
            ],
            "dry_run": Annotated[bool | UnsetType, says("Nothing was stored.")],
        },
        description="A provider's answer as it is becomes events of the metrics llm_tokens, llm_calls and the like."
        " Send one as `usage`, or up to 1,000 as `usages`. An answer is counted once, however often it comes; what can't"
        " be counted is kept aside. Only malformed requests are refused, and then nothing of them is stored.",
        body=Body(
            {
                **ONE_USAGE.fields,
                "usages": Annotated[list_of(llm.UsageInput), says("Several, instead of `usage`.")],
                "dry_run": Annotated[bool, says("Answer what would become of them, and store nothing.")],
            }
        ),
    ),
    Operation(
        "POST",
        "/events",
        None,
        "Send an event",
        {"event": event.AcceptedEvent, "warnings": WARNINGS},
        description="Also takes a CloudEvent, as `application/cloudevents+json`, and a list of them, as"
        " `application/cloudevents-batch+json`. An event whose code is of an intake is a call of a language model: sent"
        " again it is answered as before.",
        body=sends("event", event.EventInput, "transaction_id", "code"),
        query=STRICT,
    ),
    Operation(
        "POST",
        "/events/batch",
        None,
        "Send events",
        {"events": list_of(event.AcceptedEvent), "warnings": WARNINGS},
        description="All of them are stored or none. Errors name events by their place in the list.",
        body=Body({"events": list_of(event.EventInput)}),
        query=STRICT,
    ),
)
"""What the intake of events (ingest/) answers."""


def _mail_server(path: str) -> tuple[Operation[AdminEndpoint], ...]:
    """The mail server that an organization has of its own."""
    shown: Shape = {"mail_server": mail.MailServer}
    return (
        Operation("GET", path, mail_servers.show_mail_server, "Get an organization's mail server", shown),
        Operation(
            "PUT",
            path,
            mail_servers.set_mail_server,
            "Send an organization's mail through a server of its own",
            shown,
            body=sends("mail_server", mail.MailServerInput, "host", "mail_from"),
        ),
        Operation(
            "DELETE",
            path,
            mail_servers.delete_mail_server,
            "Send an organization's mail through the installation's server again",
            shown,
        ),
    )


ADMIN_OPERATIONS: tuple[Operation[AdminEndpoint], ...] = (
    Resource("/organizations", "", "organization", organization.InstalledOrganization).create(
        organizations.create_organization,
        "Create an organization with a first API key",
        takes=organization.NewOrganization,
        needs=("name",),
    ),
    Operation(
        "GET",
        "/organizations",
        organizations.list_organizations,
        "List organizations",
        {
            "organizations": Annotated[list_of(organization.InstalledOrganization), says("The first 1000.")],
            "meta": organization.OrganizationCount,
        },
    ),
    *_mail_server("/organizations/{organization_id}/mail_server"),
    Resource("/organizations/{organization_id}/api_keys", "", "api_key", organization.NewApiKey).create(
        organizations.create_api_key, "Create an API key", takes=organization.ApiKeyInput, needs=("name",)
    ),
    Operation(
        "GET",
        "/organizations/{organization_id}/api_keys",
        organizations.list_api_keys,
        "List API keys",
        {"api_keys": Annotated[list_of(organization.ApiKey), says("All of them, revoked ones too.")]},
    ),
    Operation(
        "POST",
        "/organizations/{organization_id}/api_keys/{key_id}/rotate",
        organizations.rotate_api_key,
        "Replace an API key by a new one",
        {"api_key": organization.NewApiKey},
        body=sends("api_key", organization.ApiKeyRotation),
    ),
    Operation(
        "DELETE",
        "/organizations/{organization_id}/api_keys/{key_id}",
        organizations.revoke_api_key,
        "Revoke an API key",
        {"api_key": organization.RevokedApiKey},
    ),
    Operation(
        "GET",
        "/price_lists",
        price_lists.list_price_lists,
        "List price lists that come with the server",
        {"price_lists": Annotated[list_of(price_list.PriceList), says("All of them.")]},
    ),
    Resource(
        "/organizations/{organization_id}/price_lists", "", "price_list", price_list.AppliedPriceList
    ).create(
        price_lists.apply_price_list,
        "Put a price list into an organization",
        takes=price_list.PriceListInput,
        needs=("slug",),
    ),
    Resource("/sign_in_links", "", "sign_in_link", sign_in_link.SignInLink).create(
        sign_in_links.create_sign_in_link,
        "Create a one-time link into the web admin",
        takes=sign_in_link.SignInLinkInput,
        needs=("email",),
    ),
)

USAGE = (
    usage.show_current_usage,
    usage.show_projected_usage,
    daily_usage.list_daily_usage,
    lifetime_usage.show_lifetime_usage,
)


APART = (
    *USAGE,
    usage.list_past_usage,
    analytics.gross_revenue,
    analytics.invoice_collection,
    analytics.invoiced_usage,
    analytics.mrr,
    analytics.overdue_balance,
    analytics.usage,
    margin.margin,
    explanations.explain_fee,
    invoices.list_invoices,
    invoices.list_customer_invoices,
    fees.list_fees,
    events.list_events,
)
"""Reads that may take long, of the interpreter's time: a process of its own does them where there is one."""


def apart(operation: Operation[Endpoint]) -> Apart:
    """Which requests of the operation a process of its own answers."""
    if operation.method != "GET":
        return Apart.NEVER
    if operation.answers == PDF:
        return Apart.DOCUMENT
    return Apart.ALWAYS if operation.endpoint in APART else Apart.WHERE_HEAVY


def reads_apart() -> dict[str, Reads]:
    """Path -> how the reader answers it."""
    return dict(
        read_apart(
            API + each.path,
            each.endpoint,
            scope=(group.resource, Mode.READ),
            keeps_plans=each.endpoint in USAGE,
        )
        for group in GROUPS
        for each in group.operations
        if apart(each) is not Apart.NEVER
    )


def all_routes(engine: Engine) -> list[Route]:
    return [
        *(
            route(
                engine,
                [each.method],
                API + each.path,
                each.endpoint,
                scope=(group.resource, Mode.READ if each.method == "GET" else Mode.WRITE),
                keeps_plans=each.endpoint in USAGE,
                apart=apart(each),
            )
            for group in GROUPS
            for each in group.operations
        ),
        *(admin_route(engine, each.method, ADMIN + each.path, each.endpoint) for each in ADMIN_OPERATIONS),
        *(route(engine, methods, API + path, not_built, scope=None) for methods, path in NOT_BUILT),
    ]
