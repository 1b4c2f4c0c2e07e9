"""Credit notes of a voided invoice are made again on the one that replaces it.

Source: docs/decisions/020-voids-give-back-once.md.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

from psycopg import Connection

from permille.core.invoice.credit_note import Item
from permille.core.invoice.crediting import BilledInvoice, CreditSplit, note_of, with_note
from permille.core.record import Record
from permille.store import credit_notes, fees as fee_store
from permille.store.credit_notes import NewCreditNote
from permille.store.fees import StoredFee
from permille.store.invoices import StoredInvoice
from permille.usecases.invoices.billed import billed_invoice, credited_fee
from permille.usecases.invoices.credit_notes import give_up, issue, note_to_issue


def credit_again(
    conn: Connection[Any],
    voided: StoredInvoice,
    billed_fees: Collection[StoredFee],
    invoice: StoredInvoice,
    *,
    now: datetime,
) -> bool:
    """Give back of the fees that stay as they were what notes had given back of them before the void, as credit.

    What took off the voided invoice comes off what is due. What of their credit was given up before the void, and what
    the customer has of the voided invoice beyond what it has paid of it, is not given again. Whether there were any.
    """
    again = _notes(conn, voided, billed_fees, invoice, now)
    if not again:
        return False
    ids = issue(conn, [each.note for each in again])
    given_up = {note_id: each.given_up_cents for note_id, each in zip(ids, again, strict=True)}
    credit_notes.give_up(conn, {note_id: cents for note_id, cents in given_up.items() if cents}, now=now)
    give_up(conn, invoice.id, -billed_invoice(conn, voided).kept_cents, now=now)
    return True


class _Again(Record, kw_only=True):
    """A note that is made again."""

    note: NewCreditNote
    given_up_cents: int
    """What of its credit is given up."""


def _notes(
    conn: Connection[Any],
    voided: StoredInvoice,
    billed_fees: Collection[StoredFee],
    invoice: StoredInvoice,
    now: datetime,
) -> list[_Again]:
    before = credit_notes.before_void(conn, voided.id)
    if not before:
        return []
    items = credit_notes.items_of(conn, [note.id for note in before])
    cents = {fee.id: fee.amount_cents for fee in billed_fees}
    same = {
        fee.original_fee_id: credited_fee(fee)
        for fee in fee_store.of_invoices(conn, [invoice.id])[invoice.id]
        if fee.original_fee_id and fee.amount_cents == cents[fee.original_fee_id]
    }
    billed, again = billed_invoice(conn, invoice), []
    for note in before:
        own = [
            Item(
                fee=same[each.fee_id],
                precise_amount_cents=each.precise_amount_cents,
                rounded_cents=each.amount_cents,
            )
            for each in items[note.id]
            if each.fee_id in same
        ]
        amounts = note_of(billed, own)
        given_up = note.given_up_before_void_cents
        if amounts.total_amount_cents and given_up < note.total_amount_cents:
            split = _split(billed, amounts.total_amount_cents, note.offset_amount_cents)
            billed = with_note(billed, amounts, split)
            made = note_to_issue(
                invoice,
                amounts,
                split,
                note.reason,
                timezone=invoice.timezone,
                at=now,
                description=note.description,
                metadata=note.metadata,
                catalogue_version_id=note.catalogue_version_id,
            )
            share = given_up * amounts.total_amount_cents // note.total_amount_cents
            again.append(_Again(note=made, given_up_cents=min(share, split.credit_cents)))
    return again


def _split(billed: BilledInvoice, total_cents: int, offset_cents: int) -> CreditSplit:
    """As far as it is due it comes off the invoice where it had come off the voided one, and the rest is credit."""
    offset = max(min(offset_cents, total_cents, billed.due_cents), 0)
    return CreditSplit(credit_cents=total_cents - offset, offset_cents=offset)
