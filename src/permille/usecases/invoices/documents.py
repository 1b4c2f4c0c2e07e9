"""The PDF of an invoice: that of one that is no draft is kept, and made again only when it would show something else."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from psycopg import Connection
from psycopg_pool import ConnectionPool

from permille.core.invoice.draft import InvoiceStatus
from permille.core.organization import Organization
from permille.out.pdf.document import InvoiceDocument, Logo
from permille.store import invoice_documents
from permille.store.invoices import StoredInvoice


def pdf_of(
    pool: ConnectionPool[Connection[Any]],
    organization: Organization,
    invoice: StoredInvoice,
    document: InvoiceDocument,
    logo: Logo | None,
    *,
    now: datetime,
) -> bytes:
    """The invoice's PDF; no connection waits while it is typeset. `now` is the system's clock. Raises UnableToTypeset."""
    from permille.out.pdf.invoice import digest_of, render_invoice

    digest = digest_of(document, logo)
    with pool.connection() as conn:
        kept = invoice_documents.kept(conn, invoice.id, digest)
    if kept is not None:
        return kept
    content = render_invoice(document, logo)
    if invoice.status != InvoiceStatus.DRAFT:
        with pool.connection() as conn:
            invoice_documents.keep(
                conn,
                organization_id=organization.id,
                invoice_id=invoice.id,
                digest=digest,
                content=content,
                now=now,
            )
    return content
