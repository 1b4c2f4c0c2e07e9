"""Does the actions of a script over the API, and reads what the product has made of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from fractions import Fraction
from typing import Any

import psycopg

from permille.core.instants import microseconds
from permille.core.invoice.payment import PaymentStatus
from permille.events.draft import Draft
from permille.events.engine import event_log
from permille.events.log import Request
from permille.events.postgres.writer import Memory, open_connection, store
from permille.store import arrivals, customers
from permille.store.invoices import invoices_by_ids
from permille.usecases import payments
from permille.usecases.invoices import advance, progressive
from tests.api.conftest import START, Server, charge, join
from tests.late import review_late_usage

from . import days

Action = Mapping[str, Any]

BILLS = """
select i.id, i.created_at, c.external_id, i.invoice_type, i.status, i.progressive_billing_credit_amount_cents,
    i.coupons_amount_cents, i.taxes_amount_cents, i.credit_notes_amount_cents,
    i.prepaid_credit_amount_cents, i.total_amount_cents, i.total_paid_amount_cents,
    b.code, i.payment_overdue, array(
        select array[f.fee_type, coalesce(m.code, x.code, o.code, ''), coalesce(s.external_id, ''), f.units::text, f.amount_cents::text,
            f.id::text]
        from fee f left join charge h on h.id = f.charge_id left join billable_metric m on m.id = h.billable_metric_id
        left join fixed_charge x on x.id = f.item_id left join add_on o on o.id = f.item_id left join subscription s on s.id = f.subscription_id
        where f.invoice_id = i.id and f.amount_cents <> 0)
from invoice i join customer c on c.id = i.customer_id join billing_entity b on b.id = i.billing_entity_id
where i.organization_id = %(organization)s and i.fees_amount_cents <> 0 and i.status not in ('open', 'closed')
order by i.sequential_id, i.id
"""
BALANCES = """
select 'wallet ' || w.name, w.balance_cents::text
from wallet w where w.organization_id = %(organization)s
union all select 'coupon ' || k.name, a.status || ', ' || coalesce(a.amount_left_cents::text, '-') || ', ' ||
    coalesce(a.uses_left::text, '-')
from applied_coupon a join coupon k on k.id = a.coupon_id where a.organization_id = %(organization)s
union all select 'notes of ' || c.external_id, string_agg(n.total_amount_cents || '/' || n.balance_amount_cents, ' '
    order by n.created_at, n.total_amount_cents, n.balance_amount_cents)
from credit_note n join customer c on c.id = n.customer_id where n.organization_id = %(organization)s group by c.id
union all select 'requests of ' || c.external_id, string_agg(r.amount_cents::text, ' ' order by r.amount_cents)
from payment_request r join customer c on c.id = r.customer_id where r.organization_id = %(organization)s group by c.id
"""


def fees_of(row: Any) -> list[tuple[Any, ...]]:
    """Fees as the oracle names them, each with its id."""
    return [
        (kind, code, name, Fraction(units), int(cents), own)
        for kind, code, name, units, cents, own in row[-1]
    ]


def said(row: Any) -> tuple[Any, ...]:
    """What an invoice says."""
    return (*row[2:-1], sorted(each[:-1] for each in fees_of(row)))


def _rule(rule: Action) -> dict[str, Any]:
    """A rule of a wallet, as it is sent."""
    body = {
        "trigger": rule["trigger"],
        "method": "target" if rule.get("target") else "fixed",
        "paid_credits": rule["paid"],
        "granted_credits": rule["granted"],
    }
    if rule["trigger"] == "interval":
        return {**body, "interval": rule["interval"]}
    if rule["target"]:
        body |= {"target_ongoing_balance": rule["target"], "grants_target_top_up": rule["grants"]}
    return {**body, "threshold_credits": rule["threshold"]}


def _price_name(name: str) -> str:
    """What a price file calls the price of a type, and of a tier behind it."""
    kind, _, tier = name.partition(" ")
    names = {
        "input": "input_cost_per_token",
        "output": "output_cost_per_token",
        "cached_input": "cache_read_input_token_cost",
    }
    tiers = {"batch": "_batches", "flex": "_flex", "priority": "_priority"}
    return names[kind] + (tiers[tier] if tier else "")


def _in_unit(rate: str | None) -> dict[str, Any]:
    """The pricing unit of a charge, if it has one, by what it is worth."""
    return {"applied_pricing_unit": {"code": "credits", "conversion_rate": rate}} if rate else {}


def _gate(action: Action) -> dict[str, Any]:
    """The rule that a start has to be paid first, within so many hours if any."""
    if action.get("timeout") is None:
        return {}
    return {"activation_rules": [{"type": "payment", "timeout_hours": action["timeout"]}]}


def _entity(action: Action) -> dict[str, Any]:
    """The billing entity that an action names, if any."""
    return {"billing_entity_code": action["entity"]} if action.get("entity") else {}


def _campaign_terms(action: Action) -> dict[str, Any]:
    """What a campaign says of when to ask, as far as it is said."""
    names = {"days": "days_between_attempts", "attempts": "max_attempts"}
    found = {sent: action[name] for name, sent in names.items() if name in action}
    if "threshold" in action:
        found["thresholds"] = [{"currency": action["currency"], "amount_cents": action["threshold"]}]
    return found


def _previewed(invoice: Any) -> tuple[Any, ...]:
    """What a preview shows."""
    names = ("progressive_billing_credit", "coupons", "taxes", "credit_notes", "prepaid_credit", "total")
    fees = [
        (
            fee["item"]["type"],
            fee["item"]["code"] if fee["item"]["type"] in {"charge", "fixed_charge"} else "",
            Fraction(fee["units"]),
            fee["amount_cents"],
        )
        for fee in invoice["fees"]
        if fee["amount_cents"]
    ]
    amounts = [invoice[f"{name}_amount_cents"] for name in names]
    return (invoice["billing_entity_code"], *amounts, sorted(fees))


class Product:
    """An organization of its own, which the script happens in."""

    def __init__(self, server: Server) -> None:
        self.api, self.server = join(server, "Simulated"), server
        self.events, self.memory = open_connection(server.dsn), Memory()
        self.worker = psycopg.connect(server.dsn)
        self.now = START
        self.metrics: dict[str, Any] = {}
        self.wallets: dict[str, str] = {}
        self.sent: dict[str, Draft] = {}
        self.versions: list[str] = []

    def close(self) -> None:
        self.events.close()
        self.worker.close()
        self.server.conn.rollback()

    def do(self, action: Action) -> None:
        handler: Callable[[Action], None] = getattr(self, f"_{action['do']}")
        handler(action)

    def rows(self) -> list[Any]:
        """Every invoice on which anything is owed, oldest first: its id, what it says, and its fees with theirs."""
        self.server.conn.rollback()
        found = self.server.conn.execute(BILLS, {"organization": self.api.organization.id}).fetchall()
        return sorted(found, key=lambda row: (row[2], row[1], said(row)))

    def bills(self) -> list[Any]:
        """What these invoices say."""
        return [said(row) for row in self.rows()]

    def bill(self, place: int) -> Any:
        known = self.rows()
        return known[place % len(known)]

    def draft(self, place: int) -> Any:
        known = [row for row in self.rows() if row[4] == "draft"]
        return known[place % len(known)]

    def balances(self) -> dict[str, str]:
        return dict(self.server.conn.execute(BALANCES, {"organization": self.api.organization.id}).fetchall())

    def _tax(self, action: Action) -> None:
        body = {"name": action["code"], "code": action["code"], "rate": action["rate"]}
        self.api.post("/taxes", {"tax": body})

    def _metric(self, action: Action) -> None:
        field = {} if action["kind"] == "count_agg" else {"field_name": "v"}
        self.metrics[action["code"]] = self.api.post(
            "/billable_metrics",
            {
                "billable_metric": {
                    "name": action["code"],
                    "code": action["code"],
                    "aggregation_type": action["kind"],
                    "recurring": action["recurring"],
                    "filters": [{"key": "model", "values": action["models"]}],
                    **field,
                }
            },
        )["billable_metric"]

    def _plan(self, action: Action) -> None:
        self.api.plan(
            action["code"],
            [
                charge(
                    self.metrics[each["metric"]],
                    charge_model=each["model"],
                    properties=each["terms"],
                    min_amount_cents=each["minimum"],
                    filters=[
                        {"values": {"model": one["models"]}, "properties": one["terms"]}
                        for one in each["filters"]
                    ],
                    pay_in_advance=each["advance"],
                    invoiceable=each["invoiceable"],
                    **_in_unit(each.get("unit")),
                )
                for each in action["charges"]
            ],
            interval=action["interval"],
            amount_cents=action["amount"],
            amount_currency=action["currency"],
            pay_in_advance=action["advance"],
            trial_period=action["trial"],
            bill_charges_monthly=action["charges_monthly"],
            tax_codes=action["taxes"],
            usage_thresholds=action["thresholds"],
            fixed_charges=[
                {
                    "add_on_code": each["code"],
                    "code": each["code"],
                    "charge_model": each["model"],
                    "properties": each["terms"],
                    "units": each["units"],
                    "pay_in_advance": each["advance"],
                    "prorated": each["prorated"],
                }
                for each in action["fixed"]
            ],
            **(
                {"minimum_commitment": {"amount_cents": action["commitment"]}} if action["commitment"] else {}
            ),
        )

    def _from_when(self, action: Action) -> dict[str, str]:
        """The instant from which on an edit of prices counts, as it is asked for."""
        if action["when"] == "next_period":
            return {"effective": "next_period"}
        since = days.price_date(self.now, action["when"])
        return {} if action["when"] == "now" or since is None else {"effective_at": since.isoformat()}

    def _price(self, action: Action) -> None:
        chosen: dict[str, Any] = self._from_when(action)
        body = {"charge_model": action["model"], "properties": action["terms"]}
        if action["cascade"]:
            chosen["cascade_updates"] = True
        self.api.put(f"/plans/{action['plan']}/charges/{action['metric']}", {"charge": body, **chosen})

    def _fee(self, action: Action) -> None:
        body = {"amount_cents": action["amount"], "cascade_updates": action["cascade"]}
        self.api.put(f"/plans/{action['plan']}", {"plan": body, **self._from_when(action)})

    def _price_back(self, action: Action) -> None:
        self._price(action)

    def _price_unknown(self, action: Action) -> None:
        self._price({**action, "model": "catalogue"})

    def _unit(self, action: Action) -> None:
        body = {"code": action["code"], "name": action["code"], "short_name": "CR"}
        self.api.post("/pricing_units", {"pricing_unit": body})

    def _cancel_price(self, action: Action) -> None:
        changes = self.api.get(f"/plans/{action['plan']}")["plan"]["scheduled_changes"]
        shown = action["at"].replace(microsecond=0)
        found = [each for each in changes if datetime.fromisoformat(each["effective_at"]) == shown]
        assert found, f"there is no change at {shown}"
        chosen = {"cascade_updates": "true"} if action["cascade"] else {}
        self.api.delete(f"/plans/{action['plan']}/scheduled_changes/{found[0]['lago_id']}", **chosen)

    def _add_on(self, action: Action) -> None:
        priced = {"amount_cents": 1, "amount_currency": "EUR"}
        if "cents" in action:
            priced = {"amount_cents": action["cents"], "amount_currency": action["currency"]}
        body = {
            "name": action["code"],
            "code": action["code"],
            "tax_codes": action.get("taxes", []),
            **priced,
        }
        self.api.post("/add_ons", {"add_on": body})

    def _seats(self, action: Action) -> None:
        body = {"units": action["units"], "apply_units_immediately": action["now"]}
        path = f"/subscriptions/{action['subscription']}/fixed_charges/{action['code']}"
        self.api.put(path, {"fixed_charge": body})

    def _customer(self, action: Action) -> None:
        self.api.customer(
            action["id"],
            timezone=action["zone"],
            currency=action["currency"],
            tax_codes=action["taxes"],
            billing_entity_code=action["entity"],
            net_payment_term=action["term"],
            billing_configuration={"invoice_grace_period": action["grace"]},
        )

    def _entity(self, action: Action) -> None:
        body = {"code": action["code"], "name": action["code"]}
        self.api.post("/billing_entities", {"billing_entity": body})
        terms = {"net_payment_term": action["term"], "tax_codes": action["taxes"]}
        self.api.put(f"/billing_entities/{action['code']}", {"billing_entity": terms})

    def _move_customer(self, action: Action) -> None:
        body = {"external_id": action["customer"], "billing_entity_code": action["entity"]}
        self.api.post("/customers", {"customer": body})

    def _campaign(self, action: Action) -> None:
        body = {"code": action["code"], "name": action["code"], **_campaign_terms(action)}
        self.api.post("/dunning_campaigns", {"dunning_campaign": body})

    def _edit_campaign(self, action: Action) -> None:
        body = {
            "name": action["name"],
            **_campaign_terms({"currency": action["currency"], **action["terms"]}),
        }
        self.api.put(f"/dunning_campaigns/{action['campaign']}", {"dunning_campaign": body})

    def _drop_campaign(self, action: Action) -> None:
        self.api.delete(f"/dunning_campaigns/{action['campaign']}")

    def _exclude(self, action: Action) -> None:
        body = {"external_id": action["customer"], "exclude_from_dunning_campaign": action["is_out"]}
        self.api.post("/customers", {"customer": body})

    def _dun_by(self, action: Action) -> None:
        chosen = {"dunning_campaign_code": action["campaign"]}
        if action["of"] == "customer":
            self.api.post("/customers", {"customer": {"external_id": action["name"], **chosen}})
        else:
            self.api.put(f"/billing_entities/{action['name']}", {"billing_entity": chosen})

    def _request(self, action: Action) -> None:
        known = self.rows()
        ids = [str(known[place][0]) for place in action["places"]]
        body = {"external_customer_id": action["customer"], "lago_invoice_ids": ids}
        self.api.post("/payment_requests", {"payment_request": body})

    def _bill_by(self, action: Action) -> None:
        body = {"billing_entity_code": action["entity"]}
        self.api.put(f"/subscriptions/{action['subscription']}", {"subscription": body})

    def _lose(self, action: Action) -> None:
        self.api.post(f"/invoices/{self.bill(action['bill'])[0]}/lose_dispute", {})

    def _coupon(self, action: Action) -> None:
        is_fixed = action["kind"] == "fixed_amount"
        customer = self.api.get(f"/customers/{action['customer']}")["customer"]
        worth = (
            {"amount_cents": int(action["value"]), "amount_currency": customer["currency"]}
            if is_fixed
            else {"percentage_rate": action["value"]}
        )
        limits = {"plan": "plan_codes", "metric": "billable_metric_codes"}
        body = {
            "name": action["id"],
            "code": action["id"],
            "coupon_type": action["kind"],
            "frequency": action["frequency"],
            "expiration": "no_expiration",
            **worth,
        }
        if action["frequency"] == "recurring":
            body["frequency_duration"] = action["uses"]
        if action["limit"]:
            body["applies_to"] = {limits[action["limit"]]: [action["code"]]}
        self.api.post("/coupons", {"coupon": body})
        given = {"external_customer_id": action["customer"], "coupon_code": action["id"]}
        self.api.post("/applied_coupons", {"applied_coupon": given})

    def _wallet(self, action: Action) -> None:
        customer = self.api.get(f"/customers/{action['customer']}")["customer"]
        body = {
            "external_customer_id": action["customer"],
            "name": action["id"],
            "currency": customer["currency"],
            "rate_amount": action["rate"],
            "priority": action["priority"],
            "granted_credits": action["granted"],
            "applies_to": {"fee_types": action["kinds"], "billable_metric_codes": action["metrics"]},
        }
        if action["rule"]:
            body["recurring_transaction_rules"] = [_rule(action["rule"])]
        body |= _entity(action)
        if action["lives"]:
            body["expiration_at"] = (self.now + timedelta(seconds=action["lives"])).isoformat()
        self.wallets[action["id"]] = self.api.post("/wallets", {"wallet": body})["wallet"]["lago_id"]

    def _top_up(self, action: Action) -> None:
        body = {"wallet_id": self.wallets[action["wallet"]], "granted_credits": action["granted"]}
        self.api.post("/wallet_transactions", {"wallet_transaction": body})

    def _void_credits(self, action: Action) -> None:
        body = {"wallet_id": self.wallets[action["wallet"]], "voided_credits": action["credits"]}
        self.api.post("/wallet_transactions", {"wallet_transaction": body})

    def _end_wallet(self, action: Action) -> None:
        self.api.delete(f"/wallets/{self.wallets[action['wallet']]}")

    def _buy(self, action: Action) -> None:
        body = {"wallet_id": self.wallets[action["wallet"]], "paid_credits": action["paid"]}
        self.api.post("/wallet_transactions", {"wallet_transaction": body})

    def _pay(self, action: Action) -> None:
        body = {
            "invoice_id": str(self.bill(action["bill"])[0]),
            "amount_cents": action["cents"],
            "reference": "bank",
        }
        self.api.post("/payments", {"payment": body})

    def _void(self, action: Action) -> None:
        self.api.post(f"/invoices/{self.bill(action['bill'])[0]}/void", {})

    def _void_with_notes(self, action: Action) -> None:
        body = {
            "generate_credit_note": True,
            "credit_amount": action["credit"],
            "refund_amount": action["refund"],
        }
        self.api.post(f"/invoices/{self.bill(action['bill'])[0]}/void", body)

    def _preview(self, action: Action) -> None:
        made = self.api.post("/invoices/preview", action["asked"])["invoice"]
        assert _previewed(made) == action["shown"], f"product {_previewed(made)}\n  oracle  {action['shown']}"

    def _one_off(self, action: Action) -> None:
        fees = [
            {
                "add_on_code": each["code"],
                "units": each["units"],
                **({} if each["cents"] is None else {"unit_amount_cents": each["cents"]}),
                "tax_codes": each["taxes"],
            }
            for each in action["fees"]
        ]
        body = {"external_customer_id": action["customer"], "fees": fees, **_entity(action)}
        self.api.post("/invoices", {"invoice": body})

    def _again_bill(self, action: Action) -> None:
        self.api.post(f"/invoices/{self.rows()[action['place']][0]}/regenerate", {})

    def _finalize(self, action: Action) -> None:
        self.api.put(f"/invoices/{self.draft(action['draft'])[0]}/finalize", {})

    def _refresh(self, action: Action) -> None:
        self.api.put(f"/invoices/{self.draft(action['draft'])[0]}/refresh", {})

    def _note(self, action: Action) -> None:
        row = self.bill(action["bill"])
        first = min(fees_of(row))
        body = {
            "invoice_id": str(row[0]),
            "items": [{"fee_id": first[-1], "amount_cents": action["cents"]}],
            f"{action['as']}_amount_cents": action["total"],
        }
        self.api.post("/credit_notes", {"credit_note": body})

    def _drop_coupon(self, action: Action) -> None:
        given = self.api.get("/applied_coupons", **{"coupon_code[]": action["coupon"]})["applied_coupons"][0]
        self.api.delete(f"/customers/{given['external_customer_id']}/applied_coupons/{given['lago_id']}")

    def _version(self, action: Action) -> None:
        """A price file of LiteLLM's kind, approved from a day on."""
        prices = {
            f"acme/{model}": {
                "litellm_provider": "acme",
                **{_price_name(kind): float(f"{cost}e-9") for kind, cost in own.items()},
            }
            for model, own in action["prices"].items()
        }
        body = {"label": action["label"], "source": "litellm", "prices": prices}
        made = self.api.post("/llm/catalogue_versions", {"catalogue_version": body})["catalogue_version"]
        since = (self.now.date() + timedelta(days=action["days"])).isoformat()
        approval = {"valid_from": since, "accept_outliers": ["acme/m1", "acme/m2", "acme/m3"]}
        path = f"/llm/catalogue_versions/{made['lago_id']}/approve"
        self.api.post(path, {"catalogue_version": approval})
        self.versions.append(made["lago_id"])

    def _correct(self, action: Action) -> None:
        version = self.versions[-1 - action["version"] % len(self.versions)]
        path = f"/llm/catalogue_versions/{version}/corrections/credit"
        self.api.post(path, {"correction": {"all": True}})

    def _call(self, action: Action) -> None:
        self._take(action, self._named(action))

    def _named(self, action: Action) -> dict[str, str]:
        tier = {"tier": action["tier"]} if action["tier"] else {}
        return {"provider": "acme", "model": action["model"], "type": action["type"], **tier}

    def _use(self, action: Action) -> None:
        self._take(action, {"model": action["model"]} if action["model"] else {})

    def _take(self, action: Action, properties: dict[str, str]) -> None:
        at = self.now - timedelta(seconds=action["ago"], microseconds=7)
        self.sent[action["id"]] = Draft(
            action["id"],
            action["metric"],
            action["subscription"],
            microseconds(at),
            None,
            {"v": action["value"], **properties},
        )
        assert self._send(action["id"]) == []
        advance.bill_events(self.worker, self.api.organization.id, now=self.now, wait=True)
        self.worker.commit()

    def _again(self, action: Action) -> None:
        assert self._send(action["id"]) == [0]

    def _send(self, name: str) -> Any:
        request = Request(self.api.organization.id, [self.sent[name]], microseconds(self.now))
        store(self.events, self.memory, [request])
        return request.duplicates

    def _late(self, action: Action) -> None:
        review_late_usage(self.server.dsn)
        self.server.conn.rollback()
        found = self.api.get("/late_usage", status="open", per_page="100")["late_usage"]
        start = action["start"].strftime("%Y-%m-%dT%H:%M:%SZ")
        names = ("external_subscription_id", "billable_metric_code", "from_date")
        own = [
            each for each in found if [each[name] for name in names] == [action["of"], action["code"], start]
        ]
        said = [
            (
                Fraction(each["units"]),
                sorted(line["amount_cents"] for line in each["lines"] if line["amount_cents"]),
            )
            for each in own
        ]
        assert said == [(action["units"], action["cents"])], (
            f"product {said}, oracle {action['units'], action['cents']}"
        )
        body = {} if action["decide"] == "bill" else {"late_usage": {"reason": "It was our fault"}}
        self.api.post(f"/late_usage/{own[0]['lago_id']}/{action['decide']}", body)

    def _amend(self, action: Action) -> None:
        body = {
            "transaction_id": action["id"],
            "event_transaction_id": action["event"],
            "external_subscription_id": self.sent[action["event"]].external_subscription_id,
            "kind": "void" if action["value"] is None else "replace",
            "reason": "It was wrong",
        }
        if action["value"] is not None:
            body["properties"] = {**self.sent[action["event"]].properties, "v": action["value"]}
        self.api.post("/events/amendments", {"amendment": body})

    def _own(self, action: Action) -> dict[str, Any]:
        own = action["own"]
        if not own:
            return {}
        if not own["metric"]:
            return {"plan_overrides": {"amount_cents": own["amount"]}}
        charges = self.api.get(f"/plans/{action['plan']}")["plan"]["charges"]
        charge_id = next(each["lago_id"] for each in charges if each["billable_metric_code"] == own["metric"])
        return {"plan_overrides": {"charges": [{"id": charge_id, "properties": own["terms"]}]}}

    def _subscribe(self, action: Action) -> None:
        self.api.subscribe(
            action["id"],
            action["plan"],
            external_customer_id=action["customer"],
            billing_time=action["time"],
            **_gate(action),
            **_entity(action),
            **self._own(action),
            subscription_at=(
                self.now + timedelta(seconds=action["ahead"]) - timedelta(days=action["back"])
            ).isoformat(),
        )

    def _gate_of(self, action: Action) -> Any:
        path = f"/subscriptions/{action['subscription']}"
        [rule] = self.api.get(path, status="incomplete")["subscription"]["activation_rules"]
        return rule["lago_invoice_id"]

    def _pay_gate(self, action: Action) -> None:
        body = {"invoice_id": self._gate_of(action), "amount_cents": action["cents"], "reference": "bank"}
        self.api.post("/payments", {"payment": body})

    def _fail_gate(self, action: Action) -> None:
        """As a payment provider says it."""
        [opened] = invoices_by_ids(self.worker, [self._gate_of(action)]).values()
        customers.lock(self.worker, opened.customer_id)
        payments.set_status(self.worker, [opened], PaymentStatus.FAILED, now=self.now)
        self.worker.commit()

    def _end(self, action: Action) -> None:
        chosen = {}
        if action["no_bill"]:
            chosen["on_termination_invoice"] = "skip"
        if action["note"] != "credit":
            chosen["on_termination_credit_note"] = action["note"]
        self.api.delete(f"/subscriptions/{action['subscription']}", **chosen)

    def _change(self, action: Action) -> None:
        customer = self.api.get(f"/subscriptions/{action['subscription']}")["subscription"][
            "external_customer_id"
        ]
        self.api.subscribe(
            action["subscription"],
            action["plan"],
            external_customer_id=customer,
            **_gate(action),
            **_entity(action),
        )

    def _look(self) -> None:
        """Look at what came in, as the worker does within two seconds."""
        progressive.look_now(self.worker, self.api.organization.id, now=self.now)
        arrivals.set_seen(self.worker, arrivals.Follows.THRESHOLDS, event_log.settled(self.worker))
        self.worker.commit()

    def start_moving(self, action: Action) -> Any:
        """Ask the clock to go there: 202 while it is on its way."""
        if action["until"] != self.now:
            self._look()
        self.now = action["until"]
        return self.api.call("PUT", "/test_clock", {"test_clock": {"now": self.now.isoformat()}})

    def _move(self, action: Action) -> None:
        while (answer := self.start_moving(action)).status_code == 202:
            pass
        assert answer.status_code == 200, answer.text
