"""What invoices print: the language of the customer, the seller's settings, the reverse-charge note."""

from __future__ import annotations

from datetime import UTC, datetime
from io import BytesIO
from typing import Any

import pytest
from pypdf import PdfReader

from tests.out.test_logos import SVG, Site

from .conftest import Api

NOTE = "Reverse charge: the customer accounts for VAT."


def printed(api: Api) -> str:
    (invoice,) = api.get("/invoices")["invoices"]
    pdf = api.call("GET", f"/invoices/{invoice['lago_id']}/pdf")
    assert pdf.headers["content-type"] == "application/pdf"
    text = " ".join(page.extract_text() for page in PdfReader(BytesIO(pdf.content)).pages)
    return " ".join(text.split()).replace("\u2068", "").replace("\u2069", "")


def bill(api: Api, **customer: Any) -> None:
    api.plan("pro", amount_cents=3_100)
    api.customer(**customer)
    api.subscribe(subscription_at="2024-03-01T00:00:00Z")
    now = datetime(2024, 4, 1, 1, tzinfo=UTC).isoformat()
    api.put("/test_clock", {"test_clock": {"now": now}})


def entity(api: Api, **settings: Any) -> Any:
    return api.put("/billing_entities/default", {"billing_entity": settings})["billing_entity"]


def test_a_locale_is_kept_as_bcp_47_writes_it_and_an_unknown_one_is_refused(api: Api) -> None:
    assert entity(api, document_locale="pt_br")["document_locale"] == "pt-BR"
    assert entity(api, document_locale=None)["document_locale"] == "pt-BR", "null changes nothing"
    configuration = {"document_locale": "de-ch"}
    assert api.customer(billing_configuration=configuration)["billing_configuration"]["document_locale"] == (
        "de-CH"
    )
    organization = api.put(
        "/organizations", {"organization": {"billing_configuration": {"document_locale": "ja"}}}
    )
    assert organization["organization"]["billing_configuration"]["document_locale"] == "ja"
    for bad in ("xx", "english", "de-US", "tlh", 7, True, "e" * 300):
        wrong = {"external_id": "cus", "billing_configuration": {"document_locale": bad}}
        assert "document_locale" in api.details("POST", "/customers", {"customer": wrong}), bad
        settings = {"billing_entity": {"document_locale": bad}}
        assert "document_locale" in api.details("PUT", "/billing_entities/default", settings), bad
    refusal = api.call(
        "PUT", "/billing_entities/default", {"billing_entity": {"document_locale": "xx"}}
    ).json()
    assert refusal["error_details"] == {"document_locale": ["value_is_invalid"]}
    assert {"en", "de", "ar", "zh"} <= set(refusal["allowed"]["document_locale"])
    assert "not written in this language" in refusal["message"]
    cleared = api.customer(billing_configuration={"document_locale": None})
    assert cleared["billing_configuration"]["document_locale"] is None


def test_the_customers_language_wins_over_the_sellers(api: Api) -> None:
    entity(api, document_locale="fr")
    bill(api, billing_configuration={"document_locale": "de"}, country="DE", city="Berlin")
    text = printed(api)
    for said in (
        "Rechnung",
        "Deutschland",
        "31,00 €",
        "1.–31. März 2024",
        "Zahlbar bei Erhalt",
        "Grundgebühr",
    ):
        assert said in text
    api.customer(billing_configuration={"document_locale": None})
    assert "Facture" in printed(api)
    assert "Allemagne" in printed(api)


def test_terms_bank_details_and_other_settings_are_printed(api: Api) -> None:
    settings = {"net_payment_term": 30, "bank_details": "IBAN DE89 3704\nBIC COBADEFF", "country": "US"}
    made = entity(api, reverse_charge_note=NOTE, **settings)
    assert (made["bank_details"], made["reverse_charge_note"]) == (settings["bank_details"], NOTE)
    assert api.get("/organizations")["organization"]["bank_details"] == settings["bank_details"]
    bill(api)
    text = printed(api)
    for said in ("Payment term 30 days", "Due by May 1, 2024", "PAYMENT DETAILS IBAN DE89 3704 BIC COBADEFF"):
        assert said in text
    assert NOTE not in text, "no tax id, no country"


@pytest.mark.parametrize(
    ("seller", "customer", "taxed", "noted"),
    [
        ("DE", {"country": "FR", "tax_identification_number": "FR1"}, False, True),
        ("DE", {"country": "FR", "tax_identification_number": "FR1"}, True, False),
        ("DE", {"country": "DE", "tax_identification_number": "DE1"}, False, False),
        ("DE", {"country": "FR"}, False, False),
        ("DE", {"tax_identification_number": "FR1"}, False, False),
        (None, {"country": "FR", "tax_identification_number": "FR1"}, False, False),
    ],
)
def test_when_the_reverse_charge_note_is_printed(
    api: Api, seller: str | None, customer: dict[str, str], taxed: bool, noted: bool
) -> None:
    entity(api, country=seller, reverse_charge_note=NOTE)
    if taxed:
        api.post(
            "/taxes", {"tax": {"name": "VAT", "code": "vat", "rate": "20", "applied_to_organization": True}}
        )
    bill(api, **customer)
    assert (NOTE in printed(api)) == noted


def test_the_logo_is_printed_and_one_that_cannot_be_had_is_left_out(api: Api) -> None:
    site = Site()
    try:
        entity(api, logo_url=site.put("/logo.svg", SVG))
        bill(api)
        (invoice,) = api.get("/invoices")["invoices"]
        path = f"/invoices/{invoice['lago_id']}/pdf"
        with_logo = api.call("GET", path).content
        assert api.call("GET", path).content == with_logo
        assert len(site.asked) == 1
        entity(api, logo_url=site.put("/gone", b"", 410))
        without = api.call("GET", path)
        assert without.status_code == 200
        assert without.content != with_logo
    finally:
        site.server.shutdown()
        site.server.server_close()
    entity(api, logo_url=None)
    assert api.call("GET", path).content == without.content
