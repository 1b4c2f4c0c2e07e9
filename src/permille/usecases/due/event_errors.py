"""Events that were taken and cannot count as they are: their senders are notified once an hour, by webhook.

Source: semantics-metering.md section 1.11.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.metering.billable_metric import BillableMetric
from permille.core.metering.event import LOOKED_AT_AFTER
from permille.database.connections import is_passing
from permille.events.engine import event_log
from permille.store import billable_metrics, due, target_wallets, webhooks
from permille.usecases.due.kind import DueKind

log = logging.getLogger(__name__)

WEBHOOK = "events.errors"
WALLET_WEBHOOK = "event.error"
EVENTS_NAMED_MAX = 10_000
WALLETS_NAMED_MAX = 1_000
HOURS_AT_ONCE = 24


def _report(
    conn: Connection[Any], organization_id: UUID, *, at: datetime, limit: int, wait: bool, now: datetime
) -> int:
    """Queue the webhooks of the hours that ended five minutes before that instant or earlier; how many hours those were.

    The events are looked through only where somebody listens. An hour that cannot be is left out, and logged: nothing
    else of the organization waits for it. The clock `now` and the `limit` change nothing.
    """
    del limit, now
    hours = event_log.claim_hours(conn, organization_id, until=at, limit=HOURS_AT_ONCE, wait=wait)
    heard = {name for name in (WEBHOOK, WALLET_WEBHOOK) if webhooks.is_heard(conn, organization_id, name)}
    if hours and heard:
        metrics = billable_metrics.every(conn, organization_id) if WEBHOOK in heard else []
        codes = target_wallets.codes_of_metrics(conn, organization_id) if WALLET_WEBHOOK in heard else []
        for starts_at in hours:
            try:
                with conn.transaction():
                    if WEBHOOK in heard:
                        _queue_webhooks(conn, organization_id, metrics, starts_at)
                    if codes:
                        _queue_of_wallets(conn, organization_id, codes, starts_at)
            except Exception as error:
                if is_passing(error):
                    raise
                log.exception(
                    "The events of organization %s of the hour from %s could not be looked through; its webhooks %s"
                    " are left out",
                    organization_id,
                    starts_at.isoformat(),
                    ", ".join(sorted(heard)),
                )
    return len(hours)


def _queue_webhooks(
    conn: Connection[Any], organization_id: UUID, metrics: Sequence[BillableMetric], starts_at: datetime
) -> None:
    wrong = event_log.wrong_in(conn, organization_id, metrics, starts_at=starts_at, limit=EVENTS_NAMED_MAX)
    if wrong is None:
        return
    webhooks.enqueue(
        conn,
        organization_id=organization_id,
        webhook_type=WEBHOOK,
        object_type="events_errors",
        object_ids=[organization_id],
        payload={
            "invalid_code": wrong.invalid_code,
            "missing_aggregation_property": wrong.missing_aggregation_property,
            "missing_group_key": None,
            "invalid_filter_values": wrong.invalid_filter_values,
        },
        now=starts_at + LOOKED_AT_AFTER,
    )


def _queue_of_wallets(
    conn: Connection[Any], organization_id: UUID, codes: Sequence[str], starts_at: datetime
) -> None:
    """One webhook for each event that names a wallet that is not there, at most so many of an hour."""
    named = event_log.wallets_named_in(conn, organization_id, codes, starts_at=starts_at)
    wrong = target_wallets.unknown(conn, organization_id, named) if named else []
    if not wrong:
        return
    webhooks.enqueue(
        conn,
        organization_id=organization_id,
        webhook_type=WALLET_WEBHOOK,
        object_type="event_error",
        object_ids=event_log.first_of_series(conn, wrong, starts_at=starts_at, limit=WALLETS_NAMED_MAX),
        payload=None,
        now=starts_at + LOOKED_AT_AFTER,
    )


EVENT_ERRORS = DueKind(
    first=lambda conn, organization_id, until: event_log.first_hour_due(conn, organization_id, until=until),
    live=lambda conn, until: due.live_among(conn, event_log.organizations_with_hours_due(conn, until=until)),
    do=_report,
)
