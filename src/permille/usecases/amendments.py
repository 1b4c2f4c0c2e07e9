"""Amend events: all of a request or none of it; and say which finalized fees would come out otherwise now.

Nothing stored is changed, an invoice least of all: what a credit note could give back is proposed
(docs/decisions/009).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.instants import EPOCH, microseconds
from permille.core.metering.amendment import Amendment, AmendmentKind, Replacement
from permille.core.metering.encoding import SeriesLayout
from permille.core.record import Record
from permille.events.draft import Draft, Sent, check
from permille.events.engine import amendments, event_log
from permille.events.log import InPlace, Request, SentEvent, StoredEvent
from permille.ids import new_ids
from permille.store import (
    alerts,
    amended_fees,
    billing_holds,
    fees as fee_store,
    invoices,
    late_usage as late_usages,
    progressive,
    wallets,
)
from permille.store.amended_fees import EventPlace
from permille.usecases.invoices import late_usage
from permille.usecases.invoices.recomputation import recompute

Errors = dict[str, list[str]]


class AmendmentRequest(Record, kw_only=True):
    """An amendment as it was sent. What a replacement leaves out stays as the event was sent."""

    transaction_id: str
    event_transaction_id: str
    external_subscription_id: str | None
    kind: AmendmentKind
    reason: str
    changes: Mapping[str, Any]
    """What a replacement sets: `code`, `timestamp`, `precise_total_amount_cents`, `properties`, unchecked."""


class UnableToAmendError(Exception):
    """Nothing was done; `errors` are by the index of the amendment."""

    def __init__(self, errors: Mapping[int, Errors]) -> None:
        super().__init__(errors)
        self.errors = errors


class ProposedCreditNote(Record, kw_only=True):
    """A finalized fee that would come out otherwise now."""

    invoice_id: UUID | None
    invoice_number: str | None
    fee_id: UUID
    currency: str
    billed_amount_cents: int
    recomputed_amount_cents: int

    @property
    def difference_amount_cents(self) -> int:
        """What would have to be given back; negative where too little was billed."""
        return self.billed_amount_cents - self.recomputed_amount_cents


def amend(
    conn: Connection[Any],
    organization_id: UUID,
    asked: Sequence[AmendmentRequest],
    *,
    api_key_id: UUID | None,
    now: datetime,
) -> list[Amendment]:
    """Make these amendments in their order, and let usage follow. Raises UnableToAmendError."""
    amendments.begin(conn, organization_id)
    errors: dict[int, Errors] = defaultdict(dict)
    targets = _targets(conn, organization_id, asked, errors)
    drafts = _drafts(conn, asked, targets, errors, now=now)
    codes = {draft.code for draft in drafts.values()}
    hows = event_log.metering(conn, {organization_id: codes})[organization_id].by_code
    derived = _derived(organization_id, drafts, hows, errors, now=now)
    if errors:
        raise UnableToAmendError(dict(errors))
    new: list[Amendment] = []
    in_place: dict[UUID, InPlace] = {}
    for index, (each, own_id) in enumerate(zip(asked, new_ids(now, len(asked)), strict=True)):
        target, draft = targets[index], drafts.get(index)
        new.append(
            Amendment(
                id=own_id,
                transaction_id=each.transaction_id,
                event_identity=target.identity,
                event_transaction_id=each.event_transaction_id,
                external_subscription_id=target.external_subscription_id,
                kind=each.kind,
                reason=each.reason,
                api_key_id=api_key_id,
                created_at=now,
                replacement=_replacement(draft) if draft else None,
                superseded_by=None,
            )
        )
        if draft is not None:
            how = hows[draft.code]
            in_place[own_id] = InPlace(metering=how, properties=derived[index], seq=target.seq)
    amendments.add(conn, organization_id, new, in_place)
    billing_holds.retry_soon(conn, organization_id, now=now)
    changed = {
        (organization_id, each.external_subscription_id) for each in new if each.external_subscription_id
    }
    alerts.mark(conn, changed)
    progressive.mark(conn, changed)
    wallets.mark(conn, changed)
    late_usages.price_again_for(conn, organization_id, {name for _, name in changed})
    return amendments.by_ids(conn, [each.id for each in new])


def _targets(
    conn: Connection[Any], organization_id: UUID, asked: Sequence[AmendmentRequest], errors: dict[int, Errors]
) -> dict[int, SentEvent]:
    """Index -> the event that is meant; what is wrong with a name goes into `errors`."""
    seen = amendments.taken(conn, organization_id, [each.transaction_id for each in asked])
    sent = amendments.sent_events(conn, organization_id, [each.event_transaction_id for each in asked])
    targets: dict[int, SentEvent] = {}
    for index, (each, known) in enumerate(zip(asked, sent, strict=True)):
        if each.transaction_id in seen:
            errors[index]["transaction_id"] = ["value_already_exist"]
        seen.add(each.transaction_id)
        wanted = each.external_subscription_id
        fitting = [event for event in known if wanted in {None, event.external_subscription_id}]
        if len(fitting) == 1:
            targets[index] = fitting[0]
        elif fitting:
            errors[index]["external_subscription_id"] = ["value_is_mandatory"]
        else:
            errors[index]["event_transaction_id"] = ["event_not_found"]
    return targets


def _drafts(
    conn: Connection[Any],
    asked: Sequence[AmendmentRequest],
    targets: Mapping[int, SentEvent],
    errors: dict[int, Errors],
    *,
    now: datetime,
) -> dict[int, Draft]:
    """Index -> what a replacement says, checked as an event is."""
    replaced = [index for index in targets if asked[index].kind is AmendmentKind.REPLACE]
    known = event_log.by_identities(conn, [targets[index].identity for index in replaced])
    drafts: dict[int, Draft] = {}
    for index in replaced:
        event = known[targets[index].identity]
        draft = check(Sent(**{**_as_sent(event), **asked[index].changes}), now=microseconds(now))
        if isinstance(draft, dict):
            errors[index] |= draft
        else:
            drafts[index] = draft
    return drafts


def _as_sent(event: StoredEvent) -> dict[str, Any]:
    return {
        "transaction_id": event.transaction_id,
        "code": event.code,
        "external_subscription_id": event.external_subscription_id,
        "timestamp": Decimal(microseconds(event.at)) / 1_000_000,
        "precise_total_amount_cents": event.precise_total_amount_cents,
        "properties": event.properties,
    }


def _derived(
    organization_id: UUID,
    drafts: Mapping[int, Draft],
    hows: Mapping[str, SeriesLayout],
    errors: dict[int, Errors],
    *,
    now: datetime,
) -> dict[int, Mapping[str, Any]]:
    """Index -> the properties with what the metric's expression has made of them."""
    copies = [
        Draft(
            draft.transaction_id,
            draft.code,
            draft.external_subscription_id,
            draft.at,
            draft.precise,
            draft.properties,
        )
        for draft in drafts.values()
    ]
    request = Request(organization_id, copies, microseconds(now))
    request.derive(hows)
    indices = list(drafts)
    for place, problem in request.unevaluable.items():
        errors[indices[place]]["properties"] = [problem]
    return {index: copy.properties for index, copy in zip(indices, copies, strict=True)}


def _replacement(draft: Draft) -> Replacement:
    return Replacement(
        code=draft.code,
        at=EPOCH + timedelta(microseconds=draft.at),
        precise_total_amount_cents=None if draft.precise is None else Decimal(draft.precise),
        properties=draft.properties,
    )


def propose(
    conn: Connection[Any], organization_id: UUID, made: Collection[Amendment]
) -> dict[UUID, list[ProposedCreditNote]]:
    """Amended event -> the finalized fees it has a part in, or had, that would come out otherwise now.

    They are priced again with all events and prices of now, so that an event that came late shows too; what has been
    decided about late usage is taken off.
    """
    names = {each.event_identity: each.event_transaction_id for each in made}
    versions = amendments.versions(conn, names.keys())
    places = [
        EventPlace(names[each.event_identity], each.external_subscription_id, each.code, each.at)
        for each in versions
    ]
    touched = amended_fees.of_events(conn, organization_id, places)
    fees_of_event: dict[UUID, set[UUID]] = defaultdict(set)
    for version, fee_ids in zip(versions, touched, strict=True):
        fees_of_event[version.event_identity] |= fee_ids
    fees = fee_store.by_ids(conn, {fee_id for fee_ids in touched for fee_id in fee_ids})
    recomputed = recompute(conn, fees.values())
    decided = late_usage.decided_amounts(conn, fees.values())
    known = invoices.invoices_by_ids(conn, {fee.invoice_id for fee in fees.values() if fee.invoice_id})
    proposed: dict[UUID, ProposedCreditNote] = {}
    for fee_id, now in sorted(recomputed.items()):
        fee = fees[fee_id]
        amount = (now.amount_cents if now else 0) - decided.get(fee_id, 0)
        if amount != fee.amount_cents:
            proposed[fee_id] = ProposedCreditNote(
                invoice_id=fee.invoice_id,
                invoice_number=known[fee.invoice_id].number if fee.invoice_id else None,
                fee_id=fee_id,
                currency=fee.amount_currency,
                billed_amount_cents=fee.amount_cents,
                recomputed_amount_cents=amount,
            )
    return {
        event: [proposed[fee_id] for fee_id in sorted(fee_ids) if fee_id in proposed]
        for event, fee_ids in fees_of_event.items()
    }
