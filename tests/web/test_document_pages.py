"""What the admin says about documents: their language, characters without a font, a logo that cannot be had."""

from __future__ import annotations

import pytest

from permille.out.pdf import fonts

from .conftest import text_of
from .test_billing_pages import billed as billed_fixture

billed = billed_fixture


def test_a_customer_has_a_language(browser):
    assert "Deutsch" in browser.ok("/new-customer")
    browser.sent("/new-customer", {"external_id": "acme", "name": "Acme", "document_locale": "de"})
    assert '<option value="de" selected>' in browser.ok("/edit-customer/acme")
    browser.sent("/edit-customer/acme", {"name": "Acme", "document_locale": ""})
    assert '<option value="de" selected>' not in browser.ok("/edit-customer/acme")
    browser.sent("/edit-customer/acme", {"name": "Acme GmbH"})
    refused = browser.post("/edit-customer/acme", {"document_locale": "xx"})
    assert refused.status_code == 422


def test_a_regional_variant_is_kept_by_the_form(browser):
    browser.sent("/new-customer", {"external_id": "acme", "document_locale": "de-ch"})
    assert '<option value="de-CH" selected>' in browser.ok("/edit-customer/acme")


@pytest.mark.parametrize("field", ["name", "legal_name", "city"])
def test_characters_without_a_font_are_said_on_the_customers_page(browser, field):
    browser.sent("/new-customer", {"external_id": "acme", field: "ᠮᠣᠩᠭᠣᠯ"})
    words = text_of(browser.ok("/customers/acme"))
    assert "no font with ᠮ (MONGOLIAN LETTER MA)" in words
    assert "1 more" not in words


def test_a_name_that_prints_is_not_mentioned(browser):
    browser.sent("/new-customer", {"external_id": "acme", "name": "Zoë Ωmega ООО"})
    assert "no font with" not in text_of(browser.ok("/customers/acme"))


def test_without_the_noto_fonts_the_page_says_what_prints_as_boxes(browser, monkeypatch):
    monkeypatch.setattr(fonts, "folders", tuple)
    browser.sent("/new-customer", {"external_id": "acme", "name": "株式会社テストだよね"})
    words = text_of(browser.ok("/customers/acme"))
    assert "株 (CJK UNIFIED IDEOGRAPH-682A)" in words
    assert "5 more" in words


def test_characters_without_a_font_are_said_beside_the_pdf(browser, billed):
    assert "may print boxes" not in text_of(browser.ok(f"/invoices/{billed}"))
    browser.row(
        "update billing_entity set bank_details = '\u1820' where organization_id = %s returning 1",
        browser.organization.id,
    )
    words = text_of(browser.ok(f"/invoices/{billed}"))
    assert "The PDF may print boxes: Permille has no font with \u1820 (MONGOLIAN LETTER A)" in words


def test_a_logo_that_cannot_be_had_is_said_beside_the_pdf(browser, billed):
    browser.row(
        "update billing_entity set logo_url = 'http://127.0.0.1:9/logo.png' where organization_id = %s returning 1",
        browser.organization.id,
    )
    answer = browser.client.get(f"/app/invoices/{billed}/pdf")
    assert answer.content.startswith(b"%PDF-")
    words = text_of(browser.ok(f"/invoices/{billed}"))
    assert "The logo is left out: http://127.0.0.1:9/logo.png could not be fetched" in words
    assert "ConnectError" in words
