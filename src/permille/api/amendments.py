"""POST and GET /events/amendments: ours, not Lago's. An event that was wrong is voided or replaced by adding to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from msgspec.structs import asdict
from psycopg import Connection

from permille.api.events import render_amendment
from permille.api.http import Call
from permille.api.objects import event as objects
from permille.api.validation import INVALID, LONG_TEXT, MANDATORY, Fields
from permille.core.errors import Invalid
from permille.core.instants import parse_instant
from permille.core.metering.amendment import Amendment, AmendmentKind
from permille.events.engine import amendments
from permille.events.log import AmendmentSearch
from permille.usecases.amendments import (
    AmendmentRequest,
    Errors,
    ProposedCreditNote,
    UnableToAmendError,
    amend,
    propose,
)

_KINDS = {"kind": tuple(AmendmentKind)}
CHANGES = ("code", "timestamp", "precise_total_amount_cents", "properties")


def create_amendments(call: Call) -> dict[str, Any]:
    """POST /events/amendments: `amendment`, or `amendments` for several, all or none, errors by their index."""
    is_batch = isinstance(call.body, dict) and "amendments" in call.body
    sent = _several(call) if is_batch else [call.root("amendment")]
    errors: dict[int, Errors] = {}
    asked = []
    for index, given in enumerate(sent):
        found = read_amendment(given)
        if isinstance(found, AmendmentRequest):
            asked.append(found)
        else:
            errors[index] = found
    if errors:
        raise _refusal(errors, is_batch=is_batch)
    try:
        made = amend(
            call.conn,
            call.organization.id,
            asked,
            api_key_id=call.key_id,
            now=call.now,
        )
    except UnableToAmendError as refused:
        raise _refusal(refused.errors, is_batch=is_batch) from refused
    rendered = render_amendments(call.conn, call.organization.id, made)
    return {"amendments": rendered} if is_batch else {"amendment": rendered[0]}


def _several(call: Call) -> Sequence[Any]:
    sent = call.body["amendments"]
    if not isinstance(sent, list) or not sent:
        raise Invalid({"amendments": ["no_amendments"]})
    if len(sent) > call.engine.config.events_batch_max:
        raise Invalid({"amendments": ["too_many_amendments"]})
    return sent


def _refusal(errors: Mapping[int, Errors], *, is_batch: bool) -> Invalid:
    if is_batch:
        return Invalid({str(index): each for index, each in sorted(errors.items())})
    return Invalid(errors[0], allowed=_KINDS if "kind" in errors[0] else None)


def read_amendment(given: Any) -> AmendmentRequest | Errors:
    """One amendment, or all that is wrong with its own fields. What a replacement says is looked at later."""
    if not isinstance(given, dict):
        return {"amendment": ["invalid_format"]}
    fields = Fields(given)
    transaction_id = fields.text("transaction_id", mandatory=True)
    event_transaction_id = fields.text("event_transaction_id", mandatory=True)
    subscription = fields.text("external_subscription_id")
    reason = fields.text("reason", mandatory=True, limit=LONG_TEXT)
    kind = fields.choice("kind", list(AmendmentKind))
    if kind is None and not fields.errors.get("kind"):
        fields.refuse("kind", MANDATORY)
    changes = {name: given[name] for name in CHANGES if given.get(name) is not None}
    if kind == AmendmentKind.VOID:
        for name in changes:
            fields.refuse(name, INVALID)
    if kind == AmendmentKind.REPLACE and not changes:
        fields.refuse("properties", MANDATORY)
    if (
        fields.errors
        or transaction_id is None
        or event_transaction_id is None
        or reason is None
        or kind is None
    ):
        return fields.errors
    return AmendmentRequest(
        transaction_id=transaction_id,
        event_transaction_id=event_transaction_id,
        external_subscription_id=subscription or None,
        kind=AmendmentKind(kind),
        reason=reason,
        changes=changes,
    )


def list_amendments(call: Call) -> dict[str, Any]:
    """GET /events/amendments, newest first."""
    kind = call.query.get("kind") or None
    errors: Errors = {}
    if kind is not None and kind not in list(AmendmentKind):
        errors["kind"] = [INVALID]
    bounds = {}
    for name in ("created_from", "created_to"):
        text = call.query.get(name)
        bounds[name] = parse_instant(text) if text else None
        if text and bounds[name] is None:
            errors[name] = ["invalid_date"]
    if errors:
        raise Invalid(errors, allowed=_KINDS if "kind" in errors else None)
    page = call.page()
    found, total = amendments.listing(
        call.conn,
        AmendmentSearch(
            organization_id=call.organization.id,
            event_transaction_id=call.query.get("event_transaction_id") or None,
            external_subscription_id=call.query.get("external_subscription_id") or None,
            kind=kind,
            from_=bounds["created_from"],
            to=bounds["created_to"],
        ),
        limit=page.per_page,
        offset=page.offset,
    )
    shown = render_amendments(call.conn, call.organization.id, found)
    return {"amendments": shown, "meta": page.meta(total)}


def render_amendments(
    conn: Connection[Any], organization_id: UUID, found: Sequence[Amendment]
) -> list[objects.AmendmentDetails]:
    """Amendments with the credit notes that they propose."""
    proposed = propose(conn, organization_id, found)
    return [
        objects.AmendmentDetails(
            **asdict(render_amendment(each)),
            proposed_credit_notes=[_render_proposed(one) for one in proposed.get(each.event_identity, ())],
        )
        for each in found
    ]


def _render_proposed(proposed: ProposedCreditNote) -> objects.ProposedCreditNote:
    return objects.ProposedCreditNote(
        lago_invoice_id=proposed.invoice_id,
        invoice_number=proposed.invoice_number,
        lago_fee_id=proposed.fee_id,
        currency=proposed.currency,
        billed_amount_cents=proposed.billed_amount_cents,
        recomputed_amount_cents=proposed.recomputed_amount_cents,
        difference_amount_cents=proposed.difference_amount_cents,
    )
