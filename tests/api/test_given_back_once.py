"""Money comes back to a customer once, by whichever ways it may come back, over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from .conftest import Api
from .test_activation_rules import gate
from .test_amendments import Sender, send
from .test_credit_notes import move, notes
from .test_credit_notes_by_hand import asked, issue, pay
from .test_progressive_billing import at, use, world

__all__ = ["send"]


@pytest.fixture
def payer(api: Api) -> Api:
    """100.00 for a month from March 5th in advance (31 days), with 20 % of tax: 120.00."""
    api.post("/taxes", {"tax": {"name": "VAT", "code": "vat", "rate": "20", "applied_to_organization": True}})
    api.plan("pro", amount_cents=10_000, pay_in_advance=True)
    api.customer()
    return api


def bought(api: Api, granted: str = "0", **fields: Any) -> Any:
    """The invoice of a start, with so much in a wallet."""
    if granted != "0":
        open_wallet(api, granted, **fields)
    api.subscribe(billing_time="anniversary")
    return whole(api, api.get("/invoices")["invoices"][0])


def open_wallet(api: Api, granted: str, **fields: Any) -> Any:
    body = {"external_customer_id": "cus", "rate_amount": "1", "currency": "EUR", "granted_credits": granted}
    return api.post("/wallets", {"wallet": {**body, **fields}})["wallet"]


def whole(api: Api, invoice: Any) -> Any:
    return api.get(f"/invoices/{invoice['lago_id']}")["invoice"]


def void(api: Api, invoice: Any, **body: Any) -> Any:
    return api.post(f"/invoices/{invoice['lago_id']}/void", body)["invoice"]


def again(api: Api, invoice: Any, *fees: Any) -> Any:
    body = {"fees": list(fees)} if fees else {}
    return api.post(f"/invoices/{invoice['lago_id']}/regenerate", body)["invoice"]


def balances(api: Api) -> list[int]:
    found = api.get("/wallets", external_customer_id="cus")["wallets"]
    return [each["balance_cents"] for each in sorted(found, key=lambda each: each["priority"])]


def credit_of(note: Any) -> tuple[int, str]:
    return note["balance_amount_cents"], note["credit_status"]


def refused(api: Api, invoice: Any, cents: int, **parts: Any) -> Any:
    return api.details("POST", "/credit_notes", asked(invoice, cents, **parts))


TOO_MUCH = ["higher_than_remaining_invoice_amount"]


def test_wallets_get_back_what_credit_notes_have_left(payer: Api) -> None:
    """76.54 of 120.00 are paid by a wallet and 43.46 by a payment; 55.55 come back by a note, and the wallet's after it."""
    api = payer
    invoice = bought(api, "76.54")
    pay(api, invoice, 4_346)
    issue(api, invoice, 4_629, credit_amount_cents=5_555)
    void(api, invoice)
    assert balances(api) == [12_000 - 5_555]
    assert [credit_of(note) for note in notes(api)] == [(5_555, "available")]
    found = api.post("/credit_notes/estimate", asked(invoice, 1))["estimated_credit_note"]
    assert (found["max_creditable_amount_cents"], found["max_refundable_amount_cents"]) == (0, 0)
    assert refused(api, invoice, 1, credit_amount_cents=1) == {"base": TOO_MUCH}


def test_what_is_left_after_a_void_comes_back_by_a_note(payer: Api) -> None:
    """50.01 of 120.00 are paid by a wallet, 69.99 by a payment, and 12.00 come back before: 57.99 are left."""
    api = payer
    invoice = bought(api, "50.01")
    pay(api, invoice, 6_999)
    issue(api, invoice, 1_000, credit_amount_cents=1_200)
    void(api, invoice)
    assert balances(api) == [5_001]
    found = api.post("/credit_notes/estimate", asked(invoice, 9_000))["estimated_credit_note"]
    assert (found["max_creditable_amount_cents"], found["max_refundable_amount_cents"]) == (5_799, 5_799)
    assert refused(api, invoice, 4_834, credit_amount_cents=5_801) == {"base": TOO_MUCH}
    issue(api, invoice, 2_500, refund_amount_cents=3_000)
    assert refused(api, invoice, 2_334, refund_amount_cents=2_801) == {
        "base": TOO_MUCH, "refund_amount_cents": TOO_MUCH,
    }  # fmt: skip
    note = issue(api, invoice, 2_332, refund_amount_cents=2_798)
    assert note["total_amount_cents"] == 2_798


def test_wallets_get_back_in_the_order_in_which_they_paid(payer: Api) -> None:
    """33.33 and 86.67 are paid by two wallets, the second with 2.21 left; 60.01 come back by a note before."""
    api = payer
    open_wallet(api, "33.33", priority=1)
    invoice = bought(api, "44.44", priority=2, rate_amount="2")
    assert invoice["prepaid_credit_amount_cents"] == 3_333 + 8_667
    issue(api, invoice, 5_001, credit_amount_cents=6_001)
    void(api, invoice)
    assert balances(api) == [3_333, 221 + 12_000 - 6_001 - 3_333]


def test_credit_of_an_invoice_that_nobody_has_paid_is_given_up_with_it(payer: Api) -> None:
    """10.01 of 120.00 are paid; the credit of 60.00 is 10.01 then, and a note of which all is gone is void."""
    api = payer
    invoice = bought(api)
    pay(api, invoice, 1_001)
    first = issue(api, invoice, 2_500, credit_amount_cents=3_000)
    second = issue(api, invoice, 2_500, credit_amount_cents=3_000)
    void(api, invoice)
    of = {note["lago_id"]: credit_of(note) for note in notes(api)}
    assert (of[first["lago_id"]], of[second["lago_id"]]) == ((1_001, "available"), (0, "voided"))
    path = f"/credit_notes/{first['lago_id']}/void"
    assert credit_of(api.put(path, {})["credit_note"]) == (0, "voided")
    found = api.post("/credit_notes/estimate", asked(invoice, 5_000))["estimated_credit_note"]
    assert found["max_refundable_amount_cents"] == 1_001


def test_a_note_that_was_given_up_gives_nothing(payer: Api) -> None:
    api = payer
    invoice = bought(api, "120")
    note = issue(api, invoice, 5_000, credit_amount_cents=6_000)
    api.put(f"/credit_notes/{note['lago_id']}/void", {})
    void(api, invoice)
    assert balances(api) == [12_000]


def test_the_bank_has_given_back_what_a_dispute_was_lost_about(payer: Api) -> None:
    api = payer
    invoice = bought(api, "20")
    pay(api, invoice, 10_000)
    api.post(f"/invoices/{invoice['lago_id']}/lose_dispute", {})
    assert refused(api, invoice, 5_000, refund_amount_cents=6_000) == {
        "refund_amount_cents": ["cannot_refund_unpaid_invoice"]
    }
    issue(api, invoice, 1_000, credit_amount_cents=1_200)
    void(api, invoice)
    assert balances(api) == [800]


def test_a_void_with_parts_leaves_nothing_for_later_notes(payer: Api) -> None:
    api = payer
    invoice = bought(api, "50")
    pay(api, invoice, 7_000)
    issue(api, invoice, 1_000, credit_amount_cents=1_200)
    wrong = {"generate_credit_note": True, "credit_amount": 3_801, "refund_amount": 7_000}
    assert api.details("POST", f"/invoices/{invoice['lago_id']}/void", wrong)
    void(api, invoice, generate_credit_note=True, credit_amount=3_800, refund_amount=7_000)
    assert balances(api) == [0]
    assert sum(note["total_amount_cents"] for note in notes(api)) == 12_000
    assert refused(api, invoice, 1, credit_amount_cents=1)


@pytest.mark.parametrize("paid_by", ["wallet", "payment", "nobody", "spent"])
def test_an_invoice_that_is_voided_and_made_again_after_an_end_changes_nothing(
    payer: Api, paid_by: str
) -> None:
    """An end leaves 15 of 31 days, 58.07 with taxes: whoever pays, 61.93 is what the days that were used have cost."""
    api = payer
    invoice = bought(api, "120" if paid_by == "wallet" else "0")
    if paid_by == "payment":
        pay(api, invoice, 12_000)
    move(api, 2024, 3, 20, 12)
    api.delete("/subscriptions/sub")
    (note,) = notes(api)
    assert note["total_amount_cents"] == 5_807
    spent = 0
    if paid_by == "spent":
        api.subscribe("other", billing_time="anniversary")
        spent = sum(each["credit_notes_amount_cents"] for each in api.get("/invoices")["invoices"])
        assert spent == 5_807
    void(api, invoice)
    made = again(api, invoice)
    assert (made["fees_amount_cents"], made["sub_total_including_taxes_amount_cents"]) == (10_000, 12_000)
    left = sum(note["balance_amount_cents"] for note in notes(api))
    got = sum(balances(api)) + left + spent - made["total_due_amount_cents"]
    by_hand = 12_000 - 5_807 if paid_by == "payment" else 0  # what of the payment is left to refund
    paid = 12_000 if paid_by in ("wallet", "payment") else 0
    assert got + by_hand == paid - (12_000 - 5_807)
    newest = [note for note in notes(api) if note["lago_invoice_id"] == made["lago_id"]]
    assert [(each["total_amount_cents"], each["reason"]) for each in newest] == [
        (5_807, "order_cancellation")
    ]
    chained = again(api, void(api, made))
    assert chained["sub_total_including_taxes_amount_cents"] == 12_000


def test_what_came_back_of_a_fee_that_is_changed_by_hand_does_not_come_back_again(payer: Api) -> None:
    api = payer
    invoice = bought(api, "120")
    issue(api, invoice, 1_000, credit_amount_cents=1_200)
    (fee,) = invoice["fees"]
    void(api, invoice)
    again(api, invoice, {"id": fee["lago_id"], "unit_amount_cents": 9_000})
    assert len(notes(api)) == 1


def test_credits_of_a_void_invoice_are_not_waited_for(api: Api) -> None:
    """A threshold buys 10.00; their invoice is voided, and at the next look it buys them again."""
    api.customer()
    rule = {"trigger": "threshold", "threshold_credits": "5", "paid_credits": "10"}
    wallet = open_wallet(api, "3", recurring_transaction_rules=[rule])
    move(api, 2024, 3, 6)
    (sold,) = api.get("/invoices")["invoices"]
    void(api, sold)
    move(api, 2024, 3, 7)
    found = api.get(f"/wallets/{wallet['lago_id']}/wallet_transactions", transaction_status="purchased")
    assert [each["status"] for each in found["wallet_transactions"]] == ["pending", "failed"]


def test_refunds_are_of_what_was_paid_whatever_becomes_of_their_invoices(payer: Api) -> None:
    """100.37 are bought, pay an invoice, come back by its void, and are refunded: once."""
    api = payer
    open_wallet(api, "0", paid_credits="100.37")
    (sold,) = api.get("/invoices")["invoices"]
    sold = whole(api, sold)
    pay(api, sold, 10_037)
    bought(api)
    void(api, sold)
    whole_refund = {"refund_amount_cents": 10_037}
    assert refused(api, sold, 10_037, **whole_refund) == {"amount_cents": ["higher_than_wallet_balance"]}
    (used,) = (each for each in api.get("/invoices")["invoices"] if each["invoice_type"] == "subscription")
    void(api, used)
    issue(api, sold, 10_037, **whole_refund)
    assert balances(api) == [0]
    assert refused(api, sold, 1, refund_amount_cents=1)


def test_what_notes_have_paid_of_a_void_invoice_may_come_back_by_a_note(payer: Api) -> None:
    api = payer
    first = bought(api)
    pay(api, first, 12_000)
    issue(api, first, 5_001, credit_amount_cents=6_001)
    api.subscribe("other", billing_time="anniversary")
    (second,) = (each for each in api.get("/invoices")["invoices"] if each["credit_notes_amount_cents"])
    second = whole(api, second)
    void(api, second)
    assert refused(api, second, 5_002, credit_amount_cents=6_002) == {"base": TOO_MUCH}
    issue(api, second, 5_001, credit_amount_cents=6_001)
    void(api, first)
    assert refused(api, first, 5_000, refund_amount_cents=6_000)
    issue(api, first, 4_999, refund_amount_cents=5_999)


def test_a_void_of_a_bill_at_a_threshold_gives_back_what_its_excess_has_left(api: Api, send: Sender) -> None:
    """60.00 at a threshold; 40.00 are billed in the end, and 20.00 come back by a note: the void gives the other 40.00."""
    world(api, 5_000)
    open_wallet(api, "100")
    use(api, send, 60, at(6))
    (early,) = api.get("/invoices")["invoices"]
    move(api, 2024, 4, 1, 12)
    (closing,) = (each for each in api.get("/invoices")["invoices"] if each["invoice_type"] == "subscription")
    closing = whole(api, closing)
    used = next(fee for fee in closing["fees"] if fee["item"]["type"] == "charge")
    void(api, closing)
    made = again(api, closing, {"id": used["lago_id"], "units": 40})
    void(api, early)
    assert balances(api) == [10_000 - 871 - 2_000]
    void(api, made)
    assert balances(api) == [10_000 - 2_000]
    assert [note["balance_amount_cents"] for note in notes(api)] == [2_000]


@pytest.mark.parametrize("made_again", [False, True])
def test_credit_that_comes_back_from_a_gate_is_given_up_with_the_void_of_its_invoice(
    payer: Api, made_again: bool
) -> None:
    """30.00 of credit on an unpaid invoice pay a gated one; the first is voided before the gate is given up."""
    api = payer
    invoice = bought(api)
    pay(api, invoice, 1_001)
    issue(api, invoice, 2_500, credit_amount_cents=3_000)
    gate(api, "other", billing_time="anniversary")
    assert [credit_of(note) for note in notes(api)] == [(0, "consumed")]
    void(api, invoice)
    due = again(api, invoice)["total_due_amount_cents"] if made_again else 0
    api.delete("/subscriptions/other", status="incomplete")
    left = sum(note["balance_amount_cents"] for note in notes(api))
    assert left - due == (1_001 - 9_000 if made_again else 1_001)


@pytest.mark.parametrize("paid_by", ["wallet", "nobody"])
def test_what_was_spent_of_a_note_that_was_given_up_comes_back_again(payer: Api, paid_by: str) -> None:
    """Of a note of 60.00 15.13 are spent and 44.87 given up by hand: 104.87 is what the invoice has cost."""
    api = payer
    invoice = bought(api, "120" if paid_by == "wallet" else "0")
    note = issue(api, invoice, 5_000, credit_amount_cents=6_000)
    api.plan("small", amount_cents=1_261, pay_in_advance=True)
    api.subscribe("other", plan_code="small", billing_time="anniversary")
    api.put(f"/credit_notes/{note['lago_id']}/void", {})
    assert [credit_of(each) for each in notes(api)] == [(0, "voided")]
    for _ in range(2):
        void(api, invoice)
        invoice = again(api, invoice)
        left = sum(each["balance_amount_cents"] for each in notes(api))
        got = sum(balances(api)) + left + 1_513 - invoice["total_due_amount_cents"]
        assert got == (12_000 if paid_by == "wallet" else 0) - (12_000 - 1_513)
