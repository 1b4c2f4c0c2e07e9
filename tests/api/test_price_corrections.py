"""Corrected prices of billed months over HTTP: what invoices would come to, and credit notes for it, once."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import psycopg
import pytest

from permille.cli import price_corrections as cli
from permille.config import from_environment
from permille.core.instants import microseconds
from permille.events.draft import Draft
from permille.events.log import Request
from permille.events.postgres.writer import Memory, open_connection, store
from tests.late import review_late_usage
from tests.usecases.test_batches import counted

from .conftest import Api, charge
from .test_catalogue_charge import metric, move, send, subscribed
from .test_catalogue_versions import _all_shipped, approved, file, imported
from .test_wallets import open_wallet, seen_by_the_worker

__all__ = ["metric", "send"]
MANY = 12
A = {"provider": "acme", "model": "a"}
B = {"provider": "acme", "model": "b"}


def at(day: int) -> datetime:
    return datetime(2024, 3, day, 12, tzinfo=UTC)


@pytest.fixture
def billed(api: Api, metric: Any, send: Any) -> Any:
    """March: 3 M tokens of model a at 2 x 1 dollars, half of it from the 20th on, and 1 M of b at 2 x 4; billed."""
    approved(api, imported(api, "small", file(a="1", b="4")), _all_shipped(), valid_from="2024-03-01")
    made = subscribed(api, metric, markup="2")
    send(1_500_000, at(10), **A)
    send(1_500_000, at(20), **A)
    send(1_000_000, at(10), **B)
    move(api, 2024, 4, 2)
    return made


def corrected(api: Api, valid_from: str = "2024-03-20", **prices: str) -> str:
    """The address of a version that is approved from a past date on."""
    version = approved(api, imported(api, f"corrected {prices}", file(**prices)), valid_from=valid_from)
    return f"/llm/catalogue_versions/{version['lago_id']}"


def corrections(api: Api, version: str) -> list[tuple[Any, ...]]:
    found = api.get(f"{version}/corrections")["corrections"]
    names = ("billed", "corrected", "credited", "difference", "creditable")
    return [
        (each["status"], each["problem"], *(each[f"{name}_amount_cents"] for name in names)) for each in found
    ]


def credited(api: Api, version: str, **fields: Any) -> list[int]:
    body = {"correction": fields or {"all": True}}
    found = api.post(f"{version}/corrections/credit", body)["credit_notes"]
    return [each["total_amount_cents"] for each in found]


def test_what_was_billed_too_much_comes_back_once(api: Api, billed: Any) -> None:
    version = corrected(api, a="0.5", b="4")
    # From the 20th on 1.5 M of a cost 1.50 instead of 3.00.
    assert corrections(api, version) == [("to_credit", None, 1_400, 1_250, 0, -150, 150)]
    [row] = api.get(f"{version}/corrections")["corrections"]
    assert credited(api, version, invoice_id=row["lago_invoice_id"]) == [150]
    assert corrections(api, version) == [("even", None, 1_400, 1_250, 150, 0, 0)]
    assert credited(api, version) == []
    refused = {"correction": {"invoice_id": row["lago_invoice_id"]}}
    assert api.details("POST", f"{version}/corrections/credit", refused) == {
        "invoice_id": ["nothing_to_credit"]
    }
    [note] = api.get("/credit_notes")["credit_notes"]
    # It is not paid yet: it comes off what is due.
    assert (note["offset_amount_cents"], note["credit_amount_cents"]) == (150, 0)
    assert note["description"].startswith("Corrected prices: corrected")
    assert [each["amount_cents"] for each in note["items"]] == [150]
    # A later correction counts what came back before: all is 2 x 0.25 from the 10th on now.
    later = corrected(api, "2024-03-05", a="0.25", b="4")
    assert corrections(api, later) == [("to_credit", None, 1_400, 950, 150, -300, 300)]
    assert credited(api, later) == [300]
    assert corrections(api, later) == corrections(api, version) == [("even", None, 1_400, 950, 450, 0, 0)]
    # And one that takes it back is shown, and billed by nobody.
    dearer = corrected(api, "2024-03-05", a="1", b="4")
    assert corrections(api, dearer) == [("customer_owes", None, 1_400, 1_400, 450, 450, 0)]
    assert credited(api, dearer) == []
    assert len(api.get("/invoices")["invoices"]) == 1


def test_what_came_back_for_a_correction_is_that_of_the_invoice_that_is_made_again(
    api: Api, billed: Any
) -> None:
    version = corrected(api, a="0.5", b="4")
    assert credited(api, version) == [150]
    [invoice] = api.get("/invoices")["invoices"]
    api.post(f"/invoices/{invoice['lago_id']}/void", {})
    again = api.post(f"/invoices/{invoice['lago_id']}/regenerate", {})["invoice"]
    assert again["total_due_amount_cents"] == 1_400 - 150
    assert [(row[1], row[4]) for row in corrections(api, version)] == [("invoice_is_regenerated", 150)]


@pytest.mark.parametrize("is_paid", [True, False])
def test_what_a_bill_at_a_threshold_gives_back_comes_off_its_periods_invoice_once(
    api: Api, metric: Any, send: Any, is_paid: bool
) -> None:
    """About 2 M tokens at 2 x 1 dollars were billed at the threshold; a dollar less comes back, of the bill or as credit.

    They cost 400.3 cents and those of another model 0.3, which is 401 in all. Of the minimum of 10.00, 27 of 31 days are billed at the period's end, and not before.
    """
    approved(api, imported(api, "small", file(a="1", b="4")), _all_shipped(), valid_from="2024-03-01")
    api.post("/taxes", {"tax": {"name": "VAT", "code": "vat", "rate": "20", "applied_to_organization": True}})
    terms = {"charge_model": "catalogue", "properties": {"markup": "2"}, "min_amount_cents": 1_000}
    own = charge(metric, code="llm", **terms)
    api.plan(charges=[own], amount_currency="USD", usage_thresholds=[{"amount_cents": 300}])
    api.subscribe()
    move(api, 2024, 3, 6, 13)
    send(2_001_500, at(6), **A)
    send(375, at(6), **B)
    move(api, 2024, 3, 10)
    [billed] = api.get("/invoices")["invoices"]
    assert (billed["invoice_type"], billed["total_amount_cents"]) == ("progressive_billing", 481)
    if is_paid:
        api.post(
            "/payments", {"payment": {"invoice_id": billed["lago_id"], "amount_cents": 481, "reference": "x"}}
        )
    version = corrected(api, "2024-03-05", a="0.75", b="4")
    assert credited(api, version) == [120]
    move(api, 2024, 4, 2)
    [last] = [each for each in api.get("/invoices")["invoices"] if each["invoice_type"] == "subscription"]
    assert (last["fees_amount_cents"], last["progressive_billing_credit_amount_cents"]) == (871, 301)
    notes = api.get("/credit_notes")["credit_notes"]
    assert [each["total_amount_cents"] for each in notes] == [120]


def test_usage_without_a_price_is_no_other_usage_of_a_bill_at_a_threshold(
    api: Api, metric: Any, send: Any
) -> None:
    approved(api, imported(api, "small", file(a="1")), _all_shipped(), valid_from="2024-03-01")
    own = charge(metric, code="llm", charge_model="catalogue", properties={"markup": "2", "unpriced": "hold"})
    api.plan(charges=[own], amount_currency="USD", usage_thresholds=[{"amount_cents": 300}])
    api.subscribe()
    move(api, 2024, 3, 6, 13)
    send(2_000_000, at(6), **A)
    send(1_000, at(6), **B)
    move(api, 2024, 3, 10)
    version = corrected(api, "2024-03-05", a="0.75")
    assert corrections(api, version) == [("to_credit", None, 400, 300, 0, -100, 100)]
    priced = corrected(api, "2024-03-05", a="0.75", b="4")
    assert [each[1] for each in corrections(api, priced)] == ["usage_is_changed"]


def test_corrections_are_listed_and_credited_on_the_command_line(
    api: Api, billed: Any, dsn: str, capsys: Any
) -> None:
    config, own = replace(from_environment(), database_url=dsn), str(api.organization.id)

    def said(code: int, *, expected: int = 0) -> str:
        captured = capsys.readouterr()
        assert code == expected, captured.err
        return " ".join((captured.out or captured.err).split())

    assert "corrects a final invoice" in said(cli.list_versions(config, organization=own))
    version = UUID(corrected(api, a="0.5", b="4").rpartition("/")[2])
    assert f"{version} corrected" in (listed := said(cli.list_versions(config, organization=own)))
    assert listed.endswith("from 2024-03-20 on: 1 invoices")
    shown = said(cli.show(config, version, organization=own))
    invoice_id, number, *rest = shown.split(" ", 2)
    assert rest == ["billed 14.00 USD corrected 12.50 USD to credit 1.50 USD"]
    other = UUID(int=1)
    assert "invoice" in said(cli.apply(config, version, invoice_id=other, organization=own), expected=1)
    made = said(cli.apply(config, version, invoice_id=UUID(invoice_id), organization=own))
    assert made.startswith(number)
    assert made.endswith("1.50 USD")
    assert said(cli.apply(config, version, invoice_id=None, organization=own)) == "Nothing is left to credit."
    assert said(cli.show(config, version, organization=own)).endswith("credited 1.50 USD even")
    assert "corrects no" in said(cli.show(config, _first_version(api), organization=own))


def _first_version(api: Api) -> UUID:
    return UUID(api.get("/llm/catalogue_versions")["catalogue_versions"][-1]["lago_id"])


@pytest.mark.parametrize("sent", [{"invoice_id": None}, {"invoice_id": ""}, {"invoice": "x"}, {"all": False}])
def test_nothing_comes_back_of_all_that_was_not_asked_for(api: Api, billed: Any, sent: Any) -> None:
    version = corrected(api, a="0.5", b="4")
    path = f"{version}/corrections/credit"
    assert api.details("POST", path, {"correction": sent}) == {"invoice_id": ["value_is_mandatory"]}
    both = {"correction": {"invoice_id": version.rsplit("/", 1)[1], "all": True}}
    assert api.details("POST", path, both) == {"all": ["value_is_invalid"]}
    odd: list[Any] = [{}, {"correction": 0}, {"correction": []}, [], False]
    for body in odd:
        assert api.call("POST", path, body).status_code == 400
    assert api.get("/credit_notes")["credit_notes"] == []


def test_ongoing_balances_follow_an_approval(api: Api, metric: Any, send: Any, dsn: str) -> None:
    approved(api, imported(api, "small", file(a="1")), _all_shipped(), valid_from="2024-03-01")
    subscribed(api, metric, markup="2")
    send(1_500_000, at(10), **A)
    move(api, 2024, 3, 21)
    open_wallet(api, "5", currency="USD")
    assert seen_by_the_worker(api, dsn) == [200]
    corrected(api, "2024-03-01", a="0.5")
    assert seen_by_the_worker(api, dsn) == [350]


def test_what_is_cheaper_and_what_is_dearer_make_one_difference(api: Api, billed: Any) -> None:
    version = corrected(api, "2024-03-01", a="0.5", b="5")
    assert corrections(api, version) == [("to_credit", None, 1_400, 1_300, 0, -100, 100)]
    assert credited(api, version) == [100]
    assert corrections(api, version) == [("even", None, 1_400, 1_300, 100, 0, 0)]


def test_invoices_after_the_approval_and_other_versions_have_no_corrections(
    api: Api, billed: Any, send: Any, stranger: Api
) -> None:
    pending = imported(api, "pending", file(a="9", b="9"))
    [*_, first] = api.get("/llm/catalogue_versions")["catalogue_versions"]
    for each in (pending, first):
        assert corrections(api, f"/llm/catalogue_versions/{each['lago_id']}") == []
    version = corrected(api, "2024-04-02", a="2", b="4")
    assert corrections(api, version) == []
    send(1_000_000, datetime(2024, 4, 10, tzinfo=UTC), **A)
    move(api, 2024, 5, 2)
    assert corrections(api, version) == []
    for method, below in (("GET", "corrections"), ("POST", "corrections/credit")):
        assert stranger.code(404, method, f"{version}/{below}", {}) == "catalogue_version_not_found"
    other = {"correction": {"invoice_id": pending["lago_id"]}}
    assert api.code(404, "POST", f"{version}/corrections/credit", other) == "invoice_not_found"


def test_what_is_not_only_a_matter_of_prices_is_done_by_hand(api: Api, billed: Any, send: Any) -> None:
    version = corrected(api, a="0.5", b="4")
    send(1_000_000, at(25), **A)
    assert corrections(api, version) == [("by_hand", "usage_is_changed", 1_400, None, 0, None, 0)]
    assert credited(api, version) == []


def test_late_usage_counts_what_came_back(api: Api, billed: Any, send: Any, dsn: str) -> None:
    version = corrected(api, a="0.5", b="4")
    assert credited(api, version) == [150]
    send(1_000_000, at(25), **A)
    review_late_usage(dsn)
    [late] = api.get("/late_usage")["late_usage"]
    # 1 M at 2 x 0.50, and not less for what came back.
    assert (late["amount_cents"], late["units"]) == (100, "1000000.0")
    assert corrections(api, version) == [("by_hand", "late_usage", 1_400, None, 150, None, 0)]


def test_late_usage_of_one_model_bills_no_corrected_prices_of_others(
    api: Api, billed: Any, send: Any, dsn: str
) -> None:
    version = corrected(api, "2024-03-05", a="1", b="7")
    assert corrections(api, version) == [("customer_owes", None, 1_400, 2_000, 0, 600, 0)]
    send(1_000_000, at(25), **A)
    review_late_usage(dsn)
    [late] = api.get("/late_usage")["late_usage"]
    assert [(each["grouped_by"]["model"], each["amount_cents"]) for each in late["lines"]] == [("a", 200)]
    api.post(f"/late_usage/{late['lago_id']}/bill", None)
    move(api, 2024, 5, 1, 1)
    assert [each["fees_amount_cents"] for each in api.get("/invoices")["invoices"]] == [200, 1_400]
    assert corrections(api, version) == [("by_hand", "late_usage", 1_400, None, 0, None, 0)]


def test_what_is_looked_at_again_without_other_usage_is_left_to_the_correction(
    api: Api, metric: Any, send: Any, dsn: str
) -> None:
    """An event that is not settled when it is billed is looked at again, maybe after its price was corrected."""
    approved(api, imported(api, "small", file(a="1")), _all_shipped(), valid_from="2024-03-01")
    subscribed(api, metric, markup="2")
    with psycopg.connect(dsn) as under_way:
        under_way.execute("select pg_current_xact_id()")
        send(1_000_000, at(25), **A)
        move(api, 2024, 4, 2)
    version = corrected(api, a="0.5")
    review_late_usage(dsn)
    assert api.get("/late_usage")["late_usage"] == []
    assert corrections(api, version) == [("to_credit", None, 200, 100, 0, -100, 100)]
    assert credited(api, version) == [100]


def test_many_invoices_take_the_statements_of_one(api: Api, metric: Any, dsn: str) -> None:
    approved(api, imported(api, "small", file(a="1")), _all_shipped(), valid_from="2024-03-01")
    own = charge(metric, code="llm", charge_model="catalogue", properties={})
    api.plan(charges=[own], amount_currency="USD")
    with open_connection(dsn) as conn:
        for nth in range(MANY):
            api.customer(external_id=f"c{nth}")
            api.subscribe(external_customer_id=f"c{nth}", external_id=f"s{nth}")
            used = {**A, "type": "input", "quantity": 1_000_000 * (nth + 1)}
            draft = Draft(f"t{nth}", "llm_tokens", f"s{nth}", microseconds(at(10)), None, used)
            store(conn, Memory(), [Request(api.organization.id, [draft], microseconds(at(10)))])
    move(api, 2024, 4, 2)
    version = corrected(api, "2024-03-01", a="0.9")
    taken = {}
    for count in (1, MANY):
        with counted() as statements:
            found = api.get(f"{version}/corrections", per_page=count)
        assert (len(found["corrections"]), found["meta"]["total_count"]) == (count, MANY)
        taken[count] = len(statements)
    assert taken[MANY] == taken[1]
    with counted() as for_one:
        assert credited(api, version, invoice_id=found["corrections"][0]["lago_invoice_id"]) != []
    with counted() as for_others:
        assert sum(credited(api, version)) + found["corrections"][0]["creditable_amount_cents"] == 10 * sum(
            range(1, MANY + 1)
        )
    # The page of all, and their notes: not one after another.
    assert len(for_others) < len(for_one) + taken[1]
    assert credited(api, version) == []


def test_a_charge_with_another_filter_is_done_by_hand(api: Api, billed: Any) -> None:
    version = corrected(api, a="0.5", b="4")
    metric_id = api.get("/billable_metrics/llm_tokens")["billable_metric"]["lago_id"]
    values = [{"key": "model", "values": ["a"]}]
    api.put("/billable_metrics/llm_tokens", {"billable_metric": {"filters": values}})
    dearer = {"values": {"model": ["a"]}, "properties": {"markup": "3"}}
    charge = {"id": billed["lago_id"], "billable_metric_id": metric_id, "filters": [dearer]}
    api.put("/plans/pro", {"plan": {"charges": [{**billed, **charge}]}})
    assert [problem for _, problem, *_ in corrections(api, version)] == ["charge_is_changed"]


def test_a_charge_that_was_changed_since_is_done_by_hand(api: Api, billed: Any) -> None:
    version = corrected(api, a="0.5", b="4")
    api.put("/plans/pro", {"plan": {"name": "Another", "amount_cents": 2}})
    assert [status for status, *_ in corrections(api, version)] == ["to_credit"], "the charge is what it was"
    api.put("/plans/pro/charges/llm", {"charge": {"properties": {"markup": "3"}}})
    assert corrections(api, version) == [("by_hand", "charge_is_changed", 1_400, None, 0, None, 0)]
    assert credited(api, version) == []


def test_a_charge_that_was_changed_up_to_a_planned_change_is_done_by_hand(
    api: Api, metric: Any, send: Any
) -> None:
    """What is planned for later stays what it is, and says nothing of the prices until then."""
    approved(api, imported(api, "small", file(a="1", b="4")), _all_shipped(), valid_from="2024-03-01")
    terms = {"charge_model": "catalogue", "properties": {"markup": "1"}}
    api.plan(charges=[charge(metric, code=code, **terms) for code in ("llm", "other")], amount_currency="USD")
    api.subscribe()
    planned = {"charge": {"properties": {"markup": "4"}}, "effective_at": "2024-12-01T00:00:00Z"}
    for each in ("llm", "other"):
        api.put(f"/plans/pro/charges/{each}", planned)
    send(1_000_000, at(20), **A)
    move(api, 2024, 4, 2)
    version = corrected(api, a="0.5", b="4")
    api.put("/plans/pro/charges/llm", {"charge": {"properties": {"markup": "1"}}})
    api.put("/plans/pro/charges/llm", planned)
    assert [status for status, *_ in corrections(api, version)] == ["to_credit"], "nothing was changed"
    api.put("/plans/pro/charges/llm", {"charge": {"properties": {"markup": "3"}}})
    assert [problem for _, problem, *_ in corrections(api, version)] == ["charge_is_changed"]


def test_an_invoice_that_replaces_a_voided_one_is_done_by_hand(api: Api, billed: Any) -> None:
    version = corrected(api, a="0.5", b="4")
    [row] = api.get(f"{version}/corrections")["corrections"]
    api.post(f"/invoices/{row['lago_invoice_id']}/void", {})
    assert corrections(api, version) == []
    api.post(f"/invoices/{row['lago_invoice_id']}/regenerate", {})
    assert corrections(api, version) == [("by_hand", "invoice_is_regenerated", 1_400, None, 0, None, 0)]
    assert credited(api, version) == []


def test_a_minimum_is_looked_at_by_hand(api: Api, metric: Any, send: Any) -> None:
    approved(api, imported(api, "small", file(a="1")), _all_shipped(), valid_from="2024-03-01")
    own = charge(metric, code="llm", charge_model="catalogue", properties={})
    api.plan(charges=[own], amount_currency="USD", minimum_commitment={"amount_cents": 500})
    api.subscribe()
    send(7_000_000, at(10), **A)
    move(api, 2024, 4, 2)
    version = corrected(api, "2024-03-01", a="0.5")
    assert corrections(api, version) == [("by_hand", "minimum_commitment", 700, 350, 0, -350, 0)]


def test_usage_that_has_no_price_any_more_is_done_by_hand(api: Api, billed: Any) -> None:
    version = corrected(api, "2024-03-01", a="1")
    assert corrections(api, version) == [("by_hand", "price_is_gone", 1_400, None, 0, None, 0)]


def test_what_came_back_by_hand_does_not_come_back_again(api: Api, billed: Any) -> None:
    version = corrected(api, "2024-03-01", a="0.5", b="4")
    [row] = api.get(f"{version}/corrections")["corrections"]
    fees = api.get(f"/invoices/{row['lago_invoice_id']}")["invoice"]["fees"]
    items = [{"fee_id": each["lago_id"], "amount_cents": each["amount_cents"]} for each in fees]
    items = [each for each in items if each["amount_cents"]]
    total = sum(each["amount_cents"] for each in items)
    body = {"invoice_id": row["lago_invoice_id"], "credit_amount_cents": total, "items": items}
    api.post("/credit_notes", {"credit_note": body})
    assert corrections(api, version) == [("by_hand", "nothing_left_to_credit", 1_400, 1_100, 0, -300, 0)]
