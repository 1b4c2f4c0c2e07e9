"""The PDFs of a billing entity, with its logo. That of a final invoice is kept, and made again only when it would show something else."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from psycopg import Connection
from psycopg_pool import ConnectionPool

from permille.clock import system_now
from permille.config import Config
from permille.core.customer import BillingEntity
from permille.core.invoice.draft import InvoiceStatus
from permille.core.organization import Organization
from permille.core.record import Record
from permille.out.addresses import reach_of
from permille.out.logos import current_logo
from permille.out.pdf.credit_note import CreditNoteDocument, render_credit_note
from permille.out.pdf.document import InvoiceDocument, Logo
from permille.out.pdf.invoice import digest_of, render_invoice
from permille.out.pdf.receipt import ReceiptDocument, render_receipt
from permille.store import invoice_documents
from permille.store.invoices import StoredInvoice


class Printer(Record, kw_only=True):
    """Sets documents of a billing entity. No connection waits while one is set; each call raises UnableToTypeset."""

    pool: ConnectionPool[Connection[Any]]
    config: Config
    organization: Organization
    entity: BillingEntity

    def invoice(self, invoice: StoredInvoice, document: InvoiceDocument) -> bytes:
        """The PDF of an invoice."""
        now = system_now()
        logo = self.logo(now)
        digest = digest_of(document, logo)
        with self.pool.connection() as conn:
            kept = invoice_documents.kept(conn, invoice.id, digest)
        if kept is not None:
            return kept
        content = render_invoice(document, logo)
        if invoice.status != InvoiceStatus.DRAFT:
            self._keep(invoice, digest, content, now)
        return content

    def credit_note(self, document: CreditNoteDocument) -> bytes:
        """The PDF of a credit note."""
        return render_credit_note(document, self.logo(system_now()))

    def receipt(self, document: ReceiptDocument) -> bytes:
        """The PDF of a receipt."""
        return render_receipt(document, self.logo(system_now()))

    def logo(self, now: datetime) -> Logo | None:
        """The logo to print at an instant of the system's clock."""
        reach = reach_of(self.config, test_mode=self.organization.test_mode)
        return current_logo(self.pool, self.entity, reach=reach, now=now)

    def _keep(self, invoice: StoredInvoice, digest: bytes, content: bytes, now: datetime) -> None:
        with self.pool.connection() as conn:
            invoice_documents.keep(
                conn,
                organization_id=self.organization.id,
                invoice_id=invoice.id,
                digest=digest,
                content=content,
                now=now,
            )


def file_name(number: str) -> str:
    """What the PDF of a document with this number is called."""
    return "".join(each if each.isascii() and each.isalnum() else "-" for each in number) + ".pdf"
