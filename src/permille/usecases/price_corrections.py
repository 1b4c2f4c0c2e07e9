"""Corrections: what final invoices would come to by prices of the catalogue that were approved from a past date on.

What the customer paid too much comes back with a credit note, once; what it owes more is shown and never billed by itself.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime, time
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.errors import Invalid
from permille.core.invoice.crediting import BilledInvoice, CreditSplit, note_on, split_errors
from permille.core.invoice.late_usage import Line, line_of, usage_place
from permille.core.invoice.price_correction import (
    BilledLine,
    Correction,
    CorrectionProblem,
    CorrectionStatus,
    RepricedCharge,
    correction,
)
from permille.core.invoice.steps.usage_charges import is_billed_at_thresholds
from permille.core.record import Record
from permille.store import (
    catalogue_corrections as store,
    credit_notes,
    customers,
    fees as fee_store,
    invoices,
    late_usage as late_store,
)
from permille.store.catalogue_versions import CatalogueVersion
from permille.store.fees import StoredFee
from permille.store.invoices import StoredInvoice
from permille.usecases.credit_notes import new_note
from permille.usecases.invoices import single
from permille.usecases.invoices.billed import billed_invoices
from permille.usecases.invoices.credit_notes import issue
from permille.usecases.invoices.late_usage import billed_line
from permille.usecases.invoices.recomputation import ChargeNow, ChargeOnce, charge_once, repriced

BATCH = 100
CREDITED_AT_ONCE = 500
"""The most notes of one request for all."""
DESCRIPTION = "Corrected prices: {label}"


class InvoiceCorrection(Record, kw_only=True):
    """A final invoice, and what it would come to."""

    invoice: StoredInvoice
    correction: Correction


def listing(
    conn: Connection[Any], version: CatalogueVersion, *, limit: int, offset: int
) -> tuple[list[InvoiceCorrection], int]:
    """A page of the invoices with usage since the version's date that were final before its approval, and how many there are."""
    if version.valid_from is None or version.approved_at is None:
        return [], 0
    ids, total = store.corrected(
        conn,
        version.organization_id,
        from_at=datetime.combine(version.valid_from, time(), UTC),
        until=version.approved_at,
        limit=limit,
        offset=offset,
    )
    return _corrections(conn, invoices.invoices_by_ids(conn, ids), ids), total


def credit(
    conn: Connection[Any], version: CatalogueVersion, invoice_id: UUID | None, *, now: datetime
) -> credit_notes.CreditNote:
    """Give back what an invoice has billed too much. Raises NotFound, and Invalid where nothing is to come back by itself."""
    notes = _credit(conn, version, [single.by_id(conn, version.organization_id, invoice_id)], now=now)
    if not notes:
        raise Invalid({"invoice_id": ["nothing_to_credit"]})
    return credit_notes.by_ids(conn, notes)[notes[0]]


def credit_all(
    conn: Connection[Any], version: CatalogueVersion, *, now: datetime
) -> list[credit_notes.CreditNote]:
    """Give back what invoices have billed too much, up to CREDITED_AT_ONCE of them; none when nothing is left to do."""
    made: list[UUID] = []
    offset, total = 0, 1
    while offset < total and len(made) < CREDITED_AT_ONCE:
        found, total = listing(conn, version, limit=BATCH, offset=offset)
        to_credit = [each.invoice for each in found if each.correction.status is CorrectionStatus.TO_CREDIT]
        made += _credit(conn, version, to_credit[: CREDITED_AT_ONCE - len(made)], now=now)
        offset += BATCH
    by_id = credit_notes.by_ids(conn, made)
    return [by_id[note_id] for note_id in made]


def _credit(
    conn: Connection[Any], version: CatalogueVersion, wanted: Sequence[StoredInvoice], *, now: datetime
) -> list[UUID]:
    """The notes of these invoices, looked at again with their customers locked."""
    if not wanted:
        return []
    customers.lock_all(conn, {each.customer_id for each in wanted})
    ids = [each.id for each in wanted]
    current = invoices.invoices_by_ids(conn, ids)
    billed = billed_invoices(conn, current.values())
    notes = []
    for each in _corrections(conn, current, ids):
        if each.correction.status is not CorrectionStatus.TO_CREDIT:
            continue
        amounts = note_on(billed[each.invoice.id], each.correction.items)
        split = _split(billed[each.invoice.id], amounts.total_amount_cents)
        if not split_errors(billed[each.invoice.id], amounts, split):
            description = DESCRIPTION.format(label=version.label)
            notes.append(
                new_note(
                    each.invoice,
                    amounts,
                    split,
                    description=description,
                    catalogue_version_id=version.id,
                    now=now,
                )
            )
    return issue(conn, notes)


def _split(billed: BilledInvoice, total_cents: int) -> CreditSplit:
    """Off what is due on the invoice itself, and the rest as credit for later ones."""
    offset = max(min(total_cents, billed.due_cents), 0)
    return CreditSplit(credit_cents=total_cents - offset, offset_cents=offset)


def _corrections(
    conn: Connection[Any], found: Mapping[UUID, StoredInvoice], order: Sequence[UUID]
) -> list[InvoiceCorrection]:
    """What invoices of one organization would come to, in order; set-based."""
    if not order:
        return []
    by_invoice = fee_store.of_invoices(conn, order)
    charges = {invoice_id: _of_catalogue(fees) for invoice_id, fees in by_invoice.items()}
    fees = [fee for own in charges.values() for of_charge in own.values() for fee in of_charge]
    now = repriced(conn, fees)
    left = _left(conn, fees)
    credited = store.credited_of_fees(conn, [fee.id for fee in fees])
    problems = _problems(conn, charges, now)
    return [
        InvoiceCorrection(
            invoice=found[invoice_id],
            correction=correction(
                [
                    RepricedCharge(
                        billed=[
                            BilledLine(fee_id=fee.id, line=billed_line(fee), left_cents=left[fee.id])
                            for fee in of_charge
                        ],
                        now=_lines_now(found[invoice_id], now[key], of_charge) if key in now else [],
                    )
                    for key, of_charge in charges[invoice_id].items()
                ],
                credited_cents=sum(
                    credited.get(fee.id, 0) for of_charge in charges[invoice_id].values() for fee in of_charge
                ),
                problem=problems.get(invoice_id),
            ),
        )
        for invoice_id in order
    ]


def _lines_now(invoice: StoredInvoice, charge: ChargeNow, billed: Collection[StoredFee]) -> list[Line]:
    """What a charge comes to: of a bill at a threshold without what the invoice at the period's end bills.

    That is what lacks of its minimum, and usage that came to nothing.
    """
    if invoice.invoice_type != "progressive_billing":
        return [line_of(fee) for fee in charge.fees]
    places = {usage_place(billed_line(fee)) for fee in billed}
    usage = [fee for fee in charge.fees if not fee.is_true_up]
    return [
        line
        for fee, line in zip(usage, map(line_of, usage), strict=True)
        if is_billed_at_thresholds(fee) or usage_place(line) in places
    ]


def _of_catalogue(fees: Iterable[StoredFee]) -> dict[ChargeOnce, list[StoredFee]]:
    """The fees by charge and period, of charges by the catalogue; late usage is billed at the prices of its own bill."""
    found: dict[ChargeOnce, list[StoredFee]] = defaultdict(list)
    for fee in fees:
        if fee.charge_id is not None and fee.late_usage_id is None:
            found[charge_once(fee)].append(fee)
    return {key: own for key, own in found.items() if any("catalogue" in fee.amount_details for fee in own)}


def _left(conn: Connection[Any], fees: Collection[StoredFee]) -> dict[UUID, int]:
    credited = credit_notes.credited_of_fees(conn, [fee.id for fee in fees])
    return {fee.id: fee.amount_cents - credited.get(fee.id, 0) for fee in fees}


def _problems(
    conn: Connection[Any],
    charges: Mapping[UUID, Mapping[ChargeOnce, Sequence[StoredFee]]],
    now: Mapping[ChargeOnce, ChargeNow],
) -> dict[UUID, CorrectionProblem]:
    """Invoice -> why what it would come to is not only a matter of the catalogue's prices."""
    fees = [fee for own in charges.values() for of_charge in own.values() for fee in of_charge]
    late = {
        each.key
        for each in late_store.of_subscriptions(
            conn, {fee.subscription_id for fee in fees if fee.subscription_id}
        )
    }
    changed = late_store.changed_since(
        conn, {(fee.charge_id, fee.invoice_id) for fee in fees if fee.charge_id and fee.invoice_id}
    )
    found: dict[UUID, CorrectionProblem] = {}
    for invoice_id, own in charges.items():
        billed = [fee for of_charge in own.values() for fee in of_charge]
        if any(key not in now for key in own):
            found[invoice_id] = CorrectionProblem.CHARGE_GONE
        elif any(fee.original_fee_id for fee in billed):
            found[invoice_id] = CorrectionProblem.REGENERATED
        elif any((fee.charge_id, invoice_id) in changed for fee in billed):
            found[invoice_id] = CorrectionProblem.CHARGE_CHANGED
        elif any((fee.subscription_id, fee.charge_id, fee.from_at, fee.to_at) in late for fee in billed):
            found[invoice_id] = CorrectionProblem.LATE_USAGE
        elif any(now[key].basis.plan.minimum_commitment for key in own):
            found[invoice_id] = CorrectionProblem.COMMITMENT
    return found
