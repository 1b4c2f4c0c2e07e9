"""Wallets: a customer's, one with its lots and transactions, its form and its top-ups, and what a transaction is made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from permille.api.customers import render_customer
from permille.api.objects.wallet import Wallet as ShownWallet, WalletRule as ShownRule
from permille.api.validation import Fields, parse_uuid
from permille.api.wallet_transactions import read_top_up, render_parts, render_transactions
from permille.api.wallets import read_changed_wallet, read_wallet, render_wallets
from permille.core.customer import Customer
from permille.core.wallet import FEE_TYPES, LOWEST_PRIORITY, Direction, Wallet
from permille.core.wallet_rule import Method, Trigger
from permille.store import (
    billable_metrics,
    customers as customer_store,
    wallet_transactions,
    wallets as store,
)
from permille.store.wallet_transactions import TransactionSearch
from permille.store.wallets import WalletSearch
from permille.usecases import top_ups
from permille.usecases.catalogue import customers
from permille.usecases.wallets import transactions, wallets as usecase
from permille.usecases.wallets_with_rules import change_wallet, open_wallet
from permille.web import price_grid
from permille.web.charge_form import MENU_MAX, amount_text, to_cents
from permille.web.custom_sections import choice_body, choice_menu
from permille.web.plans import INTERVALS
from permille.web.shown import currencies, in_path
from permille.web.typed_number import json_number, plain_number
from permille.web.visit import Done, Form, HtmlPage, Visit

LOTS_SHOWN = 50
KINDS = {
    "charge": "Usage",
    "subscription": "Subscription fees",
    "commitment": "Minimum commitments",
    "fixed_charge": "Fixed charges",
}
TRIGGERS = [
    ("", "Not by itself"),
    (Trigger.INTERVAL, "Each time an interval is over"),
    (Trigger.THRESHOLD, "When the ongoing balance falls to a threshold"),
]
METHODS = [(Method.FIXED, "Always the same credits"), (Method.TARGET, "What is lacking to a target")]
CREDITS = ("paid_credits", "granted_credits", "voided_credits")
OF_RULE = {
    "trigger": "",
    "interval": "",
    "threshold_credits": "0",
    "method": Method.FIXED,
    "paid_credits": "0",
    "granted_credits": "0",
    "target_ongoing_balance": "",
    "expiration_at": "",
}
"""The fields of a rule that can be typed, and what they are without one."""
NUMBERS_OF_RULE = ("threshold_credits", "paid_credits", "granted_credits", "target_ongoing_balance")
FIELDS = {
    "paid_top_up_min_amount_cents": "paid_top_up_min",
    "paid_top_up_max_amount_cents": "paid_top_up_max",
    "fee_types": "fee_type",
    "billable_metric_codes": "metric",
    "recurring_transaction_rules": "rule_trigger",
}
FIELDS_OF_RULE = FIELDS | {name: f"rule_{name}" for name in NUMBERS_OF_RULE}


def of_customer(visit: Visit) -> Mapping[str, Any]:
    """What the Wallets tab of a customer shows."""
    page = visit.page()
    search = WalletSearch(external_customer_id=visit.path["external_id"])
    rows, total = store.listing(visit.conn, visit.here.id, search, limit=page.per_page, offset=page.offset)
    return {"wallets": render_wallets(visit.conn, rows), "meta": page.meta(total)}


def detail(visit: Visit) -> HtmlPage:
    """GET /app/wallets/{lago_id}: the wallet, what is left of each top-up, and what filled and emptied it."""
    wallet, page = _named(visit), visit.page()
    rows, total = wallet_transactions.listing(
        visit.conn, wallet.id, TransactionSearch(), limit=page.per_page, offset=page.offset
    )
    lots = store.lots_of(visit.conn, [wallet.id])[wallet.id]
    known = wallet_transactions.by_ids(visit.conn, [lot.id for lot in lots[:LOTS_SHOWN]])
    context = {
        "wallet": _shown(visit, wallet),
        "customer": render_customer(_owner(visit, wallet)),
        "kinds": KINDS,
        "lots": render_transactions(visit.conn, [known[lot.id] for lot in lots[:LOTS_SHOWN]]),
        "lots_left_out": max(len(lots) - LOTS_SHOWN, 0),
        "transactions": render_transactions(visit.conn, rows),
        "meta": page.meta(total),
    }
    return HtmlPage(template="wallet.html", context=context)


def transaction(visit: Visit) -> HtmlPage:
    """GET /app/wallet-transactions/{lago_id}: a transaction, and how much of it went where or came from where."""
    row, page = transactions.by_id(visit.conn, visit.here.id, parse_uuid(visit.path["lago_id"])), visit.page()
    load = (
        wallet_transactions.consumptions
        if row.transaction_type is Direction.INBOUND
        else wallet_transactions.fundings
    )
    parts, total = load(visit.conn, row.id, limit=page.per_page, offset=page.offset)
    wallet = store.by_ids(visit.conn, [row.wallet_id])[row.wallet_id]
    context = {
        "wallet": _shown(visit, wallet),
        "customer": render_customer(_owner(visit, wallet)),
        "one": render_transactions(visit.conn, [row])[0],
        "parts": render_parts(visit.conn, parts),
        "meta": page.meta(total),
    }
    return HtmlPage(template="wallet_transaction.html", context=context)


def _named(visit: Visit) -> Wallet:
    return usecase.by_id(visit.conn, visit.here.id, parse_uuid(visit.path["lago_id"]))


def _owner(visit: Visit, wallet: Wallet) -> Customer:
    return customer_store.by_ids(visit.conn, [wallet.customer_id])[wallet.customer_id]


def _shown(visit: Visit, wallet: Wallet) -> ShownWallet:
    return render_wallets(visit.conn, [wallet])[0]


def blank(visit: Visit) -> HtmlPage:
    """GET /app/new-wallet/{external_id}."""
    customer = customers.by_external_id(visit.conn, visit.here.id, visit.path["external_id"])
    return _form(visit, customer, None)


def before(visit: Visit) -> HtmlPage:
    """GET /app/edit-wallet/{lago_id}."""
    wallet = _named(visit)
    return _form(visit, _owner(visit, wallet), _shown(visit, wallet))


def _form(visit: Visit, customer: Customer, known: ShownWallet | None) -> HtmlPage:
    metrics, _ = billable_metrics.listing(visit.conn, visit.here.id, limit=MENU_MAX, offset=0)
    named = {metric.code: metric.name for metric in metrics}
    limited = known.applies_to.billable_metric_codes if known else []
    currency = known.currency if known else customer.currency or customer.billing_entity.default_currency
    rule = known.recurring_transaction_rules[0] if known and known.recurring_transaction_rules else None
    limits = (
        (known.paid_top_up_min_amount_cents, known.paid_top_up_max_amount_cents) if known else (None, None)
    )
    context = {
        "customer": customer,
        "before": known,
        "currency": currency,
        "currencies": [(code, code) for code in currencies()],
        "lowest_priority": LOWEST_PRIORITY,
        "bought": ["" if cents is None else amount_text(cents, currency) for cents in limits],
        "kinds": [(kind, KINDS[kind]) for kind in FEE_TYPES],
        "metrics": [*({code: code for code in limited} | named).items()],
        "triggers": TRIGGERS,
        "intervals": INTERVALS,
        "methods": METHODS,
        "rule": _typed_of(rule),
        "grants": rule is not None and rule.grants_target_top_up,
        **choice_menu(visit, known.lago_id if known else None),
        "problems": price_grid.beside(visit.problems, FIELDS if known is None else FIELDS_OF_RULE),
    }
    return HtmlPage(template="wallet_form.html", context=context)


def create(visit: Visit) -> Done:
    """POST /app/new-wallet/{external_id}."""
    external_id, form = visit.path["external_id"], visit.form
    customer = customers.by_external_id(visit.conn, visit.here.id, external_id)
    currency = form.get("currency")
    body = {
        **_body(form, currency),
        "currency": currency,
        "rate_amount": _number(form, "rate_amount"),
        **_credits(form),
        **_rule(form, None),
    }
    wanted = read_wallet(visit.conn, visit.here.id, Fields(body), now=visit.now)
    made = open_wallet(visit.conn, customer, wanted, now=visit.now)
    return _done("opened wallet", made, "created", body)


def update(visit: Visit) -> Done:
    """POST /app/edit-wallet/{lago_id}."""
    wallet = usecase.locked(visit.conn, _named(visit))
    rules = _shown(visit, wallet).recurring_transaction_rules
    body = {
        **_body(visit.form, wallet.currency),
        **_rule(visit.form, rules[0] if rules else None),
    }
    wanted = read_changed_wallet(visit.conn, wallet, Fields(body), now=visit.now)
    after = change_wallet(visit.conn, wallet, wanted, now=visit.now)
    return _done("changed wallet", after, "saved", body)


def top_up(visit: Visit) -> Done:
    """POST /app/wallets/{lago_id}: credits are bought, given and voided."""
    wallet = usecase.locked(visit.conn, _named(visit))
    body = {**_credits(visit.form), "name": visit.form.get("name") or None}
    top_ups.top_up(visit.conn, wallet, read_top_up(Fields(body), wallet), now=visit.now)
    return _done("topped up wallet", wallet, "saved", body)


def terminate(visit: Visit) -> Done:
    """POST /app/wallets/{lago_id}/terminate."""
    wallet = usecase.locked(visit.conn, _named(visit))
    usecase.terminate(visit.conn, [wallet], now=visit.now)
    return _done("terminated wallet", wallet, "saved", {})


def _done(action: str, wallet: Wallet, said: str, details: Mapping[str, Any]) -> Done:
    to = f"/app/wallets/{in_path(str(wallet.id))}?said={said}"
    return Done(action=action, subject=wallet.code, to=to, details=details)


def _number(form: Form, name: str) -> str | None:
    return plain_number(form.get(name)) if form.get(name) else None


def _credits(form: Form) -> dict[str, str | None]:
    return {name: _number(form, name) for name in CREDITS}


def _body(form: Form, currency: str) -> dict[str, Any]:
    """What may change at any time, as the API takes it."""
    bought = {bound: form.get(f"paid_top_up_{bound}") for bound in ("min", "max")}
    priority = form.get("priority")
    return {
        **choice_body(form),
        "name": form.get("name") or None,
        **({"code": form.get("code")} if form.get("code") else {}),
        "priority": json_number(priority, whole=True) if priority else LOWEST_PRIORITY,
        "expiration_at": form.get("expiration_at") or None,
        "invoice_requires_successful_payment": form.has("invoice_requires_successful_payment"),
        "applies_to": {
            "fee_types": [kind for kind in form.all("fee_type") if kind],
            "billable_metric_codes": [code for code in form.all("metric") if code],
        },
        **{
            f"paid_top_up_{bound}_amount_cents": to_cents(text, currency) if text else None
            for bound, text in bought.items()
        },
    }


def _rule(form: Form, known: ShownRule | None) -> dict[str, Any]:
    """The rule that the form asks for, with what it cannot type of the one there is; nothing where that stays."""
    typed = {name: form.get(f"rule_{name}") for name in OF_RULE}
    typed |= {name: plain_number(typed[name]) for name in NUMBERS_OF_RULE if typed[name]}
    if not typed["trigger"]:
        return {"recurring_transaction_rules": []}
    grants = form.has("rule_grants_target_top_up")
    if known is not None and typed == _typed_of(known) and grants == known.grants_target_top_up:
        return {}
    kept = {} if known is None else _kept_of(known)
    wanted = {name: text or None for name, text in typed.items()}
    return {"recurring_transaction_rules": [{**kept, **wanted, "grants_target_top_up": grants}]}


def _typed_of(rule: ShownRule | None) -> dict[str, str]:
    """A rule as it is typed."""
    if rule is None:
        return dict(OF_RULE)
    return {name: str(getattr(rule, name) or "") for name in OF_RULE}


def _kept_of(rule: ShownRule) -> dict[str, Any]:
    return {
        "started_at": rule.started_at,
        "invoice_requires_successful_payment": rule.invoice_requires_successful_payment,
        "ignore_paid_top_up_limits": rule.ignore_paid_top_up_limits,
        "transaction_name": rule.transaction_name,
        "transaction_metadata": [
            {"key": each.key, "value": each.value} for each in rule.transaction_metadata
        ],
        "purchase_order_number": rule.purchase_order_number,
    }
