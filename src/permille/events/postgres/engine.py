"""Where each call of the edge is in this engine."""

from __future__ import annotations

from typing import Any

from psycopg import Connection

from permille.events.postgres import (
    advance,
    amendments,
    event_errors,
    event_lists,
    events,
    kinds,
    metering,
    overview,
    rebuilding,
    rollup,
    series,
    usage,
    writer,
)


class Log:
    """EventLog."""

    writers = staticmethod(writer.writers)
    unevaluable = staticmethod(writer.unevaluable)
    first_unacceptable = staticmethod(writer.first_unacceptable)
    append = staticmethod(writer.append)
    known_transactions = staticmethod(events.known_transactions)
    known_transactions_query = staticmethod(events.known_transactions_query)
    metering = staticmethod(metering.load)
    arrival = staticmethod(rollup.arrival)
    settled = staticmethod(rollup.settled_seq)
    find = staticmethod(events.by_transaction_id)
    by_identities = staticmethod(events.by_identities)
    page = staticmethod(event_lists.page)
    current = staticmethod(amendments.current)
    counted = staticmethod(events.counted)
    after = staticmethod(events.after)
    digest = staticmethod(events.digest)
    digest_of = staticmethod(events.digest_of)
    revisions = staticmethod(amendments.revisions)
    first_hour_due = staticmethod(event_errors.first_due)
    organizations_with_hours_due = staticmethod(event_errors.organizations_due)
    placed = staticmethod(series.placed)
    organizations_with_new_series = staticmethod(series.organizations_with_new)
    claim_new_series = staticmethod(series.claim_new)
    look_again = staticmethod(series.look_again)
    arrived = staticmethod(series.arrived)
    arrived_before = staticmethod(series.arrived_before)
    claim_hours = staticmethod(event_errors.claim)
    wrong_in = staticmethod(event_errors.wrong_in)
    wallets_named_in = staticmethod(event_errors.wallets_named_in)
    first_of_series = staticmethod(event_errors.first_of_series)


class Amendments:
    """Amendments."""

    begin = staticmethod(amendments.begin)
    add = staticmethod(amendments.add)
    taken = staticmethod(amendments.taken)
    sent_events = staticmethod(amendments.sent_events)
    listing = staticmethod(amendments.listing)
    by_ids = staticmethod(amendments.by_ids)
    of_events = staticmethod(amendments.of_events)
    versions = staticmethod(amendments.versions)
    touching = staticmethod(amendments.touching)


class Usage:
    """UsageReader."""

    usage_of_many = staticmethod(usage.usage_of_many)
    series_usage = staticmethod(usage.series_usage)
    usage_of_kinds = staticmethod(kinds.usage_of_kinds)
    texts_in_use = staticmethod(series.texts_in_use)
    events_of = staticmethod(advance.events_of)
    sums = staticmethod(series.sums)
    units_by_day = staticmethod(overview.units_by_day)
    size_of_days = staticmethod(overview.size_of_days)
    events_per_second = staticmethod(overview.events_per_second)
    under_one_version = staticmethod(metering.under_one_version)
    under_one_metering = staticmethod(metering.under_one_metering)


class Upkeep:
    """Upkeep."""

    refresh = staticmethod(rebuilding.refresh)
    is_being_rebuilt = staticmethod(metering.is_being_rebuilt)
    organizations_to_rebuild = staticmethod(rebuilding.organizations_waiting)
    rebuild = staticmethod(rebuilding.step)
    verify = staticmethod(rollup.verify)

    @staticmethod
    def lag(conn: Connection[Any]) -> int:
        seen = rollup.arrival(conn)
        return int(seen.seen_to - seen.counted_to)

    @staticmethod
    def roll_up(conn: Connection[Any]) -> bool:
        """A chunk; whether more is waiting."""
        folded = rollup.roll_up(conn)
        if folded:
            rollup.summarize(conn)
        return folded >= rollup.CHUNK
