"""Charges whose usage may name the wallet that pays for it, and names of wallets that are none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.wallet import NamedWallet
from permille.database.bulk import text_array


def codes_of_metrics(conn: Connection[Any], organization_id: UUID) -> list[str]:
    """The metrics of which a charge takes such names."""
    rows = conn.execute(
        "select m.code from billable_metric m where m.organization_id = %s and m.deleted_at is null and exists"
        " (select from charge c where c.billable_metric_id = m.id and c.accepts_target_wallet and c.deleted_at is null)",
        [organization_id],
    ).fetchall()
    return [code for (code,) in rows]


def unknown(conn: Connection[Any], organization_id: UUID, named: Sequence[NamedWallet]) -> list[int]:
    """The series of which a charge of the subscription's plan takes the name, and its customer has no such active wallet."""
    rows = conn.execute(
        "select n.series_id from unnest(%(series)s::bigint[], %(subscriptions)s::text[], %(codes)s::text[],"
        "   %(wallets)s::text[]) as n (series_id, external_id, code, wallet_code)"
        " where exists (select from subscription s join charge c on c.plan_id = s.plan_id and c.deleted_at is null"
        "   and c.accepts_target_wallet join billable_metric m on m.id = c.billable_metric_id and m.code = n.code"
        "   where s.organization_id = %(organization)s and s.external_id = n.external_id and s.status in ('active', 'terminated'))"
        " and not exists (select from subscription s join wallet w on w.customer_id = s.customer_id"
        "   where s.organization_id = %(organization)s and s.external_id = n.external_id"
        "   and w.status = 'active' and w.code = n.wallet_code)",
        {
            "organization": organization_id,
            "series": [each.series_id for each in named],
            "subscriptions": text_array(each.external_subscription_id for each in named),
            "codes": text_array(each.code for each in named),
            "wallets": text_array(each.wallet_code for each in named),
        },
    ).fetchall()
    return [series_id for (series_id,) in rows]
