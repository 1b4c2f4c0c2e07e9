"""What mails say: a heading, a table of facts in the customer's language, and the documents as PDFs.

To add a kind: a function from its object to a `Letter`, one line in WRITERS, and its objects in store/mail_subjects.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.clock import system_now
from permille.core.customer import BillingEntity, Customer
from permille.core.invoice.draft import InvoiceStatus
from permille.core.invoice.payment import PaymentStatus
from permille.core.mail import MailKind, address
from permille.core.record import Record, replace
from permille.out.documents import Printer, file_name
from permille.out.kind import Context
from permille.out.mail.letter import Attachment, Letter
from permille.out.pdf.assembly import (
    credit_note_document,
    invoice_document,
    parties_of,
    printed,
    printed_issuer,
    receipt_document,
)
from permille.out.pdf.document import ACCENT, InvoiceDocument
from permille.out.pdf.language import Language, language_of
from permille.store import (
    billing_entities,
    credit_notes,
    customers,
    invoices,
    organizations,
    payment_requests,
    payments,
)
from permille.store.invoices import StoredInvoice

INVOICES_ATTACHED = 20
"""At most so many go with a payment request: mail servers refuse what is too large."""


class GoneError(Exception):
    """What the mail is about is no more, or not to be sent."""


class _Parties(Record, kw_only=True):
    """Who writes, to whom, and in which language."""

    printer: Printer
    customer: Customer
    language: Language

    def letter(
        self,
        title: str,
        facts: list[tuple[str, str]],
        attachments: list[Attachment],
        *,
        notes: tuple[str, ...] = (),
    ) -> Letter:
        word = self.language.word
        issuer, payer = map(printed, parties_of(self.printer.entity, self.customer))
        named = [(word("from"), issuer), (word("bill_to"), payer), *facts]
        return _letter(self.printer, self.language, title, named, notes=notes, attachments=attachments)


def _letter(
    printer: Printer,
    language: Language,
    title: str,
    facts: Sequence[tuple[str, str]],
    *,
    notes: tuple[str, ...],
    attachments: Sequence[Attachment] = (),
) -> Letter:
    """The letter in the name of the printer's billing entity, with its logo and its colour."""
    entity = printer.entity
    logo = printer.logo(system_now())
    return Letter(
        sender_name=printed_issuer(entity),
        reply_to=address(entity.email) if entity.email else None,
        subject=f"{printed_issuer(entity)}: {title}",
        heading=title,
        facts=tuple(facts),
        notes=notes,
        language=language.tag,
        is_right_to_left=language.is_right_to_left,
        attachments=tuple(attachments),
        color=entity.brand_color or ACCENT,
        logo_png=logo.content if logo and logo.media_type == "image/png" else None,
    )


def invoice_letter(context: Context, organization_id: UUID, invoice_id: UUID) -> Letter:
    """The letter with an invoice. Raises GoneError for one that is voided or no longer there, and UnableToTypeset."""
    with context.pool.connection() as conn:
        invoice = invoices.invoices_by_ids(conn, [invoice_id]).get(invoice_id)
        if invoice is None or invoice.status is not InvoiceStatus.FINALIZED:
            raise GoneError("The invoice is not final.")
        parties = _parties(context, conn, organization_id, invoice.billing_entity_id, invoice.customer_id)
        document = invoice_document(conn, invoice_id)
    language, due = parties.language, document.total_due_amount_cents
    word = language.word
    payment = [(word("due"), language.day(document.payment_due_date))] if due else []
    return parties.letter(
        f"{word('invoice')} {document.number}",
        [
            (word("issued"), language.day(document.issuing_date)),
            *payment,
            (word("total_due"), language.money(due, document.currency)),
        ],
        [_invoice_pdf(parties.printer, invoice, document)],
        notes=(document.bank_details,) if due and document.bank_details else (),
    )


def credit_note_letter(context: Context, organization_id: UUID, note_id: UUID) -> Letter:
    """The letter with a credit note. Raises GoneError for one that is no longer there, and UnableToTypeset."""
    with context.pool.connection() as conn:
        note = credit_notes.by_ids(conn, [note_id]).get(note_id)
        if note is None:
            raise GoneError("The credit note is no more.")
        parties = _parties(context, conn, organization_id, note.billing_entity_id, note.customer_id)
        document = credit_note_document(conn, note_id)
    language = parties.language
    word = language.word
    return parties.letter(
        f"{word('credit_note')} {note.number}",
        [
            (word("document_date"), language.day(note.issuing_date)),
            (word("on_invoice"), document.invoice_number),
            *((word(key), language.money(cents, note.currency)) for key, cents in document.parts),
        ],
        [Attachment(name=file_name(note.number), content=parties.printer.credit_note(document))],
        notes=(note.description,) if note.description else (),
    )


def receipt_letter(context: Context, organization_id: UUID, receipt_id: UUID) -> Letter:
    """The letter with the receipt of a payment. Raises GoneError for one that is no longer there, and UnableToTypeset."""
    with context.pool.connection() as conn:
        found = payments.receipt(conn, receipt_id)
        if found is None:
            raise GoneError("The receipt is no more.")
        receipt = found[1]
        payment = payments.by_ids(conn, [receipt.payment_id])[receipt.payment_id]
        entity_id = payments.billing_entity_of(conn, payment.id)
        parties = _parties(context, conn, organization_id, entity_id, payment.customer_id)
        document = receipt_document(conn, receipt)
    language = parties.language
    word = language.word
    return parties.letter(
        f"{word('receipt')} {receipt.number}",
        [
            (word("paid_on"), language.day(document.paid_on)),
            *(
                (f"{word('invoice')} {each}", language.money(cents, payment.currency))
                for each, cents in document.paid
            ),
            (word("paid"), language.money(payment.amount_cents, payment.currency)),
        ],
        [Attachment(name=file_name(receipt.number), content=parties.printer.receipt(document))],
    )


def request_letter(context: Context, organization_id: UUID, request_id: UUID) -> Letter:
    """The letter that asks to pay what is still due of some invoices, which are attached.

    Raises GoneError when nothing is due of them any more, and UnableToTypeset.
    """
    with context.pool.connection() as conn:
        request = payment_requests.by_ids(conn, [request_id]).get(request_id)
        if request is None:
            raise GoneError("The payment request is no more.")
        ids = payment_requests.invoice_ids(conn, [request_id])[request_id]
        known = invoices.invoices_by_ids(conn, ids)
        unpaid = [known[each] for each in ids if each in known and _is_unpaid(known[each])]
        if not unpaid:
            raise GoneError("Its invoices are paid.")
        parties = _parties(context, conn, organization_id, request.billing_entity_id, request.customer_id)
        documents = [invoice_document(conn, each.id) for each in unpaid[:INVOICES_ATTACHED]]
    printer, language = parties.printer, parties.language
    word = language.word
    title = word("reminder") if request.dunning_campaign_id else word("payment_request")
    return parties.letter(
        title,
        [
            *(
                (
                    f"{word('invoice')} {each.number}, {word('due')} {language.day(each.payment_due_date)}",
                    language.money(each.due_amount_cents, each.currency),
                )
                for each in unpaid
            ),
            (
                word("total_due"),
                language.money(sum(each.due_amount_cents for each in unpaid), request.currency),
            ),
        ],
        [_invoice_pdf(printer, *each) for each in zip(unpaid, documents, strict=False)],
        notes=(word("please_pay"), *_bank_details(parties.printer.entity)),
    )


def trial_letter(context: Context, organization_id: UUID, _: UUID) -> Letter:
    """The letter that shows that mail arrives, and how it looks."""
    with context.pool.connection() as conn:
        printer = _printer(context, conn, organization_id, None)
    facts = [("From", printed_issuer(printer.entity))]
    notes = ("This is a test. Nothing is to be done.",)
    return _letter(printer, language_of("en"), "Mail arrives", facts, notes=notes)


WRITERS: Mapping[MailKind, Callable[[Context, UUID, UUID], Letter]] = {
    MailKind.INVOICE: invoice_letter,
    MailKind.CREDIT_NOTE: credit_note_letter,
    MailKind.PAYMENT_RECEIPT: receipt_letter,
    MailKind.PAYMENT_REQUEST: request_letter,
    MailKind.TEST: trial_letter,
}


def _parties(
    context: Context, conn: Connection[Any], organization_id: UUID, billing_entity_id: UUID, customer_id: UUID
) -> _Parties:
    printer = _printer(context, conn, organization_id, billing_entity_id)
    customer = replace(customers.by_ids(conn, [customer_id])[customer_id], billing_entity=printer.entity)
    language = language_of(customer.applicable_document_locale)
    return _Parties(printer=printer, customer=customer, language=language)


def _printer(
    context: Context, conn: Connection[Any], organization_id: UUID, billing_entity_id: UUID | None
) -> Printer:
    """What sets the documents of a billing entity, of the default one without an id. Raises GoneError."""
    organization = organizations.by_id(conn, organization_id)
    if organization is None:
        raise GoneError("The organization is no more.")
    entity = (
        billing_entities.by_ids(conn, [billing_entity_id])[billing_entity_id]
        if billing_entity_id
        else billing_entities.default(conn, organization_id)
    )
    return Printer(pool=context.pool, config=context.config, organization=organization, entity=entity)


def _is_unpaid(invoice: StoredInvoice) -> bool:
    """What somebody has marked as paid, without a payment, is not asked for either."""
    is_paid = invoice.payment_status == PaymentStatus.SUCCEEDED or invoice.due_amount_cents <= 0
    return invoice.status is InvoiceStatus.FINALIZED and not is_paid


def _invoice_pdf(printer: Printer, invoice: StoredInvoice, document: InvoiceDocument) -> Attachment:
    return Attachment(name=file_name(invoice.number), content=printer.invoice(invoice, document))


def _bank_details(entity: BillingEntity) -> tuple[str, ...]:
    return (entity.bank_details,) if entity.bank_details else ()
