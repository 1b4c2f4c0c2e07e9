"""Prepaid credits: wallets, what fills and empties them, and which of these paid for which."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any
from uuid import UUID

from permille.api.objects.base import (
    Answer,
    CreatedAt,
    Currency,
    ExternalCustomerId,
    Id,
    Input,
    instant_of,
    one_of,
    says,
    text_of_number,
)
from permille.api.objects.custom_section import ChosenSections, SectionChoice
from permille.api.objects.subscription import PaymentMethod
from permille.core.period import Interval
from permille.core.wallet import Source, TransactionStatus
from permille.core.wallet_rule import Method, Trigger

FeeTypes = Annotated[
    list[str],
    says("Kinds of fees that it pays: charge, subscription, commitment, fixed_charge."),
]
MetricCodes = Annotated[list[str], says("Codes of the metrics whose fees it pays, beside those kinds.")]
Priority = Annotated[int, says("From 1, which is spent first, to 50.", example=50)]
PurchaseOrderNumber = Annotated[str | None, says("Number of the order, shown on invoices for credits.")]
RequiresPayment = Annotated[
    bool, says("Whether the invoice for bought credits is only there once it is paid.")
]


class WalletLimits(Answer):
    """What a wallet pays for: with neither, everything."""

    fee_types: FeeTypes
    billable_metric_codes: MetricCodes


class TransactionNote(Answer):
    """A note on a transaction."""

    key: Annotated[str, says("Name of the note.")]
    value: Annotated[str, says("Its text.")]


class WalletRule(Answer, kw_only=True):
    """A rule by which a wallet is topped up by itself."""

    lago_id: Id
    trigger: Annotated[str, one_of(*Trigger, says="What sets it off.")]
    method: Annotated[str, one_of(*Method, says="Always the same credits, or what is lacking to a target.")]
    interval: Annotated[str | None, one_of(None, *Interval, says="How often, by its day.")]
    status: Annotated[str, one_of("active", "terminated", says="Whether it tops up.")]
    threshold_credits: Annotated[str, text_of_number("At so many ongoing credits or fewer.")]
    paid_credits: Annotated[str, text_of_number("Credits that are bought.")]
    granted_credits: Annotated[str, text_of_number("Credits that are given for nothing.")]
    grants_target_top_up: Annotated[bool, says("Whether what is lacking to a target is given for nothing.")]
    target_ongoing_balance: Annotated[str | None, text_of_number("Ongoing credits that it tops up to.")]
    started_at: Annotated[
        str | None, instant_of("Its days are counted from here, else from the wallet's start.")
    ]
    expiration_at: Annotated[str | None, instant_of("When it ends by itself.")]
    created_at: CreatedAt
    invoice_requires_successful_payment: RequiresPayment
    ignore_paid_top_up_limits: Annotated[
        bool, says("Whether the wallet's smallest and largest amounts don't count.")
    ]
    transaction_name: Annotated[str | None, says("Label of the fee on its invoices.")]
    transaction_metadata: Annotated[list[TransactionNote], says("Notes on its transactions.")]
    purchase_order_number: PurchaseOrderNumber
    applied_invoice_custom_sections: ChosenSections
    payment_method: Annotated[PaymentMethod, says("How credits are paid.")]


class Wallet(Answer, kw_only=True):
    """Credits that a customer has before it owes anything."""

    lago_id: Id
    lago_customer_id: Annotated[UUID, says("The customer.")]
    external_customer_id: ExternalCustomerId
    billing_entity_code: Annotated[str, says("Billing entity of the invoices for credits.")]
    status: Annotated[str, one_of("active", "terminated", says="Whether it still pays.")]
    currency: Currency
    name: Annotated[str | None, says("Name for people.")]
    code: Annotated[str, says("Your identifier, unique among the customer's active wallets.", example="main")]
    purchase_order_number: PurchaseOrderNumber
    priority: Priority
    rate_amount: Annotated[str, text_of_number("What a credit is worth, in the currency.", example="1.0")]
    credits_balance: Annotated[str, text_of_number("Credits in it.")]
    balance_cents: Annotated[int, says("What they are worth, in the currency's smallest unit.")]
    consumed_credits: Annotated[str, text_of_number("Credits that invoices have taken.")]
    credits_ongoing_balance: Annotated[
        str, text_of_number("Credits left after usage and drafts so far; below zero where these are more.")
    ]
    credits_ongoing_usage_balance: Annotated[str, text_of_number("Credits that usage and drafts will take.")]
    ongoing_balance_cents: Annotated[int, says("The same as money: what is left.")]
    ongoing_usage_balance_cents: Annotated[int, says("The same as money: what will be taken.")]
    created_at: CreatedAt
    expiration_at: Annotated[str | None, instant_of("When it is terminated by itself.")]
    last_balance_sync_at: Annotated[str | None, instant_of("When its balance last changed.")]
    last_consumed_credit_at: Annotated[str | None, instant_of("When an invoice last took of it.")]
    terminated_at: Annotated[str | None, instant_of("When it was terminated.")]
    invoice_requires_successful_payment: RequiresPayment
    paid_top_up_min_amount_cents: Annotated[int | None, says("Smallest amount that is bought at once.")]
    paid_top_up_max_amount_cents: Annotated[int | None, says("Largest amount that is bought at once.")]
    recurring_transaction_rules: Annotated[list[WalletRule], says("Its active rule, if it has one.")]
    applies_to: Annotated[WalletLimits, says("What it pays for.")]
    applied_invoice_custom_sections: ChosenSections
    payment_method: Annotated[PaymentMethod, says("How credits are paid.")]
    metadata: Annotated[Mapping[str, Any] | None, says("Your own notes.")]


class WalletTransaction(Answer, kw_only=True):
    """What filled a wallet, or emptied it."""

    lago_id: Id
    lago_wallet_id: Annotated[UUID, says("The wallet.")]
    lago_invoice_id: Annotated[UUID | None, says("The invoice that sold the credits, or that they paid.")]
    lago_credit_note_id: Annotated[UUID | None, says("The credit note that they were voided for.")]
    lago_voided_invoice_id: Annotated[UUID | None, says("The voided invoice that gave them back.")]
    billing_entity_code: Annotated[str, says("Billing entity of the wallet.")]
    status: Annotated[
        str, one_of("pending", "settled", "failed", says="Whether it counts: bought credits do once paid.")
    ]
    source: Annotated[str, one_of(*Source, says="Who asked for it: somebody, or a rule.")]
    transaction_status: Annotated[str, one_of(*TransactionStatus, says="What it is.")]
    transaction_type: Annotated[str, one_of("inbound", "outbound", says="Whether it fills or empties.")]
    amount: Annotated[str, text_of_number("Money, in the currency.")]
    credit_amount: Annotated[str, text_of_number("Credits.")]
    remaining_amount_cents: Annotated[
        int | None,
        says("What nothing has taken yet, in the smallest unit; null unless it has filled the wallet."),
    ]
    remaining_credit_amount: Annotated[str | None, text_of_number("The same in credits.")]
    priority: Annotated[int, says("From 1, which is taken first, to 50.")]
    purchase_order_number: PurchaseOrderNumber
    settled_at: Annotated[str | None, instant_of("Since when it counts.")]
    failed_at: Annotated[str | None, instant_of("When its payment failed.")]
    created_at: CreatedAt
    invoice_requires_successful_payment: RequiresPayment
    metadata: Annotated[list[TransactionNote], says("Your own notes.")]
    name: Annotated[str | None, says("Label of the fee on its invoice.")]
    applied_invoice_custom_sections: ChosenSections
    payment_method: Annotated[PaymentMethod, says("How it is paid.")]


class WalletTransactionDetails(WalletTransaction, kw_only=True):
    """A transaction as webhooks carry it."""

    wallet: Annotated[Wallet, says("Its wallet.")]


class WalletTransactionPart(Answer):
    """How much of one transaction went into another."""

    lago_id: Id
    amount_cents: Annotated[int, says("In the currency's smallest unit.")]
    credit_amount: Annotated[str, text_of_number("In credits.")]
    created_at: CreatedAt
    wallet_transaction: Annotated[WalletTransaction, says("The other transaction.")]


TextOfCredits = Annotated[
    str | None, text_of_number("A text, not a number; further than 5 decimals are cut off.")
]
Notes = Annotated[
    list[Mapping[str, str]] | None, says("At most so many of {key, value}; keys of 20 characters.")
]


class WalletUpdate(Input):
    """A wallet, as a request changes it."""

    name: Annotated[str | None, says("Name for people.")]
    code: Annotated[str | None, says("Your identifier.")]
    priority: Priority
    expiration_at: Annotated[str | None, instant_of("When it is terminated by itself, later than now.")]
    invoice_requires_successful_payment: RequiresPayment
    billing_entity_code: Annotated[str, says("Billing entity of the invoices for credits.")]
    purchase_order_number: PurchaseOrderNumber
    paid_top_up_min_amount_cents: Annotated[int | None, says("Smallest amount that is bought at once.")]
    paid_top_up_max_amount_cents: Annotated[int | None, says("Largest amount that is bought at once.")]
    applies_to: Annotated[WalletLimits | None, says("What it pays for; by default everything.")]
    payment_method: Annotated[dict[str, Any], says("Only payment_method_type provider.")]
    recurring_transaction_rules: Annotated[list[dict[str, Any]] | None, says("One rule, or none to end it.")]
    invoice_custom_section: SectionChoice
    metadata: Annotated[Mapping[str, Any] | None, says("Your own notes.")]


class WalletInput(WalletUpdate):
    """A wallet, as a request opens it."""

    external_customer_id: ExternalCustomerId
    currency: Currency
    rate_amount: Annotated[str, text_of_number("What a credit is worth, in the currency.", example="1.0")]
    paid_credits: TextOfCredits
    granted_credits: TextOfCredits
    ignore_paid_top_up_limits_on_creation: Annotated[
        bool, says("Whether the smallest and largest amounts don't count now.")
    ]
    transaction_name: Annotated[str | None, says("Label of the first fee for credits.")]
    transaction_metadata: Notes
    transaction_priority: Annotated[int | None, says("Priority of the first transactions.")]


class WalletTransactionInput(Input):
    """Credits to buy, to give and to void; several kinds at once make several transactions."""

    wallet_id: Annotated[UUID, says("The wallet.")]
    paid_credits: TextOfCredits
    granted_credits: TextOfCredits
    voided_credits: TextOfCredits
    voided_transaction_id: Annotated[
        UUID | None, says("Whose credits are voided; by default those spent first.")
    ]
    invoice_requires_successful_payment: RequiresPayment
    ignore_paid_top_up_limits: Annotated[
        bool, says("Whether the wallet's smallest and largest amounts don't count.")
    ]
    priority: Annotated[int, says("From 1, which is taken first, to 50.")]
    name: Annotated[str | None, says("Label of the fee on the invoice.")]
    purchase_order_number: PurchaseOrderNumber
    invoice_custom_section: SectionChoice
    payment_method: Annotated[dict[str, Any], says("Only payment_method_type provider.")]
    metadata: Notes
