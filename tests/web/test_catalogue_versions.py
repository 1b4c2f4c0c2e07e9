"""The price catalogue in the web admin: a file is uploaded, compared, and approved with its outliers by name, or deleted."""

from __future__ import annotations

import json
import re
import time
from datetime import timedelta
from typing import Any

import pytest

from permille.api import (
    billable_metrics,
    catalogue_versions,
    charges,
    organization_settings,
    organizations as api_organizations,
    plans,
)
from permille.web import pages
from permille.web.multipart import UploadedFile, read_multipart

from .conftest import SAME_ORIGIN, START, Browser, text_of


def file(**prices: float) -> bytes:
    models = [
        {"id": name, "match": {"equals": name}, "prices": {"input_mtok": amount, "odd_mtok": 1}}
        for name, amount in prices.items()
    ]
    return json.dumps([{"id": "acme", "models": models}]).encode()


def upload(browser: Browser, content: bytes, name: str = "newer.json", **fields: str) -> Any:
    return browser.client.post(
        "/app/catalogue-versions",
        data={"source": "genai-prices", "label": "", **fields},
        files={"prices": (name, content, "application/json")},
        headers=SAME_ORIGIN,
    )


def uploaded(browser: Browser, content: bytes, **fields: str) -> str:
    """The address of the version's page."""
    answer = upload(browser, content, **fields)
    assert answer.status_code == 303, answer.text
    address, _, said = answer.headers["location"].partition("?")
    assert said == "said=imported"
    return str(address.removeprefix("/app"))


def outliers(browser: Browser, address: str) -> list[str]:
    page = browser.ok(address)
    return [each.split('"')[0] for each in page.split('name="accept_outliers" value="')[1:]]


def test_a_file_is_compared_and_approved_with_its_outliers_by_name(browser: Browser) -> None:
    assert "genai-prices-" in text_of(browser.ok("/catalogue-versions"))
    first = uploaded(browser, file(a=1, b=4, c=2))
    assert browser.sent(first, {"accept_outliers": outliers(browser, first)}).endswith("?said=approved")
    second = uploaded(browser, file(a=3, b=4, new=7), label="second")
    words = text_of(browser.ok(second))
    assert "3 prices, against the version of genai-prices that was approved last" in words
    assert "acme/c llm_tokens input text standard outlier $2.00 / 1,000,000 none gone" in words
    assert "acme/a llm_tokens input text standard $1.00 / 1,000,000 $3.00 / 1,000,000 +200 %" in words
    assert "acme/new llm_tokens input text standard none $7.00 / 1,000,000 new" in words
    assert "odd_mtok 3 acme/a" in words
    form = {"valid_from": "2026-10-03", "accept_outliers": ["acme/a"]}
    refused = text_of(browser.refused(second, form))
    assert "name their models" in refused
    assert "What it changes on 2026-10-03" in refused
    assert "Give a date" in text_of(browser.refused(second, {**form, "valid_from": "soon"}))
    browser.sent(second, {**form, "accept_outliers": ["acme/c"]})
    row = "second genai-prices approved from 2026-10-03 on"
    assert row in text_of(browser.ok("/catalogue-versions"))
    assert "Outliers that were accepted acme/c" in text_of(browser.ok(second))
    assert "It is approved" in text_of(browser.refused(second, form))
    assert "approved catalogue version second" in text_of(browser.ok("/audit-log"))


def test_a_version_that_is_not_approved_is_deleted(browser: Browser) -> None:
    address = uploaded(browser, file(a=1))
    lago_id = address.rpartition("/")[2]
    assert browser.sent(f"/delete-catalogue-version/{lago_id}") == "/app/catalogue-versions?said=deleted"
    assert browser.client.get(f"/app{address}").status_code == 404
    assert "newer genai-prices" not in text_of(browser.ok("/catalogue-versions"))


def test_a_file_that_is_none_is_refused(browser: Browser) -> None:
    answer = upload(browser, b"nothing")
    assert answer.status_code == 422
    assert "be read as a price file of that source." in text_of(answer.text)
    assert "Fill this in." in text_of(upload(browser, b"", name="").text)
    assert "be used." in text_of(upload(browser, file(a=1), source="somebody").text)
    assert browser.client.post("/app/catalogue-versions", content=b"x" * 10_000_001,
        headers={**SAME_ORIGIN, "content-type": "multipart/form-data; boundary=b"}).status_code == 413  # fmt: skip
    uploaded(browser, file(a=1))
    assert "This is taken already." in text_of(upload(browser, file(a=1)).text)


def test_both_doors_import_the_same_prices(browser: Browser, api: Any) -> None:
    content = {"acme/a": {"litellm_provider": "acme", "input_cost_per_token": 1e-06}}
    address = uploaded(browser, json.dumps(content).encode(), source="litellm")
    lago_id = address.rpartition("/")[2]
    shown = api(catalogue_versions.show_version, lago_id=lago_id)["catalogue_version"]
    assert (shown["label"], shown["source"], shown["status"]) == ("newer", "litellm", "pending")
    assert shown["imported_by"].endswith("@example.com")
    (change,) = api(catalogue_versions.list_changes, lago_id=lago_id)["changes"]
    assert (change["provider"], change["model"], change["after"]) == ("acme", "a", "1.0")
    approved = api(catalogue_versions.approve_version, {"catalogue_version": {}}, lago_id=lago_id)
    assert approved["catalogue_version"]["status"] == "approved"
    assert "approved" in text_of(browser.ok(address))


def test_versions_without_outliers_are_approved_at_once_where_that_is_wanted(
    browser: Browser, api: Any
) -> None:
    first = uploaded(browser, file(a=1))
    browser.sent(first, {"accept_outliers": outliers(browser, first)})
    assert "Every version waits" in text_of(browser.ok("/catalogue-versions"))
    assert browser.sent("/auto-approve-prices", {"on": "yes"}) == "/app/catalogue-versions?said=saved"
    shown = api(organization_settings.show_organization)["organization"]
    assert shown["auto_approve_prices"] is True
    assert upload(browser, file(a=2)).headers["location"].endswith("?said=approved")
    browser.sent("/auto-approve-prices", {"on": "no"})
    assert "let prices wait for approval in Acme AI" in text_of(browser.ok("/audit-log"))
    uploaded(browser, file(a=3))


def form(*pieces: bytes, end: bytes = b"--b--\r\n") -> bytes:
    return b"".join(b"--b\r\n" + piece + b"\r\n" for piece in pieces) + end


FIELD = b'Content-Disposition: form-data; name="label"\r\n\r\nA \xc3\xa4'
FILE = b'Content-Disposition: form-data; name="prices"; filename="p.json"\r\nContent-Type: x/y\r\n\r\n\r\n--c\r\n\xff\r\n'
EMPTY = b'Content-Disposition: form-data; name="none"; filename=""\r\n\r\n'


def test_a_form_with_files_is_read_to_the_byte() -> None:
    pairs, files = read_multipart(form(FIELD, FILE, EMPTY), "multipart/form-data; boundary=b", 5)
    assert pairs == [("label", "A ä")]
    assert files == {"prices": UploadedFile("p.json", b"\r\n--c\r\n\xff\r\n")}


@pytest.mark.parametrize(
    ("sent", "content_type"),
    [
        (form(FIELD), "multipart/form-data"),
        (form(FIELD), "multipart/form-data; boundary=other"),
        (form(FIELD, end=b""), "multipart/form-data; boundary=b"),
        (b"before" + form(FIELD), "multipart/form-data; boundary=b"),
        (form(b"Content-Disposition: form-data; name=x"), "multipart/form-data; boundary=b"),
        (form(b"Content-Disposition: form-data\r\n\r\nx"), "multipart/form-data; boundary=b"),
        (form(b"Content-Disposition: form-data; name=x\r\n\r\n\xff"), "multipart/form-data; boundary=b"),
        (form(b"X: " + b"x" * 5_000 + b"\r\n\r\nx"), "multipart/form-data; boundary=b"),
        (form(*[FIELD] * 6), "multipart/form-data; boundary=b"),
        (b"", "multipart/form-data; boundary=b"),
        (form(FIELD), "multipart/form-data; boundary=b; x=y"),
        (form(FIELD), 'multipart/form-data; boundary="b'),
        (form(FIELD), "multipart/form-data; boundary=" + "b" * 71),
    ],
)
def test_what_is_no_form_with_files_is_refused(sent: bytes, content_type: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_multipart(sent, content_type, 5)


def test_a_quoted_boundary_and_names_in_any_language_are_read() -> None:
    sent = form(
        'content-disposition:form-data;name="Preise";filename="Übersicht %22neu%22.json"\r\n\r\nx'.encode()
    )
    pairs, files = read_multipart(sent, 'multipart/form-data; boundary="b"', 5)
    assert (pairs, files) == ([], {"Preise": UploadedFile("Übersicht %22neu%22.json", b"x")})


@pytest.mark.parametrize(
    "odd", [b";" * 2_000, b';x="' + b";" * 2_000, b";x=1" * 500, b";filename*0*=a" * 150, b" " * 2_000]
)
def test_heads_of_fields_are_read_in_no_time(odd: bytes) -> None:
    """Everybody waits while a form is read, and nobody has to be signed in to send one."""
    sent = form(*[b'Content-Disposition: form-data; name="a"' + odd + b"\r\n\r\nx"] * 1_000)
    began = time.thread_time()
    for content_type in ("multipart/form-data; boundary=b", "multipart/form-data" + odd.decode() * 30):
        with pytest.raises(ValueError, match="no"):
            read_multipart(sent, content_type, 2_000)
    assert time.thread_time() - began < 0.5


def test_nobody_who_is_not_signed_in_has_a_form_read(
    browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(*_: object, **__: object) -> Any:
        raise AssertionError

    monkeypatch.setattr(pages, "read_form", read)
    for secret in ({}, {"permille": "x" * 43}):
        browser.client.cookies = secret
        answer = upload(browser, b"x")
        assert (answer.status_code, answer.headers["location"]) == (303, "/app/sign-in")


METRIC = {"name": "Tokens", "code": "llm_tokens", "aggregation_type": "sum_agg", "field_name": "quantity"}
USED = {"provider": "acme", "model": "a", "type": "input"}


def priced_by_the_catalogue(browser: Browser, api: Any) -> None:
    """Acme is on a plan that sells tokens at what they cost."""
    made = api(billable_metrics.create_billable_metric, {"billable_metric": METRIC})["billable_metric"]
    charge = {"billable_metric_id": made["lago_id"], "code": "llm", "charge_model": "catalogue"}
    plan = {"name": "P", "code": "p", "interval": "monthly", "amount_cents": 0, "amount_currency": "USD"}
    api(plans.create_plan, {"plan": {**plan, "pay_in_advance": False, "charges": [charge]}})
    for name in ("acme", "other"):
        browser.sent("/new-customer", {"external_id": name, "currency": "USD"})
        form = {"plan_code": "p", "external_id": f"{name}-1", "billing_time": "calendar"}
        browser.sent(f"/subscribe/{name}", form)


def test_invoices_that_billed_too_much_are_credited_one_by_one_or_all(
    browser: Browser, api: Any, send: Any
) -> None:
    first = uploaded(browser, file(a=10))
    browser.sent(first, {"accept_outliers": outliers(browser, first), "valid_from": "2026-10-01"})
    priced_by_the_catalogue(browser, api)
    for name, quantity in (("acme", 1_000_000), ("other", 2_000_000)):
        send("llm_tokens", f"{name}-1", START + timedelta(days=1), quantity=quantity, **USED)
    clock = {"test_clock": {"now": (START + timedelta(days=40)).isoformat()}}
    api(api_organizations.move_test_clock, clock)
    corrected = uploaded(browser, file(a=8), label="corrected")
    browser.sent(corrected, {"valid_from": "2026-10-01"})
    page = browser.ok(corrected)
    assert "acme $10.00 $8.00 $0.00 \N{MINUS SIGN}$2.00 Credit $2.00" in text_of(page)
    assert "other $20.00 $16.00 $0.00 \N{MINUS SIGN}$4.00 Credit $4.00" in text_of(page)
    invoice = re.findall(r'name="invoice" value="([^"]+)"', page)[0]
    path = f"/credit-corrections/{corrected.rpartition('/')[2]}"
    assert browser.sent(path, {"invoice": invoice}).endswith("?said=credited")
    assert text_of(browser.ok(corrected)).count(" Credit $") == 1
    browser.sent(path)
    words = text_of(browser.ok(corrected))
    assert "acme $10.00 $8.00 $2.00 $0.00 Nothing" in words
    assert "other $20.00 $16.00 $4.00 $0.00 Nothing" in words
    assert "Nothing of it comes back by itself" in text_of(browser.refused(path, {"invoice": invoice}))
    dearer = uploaded(browser, file(a=11), label="dearer")
    browser.sent(dearer, {"valid_from": "2026-10-01"})
    assert "acme $10.00 $11.00 $2.00 $3.00 the customer owes more" in text_of(browser.ok(dearer))
    api(charges.delete_charge, code="p", charge_code="llm")
    assert "The charge is gone since." in text_of(browser.ok(dearer))
