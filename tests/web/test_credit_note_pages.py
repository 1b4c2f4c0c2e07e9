"""One-off invoices, voids and credit notes in the web admin."""

from __future__ import annotations

import re
from urllib.parse import urlencode

import pytest

from permille.api import add_ons as api_add_ons, credit_notes as api_notes, invoices as api_invoices

from .conftest import text_of

ADD_ON = {"name": "Setup", "code": "setup", "amount_cents": 1_250, "amount_currency": "USD"}


@pytest.fixture
def invoice(browser, api):
    """Two lines: 12.50 and 3 for 5.00."""
    browser.sent("/new-customer", {"name": "Acme", "external_id": "acme", "currency": "USD"})
    page = browser.ok("/new-one-off/acme")
    assert "there are none yet" in text_of(page)
    api(api_add_ons.create_add_on, {"add_on": ADD_ON})
    lines = {"add_on-0": "setup", "add_on-2": "setup", "units-2": "3", "price-2": "5.00", "name-2": "Work"}
    to = browser.sent("/new-one-off/acme", lines)
    invoice_id = to.removeprefix("/app/invoices/").split("?", maxsplit=1)[0]
    return api(api_invoices.show_invoice, lago_id=invoice_id)["invoice"]


def test_a_one_off_invoice(browser, invoice):
    assert [(fee["invoice_display_name"], fee["amount_cents"]) for fee in invoice["fees"]] == [
        ("Setup", 1_250),
        ("Work", 1_500),
    ]
    words = text_of(browser.ok(f"/invoices/{invoice['lago_id']}"))
    assert re.search(r"issued .{3,20} by \w[^·]* · due", words)
    assert "Setup" in words
    assert "Void this invoice" in words
    assert "$27.50" in words
    assert "Choose at least one add-on." in text_of(browser.refused("/new-one-off/acme", {}))
    wrong = {"add_on-0": "setup", "add_on-2": "setup", "units-2": "-1", "price-2": "many"}
    page = browser.refused("/new-one-off/acme", wrong)
    assert '<p class="error" id="units-2-error">This is too large or too small.</p>' in page
    assert '<p class="error" id="price-2-error">Give a number, like 1234.50.</p>' in page
    words = text_of(page)
    assert "Units : This is too large or too small. Price of a unit : Give a number, like 1234.50. " in words
    assert page.count('<p class="error"') == 2
    assert "12.5" in text_of(browser.ok(f"/fees/{invoice['fees'][0]['lago_id']}"))


def test_a_credit_note_is_estimated_issued_and_voided(browser, api, invoice):
    path = f"/credit-invoice/{invoice['lago_id']}"
    first, second = (f"fee-{fee['lago_id']}" for fee in invoice["fees"])
    assert "At most $15.00" in text_of(browser.ok(path))
    chosen = {first: "2.50", second: ""}
    assert "Total $2.50" in text_of(browser.ok(path, **chosen))
    assert "more than what is left of this fee" in text_of(browser.ok(path, **{first: "99"}))
    address = f"{path}?{urlencode(chosen)}"
    refused = browser.refused(address, {"credit": "9.00", "reason": "other"})
    assert "don't add up" in text_of(refused).replace("&#39;", "'")
    to = browser.sent(address, {"credit": "2.50", "reason": "order_change", "description": "Half a day"})
    note_id = to.removeprefix("/app/credit-notes/").split("?", maxsplit=1)[0]
    words = text_of(browser.ok(f"/credit-notes/{note_id}"))
    assert "Half a day" in words
    assert "$2.50 credit left" in words
    assert invoice["number"] in text_of(browser.ok("/credit-notes"))
    assert "CN001" in text_of(browser.ok(f"/invoices/{invoice['lago_id']}"))
    browser.sent(f"/credit-notes/{note_id}/void")
    assert api(api_notes.show_credit_note, lago_id=note_id)["credit_note"]["credit_status"] == "voided"


def test_an_invoice_is_voided_with_a_note(browser, api, invoice):
    path = f"/invoices/{invoice['lago_id']}/void"
    assert "more than what is left" in text_of(browser.refused(path, {"choice": "note", "credit": "28"}))
    browser.sent(path, {"choice": "note", "credit": "20.00"})
    assert "nothing of it is due" in text_of(browser.ok(f"/invoices/{invoice['lago_id']}"))
    found = api(api_notes.list_credit_notes)["credit_notes"]
    assert sorted(note["total_amount_cents"] for note in found) == [750, 2_000]


def test_a_voided_invoice_is_made_again(browser, api, gpt4, send):
    send("gpt_4_tokens", "acme-1", model="8K", type="output", tokens=10_000)
    browser.sent("/test-clock", {"to": "period", "back": "/app"})
    (shown,) = api(api_invoices.list_invoices)["invoices"]
    billed = api(api_invoices.show_invoice, lago_id=shown["lago_id"])["invoice"]
    (fee,) = [each for each in billed["fees"] if each["amount_cents"]]
    address = f"/regenerate-invoice/{billed['lago_id']}"
    browser.sent(f"/invoices/{billed['lago_id']}/void", {"choice": "plain"})
    assert f'href="/app{address}"' in browser.ok(f"/invoices/{billed['lago_id']}")
    assert "10,000" in browser.ok(address)
    wrong = {f"units-{fee['lago_id']}": "many"}
    assert "can&#39;t be used" in browser.refused(address, wrong)
    typed = {f"units-{fee['lago_id']}": "2000", f"price-{fee['lago_id']}": "0.00123"}
    to = browser.sent(address, {**typed, f"name-{fee['lago_id']}": "Agreed tokens"})
    words = text_of(browser.ok(to.removeprefix("/app")))
    assert f"It replaces {billed['number']}" in words
    assert "Agreed tokens" in words
    assert "$2.46" in words
    assert "It was replaced by" in text_of(browser.ok(f"/invoices/{billed['lago_id']}"))
