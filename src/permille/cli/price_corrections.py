"""`permille prices corrections`: what final invoices would come to by prices that were corrected, and their credit notes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.cli.price_versions import SHOWN_MAX, in_organization
from permille.config import Config
from permille.core.money import subunits
from permille.core.organization import Organization
from permille.store import catalogue_versions
from permille.usecases import price_catalogue, price_corrections
from permille.usecases.price_corrections import CREDITED_AT_ONCE, InvoiceCorrection

PAGE = 100


def list_versions(config: Config, *, organization: str | None) -> int:
    """Print the versions that correct final invoices, newest first; the exit code."""

    def listed(conn: Connection[Any], of: Organization, _now: datetime) -> list[str]:
        versions, _ = catalogue_versions.listing(conn, of.id, limit=SHOWN_MAX, offset=0)
        lines = []
        for version in versions:
            _, count = price_corrections.listing(conn, version, limit=0, offset=0)
            if count:
                lines.append(f"{version.id}  {version.label}  from {version.valid_from} on: {count} invoices")
        return lines or [f"None of the last {SHOWN_MAX} versions corrects a final invoice."]

    return in_organization(
        config, listed, operation="permille prices corrections list", organization=organization
    )


def show(config: Config, version_id: UUID, *, organization: str | None) -> int:
    """Print each final invoice that a version corrects; the exit code."""

    def shown(conn: Connection[Any], of: Organization, _now: datetime) -> list[str]:
        version = price_catalogue.by_id(conn, of.id, version_id)
        lines: list[str] = []
        offset, total = 0, 1
        while offset < total:
            found, total = price_corrections.listing(conn, version, limit=PAGE, offset=offset)
            lines += map(_line, found)
            offset += PAGE
        return lines or [f"{version.label} corrects no final invoice."]

    return in_organization(
        config, shown, operation="permille prices corrections show", organization=organization
    )


def apply(config: Config, version_id: UUID, *, invoice_id: UUID | None, organization: str | None) -> int:
    """Make the credit note of an invoice, or of all, and print them; the exit code."""

    def applied(conn: Connection[Any], of: Organization, now: datetime) -> list[str]:
        version = price_catalogue.by_id(conn, of.id, version_id)
        if invoice_id is None:
            notes = price_corrections.credit_all(conn, version, now=now)
        else:
            notes = [price_corrections.credit(conn, version, invoice_id, now=now)]
        lines = [f"{note.number}  {_money(note.total_amount_cents, note.currency)}" for note in notes]
        if len(notes) == CREDITED_AT_ONCE:
            lines.append(f"These are {CREDITED_AT_ONCE}: say it again for the others.")
        return lines or ["Nothing is left to credit."]

    return in_organization(
        config, applied, operation="permille prices corrections apply", organization=organization
    )


def _line(found: InvoiceCorrection) -> str:
    return "  ".join(_words(found))


def _words(found: InvoiceCorrection) -> Iterator[str]:
    """What is said of an invoice: amounts are before taxes and coupons."""
    invoice, correction = found.invoice, found.correction
    yield f"{invoice.id}  {invoice.number}  billed {_money(correction.billed_cents, invoice.currency)}"
    if correction.is_priced:
        yield f"corrected {_money(correction.corrected_cents, invoice.currency)}"
    if correction.credited_cents:
        yield f"credited {_money(correction.credited_cents, invoice.currency)}"
    status = str(correction.status).replace("_", " ")
    if correction.problem is not None:
        status += f" ({str(correction.problem).replace('_', ' ')})"
    if correction.items:
        status += f" {_money(sum(correction.items.values()), invoice.currency)}"
    yield status


def _money(cents: int, currency: str) -> str:
    places = len(str(subunits(currency))) - 1
    return f"{Decimal(cents).scaleb(-places):.{places}f} {currency}"
