"""Customers: the list, one with its subscriptions, its usage and its invoices, and the forms."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from msgspec import UNSET
from msgspec.structs import asdict

from permille.api.customers import read_customer, render_customer
from permille.api.fees import render_fee, surroundings
from permille.api.invoices import render_invoices
from permille.api.lifetime_usage import render_lifetime_usage
from permille.api.objects.subscription import Subscription
from permille.api.objects.usage import ChargeUsage, FilterUsage, GroupUsage, UsageSums
from permille.api.subscriptions import read_subscription, render_subscriptions, row_status
from permille.api.usage import render_usage
from permille.api.validation import Fields
from permille.core.contract.activation import PAYMENT
from permille.core.contract.plan import Plan
from permille.core.customer import Customer
from permille.core.errors import Invalid, NotAllowed
from permille.out.pdf import fonts
from permille.out.pdf.assembly import printed_texts
from permille.out.pdf.language import language_names
from permille.store import (
    billing_holds,
    customers as customer_store,
    dunning,
    invoice_search,
    plans as plan_store,
    subscriptions as subscription_store,
    vat_checks,
)
from permille.store.customers import CustomerSearch
from permille.store.invoice_search import FeeSearch, InvoiceSearch
from permille.store.subscriptions import SubscriptionSearch
from permille.usecases.catalogue import customers, subscriptions
from permille.usecases.usage import usage
from permille.usecases.usage.daily_usage import calendar_of
from permille.usecases.usage.lifetime_usage import lifetime_usage
from permille.usecases.usage.usage import UsageSearch
from permille.web import chart, coupons, plan_changes, wallets
from permille.web.custom_sections import choice_body, choice_menu, known_sections, read_chosen
from permille.web.daily import charted_days, order_of, stacking_key
from permille.web.shown import countries, currencies, group_text, in_path, listed_text
from permille.web.subscription_entities import chosen as chosen_entity, menu as entity_menu
from permille.web.typed_number import json_number
from permille.web.visit import Done, Form, HtmlPage, Show, Visit

TEXTS = (
    "name",
    "legal_name",
    "email",
    "tax_identification_number",
    "address_line1",
    "address_line2",
    "zipcode",
    "city",
    "state",
    "country",
    "timezone",
)
NO_DUNNING, BY_CAMPAIGN = "never", "by "
"""What the menu of dunning sends, besides nothing for what the seller does."""
CAMPAIGNS_MAX = 200
PAST_PERIODS = 12
SUBSCRIPTIONS_SHOWN = 100
PLANS_SHOWN = 200
USAGES_SHOWN = 20


def listing(visit: Visit) -> HtmlPage:
    """GET /app/customers."""
    text, page = visit.query.get("q", ""), visit.page()
    rows, total = customer_store.listing(
        visit.conn,
        visit.here.id,
        CustomerSearch(search_term=text),
        limit=page.per_page,
        offset=page.offset,
    )
    found = [render_customer(row) for row in rows]
    context = {"customers": found, "meta": page.meta(total), "search": text}
    return HtmlPage(template="customers.html", context=context)


def blank(visit: Visit) -> HtmlPage:
    """GET /app/new-customer."""
    return HtmlPage(template="customer_form.html", context={"before": None, **_menus(visit, None, None)})


def create(visit: Visit) -> Done:
    """POST /app/new-customer: who is there already is not overwritten, as by the API."""
    if customers.to_change(visit.conn, visit.here.id, visit.form.get("external_id")) is not None:
        raise Invalid({"external_id": ["value_already_exist"]})
    body = {
        **visit.form.filled(*TEXTS, "currency"),
        "external_id": visit.form.get("external_id"),
        **_locale(visit),
        **_sections(visit.form),
    }
    made = _save(visit, body)
    return Done(
        action="saved customer",
        subject=made.external_id,
        to=f"{customer_url(made.external_id)}?tab=subscriptions&said=saved",
        details=body,
    )


def _save(visit: Visit, body: Mapping[str, Any]) -> Customer:
    wanted = read_customer(visit.conn, visit.here.id, Fields(body), now=visit.now)
    return customers.save(visit.conn, wanted, now=visit.now)


def _named(visit: Visit) -> Customer:
    return customers.by_external_id(visit.conn, visit.here.id, visit.path["external_id"])


def before(visit: Visit) -> HtmlPage:
    """GET /app/edit-customer/{external_id}."""
    customer = _named(visit)
    found = render_customer(customer)
    locale = found.billing_configuration.document_locale
    context = {
        "before": found,
        **_menus(visit, locale, found.country),
        "chosen_sections": [each.code for each in customer.custom_sections],
        **_dunning_menu(visit, customer),
    }
    return HtmlPage(template="customer_form.html", context=context)


def _dunning_menu(visit: Visit, customer: Customer) -> dict[str, Any]:
    known, _ = dunning.listing(visit.conn, visit.here.id, limit=CAMPAIGNS_MAX, offset=0)
    own = next((BY_CAMPAIGN + each.code for each in known if each.id == customer.dunning_campaign_id), "")
    return {
        "campaigns": [
            ("", "As the seller does"),
            *((BY_CAMPAIGN + each.code, each.name) for each in known),
            (NO_DUNNING, "Never"),
        ],
        "campaign": NO_DUNNING if customer.exclude_from_dunning_campaign else own,
    }


def update(visit: Visit) -> Done:
    """POST /app/edit-customer/{external_id}."""
    external_id = _named(visit).external_id
    body = {name: visit.form.get(name) or None for name in TEXTS if visit.form.has(name)}
    body |= {
        "external_id": external_id,
        **_locale(visit),
        **_sections(visit.form),
        **_dunning(visit.form),
    }
    _save(visit, body)
    to = f"{customer_url(external_id)}?tab=details&said=saved"
    return Done(action="saved customer", subject=external_id, to=to, details=body)


def _dunning(form: Form) -> dict[str, Any]:
    """By which campaign the customer is asked; left out where the form has no such field."""
    if not form.has("dunning"):
        return {}
    chosen = form.get("dunning")
    return {
        "exclude_from_dunning_campaign": chosen == NO_DUNNING,
        "dunning_campaign_code": chosen.removeprefix(BY_CAMPAIGN) if chosen.startswith(BY_CAMPAIGN) else None,
    }


def customer_url(external_id: str) -> str:
    return f"/app/customers/{in_path(external_id)}"


def _locale(visit: Visit) -> dict[str, Any]:
    if not visit.form.has("document_locale"):
        return {}
    return {"billing_configuration": {"document_locale": visit.form.get("document_locale") or None}}


def _sections(form: Form) -> dict[str, Any]:
    return {**read_chosen(form), **form.filled("skip_invoice_custom_sections")}


def _menus(visit: Visit, locale: str | None, country: str | None) -> dict[str, Any]:
    languages = [("", "That of the seller"), *language_names(locale)]
    return {
        "currencies": _currencies(),
        "languages": languages,
        "locale": locale,
        "countries": countries(country),
        "custom_sections": known_sections(visit),
        "chosen_sections": (),
    }


def _currencies() -> list[tuple[str, str]]:
    """For a menu: none, the usual ones, the rest."""
    return [("", "That of the first plan"), *((code, code) for code in currencies())]


def detail(visit: Visit) -> HtmlPage:
    """GET /app/customers/{external_id}, with its tabs."""
    return _with_tab(visit, visit.query.get("tab", ""))


def again(tab: str) -> Show:
    """The customer's page with this tab, whose form was refused."""
    return lambda visit: _with_tab(visit, tab)


def _with_tab(visit: Visit, wanted: str) -> HtmlPage:
    customer, rows = _named(visit), _subscriptions(visit)
    tab = wanted if wanted in TABS else next(iter(TABS))
    context: dict[str, Any] = {
        "customer": render_customer(customer),
        "tab": tab,
        "tabs": [(key, each.name) for key, each in TABS.items()],
        "subscriptions": rows,
        "held": billing_holds.of_customer(visit.conn, customer.id),
        "boxes": fonts.described(fonts.unprintable(printed_texts(customer))),
        **TABS[tab].load(visit, rows),
    }
    return HtmlPage(template=f"customer_{tab}.html", context=context)


def _details(visit: Visit, _rows: Sequence[Subscription]) -> dict[str, Any]:
    """What VIES says of its VAT number, where that is looked up."""
    customer = _named(visit)
    return {"vies": vat_checks.newest_of(visit.conn, customer.id, customer.tax_identification_number)}


def _invoices(visit: Visit, _rows: Sequence[Subscription]) -> dict[str, Any]:
    search, page = InvoiceSearch(external_customer_id=visit.path["external_id"]), visit.page()
    rows, total = invoice_search.invoices(
        visit.conn, visit.here.id, search, limit=page.per_page, offset=page.offset
    )
    return {"invoices": render_invoices(visit.conn, rows), "meta": page.meta(total)}


def _fees(visit: Visit, _rows: Sequence[Subscription]) -> dict[str, Any]:
    search, page = FeeSearch(external_customer_id=visit.path["external_id"]), visit.page()
    rows, total = invoice_search.fees(
        visit.conn, visit.here.id, search, limit=page.per_page, offset=page.offset
    )
    around = surroundings(visit.conn, rows)
    return {"fees": [render_fee(row, around) for row in rows], "meta": page.meta(total)}


def _subscriptions(visit: Visit) -> list[Subscription]:
    search = SubscriptionSearch(
        statuses=("active", "incomplete", "pending", "terminated", "canceled"),
        external_customer_id=visit.path["external_id"],
    )
    rows, _ = subscription_store.listing(
        visit.conn, visit.here.id, search, limit=SUBSCRIPTIONS_SHOWN, offset=0
    )
    found = render_subscriptions(visit.conn, rows, now=visit.now)
    return sorted(found, key=lambda row: (row.status != "active", row.external_id))


def _subscribing(visit: Visit, rows: Sequence[Subscription]) -> dict[str, Any]:
    """What the Subscriptions tab shows beside them: plans to choose, and whose prices are its own."""
    own = {key for key, plan in _plans_of(visit, rows).items() if plan.parent_id is not None}
    return {"plans": _plans(visit), "owners": own, "entities": entity_menu(visit), **choice_menu(visit, None)}


def _plans_of(visit: Visit, rows: Sequence[Subscription]) -> dict[UUID, Plan]:
    """The id of each subscription -> its plan, a deleted one too."""
    known = subscription_store.by_ids(visit.conn, [row.lago_id for row in rows])
    found = plan_store.plans_by_ids(visit.conn, {row.plan_id for row in known.values()})
    return {key: found[row.plan_id] for key, row in known.items()}


def _plans(visit: Visit) -> list[tuple[str, str]]:
    """For a menu."""
    found = plan_store.menu(visit.conn, visit.here.id, limit=PLANS_SHOWN)
    return [(plan.code, f"{plan.name} ({plan.amount_currency})") for plan in found]


def _usage(visit: Visit, rows: Sequence[Subscription]) -> dict[str, Any]:
    """The Usage tab: the running period and the past ones of every subscription that is active."""
    wanted = visit.query.get("subscription", "")
    active = [row for row in rows if row.status == "active"]
    known = {row.external_id for row in rows}
    shown = [row for row in rows if row.external_id == wanted] if wanted in known else active
    plans_of = _plans_of(visit, shown[:USAGES_SHOWN])
    return {
        "wanted": wanted if wanted in known else "",
        "usages": [_one_usage(visit, row, plans_of[row.lago_id]) for row in shown[:USAGES_SHOWN]],
        "past_of": _past(visit, [row.external_id for row in shown[:USAGES_SHOWN]]),
    }


def _one_usage(visit: Visit, subscription: Subscription, plan: Plan) -> dict[str, Any]:
    external_id = subscription.external_id
    try:
        current = usage.current_usage(visit.conn, search=UsageSearch(), **_of_customer(visit, external_id))
    except NotAllowed:
        return {"subscription": subscription, "plan": plan, "usage": None, "charts": []}
    projected = usage.current_usage(
        visit.conn, search=UsageSearch(projected=True), **_of_customer(visit, external_id)
    )
    row, rows = subscriptions.newest(visit.conn, visit.here.id, external_id, status="active")
    found, lifetime = render_usage(current), lifetime_usage(visit.conn, row, rows, now=visit.now)
    of = calendar_of(visit.conn, row, now=visit.now)
    assert of is not None, external_id
    charges = [_priced(charge, of.plan) for charge in found.charges_usage]
    return {
        "subscription": subscription,
        "plan": of.plan,
        "usage": found,
        "pace_cents": _pace_cents(render_usage(projected, projected=True).charges_usage),
        "leaves_out": any(not row["values"] for each in charges if each["keys"] for row in each["rows"]),
        "lifetime": render_lifetime_usage(lifetime),
        "charges": charges,
        "charts": [
            {"metric": metric, "key": stacking_key(metric), "drawn": chart.stacked(days, order_of(metric))}
            for metric, days in charted_days(visit.conn, of, now=visit.now)
        ],
    }


def _of_customer(visit: Visit, external_id: str) -> dict[str, Any]:
    """Whose usage is read, and when."""
    return {
        "organization_id": visit.here.id,
        "external_customer_id": visit.path["external_id"],
        "external_subscription_id": external_id,
        "now": visit.now,
    }


def _pace_cents(charges: Sequence[ChargeUsage]) -> int:
    """What all charges come to at their pace; what has no price of its own, which is not projected, as it is."""
    projected = [each.projected_amount_cents for each in charges if each.projected_amount_cents is not UNSET]
    unprojected = [row.amount_cents for each in charges for row in each.filters if not row.values]
    return sum(projected) + sum(unprojected)


def _priced(charge: ChargeUsage, plan: Plan) -> dict[str, Any]:
    """The charge's usage as rows of a table: values, group, units, price, amount."""
    of_plan = next(each for each in plan.charges if each.id == charge.charge.lago_id)
    prices = {_values_key(each.values): each.properties for each in of_plan.filters}
    keys = list(dict.fromkeys(key for each in of_plan.filters for key in each.values))
    groups: Sequence[UsageSums] = charge.grouped_usage or [charge]
    shown = [
        {
            **asdict(row),
            "values": values,
            "group": group_text(group.grouped_by if isinstance(group, GroupUsage) else {}),
            "cells": [listed_text(key, (values or {}).get(key, ())) for key in keys],
            "properties": prices[_values_key(values)] if values else of_plan.properties,
        }
        for group in groups
        for row in _priced_parts(group)
        for values in [row.values if isinstance(row, FilterUsage) else None]
    ]
    order = [*prices, None]
    shown.sort(key=lambda row: order.index(_values_key(row["values"]) if row["values"] else None))
    rows = [row for row in shown if row["values"] or row["events_count"] or not charge.filters]
    return {
        **asdict(charge),
        "keys": keys,
        "rows": rows,
        "model": of_plan.charge_model,
        "is_of_highest": of_plan.pay_in_advance and of_plan.metric.aggregation.may_fall,
        "is_grouped": bool(charge.grouped_usage),
    }


def _priced_parts(group: UsageSums) -> Sequence[UsageSums]:
    """The parts of a group, or of a charge, that have a price of their own."""
    return (group.filters if isinstance(group, ChargeUsage | GroupUsage) else []) or [group]


def _values_key(values: Mapping[str, Sequence[str]]) -> frozenset[tuple[str, frozenset[str]]]:
    return frozenset((key, frozenset(listed)) for key, listed in values.items())


def _past(visit: Visit, external_ids: Sequence[str]) -> dict[str, Any]:
    """Subscription -> its billed periods."""
    found = {}
    for external_id in external_ids:
        periods, _ = usage.past_usage(
            visit.conn,
            organization_id=visit.here.id,
            external_customer_id=visit.path["external_id"],
            external_subscription_id=external_id,
            billable_metric_code=None,
            limit=PAST_PERIODS,
            offset=0,
        )
        found[external_id] = [render_usage(each) for each in periods]
    return found


def subscribe(visit: Visit) -> Done:
    """POST /app/subscribe/{external_id}: the customer gets a plan."""
    form = visit.form
    body = subscription_body(form, visit.path["external_id"])
    wanted = read_subscription(visit.conn, visit.here.id, Fields(body), now=visit.now)
    if (page := plan_changes.to_confirm(visit, wanted)) is not None:
        return Done(
            action="looked at change of plan", subject=wanted.terms.external_id, page=page, is_done=False
        )
    made = subscriptions.subscribe(visit.conn, visit.here.id, wanted, now=visit.now)
    return Done(
        action="subscribed",
        subject=made.external_id,
        to=f"{customer_url(visit.path['external_id'])}?tab=subscriptions&said=subscribed",
        details=body,
    )


def subscription_body(form: Form, external_customer_id: str) -> dict[str, Any]:
    return {
        **form.filled("name", "billing_time", "subscription_at", "ending_at"),
        **choice_body(form),
        **chosen_entity(form),
        **_activation_rules(form),
        "external_customer_id": external_customer_id,
        "external_id": form.get("external_id"),
        "plan_code": form.get("plan_code"),
    }


def _activation_rules(form: Form) -> dict[str, Any]:
    """The rule of a subscription that runs once it is paid."""
    if not form.has("waits_for_payment"):
        return {}
    hours = form.get("timeout_hours")
    rule = {"type": PAYMENT, "timeout_hours": json_number(hours, whole=True) if hours else 0}
    return {"activation_rules": [rule]}


def end_subscription(visit: Visit) -> Done:
    """POST /app/end-subscription/{external_id}: an active one ends now and is billed, one that waits is canceled."""
    status = row_status(visit.form.get("status"))
    row = subscriptions.to_end(visit.conn, visit.here.id, visit.path["external_id"], status=status)
    gone = subscriptions.end(visit.conn, row, now=visit.now)
    payer = customer_store.by_ids(visit.conn, [gone.customer_id])[gone.customer_id]
    return Done(
        action="ended subscription",
        subject=gone.external_id,
        to=f"{customer_url(payer.external_id)}?tab=subscriptions&said=ended",
    )


def delete(visit: Visit) -> Done:
    """POST /app/delete-customer/{external_id}."""
    gone = customers.to_remove(visit.conn, visit.here.id, visit.path["external_id"])
    customers.remove(visit.conn, gone, now=visit.now)
    return Done(action="deleted customer", subject=gone.external_id, to="/app/customers?said=deleted")


class Tab(NamedTuple):
    """A tab of a customer's page: its name, and what its template shows beside the customer."""

    name: str
    load: Callable[[Visit, Sequence[Subscription]], Mapping[str, Any]]


TABS = {
    "usage": Tab("Usage", _usage),
    "subscriptions": Tab("Subscriptions", _subscribing),
    "invoices": Tab("Invoices", _invoices),
    "fees": Tab("Fees", _fees),
    "coupons": Tab("Coupons", lambda visit, _: coupons.of_customer(visit)),
    "wallets": Tab("Wallets", lambda visit, _: wallets.of_customer(visit)),
    "details": Tab("Details", _details),
}
"""By what the address calls them; the first one is shown where it names none."""
