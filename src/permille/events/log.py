"""The log of events: what it takes and answers. An engine implements these protocols (events/engine.py chooses it)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, LiteralString, NamedTuple, Protocol
from uuid import UUID

from psycopg import Connection

from permille.core.metering.amendment import Amendment
from permille.core.metering.billable_metric import BillableMetric
from permille.core.metering.encoding import SeriesLayout
from permille.core.metering.event import Arrival, Arrived, PlacedEvent, Series
from permille.core.metering.expression import (
    Evaluation,
    EvaluationError,
    evaluate_all,
    is_too_much,
    read_expression,
)
from permille.core.record import Record
from permille.core.wallet import NamedWallet
from permille.events.columns import OnDemand, UsualEvents
from permille.events.draft import Draft
from permille.events.identity import claim, event_identities

TOO_MUCH_WORK = (
    "expression_evaluation_failed: The expressions are too long for so many events: send fewer at once"
)


Evaluate = Callable[[Sequence[Evaluation]], Sequence[str | EvaluationError]]


class PlannedCalls(Record, kw_only=True):
    """Calls of models whose events were made by plans, and what was taken for granted: it is checked when they are stored.

    One of them may have been kept aside before: that it is counted now is noted with its events.
    """

    stamp: str
    """The organization's terms that they were made under."""
    identities: Sequence[str]
    payers: Sequence[str]
    """The external id of the subscription of each, which is to run at its time."""
    ats: Sequence[int]
    """Microseconds since 1970."""


@dataclass(slots=True)
class Request:
    """One request's events; `duplicates` are the indices for which it was refused, None while it waits."""

    organization_id: UUID
    drafts: Sequence[Draft]
    created_at: int
    """Microseconds since 1970."""
    counts_once: Collection[str] = ()
    """Transaction ids that no other request may come with, of whichever subscription; events of it need not have them."""
    planned: PlannedCalls | None = None
    """The calls that its events are of. Where anything else holds than was taken for granted, it is refused as a duplicate."""
    usual: UsualEvents | None = None
    """The same events as columns, where they were read in one pass."""
    identities: Sequence[bytes] = ()
    duplicates: list[int] | None = None
    failure: Exception | None = None
    codes: set[str] = field(default_factory=set)
    unevaluable: dict[int, str] = field(default_factory=dict)
    """Index of an event -> why its metric's expression has no value: then nothing of the request is stored."""
    too_long: dict[int, str] = field(default_factory=dict)
    """Index of an event -> the dimension whose value is too long: then nothing of the request is stored."""
    originals: dict[int, dict[str, Any]] = field(default_factory=dict)
    """Properties as they were sent, where an expression has looked at them since."""
    derived_under: int | None = None
    """The version of the metering whose expressions have made the properties."""

    @property
    def is_decided(self) -> bool:
        """Whether it is known how it went."""
        return self.duplicates is not None or self.failure is not None or self.is_refused

    @property
    def is_stored(self) -> bool:
        """Whether all of it is in."""
        return self.failure is None and self.duplicates == [] and not self.is_refused

    @property
    def claims(self) -> set[bytes]:
        """What no other request may come with; empty where only its events themselves count once."""
        owner = self.organization_id.bytes
        return {claim(owner, each) for each in self.counts_once}

    @property
    def is_refused(self) -> bool:
        return bool(self.unevaluable or self.too_long)

    def words(self, meterings: Mapping[str, SeriesLayout]) -> int:
        """Words of the expressions that are to be evaluated for the events."""
        found = {
            code: read_expression(how.expression).words
            for code in self.codes
            if (how := meterings[code]).expression is not None and how.expression_field is not None
        }
        return sum(found.get(draft.code, 0) for draft in self.drafts) if found else 0

    def derive(self, meterings: Mapping[str, SeriesLayout], evaluate: Evaluate = evaluate_all) -> None:
        """Let the expressions of these codes make their properties, from what was sent."""
        self.unevaluable = {}
        wanted: dict[int, tuple[str, Evaluation]] = {}
        is_over = is_too_much(self.words(meterings), len(self.drafts))
        for index, draft in enumerate(self.drafts):
            how = meterings[draft.code]
            sent = self.originals.get(index, draft.properties)
            if how.expression is None or how.expression_field is None:
                draft.properties = sent
                continue
            self.originals[index] = sent
            if is_over:
                self.unevaluable[index] = TOO_MUCH_WORK
                continue
            evaluation = Evaluation(how.expression, draft.code, draft.at // 1_000_000, sent)
            wanted[index] = how.expression_field, evaluation
        values = evaluate([evaluation for _, evaluation in wanted.values()]) if wanted else []
        for (index, (name, evaluation)), value in zip(wanted.items(), values, strict=True):
            if isinstance(value, EvaluationError):
                self.unevaluable[index] = f"expression_evaluation_failed: {value}"
            else:
                self.drafts[index].properties = {**evaluation.properties, name: value}

    def __post_init__(self) -> None:
        if self.usual is not None:
            self.codes = self.usual.codes
            self.identities = OnDemand(len(self.drafts), self.usual.identities)
            return
        self.codes = {draft.code for draft in self.drafts}
        self.identities = event_identities(
            self.organization_id.bytes,
            [draft.external_subscription_id for draft in self.drafts],
            [draft.transaction_id for draft in self.drafts],
        )


class StoredEvent(Record, kw_only=True):
    """An event. `identity` is its lago_id, or the id of the amendment that puts it in the place of another."""

    identity: UUID
    transaction_id: str
    external_subscription_id: str | None
    code: str
    at: datetime
    created_at: datetime
    precise_total_amount_cents: Decimal | None
    properties: Mapping[str, Any]


class EventSearch(Record, kw_only=True):
    """Which events: all conditions together."""

    organization_id: UUID
    code: str | None = None
    external_subscription_id: str | None = None


class CountedEvents(Record, kw_only=True):
    """Events that count, of some series in [from_, to)."""

    series_ids: Sequence[int]
    from_: datetime | None
    to: datetime
    numbers_only: bool
    """Whether events without a number count for nothing."""


class EventPosition(Record):
    """Where a list of events by time goes on: after this event."""

    at: datetime
    identity: UUID


class Digest(Record):
    """How many events a set has, and 128 bits that change when any of them, or its value, does."""

    count: int
    digest: str


class EventErrors(Record, kw_only=True):
    """Transaction ids in the order of arrival."""

    invalid_code: list[str]
    missing_aggregation_property: list[str]
    invalid_filter_values: list[str]


class KnownLayouts(Record):
    """The metering of some codes of an organization, and its version, read together."""

    version: int
    by_code: Mapping[str, SeriesLayout]


class SentEvent(Record, kw_only=True):
    """An event that may be amended: where it is, and its place in the order of arrival."""

    identity: UUID
    external_subscription_id: str | None
    seq: int


class InPlace(Record, kw_only=True):
    """What a replacement stores: the properties with what an expression has made of them."""

    metering: SeriesLayout
    properties: Mapping[str, Any]
    seq: int


class AmendmentSearch(Record, kw_only=True):
    """Which amendments: all conditions together."""

    organization_id: UUID
    event_transaction_id: str | None = None
    external_subscription_id: str | None = None
    kind: str | None = None
    from_: datetime | None = None
    to: datetime | None = None
    """By when they were made; both are inclusive."""


class Version(NamedTuple):
    """A row that counts, or has counted, for an event."""

    event_identity: UUID
    identity: UUID
    external_subscription_id: str | None
    code: str
    at: datetime


class CurrentEvent(NamedTuple):
    """A sent event as it is now: as its last replacement says. One that was voided has no subscription."""

    transaction_id: str
    at: datetime
    code: str
    external_subscription_id: str | None


class UnavailableError(Exception):
    """The log cannot be reached at the moment: nobody knows whether the events are in, and their senders repeat."""


class ChangingError(Exception):
    """The metering of these organizations is being changed: nothing of the group is stored, and that passes."""

    def __init__(self, organization_ids: Collection[UUID]) -> None:
        super().__init__("the metering is being changed")
        self.organization_ids = organization_ids


class UnacceptableError(Exception):
    """What is in the group cannot be stored, however often it is tried; nothing of it is."""


class Writer(Protocol):
    """One that appends groups of requests to the log, one group after the other."""

    @property
    def reads_usual(self) -> bool:
        """Whether there is anything that `read_usual` would read."""

    def read_usual(
        self,
        organization_id: UUID,
        body: bytes,
        *,
        created_at: int,
        most: int,
        is_batch: bool,
        is_answered: bool = True,
    ) -> UsualEvents | None:
        """The events of a body of Lago's `/events`, or of `/events/batch` with `most` of them, read in one pass.

        None for what is not usual, wrong or about something new: it is to be decoded. `created_at` is in microseconds.
        There is no answer to it unless it `is_answered`.
        """

    def words(self, request: Request) -> int | None:
        """Words of the expressions that `derive` would evaluate; None where that is not known without a look."""

    def learn(self, request: Request) -> None:
        """Look that up, if the database can be reached. Call it in a thread."""

    def derive(self, request: Request, evaluate: Evaluate) -> None:
        """Evaluate the request's expressions before it is appended. It takes its time: call it in a thread."""

    async def append(self, requests: Sequence[Request]) -> None:
        """Store every request that has no duplicate, all of its events or none; `duplicates` of each says how it went.

        Raises UnavailableError, ChangingError, UnacceptableError.
        """

    async def close(self) -> None:
        """Give back what it holds; it appends again after that."""


class EventLog(Protocol):
    """Events as they were sent and as they count. Each call is one set; `conn` is the caller's transaction on its rows."""

    def writers(self, dsn: str, count: int, *, series_bytes: int, is_accelerated: bool) -> Sequence[Writer]:
        """Writers for as many tasks, which together remember series in so many bytes."""

    def unevaluable(
        self, conn: Connection[Any], organization_id: UUID, drafts: Mapping[int, Draft]
    ) -> dict[int, str]:
        """The events, not stored, whose metric's expression has no value, and why not."""

    def first_unacceptable(self, conn: Connection[Any], request: Request) -> int | None:
        """The index of the first event of a request, not stored, that the engine refuses for what is in it."""

    def append(self, conn: Connection[Any], requests: Sequence[Request]) -> None:
        """Store requests in the caller's transaction; `duplicates` of each and whether it is refused say how it went.

        Raises ChangingError, UnacceptableError.
        """

    def known_transactions(
        self, conn: Connection[Any], organization_id: UUID, transaction_ids: Sequence[str]
    ) -> set[str]:
        """Those of the transaction ids that an event of any subscription of the organization has, or that count once."""

    def known_transactions_query(
        self, organization_id: UUID, transaction_ids: Sequence[str]
    ) -> tuple[LiteralString, list[Any]]:
        """As known_transactions: a query of one column, to be part of another, and its parameters."""

    def metering(
        self, conn: Connection[Any], codes: Mapping[UUID, Collection[str]]
    ) -> dict[UUID, KnownLayouts]:
        """The metering of these codes of organizations; a code without a metric has none."""

    def arrival(self, conn: Connection[Any]) -> Arrival:
        """How far events had come in. Call it before usage is read."""

    def settled(self, conn: Connection[Any]) -> int:
        """The last place in the order of arrival of which, and of all before it, it is decided whether they are in."""

    def find(
        self, conn: Connection[Any], *, organization_id: UUID, transaction_id: str
    ) -> StoredEvent | None:
        """The event with this transaction id, of any subscription of the organization."""

    def by_identities(self, conn: Connection[Any], identities: Collection[UUID]) -> dict[UUID, StoredEvent]:
        """Events as they are stored, amended or not."""

    def page(
        self,
        conn: Connection[Any],
        search: EventSearch,
        *,
        from_: datetime | None,
        to: datetime,
        limit: int,
        offset: int,
    ) -> tuple[int, list[StoredEvent]]:
        """How many events in [from_, to) a search finds, and a page of them, newest first."""

    def current(self, conn: Connection[Any], identities: Collection[UUID]) -> dict[UUID, CurrentEvent]:
        """Sent events as they are now, by the identities that they were sent under."""

    def counted(
        self,
        conn: Connection[Any],
        *,
        organization_id: UUID,
        external_subscription_id: str,
        transaction_ids: Sequence[str],
    ) -> dict[str, tuple[int, StoredEvent]]:
        """Events that count by their transaction ids, each with its place in the order of arrival."""

    def after(
        self, conn: Connection[Any], which: CountedEvents, *, place: EventPosition | None, limit: int
    ) -> list[StoredEvent]:
        """These events, oldest first, from a place on."""

    def digest(self, conn: Connection[Any], which: CountedEvents) -> Digest:
        """The digest of these events. It reads them all."""

    def digest_of(self, conn: Connection[Any], identities: Sequence[UUID]) -> Digest:
        """The digest of these very events."""

    def revisions(self, conn: Connection[Any], of: Sequence[tuple[UUID, str, str]]) -> list[str]:
        """For each organization, external subscription id and code, a text that changes when stored events mean something else."""

    def placed(self, conn: Connection[Any], identities: Collection[UUID]) -> list[PlacedEvent]:
        """Events as they are stored, with their series."""

    def organizations_with_new_series(self, conn: Connection[Any]) -> list[UUID]:
        """The organizations with series that nobody has looked at since they came into use."""

    def claim_new_series(self, conn: Connection[Any], organization_id: UUID, *, limit: int) -> list[Series]:
        """Take series of the organization that are to be looked at. Rows that another worker has are skipped."""

    def look_again(
        self,
        conn: Connection[Any],
        organization_id: UUID,
        *,
        external_subscription_ids: Collection[str] | None = None,
        codes: Collection[str] | None = None,
    ) -> None:
        """Series of these subscriptions, or of these codes, are to be looked at as if they were new."""

    def arrived(self, conn: Connection[Any], *, after: int, until: int) -> list[Arrived]:
        """What came in after a place in the order of arrival up to another: of each subscription and code the first time."""

    def arrived_before(
        self,
        conn: Connection[Any],
        of: Sequence[tuple[UUID, str, str, datetime]],
        *,
        after: int,
        until: int,
    ) -> list[Arrived]:
        """The same of some organizations, external subscription ids and codes, with each time that is before an instant."""

    def first_hour_due(
        self, conn: Connection[Any], organization_id: UUID, *, until: datetime
    ) -> datetime | None:
        """The first instant up to `until` at which an hour with events of the organization is to be looked through."""

    def organizations_with_hours_due(self, conn: Connection[Any], *, until: datetime) -> list[UUID]:
        """The organizations with an hour that is to be looked through by then."""

    def claim_hours(
        self, conn: Connection[Any], organization_id: UUID, *, until: datetime, limit: int, wait: bool
    ) -> list[datetime]:
        """Take the hours with events that are to be looked through; those that another worker has are skipped unless `wait`."""

    def wrong_in(
        self,
        conn: Connection[Any],
        organization_id: UUID,
        metrics: Sequence[BillableMetric],
        *,
        starts_at: datetime,
        limit: int,
    ) -> EventErrors | None:
        """What is wrong, by the organization's metrics, with the first `limit` faulty events of an hour; None when all are fine."""

    def wallets_named_in(
        self, conn: Connection[Any], organization_id: UUID, codes: Collection[str], *, starts_at: datetime
    ) -> list[NamedWallet]:
        """The wallets that events of an hour with these codes name, by series."""

    def first_of_series(
        self, conn: Connection[Any], series_ids: Collection[int], *, starts_at: datetime, limit: int
    ) -> list[UUID]:
        """The first events of an hour of these series, in the order of arrival; amended ones are left out."""


class Amendments(Protocol):
    """Amendments of events: added, never changed."""

    def begin(self, conn: Connection[Any], organization_id: UUID) -> None:
        """Keep the organization's events as they are until the transaction ends, but for new ones."""

    def add(
        self,
        conn: Connection[Any],
        organization_id: UUID,
        new: Sequence[Amendment],
        in_place: Mapping[UUID, InPlace],
    ) -> None:
        """Write amendments in their order, and let usage follow; `in_place` is of each replacement, by its id."""

    def taken(
        self, conn: Connection[Any], organization_id: UUID, transaction_ids: Collection[str]
    ) -> set[str]:
        """Those of the transaction ids that an amendment has already."""

    def sent_events(
        self, conn: Connection[Any], organization_id: UUID, transaction_ids: Sequence[str]
    ) -> list[list[SentEvent]]:
        """For each transaction id the events that were sent with it, one for each subscription."""

    def listing(
        self, conn: Connection[Any], search: AmendmentSearch, *, limit: int, offset: int
    ) -> tuple[list[Amendment], int]:
        """Amendments, newest first, and how many there are."""

    def by_ids(self, conn: Connection[Any], ids: Collection[UUID]) -> list[Amendment]:
        """Amendments in the order in which they were made."""

    def of_events(self, conn: Connection[Any], identities: Collection[UUID]) -> dict[UUID, list[Amendment]]:
        """The amendments of events, in their order, by the identity of the row asked for: own or a replacement's."""

    def versions(self, conn: Connection[Any], identities: Collection[UUID]) -> list[Version]:
        """Every row that counts or has counted for these amended events."""

    def touching(
        self,
        conn: Connection[Any],
        *,
        organization_id: UUID,
        external_subscription_id: str,
        code: str,
        from_: datetime | None,
        to: datetime,
    ) -> list[tuple[UUID, dict[str, str | None]]]:
        """The amended events of which any version is of the code and in [from_, to), with that version's property texts."""


class Upkeep(Protocol):
    """What the background does for the log, and what changes how it keeps events."""

    def refresh(
        self, conn: Connection[Any], *, organization_id: UUID, code: str, wanted: SeriesLayout | None
    ) -> None:
        """Keep the code's events as `wanted` from now on, and move those that there are."""

    def is_being_rebuilt(self, conn: Connection[Any], organization_id: UUID, code: str) -> bool:
        """Whether some events of the code are still kept as before."""

    def organizations_to_rebuild(self, conn: Connection[Any]) -> list[UUID]:
        """The organizations with a code of which something is left to be moved."""

    def rebuild(self, conn: Connection[Any], organization_id: UUID) -> bool:
        """Move a chunk of the organization's code whose change is the oldest; whether that was the last of the code."""

    def roll_up(self, conn: Connection[Any]) -> bool:
        """Add what came in to the sums that usage is read from; whether more is waiting."""

    def lag(self, conn: Connection[Any]) -> int:
        """How many events, about, wait to be added to those sums; it costs the same however many there are."""

    def verify(self, conn: Connection[Any], *, limit: int) -> list[tuple[int, str, Any]]:
        """Series, grain and start of sums that are not what the events give."""
