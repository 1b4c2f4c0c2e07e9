"""Home and invoices, after a month of usage was billed."""

from __future__ import annotations

import csv
import io
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from urllib.parse import unquote

import psycopg
import pytest

import permille
from permille.api import credit_notes, http
from permille.api.csv_file import csv_file
from permille.config import Config
from permille.events.postgres import rollup
from permille.out import usage_charts
from permille.out.kind import Context
from permille.usecases.usage import charts
from permille.web import invoices

from .conftest import START, join, text_of
from .test_add_ons import SETUP
from .test_metrics import TOKENS
from .test_plans import HEAD


@pytest.fixture
def billed(browser, gpt4, send):
    """October is used and billed: 0.60 for output and 37.50 for input of 8K."""
    send("gpt_4_tokens", "acme-1", model="8K", type="output", tokens=10_000)
    send("gpt_4_tokens", "acme-1", model="8K", type="input", tokens=1_250_000)
    browser.sent("/test-clock", {"to": "period", "back": "/app"})
    with psycopg.connect(browser.dsn, autocommit=True) as conn:
        while rollup.roll_up(conn):
            pass
    (invoice_id,) = browser.row("select id from invoice where organization_id = %s", browser.organization.id)
    return invoice_id


def test_home_of_a_new_organization_says_what_to_do(browser):
    page = browser.ok("")
    assert "First steps" in text_of(page)
    assert "/app/new-billable-metric" in page
    assert "No usage in the last 30 days" in text_of(page)


def test_what_waits_is_what_is_due(browser, billed, api):
    (fee_id,) = browser.row(
        "select id from fee where invoice_id = %s order by amount_cents desc limit 1", billed
    )
    note = {"invoice_id": str(billed), "items": [{"fee_id": str(fee_id), "amount_cents": 1_000}]}
    api(credit_notes.create_credit_note, {"credit_note": {**note, "offset_amount_cents": 1_000}})
    assert "$28.10 1 invoice to be paid" in text_of(browser.ok("")), "less what a note has taken off it"


def test_home_shows_usage_revenue_and_what_waits(browser, billed):
    page = browser.ok("")
    words = text_of(page)
    assert "First steps" not in words
    assert "$38.10 1 invoice to be paid" in words
    assert "$38.10 invoiced in the last 12 months" in words
    assert "Acme Chat, Inc. $38.10" in words
    assert "GPT-4 tokens in the last 30 days by model" not in words, "October 1 is 31 days ago"
    browser.post("/switch-organization", {"organization_id": str(browser.organization.id)})
    assert "Nov 2026, USD: 38.1" in page


def test_home_draws_the_days_of_the_metric(browser, gpt4, send):
    send("gpt_4_tokens", "acme-1", model="8K", type="output", tokens=10_000)
    send("gpt_4_tokens", "acme-1", datetime(2026, 9, 20, tzinfo=UTC), model="32K", type="input", tokens=4_000)
    with psycopg.connect(browser.dsn, autocommit=True) as conn:
        while rollup.roll_up(conn):
            pass
    page = browser.ok("")
    assert "1 Oct, 8K: 10,000" in page
    assert "20 Sep, 32K: 4,000" in page


def test_home_shows_what_is_in_use_too_much_for_a_page_as_it_was_made_in_the_background(
    server, browser, gpt4, send, monkeypatch
):
    def roll_up():
        with psycopg.connect(browser.dsn, autocommit=True) as conn:
            while rollup.roll_up(conn):
                pass

    def jobs():
        return browser.row(
            "select array_agg(args ->> 'key') from procrastinate_jobs where task_name = 'usage chart' and lock like %s",
            f"%{browser.organization.id}%",
        )[0]

    def make(key):
        context = Context(pool=server.engine.pool, config=Config(), renderers={}, is_stopping=lambda: False)
        usage_charts.make(context, key)
        with psycopg.connect(browser.dsn) as conn:
            conn.execute("delete from procrastinate_jobs where args ->> 'key' = %s", [key])

    monkeypatch.setattr(charts, "SIZE_AT_ONCE", 1)
    send("gpt_4_tokens", "acme-1", model="8K", type="output", tokens=10_000)
    roll_up()
    assert "1 Oct, 8K: 10,000" in browser.ok("")
    assert jobs() is None, "one sum is read at once"
    send("gpt_4_tokens", "acme-1", model="32K", type="output", tokens=500)
    roll_up()
    for _ in range(2):
        page = browser.ok("")
        assert "its chart is made in the background" in text_of(page)
        assert "1 Oct, 8K" not in page
    (key,) = jobs()
    make(key)
    page = browser.ok("")
    assert "1 Oct, 8K: 10,000" in page
    assert "1 Oct, 32K: 500" in page
    assert "the chart is made again every few minutes" in text_of(page)
    send("gpt_4_tokens", "acme-1", model="8K", type="output", tokens=1)
    roll_up()
    assert "1 Oct, 8K: 10,000" in browser.ok("")
    assert jobs() is None, "it is kept for a while"
    with psycopg.connect(browser.dsn) as conn:
        conn.execute("update usage_chart set asked_at = asked_at - interval '6 minutes' where id = %s", [key])
    assert "1 Oct, 8K: 10,000" in browser.ok(""), "nobody waits for the next one"
    assert jobs() == [key]
    make(key)
    assert "1 Oct, 8K: 10,001" in browser.ok("")
    other = join(server)
    assert "in the background" not in text_of(other.ok(""))


def test_a_live_organization_sees_events_a_second(server):
    assert "events a second in the last minute" in text_of(join(server, test_mode=False).ok(""))


def test_an_invoice_with_its_breakdown_and_pdf(browser, billed):
    words = text_of(browser.ok(f"/invoices/{billed}"))
    assert "GPT-4 8K context, input tokens 1,250,000 1 $0.03 per 1,000 $37.50" in words
    assert "GPT-4 8K context, output tokens 10,000 1 $0.06 per 1,000 $0.60" in words
    assert "Total $38.10" in words
    assert "1 Oct 2026 to 31 Oct 2026" in words
    answer = browser.client.get(f"/app/invoices/{billed}/pdf")
    assert answer.content.startswith(b"%PDF-")
    assert answer.headers["content-type"] == "application/pdf"
    assert "frame-ancestors 'self'" in answer.headers["content-security-policy"]


def test_a_line_says_where_it_comes_from(browser, billed):
    page = browser.ok(f"/invoices/{billed}")
    lines = re.findall(r'href="/app(/fees/[^"]+)"', page)
    assert len(lines) == 2
    words = text_of(browser.ok(lines[0]))
    assert "1,250,000 units, in packages of 1,000 begun: 1,250 x 0.03 = 37.5" in words
    assert "the same" in words
    assert "1 now, 1 when it was billed" in words
    assert "tokens: 1250000" in words


def test_the_list_its_filters_and_its_empty_states(browser, billed):
    assert "Acme Chat, Inc." in browser.ok("/invoices")
    assert "Acme Chat, Inc." in browser.ok("/invoices", search_term="acme", status="finalized")
    assert "No invoice fits" in text_of(browser.ok("/invoices", payment_status="succeeded"))
    assert "No invoice fits" in text_of(browser.ok("/invoices", issuing_date_to="2026-10-31"))


def test_csv(browser, billed):
    with psycopg.connect(browser.dsn) as conn:
        conn.execute(
            "update customer set name = '=cmd()' where organization_id = %s", [browser.organization.id]
        )
    answer = browser.client.get("/app/invoices.csv")
    assert answer.headers["content-type"].startswith("text/csv")
    (row,) = csv.DictReader(io.StringIO(answer.text))
    assert (row["total"], row["paid"], row["due"], row["currency"]) == ("38.10", "0.00", "38.10", "USD")
    assert row["customer_name"] == "'=cmd()"
    assert row["issuing_date"] == "2026-11-01"
    none = browser.client.get("/app/invoices.csv", params={"payment_status": "succeeded"})
    assert len(none.text.splitlines()) == 1


def test_a_csv_that_has_not_all_says_so(browser, billed, monkeypatch):
    assert "The CSV file has" not in browser.ok("/invoices")
    monkeypatch.setattr(invoices, "ROWS_MAX", 1)
    monkeypatch.setattr(http, "PER_PAGE_MAX", 1)
    assert "Not all" not in browser.client.get("/app/invoices.csv").text
    browser.sent("/new-add-on", {**SETUP, "amount_currency": "USD"})
    browser.sent("/new-one-off/acme", {"add_on-0": "setup"})
    *_, last = browser.client.get("/app/invoices.csv").text.splitlines()
    assert last.startswith("Not all: these are the newest 1 invoices.")
    assert "The CSV file has the newest 1 of these." in text_of(browser.ok("/invoices"))


def test_no_text_of_a_csv_is_a_formula(browser, billed):
    """Whichever column it is in: the number begins with what a user has typed."""
    with psycopg.connect(browser.dsn) as conn:
        conn.execute("alter table invoice disable trigger user")
        conn.execute("update invoice set number = '@SUM(1)' || number")
        conn.execute("alter table invoice enable trigger user")
    answer = browser.client.get("/app/invoices.csv")
    (row,) = csv.DictReader(io.StringIO(answer.text))
    assert row["number"].startswith("'@SUM(1)")
    for start in ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20"):
        made = csv_file("x.csv", ["a", "b", "c"], [[f"{start}1", Decimal("-1.50"), -3]])
        assert isinstance(made.content, bytes)
        cells = list(csv.reader(io.StringIO(made.content.decode(), newline="")))[1]
        assert cells == [f"'{start}1", "-1.50", "-3"]


def test_every_csv_is_written_by_one_function():
    """`import csv` is in one module."""
    source = Path(permille.__file__).parent
    found = [
        path.name
        for path in source.rglob("*.py")
        if re.search(r"^(import|from) csv\b", path.read_text(), re.MULTILINE)
    ]
    assert found == ["csv_file.py"]


def test_invoices_of_others_are_not_to_be_seen(server, browser, billed):
    other = join(server)
    assert other.client.get(f"/app/invoices/{billed}").status_code == 404
    assert other.client.get(f"/app/invoices/{billed}/pdf").status_code == 404
    assert "No invoices yet" in text_of(other.ok("/invoices"))


def test_properties_with_decimals_are_shown_with_every_digit(browser, gpt4, send):
    send(
        "gpt_4_tokens",
        "acme-1",
        model="8K",
        type="input",
        tokens=Decimal("1250.50"),
        tags=["a", Decimal("0.1")],
    )
    words = text_of(browser.ok("/events"))
    assert "tokens: 1250.50 " in words
    assert 'tags: ["a",0.1]' in words.replace("&#34;", '"')
    browser.sent("/test-clock", {"to": "period", "back": "/app"})
    (fee_id,) = browser.row(
        "select id from fee where organization_id = %s and amount_cents > 0", browser.organization.id
    )
    assert "tokens: 1250.50" in text_of(browser.ok(f"/fees/{fee_id}"))


def test_lines_say_their_group_their_own_name_and_that_a_price_is_an_average(browser, api, send):
    browser.sent("/new-billable-metric", {**TOKENS, "key": "", "values": ""})
    tiers = {
        "charge_model": "graduated",
        "others:to": ["2", ""],
        "others:price": ["1", "0.5"],
        "others:flat": ["", ""],
    }
    form = {
        **HEAD,
        "billable_metric_code": "tokens",
        **tiers,
        "charge_name": "Jobs",
        "pricing_group_keys": "project",
    }
    browser.sent("/new-plan", {**form, "options": "yes", "min_amount": "10"})
    browser.sent("/new-customer", {"external_id": "acme", "currency": "USD", "timezone": "Asia/Tokyo"})
    browser.sent("/subscribe/acme", {"plan_code": "all", "external_id": "a", "billing_time": "calendar"})
    send("tokens", "a", tokens=3, project="chatbot")
    send("tokens", "a", tokens=1)
    browser.sent("/test-clock", {"to": "period", "back": "/app"})
    browser.sent("/delete-customer/acme")
    (invoice_id,) = browser.row(
        "select id from invoice where organization_id = %s order by number", browser.organization.id
    )
    page = browser.ok(f"/invoices/{invoice_id}")
    words = text_of(page)
    assert "Jobs project chatbot 3 1 $0.833333 on average $2.50" in words
    assert "Jobs no project 1 1 $1.00 on average $1.00" in words
    assert "up to the agreed minimum 1 0 – $6.50" in words
    assert "everything else" not in words
    fees = [text_of(browser.ok(path)) for path in re.findall(r'href="/app(/fees/[^"]+)"', page)]
    assert "Jobs 1 Oct 2026 to 31 Oct 2026, project chatbot" in fees[0], "days are the customer's"
    assert "Jobs, up to the agreed minimum" in fees[2]


def test_a_fee_names_amended_events_and_leads_back_to_the_first_page(browser, gpt4, send):
    for number in range(26):
        send(
            "gpt_4_tokens", "acme-1", START + timedelta(minutes=number), model="8K", type="input", tokens=1000
        )
    browser.sent("/test-clock", {"to": "period", "back": "/app"})
    (fee_id,) = browser.row(
        "select id from fee where organization_id = %s and amount_cents > 0", browser.organization.id
    )
    page = browser.ok(f"/fees/{fee_id}")
    event = re.findall(r'href="/app(/events/tx-[^"]*)"', page)[3]
    cursor = re.findall(r"cursor=([^\"]*)", page)[0]
    later = browser.ok(f"/fees/{fee_id}", cursor=unquote(cursor))
    assert later.count('href="/app/events/tx-') == 1
    assert "From the first" in later
    browser.sent(event, {"kind": "void", "reason": "A retry"})
    words = text_of(browser.ok(f"/fees/{fee_id}"))
    assert "not the same" in words
    assert "were amended" in words
    assert "voided A retry" in words


def test_the_fees_of_a_customer(browser, billed):
    words = text_of(browser.ok("/customers/acme", tab="fees"))
    assert "GPT-4 , GPT-4 8K context, input tokens acme-1" in words
    assert "Invoice pending 1,250,000 $37.50" in words
    browser.sent("/new-customer", {"external_id": "other"})
    assert "No fee yet." in text_of(browser.ok("/customers/other", tab="fees"))
