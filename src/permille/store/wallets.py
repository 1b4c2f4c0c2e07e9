"""Wallets: their rows, what they hold in the order in which it is spent, and what invoices take of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.fee_kind import FeeKind
from permille.core.invoice.draft import InvoiceDraft
from permille.core.money import ZERO
from permille.core.record import Record
from permille.core.wallet import (
    Direction,
    FeeBucket,
    FilledWallet,
    Lot,
    LotPart,
    Settlement,
    Source,
    SpendableWallet,
    TransactionStatus,
    Wallet,
)
from permille.database.bulk import columns_of, decimal_array, instant_array, int_array, text_array, uuid_array
from permille.database.connections import exact_json
from permille.database.typed_rows import typed_row
from permille.ids import ordered_ids
from permille.store import wallet_transactions
from permille.store.billing_holds import NOT_HELD
from permille.store.wallet_transactions import WalletTransaction

_COLUMNS = columns_of(Wallet)


class WalletSearch(Record, kw_only=True):
    """Every condition that is given must hold."""

    external_customer_id: str | None = None
    customer_id: UUID | None = None
    currency: str | None = None
    billing_entity_codes: Sequence[str] = ()


def add(conn: Connection[Any], wallet: Wallet) -> None:
    """A new row."""
    conn.execute(
        f"insert into wallet ({_COLUMNS}) select {_COLUMNS} from jsonb_populate_record(null::wallet, %s::jsonb)",
        [exact_json(wallet)],
    )


def update(conn: Connection[Any], wallet_id: UUID, columns: Mapping[str, Any], *, now: datetime) -> None:
    """Set the given columns; the names come from code, never from a request."""
    changed = {**columns, "updated_at": now}
    changes = ", ".join(f"{name} = w.{name}" for name in changed)
    conn.execute(
        f"update wallet t set {changes} from jsonb_populate_record(null::wallet, %s::jsonb) w where t.id = %s",
        [exact_json(changed), wallet_id],
    )


def _select(conn: Connection[Any], condition: str, values: Sequence[Any]) -> list[Wallet]:
    with conn.cursor(row_factory=typed_row(Wallet)) as cursor:
        return cursor.execute(f"select {_COLUMNS} from wallet where {condition}", values).fetchall()


def by_ids(conn: Connection[Any], ids: Collection[UUID]) -> dict[UUID, Wallet]:
    return {row.id: row for row in _select(conn, "id = any(%s)", [list(ids)])}


def active_by_code(conn: Connection[Any], customer_id: UUID, code: str) -> Wallet | None:
    found = _select(conn, "customer_id = %s and code = %s and status = 'active'", [customer_id, code])
    return found[0] if found else None


def last_by_code(conn: Connection[Any], customer_id: UUID, code: str) -> Wallet | None:
    """The active wallet with this code, else the last one that had it."""
    found = _select(
        conn,
        "customer_id = %s and code = %s order by status = 'active' desc, created_at desc limit 1",
        [customer_id, code],
    )
    return found[0] if found else None


def active_of_customer(conn: Connection[Any], customer_id: UUID) -> list[Wallet]:
    """In the order in which they are spent."""
    return active_of_customers(conn, [customer_id])


def active_of_customers(conn: Connection[Any], customer_ids: Collection[UUID]) -> list[Wallet]:
    """In the order in which they are spent."""
    return _select(
        conn,
        "customer_id = any(%s::uuid[]) and status = 'active' order by priority, created_at, position",
        [uuid_array(customer_ids)],
    )


_FOUND = (
    "organization_id = %(organization)s"
    " and (%(customer)s::uuid is null or customer_id = %(customer)s)"
    " and (%(external)s::text is null or customer_id in"
    "   (select id from customer where organization_id = %(organization)s and external_id = %(external)s))"
    " and (%(currency)s::text is null or currency = %(currency)s)"
    " and (%(entities)s::text[] = '{}' or customer_id in (select c.id from customer c"
    "   join billing_entity b on b.id = coalesce(wallet.billing_entity_id, c.billing_entity_id)"
    "   where b.organization_id = %(organization)s and b.code = any(%(entities)s)))"
)


def listing(
    conn: Connection[Any], organization_id: UUID, search: WalletSearch, *, limit: int, offset: int
) -> tuple[list[Wallet], int]:
    """Newest first, and how many there are."""
    values = {
        "organization": organization_id,
        "customer": search.customer_id,
        "external": search.external_customer_id,
        "currency": search.currency,
        "entities": text_array(search.billing_entity_codes),
        "limit": limit,
        "offset": offset,
    }
    with conn.cursor(row_factory=typed_row(Wallet)) as cursor:
        rows = cursor.execute(
            f"select {_COLUMNS} from wallet where {_FOUND}"
            " order by created_at desc, id desc limit %(limit)s offset %(offset)s",
            values,
        ).fetchall()
    row = conn.execute(f"select count(*) from wallet where {_FOUND}", values).fetchone()
    return rows, row[0] if row else 0


def filled(
    conn: Connection[Any], customer_ids: Collection[UUID]
) -> dict[tuple[UUID, str], list[FilledWallet]]:
    """(Customer, currency) -> its active wallets with a balance, locked, in the order in which they are spent."""
    with conn.cursor(row_factory=typed_row(SpendableWallet)) as cursor:
        rows = cursor.execute(
            f"select {columns_of(SpendableWallet)} from wallet where customer_id = any(%s) and status = 'active'"
            " and balance_cents > 0 order by priority, created_at, position for no key update",
            [uuid_array(customer_ids)],
        ).fetchall()
    lots = lots_of(conn, [row.id for row in rows]) if rows else {}
    found: dict[tuple[UUID, str], list[FilledWallet]] = defaultdict(list)
    for row in rows:
        found[row.customer_id, row.currency].append(FilledWallet(wallet=row, lots=tuple(lots[row.id])))
    return found


def lots_of(conn: Connection[Any], wallet_ids: Collection[UUID]) -> dict[UUID, list[Lot]]:
    """Wallet -> what is left in it, in the order in which it is taken."""
    with conn.cursor(row_factory=typed_row(Lot)) as cursor:
        rows = cursor.execute(
            "select id, wallet_id, remaining_amount_cents, transaction_status = 'granted' as is_granted"
            " from wallet_transaction where wallet_id = any(%s) and remaining_amount_cents > 0"
            " order by priority, transaction_status = 'granted' desc, created_at, position",
            [uuid_array(wallet_ids)],
        ).fetchall()
    found: dict[UUID, list[Lot]] = {wallet_id: [] for wallet_id in wallet_ids}
    for row in rows:
        found[row.wallet_id].append(row)
    return found


class Movement(Record, kw_only=True):
    """What a settled transaction does to its wallet."""

    transaction: WalletTransaction
    parts: tuple[LotPart, ...] = ()
    """The lots that it takes of; none for one that fills."""

    @property
    def sign(self) -> int:
        return 1 if self.transaction.transaction_type is Direction.INBOUND else -1

    @property
    def consumed(self) -> tuple[int, Decimal]:
        """What invoices have taken by it, below zero where an invoice gives back."""
        moved = self.transaction
        if moved.transaction_status == TransactionStatus.INVOICED:
            return moved.amount_cents, moved.credit_amount
        if moved.voided_invoice_id is not None:
            return -moved.amount_cents, -moved.credit_amount
        return 0, ZERO


_MOVE = """
update wallet w set balance_cents = w.balance_cents + m.cents, credits_balance = w.credits_balance + m.credits,
    consumed_amount_cents = greatest(w.consumed_amount_cents + m.consumed_cents, 0),
    consumed_credits = greatest(w.consumed_credits + m.consumed_credits, 0),
    last_balance_sync_at = m.at, updated_at = m.at,
    last_consumed_credit_at = case when m.consumed_cents > 0 then m.at else w.last_consumed_credit_at end
from (
    select id, sum(cents)::bigint as cents, sum(credits) as credits, sum(consumed_cents)::bigint as consumed_cents,
        sum(consumed_credits) as consumed_credits, max(at) as at
    from unnest(%s::uuid[], %s::bigint[], %s::numeric[], %s::bigint[], %s::numeric[], %s::timestamptz[])
        as e (id, cents, credits, consumed_cents, consumed_credits, at)
    group by id
) m
where w.id = m.id
"""


def apply(conn: Connection[Any], movements: Sequence[Movement]) -> None:
    """Let settled transactions fill and empty their wallets, and take of their lots; set-based."""
    moved = [(each.sign, each.transaction, *each.consumed) for each in movements]
    conn.execute(
        _MOVE,
        [
            uuid_array([row.wallet_id for _, row, _, _ in moved]),
            int_array([sign * row.amount_cents for sign, row, _, _ in moved]),
            decimal_array([sign * row.credit_amount for sign, row, _, _ in moved]),
            int_array([cents for _, _, cents, _ in moved]),
            decimal_array([credits_ for _, _, _, credits_ in moved]),
            instant_array([row.settled_at or row.created_at for _, row, _, _ in moved]),
        ],
    )
    wallet_transactions.consume(conn, [(each.transaction, part) for each in movements for part in each.parts])


def take(conn: Connection[Any], drafts: Iterable[InvoiceDraft]) -> list[WalletTransaction]:
    """Save what invoices took of wallets: a transaction for each wallet of each invoice; set-based."""
    taken = [(draft, each) for draft in drafts for each in draft.prepaid]
    if not taken:
        return []
    ids = ordered_ids(taken[0][0].made_at, len(taken))
    movements = [
        Movement(
            transaction=WalletTransaction(
                id=transaction_id,
                organization_id=draft.customer.organization_id,
                wallet_id=each.wallet.id,
                transaction_type=Direction.OUTBOUND,
                transaction_status=TransactionStatus.INVOICED,
                status=Settlement.SETTLED,
                source=Source.MANUAL,
                amount_cents=each.amount_cents,
                credit_amount=each.worth.credits,
                invoice_id=draft.id,
                settled_at=draft.made_at,
                created_at=draft.made_at,
            ),
            parts=each.parts,
        )
        for transaction_id, (draft, each) in zip(ids, taken, strict=True)
    ]
    wallet_transactions.add_taken(conn, [each.transaction for each in movements])
    apply(conn, movements)
    return [each.transaction for each in movements]


_TO_REFRESH = "insert into wallet_to_refresh (customer_id, organization_id, since)"
_UNLESS_THERE = "on conflict (customer_id) do nothing"


def set_out_of_date(conn: Connection[Any], customer_ids: Collection[UUID], *, at: datetime) -> None:
    """The ongoing balances of these customers' wallets are to be reckoned again; the customers are locked."""
    conn.execute(
        f"{_TO_REFRESH} select customer_id, organization_id, %s::timestamptz from wallet"
        f" where customer_id = any(%s::uuid[]) and status = 'active' {_UNLESS_THERE}",
        [at, uuid_array(customer_ids)],
    )


def set_shares_out_of_date(conn: Connection[Any], wallet_ids: Collection[UUID], *, at: datetime) -> None:
    """What the customers of these wallets use is to be shared again; the customers are locked."""
    conn.execute(
        f"{_TO_REFRESH} select customer_id, organization_id, %s::timestamptz from wallet where status = 'active'"
        f" and customer_id in (select customer_id from wallet where id = any(%s::uuid[])) {_UNLESS_THERE}",
        [at, uuid_array(wallet_ids)],
    )


def terminate(conn: Connection[Any], wallet_ids: Collection[UUID], *, now: datetime) -> None:
    """They, and their rules, do nothing any more."""
    conn.execute(
        "update wallet set status = 'terminated', terminated_at = %s, updated_at = %s where id = any(%s)",
        [now, now, list(wallet_ids)],
    )
    conn.execute(
        "update wallet_rule set status = 'terminated', terminated_at = %s, updated_at = %s"
        " where wallet_id = any(%s) and status = 'active'",
        [now, now, list(wallet_ids)],
    )


def mark(conn: Connection[Any], of: Collection[tuple[UUID, str]]) -> None:
    """What these subscriptions have used, by organization and external id, may have changed. It waits for nobody."""
    conn.execute(
        "insert into wallet_mark (organization_id, customer_id) select distinct s.organization_id, s.customer_id"
        " from unnest(%s::uuid[], %s::text[]) as e (organization_id, external_id)"
        " join subscription s on s.organization_id = e.organization_id and s.external_id = e.external_id"
        " where s.status = 'active' and exists ("
        "   select from wallet w where w.customer_id = s.customer_id and w.status = 'active')",
        [uuid_array(owner for owner, _ in of), text_array(external_id for _, external_id in of)],
    )


def mark_of_plans(conn: Connection[Any], plan_ids: Collection[UUID]) -> None:
    """As mark, for all subscriptions on these plans."""
    conn.execute(
        "insert into wallet_mark (organization_id, customer_id) select distinct w.organization_id, w.customer_id"
        " from subscription s join wallet w on w.customer_id = s.customer_id and w.status = 'active'"
        " where s.plan_id = any(%s::uuid[]) and s.status = 'active'",
        [uuid_array(plan_ids)],
    )


def mark_all(conn: Connection[Any], organization_id: UUID) -> None:
    """As mark_customers, for all customers of an organization."""
    conn.execute(
        "insert into wallet_mark (organization_id, customer_id) select distinct organization_id, customer_id from wallet"
        " where organization_id = %s and status = 'active'",
        [organization_id],
    )


def mark_customers(conn: Connection[Any], organization_id: UUID, customer_ids: Collection[UUID]) -> None:
    """What these customers owe that is not billed, or is on drafts, may have changed. It waits for nobody."""
    conn.execute(
        "insert into wallet_mark (organization_id, customer_id) select distinct organization_id, customer_id from wallet"
        " where organization_id = %s and customer_id = any(%s::uuid[]) and status = 'active'",
        [organization_id, uuid_array(customer_ids)],
    )


def take_marks(conn: Connection[Any], *, limit: int, now: datetime) -> bool:
    """Say of the wallets of marked customers that they are out of date; whether there were any.

    Customers that someone else has locked stay marked.
    """
    rows = conn.execute(
        "select c.id from customer c where c.id in (select customer_id from wallet_mark limit %s)"
        " order by c.id for no key update skip locked",
        [limit],
    ).fetchall()
    _take_marks_of(conn, [customer_id for (customer_id,) in rows], now=now)
    return bool(rows)


def take_marks_of_organization(conn: Connection[Any], organization_id: UUID, *, now: datetime) -> None:
    """As take_marks, for all marked customers of one organization, which are waited for."""
    rows = conn.execute(
        "select id from customer where id in (select customer_id from wallet_mark where organization_id = %s)"
        " order by id for no key update",
        [organization_id],
    ).fetchall()
    if rows:
        _take_marks_of(conn, [customer_id for (customer_id,) in rows], now=now)


def _take_marks_of(conn: Connection[Any], customer_ids: Collection[UUID], *, now: datetime) -> None:
    conn.execute("delete from wallet_mark where customer_id = any(%s::uuid[])", [uuid_array(customer_ids)])
    _set_out_of_date_by_clock(conn, customer_ids, now=now)


def _set_out_of_date_by_clock(
    conn: Connection[Any], customer_ids: Collection[UUID], *, now: datetime
) -> None:
    """As set_out_of_date, as of the clock of the customers' organization, which is `now` where it has no own."""
    conn.execute(
        f"{_TO_REFRESH} select w.customer_id, w.organization_id, coalesce(o.test_now, %s::timestamptz)"
        " from wallet w join organization o on o.id = w.organization_id"
        f" where w.customer_id = any(%s::uuid[]) and w.status = 'active' {_UNLESS_THERE}",
        [now, uuid_array(customer_ids)],
    )


def mark_organization(conn: Connection[Any], organization_id: UUID, *, now: datetime) -> None:
    """The ongoing balances of all wallets of an organization are out of date; their customers are locked before."""
    conn.execute(
        "select from customer where id in (select customer_id from wallet where organization_id = %s"
        " and status = 'active') order by id for no key update",
        [organization_id],
    )
    conn.execute(
        f"{_TO_REFRESH} select customer_id, organization_id, %s::timestamptz from wallet"
        f" where organization_id = %s and status = 'active' {_UNLESS_THERE}",
        [now, organization_id],
    )


def is_any_active(conn: Connection[Any]) -> bool:
    """Whether there is an active wallet at all."""
    row = conn.execute("select exists (select from wallet where status = 'active')").fetchone()
    return bool(row and row[0])


def organizations_waiting(conn: Connection[Any]) -> list[UUID]:
    """The organizations with an ongoing balance that is out of date."""
    rows = conn.execute("select distinct organization_id from wallet_to_refresh").fetchall()
    return [organization_id for (organization_id,) in rows]


def claim_out_of_date(conn: Connection[Any], organization_id: UUID, *, limit: int, wait: bool) -> list[UUID]:
    """Some customers of whose wallets one is out of date, locked: those of the longest.

    Customers that someone else has locked are skipped unless `wait` is set.
    """
    rows = conn.execute(
        "select c.id from customer c where c.id in (select customer_id from wallet_to_refresh"
        " where organization_id = %s order by since limit %s)"
        f" order by c.id for no key update {'' if wait else 'skip locked'}",
        [organization_id, limit],
    ).fetchall()
    return [customer_id for (customer_id,) in rows]


def set_up_to_date(conn: Connection[Any], customer_ids: Collection[UUID]) -> None:
    """The ongoing balances of these customers' wallets are reckoned; the customers are locked."""
    conn.execute(
        "delete from wallet_to_refresh where customer_id = any(%s::uuid[])", [uuid_array(customer_ids)]
    )


def set_ongoing(conn: Connection[Any], usage: Mapping[UUID, int], *, now: datetime) -> list[UUID]:
    """Save what usage and drafts will take of wallets; those that are depleted now and were not before."""
    rows = conn.execute(
        "update wallet w set ongoing_usage_balance_cents = u.cents, last_balance_sync_at = %s,"
        " is_depleted = w.balance_cents - u.cents <= 0"
        " from (select e.id, e.cents, b.is_depleted as was from unnest(%s::uuid[], %s::bigint[]) as e (id, cents)"
        "   join wallet b on b.id = e.id) u"
        " where w.id = u.id returning w.id, w.is_depleted and not u.was",
        [now, uuid_array(usage), int_array(usage.values())],
    ).fetchall()
    return [wallet_id for wallet_id, is_new in rows if is_new]


def draft_buckets(
    conn: Connection[Any], customer_ids: Collection[UUID]
) -> dict[tuple[UUID, str], list[FeeBucket]]:
    """(Customer, currency) -> the fees of its drafts with taxes, by what wallets can be limited to."""
    rows = conn.execute(
        "select i.customer_id, i.currency, f.fee_type, c.billable_metric_id, f.grouped_by ->> 'target_wallet_code',"
        " sum(f.amount_cents + f.taxes_precise_amount_cents - f.precise_coupons_amount_cents)"
        " from invoice i join fee f on f.invoice_id = i.id left join charge c on c.id = f.charge_id"
        " where i.customer_id = any(%s) and i.status = 'draft' and f.amount_cents > f.precise_coupons_amount_cents"
        " group by 1, 2, 3, 4, 5",
        [list(customer_ids)],
    ).fetchall()
    found: dict[tuple[UUID, str], list[FeeBucket]] = defaultdict(list)
    for customer_id, currency, kind, *bucket in rows:
        found[customer_id, currency].append(FeeBucket(FeeKind(kind), *bucket))
    return found


def claim_expired(
    conn: Connection[Any], organization_id: UUID, *, until: datetime, limit: int, wait: bool
) -> list[Wallet]:
    """Lock wallets that have expired, with their customers. Rows that another worker has locked are skipped unless `wait` is set."""
    rows = conn.execute(
        "select w.id from wallet w join customer c on c.id = w.customer_id where w.organization_id = %(organization)s"
        f" and w.status = 'active' and w.expiration_at <= %(until)s and w.{NOT_HELD}"
        " order by w.expiration_at, w.id limit %(limit)s"
        f" for no key update of c, w {'' if wait else 'skip locked'}",
        {"organization": organization_id, "until": until, "limit": limit},
    ).fetchall()
    return list(by_ids(conn, [wallet_id for (wallet_id,) in rows]).values())
