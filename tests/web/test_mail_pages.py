"""Mail in the web admin: the organization's own server, a test, the log of all kinds, and what is sent again."""

from __future__ import annotations

import psycopg

from permille.core.mail import MailStatus
from permille.store import mails

from .conftest import join, text_of
from .test_payment_pages import invoice  # noqa: F401 -- a fixture

SERVER = {
    "host": "smtp.example.com",
    "port": "587",
    "security": "starttls",
    "user": "shop",
    "password": "very secret",
    "mail_from": "billing@shop.example",
}


def secret_of(browser):
    return browser.row("select secret from mail_server where organization_id = %s", browser.organization.id)


def test_an_owner_sets_a_server_whose_password_is_never_shown(server):
    owner = join(server, is_owner=True)
    assert "there is no mail server" in text_of(owner.ok("/mail"))
    words = text_of(owner.refused("/mail-server", {**SERVER, "host": "a b", "mail_from": "junk"}))
    assert "Server" in words
    for wrong in ({"password": ""}, {"security": "none"}, {"port": "70000"}):
        owner.refused("/mail-server", {**SERVER, **wrong})
    owner.sent("/mail-server", SERVER)
    page = owner.ok("/mail-server")
    assert "smtp.example.com:587" in page
    assert "very secret" not in page
    owner.sent("/mail-server", {**SERVER, "password": "", "mail_from": "money@shop.example"})
    assert secret_of(owner) == ("very secret",)
    owner.refused("/mail-server", {**SERVER, "password": "", "host": "smtp.evil.example"})
    audit = owner.row(
        "select string_agg(c.changes::text, '') from audit_change c join audit_entry e on e.id = c.entry_id"
        " where e.organization_id = %s and c.object_type = 'mail_server'",
        owner.organization.id,
    )
    assert "smtp.example.com" in audit[0]
    assert "very secret" not in audit[0]
    assert "from money@shop.example" in text_of(owner.ok("/mail"))
    owner.sent("/mail/test", {"to": "me@shop.example"})
    assert "Test me@shop.example waiting" in text_of(owner.ok("/mail"))
    owner.sent("/mail-server/remove", {})
    assert secret_of(owner) is None


def test_others_see_no_server(browser):
    assert browser.client.get("/app/mail-server").status_code == 403
    assert "An owner sets one" in text_of(browser.ok("/mail"))


def test_each_kind_is_sent_from_its_page_and_is_in_the_log(browser, invoice):  # noqa: F811
    browser.sent(f"/invoices/{invoice}/request")
    payment = {"amount": "0.20", "reference": "bank 1", "paid_at": "2026-11-19"}
    browser.sent(f"/record-payment/{invoice}", payment)
    (receipt,) = browser.row(
        "select id from payment_receipt where organization_id = %s", browser.organization.id
    )
    (request,) = browser.row(
        "select id from payment_request where organization_id = %s", browser.organization.id
    )
    assert f"/app/send-by-mail/payment_receipt/{receipt}" in browser.ok("/payments")
    assert f"/app/send-by-mail/payment_request/{request}" in browser.ok("/payments")
    for kind, row_id in (("invoice", invoice), ("payment_receipt", receipt), ("payment_request", request)):
        browser.sent(f"/send-by-mail/{kind}/{row_id}", {"to": f"{kind}@x.example"})
    words = text_of(browser.ok("/mail"))
    for title, kind in (
        ("Invoice ACM", "invoice"),
        ("Receipt ACM", "payment_receipt"),
        ("Payment request", "payment_request"),
    ):
        assert title in words
        assert f"{kind}@x.example waiting" in words
    assert browser.post("/send-by-mail/test/x", {"to": "a@x.example"}).status_code == 404


def test_mails_that_fail_are_on_the_page_of_holds_with_the_money(browser, invoice):  # noqa: F811
    assert "Mail that did not arrive" not in browser.ok("/holds")
    browser.sent(f"/send-by-mail/invoice/{invoice}", {"to": "gone@x.example"})
    with psycopg.connect(browser.dsn) as conn:
        (mail_id,) = browser.row("select id from mail where object_id = %s", invoice)
        mails.record(conn, mail_id, status=MailStatus.FAILED, response="550 No such user")
    words = text_of(browser.ok("/holds"))
    assert "$0.60" in words.split("Mail that did not arrive")[1]
    assert "failed 550 No such user" in words


def test_a_customers_page_chooses_how_it_is_asked(browser, api):
    campaign = {"name": "Late", "code": "late", "thresholds": "EUR 150", "max_attempts": "3"}
    browser.sent("/new-dunning-campaign", {**campaign, "days_between_attempts": "7"})
    browser.sent("/new-customer", {"external_id": "acme", "name": "Acme"})
    for chosen, excluded, has_own in (("by late", False, True), ("never", True, False), ("", False, False)):
        browser.sent("/edit-customer/acme", {"name": "Acme", "dunning": chosen})
        found = browser.row(
            "select exclude_from_dunning_campaign, dunning_campaign_id is not null from customer"
            " where organization_id = %s",
            browser.organization.id,
        )
        assert found == (excluded, has_own)
        assert f'<option value="{chosen}" selected' in browser.ok("/edit-customer/acme")
