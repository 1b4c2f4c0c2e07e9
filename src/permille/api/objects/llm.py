"""Usage of language models: what is sent, what became of it, and what is kept aside."""

from __future__ import annotations

from typing import Annotated, Any

from permille.api.objects.base import Answer, CreatedAt, Id, Input, UpdatedAt, instant_of, one_of, says
from permille.api.objects.price_list import AppliedObject
from permille.core.invoice.price_correction import CorrectionProblem, CorrectionStatus
from permille.core.llm.apis import APIS
from permille.core.llm.call import UsageStatus
from permille.core.llm.catalogue.sources import SOURCES
from permille.core.llm.intake import IntakeFormat
from permille.core.llm.parts import CallType, TokenType
from permille.core.llm.payer import PayerName
from permille.core.period import Interval
from permille.core.rating.unlisted import UnlistedValues

Subscription = Annotated[str | None, says("Your identifier of the subscription that pays.", example="sub_42")]
Customer = Annotated[
    str | None,
    says("Or of the customer, if one of its running subscriptions is the only one that prices such usage."),
]
Overrides = Annotated[
    bool,
    says(
        "Whether it goes before a payer that the request of an end user names; true by default, and never for end users and tags."
    ),
]
Identity = Annotated[
    str | None, says("Provider and id of the answer. It is counted once.", example="openai:resp_1")
]


class UsageInput(Input, kw_only=True):
    """A call of a language model: exactly one of `response`, `stream` and `usage`."""

    provider: Annotated[str, says("Who served it.", example="openai")]
    api: Annotated[
        str, one_of(*APIS, says="How the answer is to be read. By default that is seen from the answer.")
    ]
    model: Annotated[str, says("The model, where the answer doesn't name it.", example="gpt-5.4")]
    response: Annotated[
        dict[str, Any], says("The provider's answer as it is. Nothing of its content is kept.")
    ]
    stream: Annotated[list[dict[str, Any]], says("The events of a streamed answer, in order.")]
    usage: Annotated[dict[str, Any], says("Only the answer's usage object.")]
    id: Annotated[str, says("Identity of the answer where it has none, for example the header x-request-id.")]
    tier: Annotated[str, says("How it was served, where the answer doesn't say it.", example="batch")]
    cost: Annotated[str | float, says("What the provider charges in USD, where the answer doesn't say it.")]
    external_subscription_id: Subscription
    external_customer_id: Customer
    timestamp: Annotated[str | float, says("When it was: ISO 8601 or seconds since 1970; now by default.")]
    properties: Annotated[dict[str, Any], says("Free properties that the events get.")]
    payer_names: Annotated[
        dict[str, str | list[str]],
        says(
            f"Names that payer rules look at where who pays isn't found: {', '.join(PayerName)}."
            " Properties of these names are looked at too.",
            example={"key": "acme-prod", "team": "team-acme"},
        ),
    ]
    payer_requested: Annotated[
        bool,
        says(
            "Whether the request of an end user named the subscription or customer: then payer rules may go before it."
        ),
    ]


class UsageEvent(Answer, kw_only=True):
    """An event that was made of a usage."""

    transaction_id: Annotated[str, says("The usage's id, and what of it the event counts.")]
    code: Annotated[str, says("Code of the metric.", example="llm_tokens")]
    external_subscription_id: Subscription
    timestamp: Annotated[str, instant_of("When it was.")]
    properties: Annotated[dict[str, Any], says("Provider, model, type, quantity and the like.")]


class UsageWarning(Answer, kw_only=True):
    """Something to look at in a usage that is counted."""

    code: Annotated[str, says("Which kind of warning.", example="unknown_field")]
    message: Annotated[str, says("The warning in words.")]
    field: Annotated[str | None, says("The field that it is about.")]


class UsageProblem(Answer, kw_only=True):
    """Why a usage is not counted."""

    code: Annotated[str, says("Which kind of problem.", example="subscription_not_found")]
    message: Annotated[str, says("The problem in words, and what to do.")]


class CountedUsage(Answer, kw_only=True):
    """What became of a usage."""

    id: Identity
    status: Annotated[
        str,
        one_of(
            "counted",
            "repeated",
            "held",
            says="Counted now, counted before, or kept aside until it can be counted. None needs to be sent again.",
        ),
    ]
    held_usage_id: Annotated[str | None, says("Where it is kept aside.")]
    events: Annotated[list[UsageEvent], says("The events that were made of it.")]
    warnings: Annotated[list[UsageWarning], says("What to look at.")]
    problem: Annotated[UsageProblem | None, says("Why it is not counted.")]


class HeldUsage(Answer, kw_only=True):
    """A usage that could not be counted as it came."""

    lago_id: Id
    id: Identity
    provider: Annotated[str, says("Who served it.", example="openai")]
    model: Annotated[str | None, says("The model as it was sent.")]
    status: Annotated[str, one_of("held", "counted", says="Whether it was counted since.")]
    problem: Annotated[UsageProblem, says("Why it was not counted.")]
    external_subscription_id: Subscription
    external_customer_id: Customer
    timestamp: Annotated[str, instant_of("When it was.")]
    properties: Annotated[dict[str, Any], says("Free properties, as they were sent.")]
    payer_names: Annotated[dict[str, Any], says("The names that payer rules look at.")]
    sent: Annotated[
        dict[str, Any], says("Names and numbers of what was sent; nothing of prompts or answers.")
    ]
    created_at: CreatedAt
    counted_at: Annotated[str | None, instant_of("When it was counted.")]
    counted_for: Annotated[str | None, says("The subscription that it was counted for.")]


class AttributionInput(Input, kw_only=True):
    """Who pays for a usage, and what its answer did not say."""

    external_subscription_id: Subscription
    external_customer_id: Customer
    model: Annotated[str, says("The model, where the answer doesn't name it.")]
    id: Annotated[str, says("Identity of the answer, where it has none.")]


Position = Annotated[
    int | None,
    says(
        "Where a call has several names with rules, those with a position count before those without, the lowest first.",
        example=1,
    ),
]


class PayerRuleInput(Input, kw_only=True):
    """Who pays for calls with a name: exactly one of a customer and a subscription."""

    field: Annotated[str, one_of(*PayerName, says="Which kind of name.")]
    value: Annotated[str, says("The name, as it comes with calls.", example="team-acme")]
    external_customer_id: Customer
    external_subscription_id: Subscription
    overrides_request: Overrides
    position: Position


class PayerRule(Answer, kw_only=True):
    """Who pays for calls with a name, where their sender doesn't say it."""

    lago_id: Id
    field: Annotated[str, one_of(*PayerName, says="Which kind of name.")]
    value: Annotated[str, says("The name.", example="team-acme")]
    external_customer_id: Customer
    external_subscription_id: Subscription
    overrides_request: Overrides
    position: Position
    counted_usages: Annotated[int, says("How many held usages were counted by this change of the rule.")]
    created_at: CreatedAt


IntakeFormats = Annotated[str, one_of(*IntakeFormat, says="What sends the events.")]
PayerKind = Annotated[
    str | None,
    one_of(
        *PayerName, None, says="Which kind of name an event's subscription is; null: the subscription itself."
    ),
]


class IntakeInput(Input, kw_only=True):
    """Events of another program that are usage of language models."""

    format: IntakeFormats
    code: Annotated[str, says("The code of its events, where you have chosen another.", example="litellm")]
    payer_kind: PayerKind


class Intake(Answer, kw_only=True):
    """Events of another program, sent to `/events`, that are usage of language models."""

    lago_id: Id
    format: IntakeFormats
    codes: Annotated[list[str], says("The codes of its events.")]
    payer_kind: PayerKind
    created_at: CreatedAt


AliasName = Annotated[str, says("The provider and the name as it is sent.", example="azure/prod-chat-eu")]
AliasModel = Annotated[str, says("The provider and the model that is billed.", example="azure/gpt-4o")]


class ModelAlias(Answer, kw_only=True):
    """A name of your own for a model, such as a deployment, and the model that is billed for it."""

    lago_id: Id
    name: AliasName
    model: AliasModel
    created_at: CreatedAt
    updated_at: UpdatedAt


class ModelAliasInput(Input, kw_only=True):
    """Fields of a model alias."""

    name: AliasName
    model: AliasModel


class UnknownModel(Answer, kw_only=True):
    """A name that says nothing about the model, and the calls that are counted under it."""

    name: AliasName
    model: Annotated[str | None, says("The model that it is an alias of by now.", example="azure/gpt-4o")]
    calls_count: Annotated[int, says("The calls that wait to be counted under the model.")]
    first_used_at: Annotated[str | None, instant_of("When the first of them was.")]
    last_used_at: Annotated[str | None, instant_of("When the last of them was.")]


class CountedModel(UnknownModel, kw_only=True):
    """What became of the calls of a name, and what still waits under it."""

    moved_count: Annotated[int, says("The calls that are counted under the model now, by amendments.")]
    billed_count: Annotated[int, says("Those that stay, because they are on a final invoice.")]
    amended_count: Annotated[int, says("Those that stay, because you have amended them.")]


class RecentUsage(Answer, kw_only=True):
    """A usage that came in lately, and what became of it."""

    lago_id: Id
    created_at: CreatedAt
    road: Annotated[str, says("The address that it came to.", example="/v1/traces")]
    client: Annotated[
        str | None,
        says("The program that sent it, as it calls itself.", example="opentelemetry.instrumentation.openai"),
    ]
    status: Annotated[
        str,
        one_of(
            *UsageStatus,
            says="What became of it. Dropped are spans that are no calls or repeat others; refused is a whole request.",
        ),
    ]
    count: Annotated[int, says("How many spans this is, where they are dropped.")]
    id: Identity
    provider: Annotated[str | None, says("Who served it, as it was sent.")]
    model: Annotated[str | None, says("The model as it was sent.")]
    external_subscription_id: Subscription
    external_customer_id: Customer
    problem: Annotated[UsageProblem | None, says("Why it is not counted.")]
    events: Annotated[
        list[dict[str, str]],
        says(
            "The first 20 of its events: code, transaction_id, provider, model, type, modality and quantity or cost."
        ),
    ]
    warnings: Annotated[list[dict[str, str]], says("Code and message of what to look at.")]


class HeldUsageGroup(Answer, kw_only=True):
    """Held usages of one reason that were sent for the same payer, with the same key, team and user."""

    code: Annotated[str, says("Why they are held.", example="customer_not_found")]
    message: Annotated[str, says("The reason in words, of one of them.")]
    external_subscription_id: Subscription
    external_customer_id: Customer
    key: Annotated[str | None, says("Their property key.")]
    team: Annotated[str | None, says("Their property team.")]
    user: Annotated[str | None, says("Their property user.")]
    models: Annotated[list[str], says("Up to five of their models.")]
    calls_count: Annotated[int, says("How many wait.")]
    first_used_at: Annotated[str, instant_of("When the first of them was.")]
    last_used_at: Annotated[str, instant_of("When the last of them was.")]


class PayerInput(Input, kw_only=True):
    """Who pays, and what the answers did not say."""

    external_subscription_id: Subscription
    external_customer_id: Customer
    model: Annotated[str, says("The model, where the answers don't name it.")]


class HeldUsageGroupInput(Input, kw_only=True):
    """A group of held usages as the list says it, and who pays for it."""

    code: Annotated[str, says("Why they are held.", example="customer_not_found")]
    external_subscription_id: Subscription
    external_customer_id: Customer
    key: Annotated[str | None, says("Their property key.")]
    team: Annotated[str | None, says("Their property team.")]
    user: Annotated[str | None, says("Their property user.")]
    payer: Annotated[PayerInput, says("Who pays. Left out, they are tried again as they are.")]


class CountedGroup(Answer, kw_only=True):
    """What became of a group of held usages."""

    counted_count: Annotated[int, says("How many of it were counted.")]
    waiting_count: Annotated[int, says("How many of it still wait.")]


class ModelInput(Input, kw_only=True):
    """A model that a plan prices."""

    provider: Annotated[str, says("Who serves it.", example="openai")]
    model: Annotated[str, says("The model.", example="gpt-5.4")]
    prices: Annotated[
        dict[str, str | float],
        says(
            f"What a million tokens costs, by type: {', '.join(TokenType)}. Left out: what the catalogue says today, in USD."
            " A type without a price costs what the type that contains it does.",
            example={"input": "1.25", "cached_input": "0.125", "output": "10"},
        ),
    ]
    deprecated: Annotated[bool, says("As `GET /llm/current_models` says it; it changes nothing.")]


class CurrentModel(Answer):
    """A model that the catalogue prices today."""

    provider: Annotated[str, says("Who serves it.", example="openai")]
    model: Annotated[str, says("The model.", example="gpt-5.4")]
    prices: Annotated[
        dict[str, str],
        says(
            "What a million tokens costs in USD at the standard tier, by the types that have a price of their own.",
            example={"input": "2.5", "cached_input": "0.25", "output": "15.0"},
        ),
    ]
    deprecated: Annotated[bool, says("Whether its provider no longer offers it to new users.")]


class SetupInput(Input, kw_only=True):
    """The metrics of language models, and a plan of chosen models."""

    plan_code: Annotated[str, says("Code of the plan.", example="models")]
    plan_name: Annotated[str, says("Name of the plan; its code by default.")]
    currency: Annotated[str, says("Currency of the plan and its prices; USD by default.", example="USD")]
    interval: Annotated[str, one_of(*Interval, says="How often it is billed; monthly by default.")]
    models: Annotated[list[ModelInput], says("The models, up to 200.")]
    calls: Annotated[
        dict[str, str | float],
        says(f"What a call costs, by type: {', '.join(CallType)}.", example={"web_search": "0.01"}),
    ]
    markup: Annotated[str | float, says("What every price is multiplied by; 1 by default.", example="1.2")]
    include_deprecated: Annotated[
        bool,
        says("Whether models that their providers no longer offer may have the catalogue's prices."),
    ]
    unlisted_values: Annotated[
        str, one_of(*UnlistedValues, says="What is done with usage of other models; held by default.")
    ]


class ModelSetup(Answer):
    """What was made, and what was there already."""

    billable_metrics: Annotated[list[AppliedObject], says("The metrics.")]
    plan: Annotated[AppliedObject, says("The plan.")]


class CatalogueVersion(Answer, kw_only=True):
    """A version of the price catalogue: pending, or approved and charged by from a date on."""

    lago_id: Id
    label: Annotated[str, says("What it is called, as fees are explained.", example="genai-prices-0.2.3")]
    source: Annotated[str, says("Whose file it is.", example="genai-prices")]
    status: Annotated[str, one_of("pending", "approved", says="Whether charges go by it.")]
    digest: Annotated[str, says("SHA-256 of the file.")]
    imported_by: Annotated[str, says("Who has imported it.")]
    approved_by: Annotated[str | None, says("Who has approved it.")]
    approved_at: Annotated[str | None, instant_of("When it was approved.")]
    valid_from: Annotated[
        str | None, says("The UTC date from which on it holds; null: always.", example="2026-11-29")
    ]
    accepted_outliers: Annotated[
        list[str], says("Models whose prices are gone, became 0 or changed tenfold, and were accepted.")
    ]
    created_at: CreatedAt


class CatalogueVersionInput(Input, kw_only=True):
    """A price file to import."""

    label: Annotated[str, says("What it is called.", example="genai-prices-0.2.4")]
    source: Annotated[str, one_of(*SOURCES, says="Whose file it is; genai-prices by default.")]
    prices: Annotated[
        list[dict[str, Any]] | dict[str, Any],
        says(
            "The content of the file: data.json of genai-prices, model_prices_and_context_window.json of LiteLLM."
        ),
    ]


class ApprovalInput(Input, kw_only=True):
    """The approval of a version."""

    valid_from: Annotated[str, says("The UTC date from which on it holds; today by default.")]
    accept_outliers: Annotated[
        list[str], says("PROVIDER/MODEL of all whose prices are gone, become 0 or change tenfold.")
    ]


class UnreadPrices(Answer, kw_only=True):
    """What a price file says that is not understood, and is left out."""

    what: Annotated[str, says("The key, or what is wrong with it.", example="off_peak_pricing")]
    models_count: Annotated[int, says("Of how many models.")]
    example: Annotated[str, says("One of them.", example="deepseek-flash")]


class PriceCorrection(Answer, kw_only=True):
    """What a final invoice would come to by corrected prices of the catalogue."""

    lago_invoice_id: Id
    invoice_number: Annotated[str, says("Its number.", example="ACM-1234-001-001")]
    lago_customer_id: Id
    currency: Annotated[str, says("Of the amounts.", example="USD")]
    billed_amount_cents: Annotated[
        int, says("What it billed by the catalogue, in cents before taxes and coupons.")
    ]
    corrected_amount_cents: Annotated[int | None, says("What that would be; null where it can't be said.")]
    credited_amount_cents: Annotated[int, says("What came back of it for corrected prices.")]
    difference_amount_cents: Annotated[
        int | None, says("What is still to be billed; below 0: to come back. Null where it can't be said.")
    ]
    creditable_amount_cents: Annotated[
        int, says("What a credit note would give back, before taxes and coupons.")
    ]
    status: Annotated[
        str,
        one_of(
            *CorrectionStatus,
            says="to_credit: a credit note is proposed; customer_owes: it is shown and never billed by itself; by_hand: see problem.",
        ),
    ]
    problem: Annotated[
        str | None, one_of(*CorrectionProblem, None, says="Why it can't be corrected without a look at it.")
    ]


class CorrectionNote(Answer, kw_only=True):
    """A credit note for corrected prices."""

    lago_credit_note_id: Id
    number: Annotated[str, says("Its number.", example="ACM-1234-001-001-CN001")]
    lago_invoice_id: Id
    total_amount_cents: Annotated[int, says("With taxes.")]
    currency: Annotated[str, says("Of the amount.", example="USD")]


class CorrectionInput(Input, kw_only=True):
    """Which invoices are corrected."""

    invoice_id: Annotated[str, says("Permille's identifier of one invoice.")]
    all: Annotated[bool, says("Instead of `invoice_id`: all of them, up to 500 at once.")]


class PriceChange(Answer, kw_only=True):
    """A price that another version changes."""

    provider: Annotated[str, says("Who asks for it.", example="openai")]
    model: Annotated[str, says("The model.", example="gpt-5.4")]
    price_of: Annotated[str, says("What is priced.", example="llm_tokens cached_input batch")]
    before: Annotated[str | None, says("US dollars for `before_per` units; null: it is new.")]
    before_per: Annotated[int | None, says("For how many units.")]
    after: Annotated[str | None, says("US dollars for `after_per` units; null: it is gone.")]
    after_per: Annotated[int | None, says("For how many units.")]
    share: Annotated[
        str | None, says("By how much of itself it changes, with four decimals.", example="0.25")
    ]
    is_outlier: Annotated[bool, says("Whether its model has to be named to accept it.")]
