"""Wallets over the Lago API. Source: semantics-billing.md 5.6, 11.7."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.api.custom_sections import read_choice, show_choices
from permille.api.customers import customer_of
from permille.api.http import Call
from permille.api.metadata import checked_metadata, read_metadata, sent_metadata, without_key
from permille.api.objects import wallet as objects
from permille.api.payment_method import PAYMENT_METHOD, refuse_other_payment_method
from permille.api.render import instant, instant_milliseconds
from permille.api.validation import INVALID, MANDATORY, Fields, parse_uuid, query_texts
from permille.api.wallet_rules import names_rule, read_rule, render_rule
from permille.api.wallet_values import NOTES_MAX, read_credits, read_notes
from permille.core.bounds import LATEST
from permille.core.custom_section import SectionChoice
from permille.core.errors import Invalid, NotFound
from permille.core.money import decimal_text
from permille.core.wallet import FEE_TYPES, LOWEST_PRIORITY, Wallet, credits_of
from permille.core.wallet_rule import WalletRule
from permille.store import billable_metrics, billing_entities, customers, wallet_rules, wallets
from permille.store.wallets import WalletSearch
from permille.usecases.catalogue import customers as catalogue
from permille.usecases.top_ups import TopUp
from permille.usecases.wallets import wallets as usecase
from permille.usecases.wallets.wallets import NewWallet
from permille.usecases.wallets_with_rules import OpenedWallet, WalletChanges, change_wallet, open_wallet


def create_wallet(call: Call) -> dict[str, Any]:
    """POST /wallets."""
    fields = Fields(call.root("wallet"))
    return _create(call, fields, fields.text("external_customer_id", mandatory=True) or "")


def create_customer_wallet(call: Call) -> dict[str, Any]:
    """POST /customers/{external_id}/wallets."""
    return _create(call, Fields(call.root("wallet")), call.path["external_id"])


def _create(call: Call, fields: Fields, external_customer_id: str) -> dict[str, Any]:
    wanted = read_wallet(call.conn, call.organization.id, fields, now=call.now)
    try:
        customer = catalogue.by_external_id(call.conn, call.organization.id, external_customer_id)
    except NotFound as error:
        raise Invalid({"customer": ["customer_not_found"]}) from error
    return _shown(call, open_wallet(call.conn, customer, wanted, now=call.now).id)


def read_wallet(
    conn: Connection[Any], organization_id: UUID, fields: Fields, *, now: datetime
) -> OpenedWallet:
    """The wallet to open. Raises Invalid and NotFound."""
    columns = read_columns(conn, organization_id, fields, now=now)
    rate = fields.decimal("rate_amount", minimum=0, maximum=10**12, places=15)
    if not rate:
        fields.refuse("rate_amount", MANDATORY if fields.given.get("rate_amount") is None else INVALID)
    priority = fields.whole("transaction_priority", minimum=1, maximum=LOWEST_PRIORITY)
    first = TopUp(
        paid_credits=read_credits(fields, "paid_credits"),
        granted_credits=read_credits(fields, "granted_credits"),
        requires_payment=columns.get("invoice_requires_successful_payment", False),
        ignores_limits=fields.flag("ignore_paid_top_up_limits_on_creation") or False,
        priority=priority or LOWEST_PRIORITY,
        name=fields.text("transaction_name") or None,
        metadata=read_notes(fields, "transaction_metadata", most=NOTES_MAX),
        purchase_order_number=columns.get("purchase_order_number"),
    )
    wanted = NewWallet(
        currency=fields.currency("currency", mandatory=True) or "",
        rate_amount=rate or Decimal(1),
        code=columns.pop("code", None) or None,
        name=columns.pop("name", None),
        priority=columns.pop("priority", None) or LOWEST_PRIORITY,
        columns=columns,
    )
    rule = read_rule(fields, paid=first.paid_credits, granted=first.granted_credits, now=now)
    choices = _choices(conn, organization_id, fields, now=now)
    fields.check()
    return OpenedWallet(wallet=wanted, first=first, rule=rule, **choices)


def read_changed_wallet(
    conn: Connection[Any], wallet: Wallet, fields: Fields, *, now: datetime
) -> WalletChanges:
    """What changes of a wallet. Raises Invalid and NotFound."""
    organization_id = wallet.organization_id
    columns = read_columns(conn, organization_id, fields, now=now)
    known = wallet_rules.active_of(conn, [wallet.id]).get(wallet.id)
    before = known if known and names_rule(fields, known) else None
    if fields.has("code") and not columns["code"]:
        fields.refuse("code", MANDATORY)
    rule = read_rule(fields, paid=None, granted=None, before=before, now=now)
    choices = _choices(conn, organization_id, fields, now=now)
    fields.check()
    sets_rule = fields.given.get("recurring_transaction_rules") is not None
    return WalletChanges(
        columns=columns, sets_rule=sets_rule, rule=rule, keeps_rule=before is not None, **choices
    )


def _choices(
    conn: Connection[Any], organization_id: UUID, fields: Fields, *, now: datetime
) -> dict[str, SectionChoice | None]:
    """What a wallet and its rule have chosen to print. Raises NotFound."""
    rules = fields.objects("recurring_transaction_rules") or []
    return {
        "section_choice": read_choice(conn, organization_id, fields, now=now),
        "rule_section_choice": read_choice(conn, organization_id, rules[0], now=now) if rules else None,
    }


def read_columns(
    conn: Connection[Any], organization_id: UUID, fields: Fields, *, now: datetime
) -> dict[str, Any]:
    """What a request says of a wallet, by column. Raises NotFound for an unknown billing entity."""
    refuse_other_payment_method(fields)
    columns: dict[str, Any] = {
        name: fields.text(name) or None
        for name in ("name", "code", "purchase_order_number")
        if fields.has(name)
    }
    if fields.given.get("priority") is not None:
        columns["priority"] = fields.whole("priority", minimum=1, maximum=LOWEST_PRIORITY)
    for name in ("paid_top_up_min_amount_cents", "paid_top_up_max_amount_cents"):
        if fields.has(name):
            columns[name] = fields.whole(name, minimum=1)
    least, most = (columns.get(f"paid_top_up_{bound}_amount_cents") for bound in ("min", "max"))
    if least is not None and most is not None and most < least:
        fields.refuse("paid_top_up_max_amount_cents", "must_be_greater_than_or_equal_min")
    requires = fields.flag("invoice_requires_successful_payment")
    if requires is not None:
        columns["invoice_requires_successful_payment"] = requires
    if fields.has("expiration_at"):
        columns["expiration_at"] = _expiration(fields, now=now)
    if fields.has("metadata"):
        columns["metadata"] = read_metadata(fields)
    columns |= _limits(conn, organization_id, fields)
    code = fields.text("billing_entity_code")
    if code:
        entity = billing_entities.by_code(conn, organization_id, code)
        if entity is None:
            raise NotFound("billing_entity")
        columns["billing_entity_id"] = entity.id
    return columns


def _expiration(fields: Fields, *, now: datetime) -> datetime | None:
    found = fields.instant("expiration_at")
    if found is not None and not now < found < LATEST:
        fields.refuse("expiration_at", "invalid_date")
    return found


def _limits(conn: Connection[Any], organization_id: UUID, fields: Fields) -> dict[str, Any]:
    """The two columns of `applies_to`, as far as it is there."""
    limits = fields.nested("applies_to")
    if limits is None:
        return {}
    columns: dict[str, Any] = {}
    if limits.has("fee_types"):
        kinds = limits.texts("fee_types") or []
        if set(kinds) - set(FEE_TYPES):
            limits.refuse("fee_types", INVALID, allowed=FEE_TYPES)
        columns["fee_types"] = list(dict.fromkeys(kinds))
    if limits.has("billable_metric_codes"):
        codes = list(dict.fromkeys(limits.texts("billable_metric_codes") or []))
        known = billable_metrics.by_codes(conn, organization_id, codes)
        if set(codes) - known.keys():
            limits.refuse("billable_metric_codes", INVALID)
        columns["billable_metric_ids"] = [known[code].id for code in codes if code in known]
    return columns


def list_wallets(call: Call) -> dict[str, Any]:
    """GET /wallets."""
    external_id = call.query.get("external_customer_id")
    return _listing(call, WalletSearch(external_customer_id=external_id or None, **_query(call)))


def list_customer_wallets(call: Call) -> dict[str, Any]:
    """GET /customers/{external_id}/wallets."""
    return _listing(call, WalletSearch(customer_id=customer_of(call).id, **_query(call)))


def _query(call: Call) -> dict[str, Any]:
    return {
        "currency": call.query.get("currency") or None,
        "billing_entity_codes": query_texts(call.query, "billing_entity_codes"),
    }


def _listing(call: Call, search: WalletSearch) -> dict[str, Any]:
    page = call.page()
    rows, total = wallets.listing(
        call.conn, call.organization.id, search, limit=page.per_page, offset=page.offset
    )
    return {"wallets": render_wallets(call.conn, rows), "meta": page.meta(total)}


def wallet_of(call: Call) -> Wallet:
    """The wallet that the address names, by its id or by its customer and code. Raises NotFound."""
    if "external_id" in call.path:
        return usecase.by_code(call.conn, customer_of(call), call.path["wallet_code"])
    return usecase.by_id(call.conn, call.organization.id, parse_uuid(call.path["lago_id"]))


def show_wallet(call: Call) -> dict[str, Any]:
    """GET /wallets/{lago_id}, GET /customers/{external_id}/wallets/{wallet_code}."""
    return _shown(call, wallet_of(call).id)


def update_wallet(call: Call) -> dict[str, Any]:
    """PUT /wallets/{lago_id}, PUT /customers/{external_id}/wallets/{wallet_code}."""
    before = _to_change(call)
    wanted = read_changed_wallet(call.conn, before, Fields(call.root("wallet")), now=call.now)
    change_wallet(call.conn, before, wanted, now=call.now)
    return _shown(call, before.id)


def terminate_wallet(call: Call) -> dict[str, Any]:
    """DELETE /wallets/{lago_id}, DELETE /customers/{external_id}/wallets/{wallet_code}."""
    before = _to_change(call)
    usecase.terminate(call.conn, [before], now=call.now)
    return _shown(call, before.id)


def replace_metadata(call: Call) -> dict[str, Any]:
    """POST .../metadata: what is not sent is gone."""
    return _set_metadata(call, sent_metadata(call))


def merge_metadata(call: Call) -> dict[str, Any]:
    """PATCH .../metadata: what is not sent stays."""
    return _set_metadata(call, {**(_to_change(call).metadata or {}), **sent_metadata(call)})


def delete_metadata(call: Call) -> dict[str, Any]:
    """DELETE .../metadata."""
    return _set_metadata(call, {})


def delete_metadata_key(call: Call) -> dict[str, Any]:
    """DELETE .../metadata/{key}."""
    return _set_metadata(call, without_key(_to_change(call).metadata, call.path["key"]))


def _to_change(call: Call) -> Wallet:
    return usecase.locked(call.conn, wallet_of(call))


def _set_metadata(call: Call, metadata: Mapping[str, Any]) -> dict[str, Any]:
    kept = checked_metadata(metadata)
    usecase.change(call.conn, _to_change(call), {"metadata": kept}, now=call.now)
    return {"metadata": kept}


def _shown(call: Call, wallet_id: UUID) -> dict[str, Any]:
    rows = wallets.by_ids(call.conn, [wallet_id])
    return {"wallet": render_wallets(call.conn, list(rows.values()))[0]}


def render_whole_wallets(conn: Connection[Any], wallet_ids: Sequence[UUID]) -> dict[UUID, objects.Wallet]:
    """Wallets as webhooks carry them; those that there are."""
    rows = list(wallets.by_ids(conn, wallet_ids).values())
    return dict(zip([row.id for row in rows], render_wallets(conn, rows), strict=True))


def render_wallets(conn: Connection[Any], rows: Sequence[Wallet]) -> list[objects.Wallet]:
    """Wallets, with what belongs to them loaded for all of them."""
    payers = customers.by_ids(conn, {row.customer_id for row in rows})
    metrics = billable_metrics.by_ids(conn, {each for row in rows for each in row.billable_metric_ids})
    named = {row.billing_entity_id for row in rows if row.billing_entity_id}
    entities = billing_entities.by_ids(conn, named) if named else {}
    known_rules = wallet_rules.active_of(conn, [row.id for row in rows])
    shown = [
        _render(
            row,
            external_customer_id=payers[row.customer_id].external_id,
            billing_entity_code=entities[row.billing_entity_id].code
            if row.billing_entity_id
            else payers[row.customer_id].billing_entity.code,
            metric_codes=[metrics[each].code for each in row.billable_metric_ids if each in metrics],
            rule=known_rules.get(row.id),
        )
        for row in rows
    ]
    show_choices(conn, [*shown, *(rule for each in shown for rule in each.recurring_transaction_rules)])
    return shown


def _render(
    row: Wallet,
    *,
    external_customer_id: str,
    billing_entity_code: str,
    metric_codes: list[str],
    rule: WalletRule | None,
) -> objects.Wallet:
    usage_credits = credits_of(row.ongoing_usage_balance_cents, row.rate_amount, row.currency)
    return objects.Wallet(
        lago_id=row.id,
        lago_customer_id=row.customer_id,
        external_customer_id=external_customer_id,
        billing_entity_code=billing_entity_code,
        status=row.status,
        currency=row.currency,
        name=row.name,
        code=row.code,
        purchase_order_number=row.purchase_order_number,
        priority=row.priority,
        rate_amount=decimal_text(row.rate_amount),
        credits_balance=decimal_text(row.credits_balance),
        balance_cents=row.balance_cents,
        consumed_credits=decimal_text(row.consumed_credits),
        credits_ongoing_balance=decimal_text(row.ongoing_credits),
        credits_ongoing_usage_balance=decimal_text(usage_credits),
        ongoing_balance_cents=row.ongoing_balance_cents,
        ongoing_usage_balance_cents=row.ongoing_usage_balance_cents,
        created_at=instant(row.created_at),
        expiration_at=instant(row.expiration_at),
        last_balance_sync_at=instant(row.last_balance_sync_at),
        last_consumed_credit_at=instant(row.last_consumed_credit_at),
        terminated_at=instant_milliseconds(row.terminated_at),
        invoice_requires_successful_payment=row.invoice_requires_successful_payment,
        paid_top_up_min_amount_cents=row.paid_top_up_min_amount_cents,
        paid_top_up_max_amount_cents=row.paid_top_up_max_amount_cents,
        recurring_transaction_rules=[render_rule(rule)] if rule else [],
        applies_to=objects.WalletLimits(fee_types=list(row.fee_types), billable_metric_codes=metric_codes),
        applied_invoice_custom_sections=[],
        payment_method=PAYMENT_METHOD,
        metadata=row.metadata,
    )
