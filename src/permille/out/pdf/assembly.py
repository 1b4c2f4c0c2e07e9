"""From the stored invoice to what it says on paper."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.customer import BillingEntity, Customer
from permille.core.period import local_date
from permille.core.record import replace
from permille.out.pdf.credit_note import CreditNoteDocument
from permille.out.pdf.document import ACCENT, CustomSection, InvoiceDocument, Party, Tax
from permille.out.pdf.language import Language, language_of
from permille.out.pdf.plain import Head
from permille.out.pdf.receipt import ReceiptDocument
from permille.out.pdf.sections import Billed, BilledSubscription, fee_text, sections
from permille.store import (
    billing_entities,
    credit_notes,
    customers,
    fee_items,
    fees as fee_store,
    invoices,
    payments,
    plans,
    subscriptions,
)
from permille.store.credit_notes import CreditNote
from permille.store.fee_items import FeeItem
from permille.store.fees import StoredFee
from permille.store.invoices import StoredInvoice
from permille.store.payments import Receipt

_LETTER_COUNTRIES = ("US", "CA", "MX", "PH", "CL", "CO")


def invoice_document(conn: Connection[Any], invoice_id: UUID) -> InvoiceDocument:
    """The document of an invoice. Raises KeyError for an unknown one, which is a bug."""
    invoice = invoices.invoices_by_ids(conn, [invoice_id])[invoice_id]
    billed = invoices.subscriptions_of(conn, [invoice_id]).get(invoice_id, [])
    rows = subscriptions.by_ids(conn, [each.subscription_id for each in billed])
    known_plans = plans.plans_by_ids(conn, {row.plan_id for row in rows.values()})
    fees = fee_store.of_invoices(conn, [invoice_id])[invoice_id]
    return document_of(
        invoice,
        fees,
        items=fee_items.of_fees(conn, fees),
        entity=billing_entities.by_ids(conn, [invoice.billing_entity_id])[invoice.billing_entity_id],
        customer=customers.by_ids(conn, [invoice.customer_id])[invoice.customer_id],
        billed=[
            BilledSubscription(
                subscription=rows[each.subscription_id],
                plan=known_plans[rows[each.subscription_id].plan_id],
                periods=each,
            )
            for each in billed
        ],
    )


def document_of(
    invoice: StoredInvoice,
    fees: Sequence[StoredFee],
    *,
    items: Mapping[UUID, FeeItem],
    entity: BillingEntity,
    customer: Customer,
    billed: Sequence[BilledSubscription],
) -> InvoiceDocument:
    """What an invoice says on paper: its fees by subscription and charge, in its own order.

    Plans without a price of their own have no line for it.
    """
    customer = replace(customer, billing_entity=entity)
    language = language_of(customer.applicable_document_locale)
    is_reverse_charged = customer.is_reverse_charged and not invoice.taxes_amount_cents
    issuer, payer = parties_of(entity, customer)
    return InvoiceDocument(
        number=invoice.number,
        status=invoice.status,
        locale=customer.applicable_document_locale,
        currency=invoice.currency,
        issuing_date=invoice.issuing_date,
        payment_due_date=invoice.payment_due_date,
        net_payment_term=invoice.net_payment_term,
        purchase_order_number=invoice.purchase_order_number,
        is_self_billed=customer.is_self_billed,
        issuer=_party(issuer, language),
        customer=_party(payer, language),
        imprint=" · ".join(_imprint(issuer)),
        footer=entity.invoice_footer,
        bank_details=None if customer.is_self_billed else entity.bank_details,
        custom_sections=tuple(
            CustomSection(title=each["display_name"], text=each["details"])
            for each in invoice.custom_sections
        ),
        reverse_charge_note=entity.reverse_charge_note if is_reverse_charged else None,
        customer_country=customer.country,
        paper=_paper(entity),
        sections=tuple(sections(Billed(invoice=invoice, items=items, language=language), fees, billed)),
        fees_amount_cents=invoice.fees_amount_cents,
        progressive_billing_credit_amount_cents=invoice.progressive_billing_credit_amount_cents,
        coupons_amount_cents=invoice.coupons_amount_cents,
        taxes=_taxes(invoice),
        credit_notes_amount_cents=invoice.credit_notes_amount_cents,
        prepaid_credit_amount_cents=invoice.prepaid_credit_amount_cents,
        total_amount_cents=invoice.total_amount_cents,
        total_paid_amount_cents=invoice.total_paid_amount_cents,
        offset_amount_cents=invoice.offset_amount_cents,
        accent=entity.brand_color or ACCENT,
    )


def credit_note_document(conn: Connection[Any], note_id: UUID) -> CreditNoteDocument:
    """The document of a credit note. Raises KeyError for an unknown one, which is a bug."""
    note = credit_notes.by_ids(conn, [note_id])[note_id]
    invoice = invoices.invoices_by_ids(conn, [note.invoice_id])[note.invoice_id]
    head = _head(
        conn,
        note.billing_entity_id,
        note.customer_id,
        number=note.number,
        currency=note.currency,
        issuing_date=note.issuing_date,
    )
    return CreditNoteDocument(
        head=head,
        invoice_number=invoice.number,
        is_void=note.credit_status == "voided",
        description=note.description,
        lines=_credited_lines(conn, note, head.language),
        coupons_cents=note.coupons_cents,
        taxes=[
            Tax(
                name=each["tax_name"],
                rate=Decimal(each["tax_rate"]),
                base_cents=each["base_amount_cents"],
                amount_cents=each["amount_cents"],
            )
            for each in note.applied_taxes
        ],
        credit_cents=note.credit_amount_cents,
        refund_cents=note.refund_amount_cents,
        offset_cents=note.offset_amount_cents,
    )


def receipt_document(conn: Connection[Any], receipt: Receipt) -> ReceiptDocument:
    """The document of a receipt."""
    payment = payments.by_ids(conn, [receipt.payment_id])[receipt.payment_id]
    paid = payments.invoices_of(conn, [payment.id])[payment.id]
    invoice = invoices.invoices_by_ids(conn, [paid[0].invoice_id])[paid[0].invoice_id]
    head = _head(
        conn,
        payments.billing_entity_of(conn, payment.id),
        payment.customer_id,
        number=receipt.number,
        currency=payment.currency,
        issuing_date=local_date(receipt.created_at, invoice.timezone),
    )
    return ReceiptDocument(
        head=head,
        paid_on=local_date(payment.created_at, invoice.timezone),
        reference=payment.reference,
        paid=[(each.number, each.amount_cents) for each in paid],
    )


def _head(
    conn: Connection[Any],
    billing_entity_id: UUID,
    customer_id: UUID,
    *,
    number: str,
    currency: str,
    issuing_date: date,
) -> Head:
    entity = billing_entities.by_ids(conn, [billing_entity_id])[billing_entity_id]
    customer = replace(customers.by_ids(conn, [customer_id])[customer_id], billing_entity=entity)
    language = language_of(customer.applicable_document_locale)
    issuer, payer = parties_of(entity, customer)
    return Head(
        number=number,
        locale=customer.applicable_document_locale,
        currency=currency,
        issuing_date=issuing_date,
        issuer=_party(issuer, language),
        customer=_party(payer, language),
        imprint=" · ".join(_imprint(issuer)),
        footer=entity.invoice_footer,
        customer_country=customer.country,
        paper=_paper(entity),
        accent=entity.brand_color or ACCENT,
    )


def _paper(entity: BillingEntity) -> str:
    return "us-letter" if entity.country in _LETTER_COUNTRIES else "a4"


def _credited_lines(conn: Connection[Any], note: CreditNote, language: Language) -> list[tuple[str, int]]:
    own = credit_notes.items_of(conn, [note.id])[note.id]
    fees = fee_store.by_ids(conn, {each.fee_id for each in own})
    items = fee_items.of_fees(conn, fees.values())
    return [
        (fee_text(fees[each.fee_id], items.get(each.fee_id), language), each.amount_cents) for each in own
    ]


def parties_of(
    entity: BillingEntity, customer: Customer
) -> tuple[BillingEntity | Customer, BillingEntity | Customer]:
    """Who issues the documents, and who gets them: those of a partner are issued in the partner's name."""
    return (customer, entity) if customer.is_self_billed else (entity, customer)


def _party(who: BillingEntity | Customer, language: Language) -> Party:
    return Party(name=printed(who), lines=tuple(_party_lines(who, language)))


def printed(who: BillingEntity | Customer) -> str:
    """What a party is called on documents."""
    return printed_name(who) if isinstance(who, Customer) else printed_issuer(who)


def printed_issuer(entity: BillingEntity) -> str:
    """What the billing entity is called on its documents."""
    return entity.legal_name or entity.name


def printed_name(customer: Customer) -> str:
    """What the customer is called on its documents."""
    person = " ".join(name for name in (customer.firstname, customer.lastname) if name)
    return customer.legal_name or customer.name or person or customer.external_id


def printed_texts(customer: Customer) -> str:
    """Every text of the customer that its documents show."""
    return "\n".join([printed_name(customer), *_party_lines(customer, language_of("en"))])


def _party_lines(who: BillingEntity | Customer, language: Language) -> Iterator[str]:
    yield from (line for line in _address(who, language) if line)
    if who.tax_identification_number:
        yield f"{language.word('tax_id')} {who.tax_identification_number}"
    if who.email:
        yield who.email


def _address(who: BillingEntity | Customer, language: Language) -> Iterator[str | None]:
    """The lines of a postal address; the town's is written as it is in North America or elsewhere."""
    yield who.address_line1
    yield who.address_line2
    if who.country in _LETTER_COUNTRIES:
        yield ", ".join(part for part in (who.city, _joined(who.state, who.zipcode)) if part)
    else:
        yield ", ".join(part for part in (_joined(who.zipcode, who.city), who.state) if part)
    yield language.country(who.country) if who.country else None


def _joined(*parts: str | None) -> str:
    return " ".join(part for part in parts if part)


def _imprint(who: BillingEntity | Customer) -> Iterator[str]:
    yield printed(who)
    yield from (part for part in (who.legal_number, who.tax_identification_number, who.email) if part)


def _taxes(invoice: StoredInvoice) -> tuple[Tax, ...]:
    return tuple(
        Tax(
            name=each["tax_name"],
            rate=Decimal(each["tax_rate"]),
            base_cents=each["fees_amount_cents"],
            amount_cents=each["amount_cents"],
        )
        for each in invoice.applied_taxes
    )
