"""Mail to customers over the API and from bills: who gets an invoice, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from typing import Any

import pytest
from psycopg_pool import ConnectionPool
from pypdf import PdfReader

from permille.api.mail_servers import delete_mail_server, set_mail_server, show_mail_server
from permille.config import from_environment
from permille.core.errors import Invalid, NotFound
from permille.core.mail import EMAIL_SETTINGS, RECIPIENTS_MAX, MailKind
from permille.database.connections import open_pool
from permille.out import documents
from permille.out.kind import Context
from permille.out.mail.letter import Letter
from permille.out.mail.letters import WRITERS, GoneError
from permille.store import mails

from .conftest import Api, Server
from .test_payments import billed, move, pay


def mails_of(api: Api) -> list[mails.Mail]:
    api.conn.rollback()
    found, _ = mails.listing(api.conn, api.organization.id, status=None, limit=50, offset=0)
    return found


def bill(api: Api, external_id: str, **customer: Any) -> Any:
    """The invoice of a subscription that is paid in advance."""
    api.customer(external_id, **customer)
    body = {"external_customer_id": external_id, "plan_code": "pro", "external_id": external_id}
    api.post("/subscriptions", {"subscription": body})
    (invoice,) = api.get("/invoices", external_customer_id=external_id)["invoices"]
    return invoice


@pytest.fixture
def selling(api: Api) -> Api:
    api.plan(pay_in_advance=True, amount_cents=1_000)
    return api


def test_final_invoices_are_mailed_where_that_is_chosen(selling: Api) -> None:
    bill(selling, "before", email="a@x.example")
    (entity,) = selling.get("/billing_entities")["billing_entities"]
    assert entity["email_settings"] == []
    path = f"/billing_entities/{entity['code']}"
    body = {"billing_entity": {"email_settings": ["invoice.finalized", "invoice.finalized"]}}
    assert selling.put(path, body)["billing_entity"]["email_settings"] == ["invoice.finalized"]
    assert selling.get("/organizations")["organization"]["email_settings"] == ["invoice.finalized"]
    first = bill(selling, "one", email="a@x.example, junk@x.test, b@x.example")
    bill(selling, "nobody")
    bill(selling, "junk", email="junk@x.test")
    assert [(str(each.object_id), each.recipients) for each in mails_of(selling)] == [
        (first["lago_id"], ["a@x.example", "b@x.example"])
    ]
    selling.put(path, {"billing_entity": {"email_settings": []}})
    bill(selling, "after", email="a@x.example")
    assert len(mails_of(selling)) == 1


def test_a_draft_is_mailed_when_it_is_final_and_an_invoice_for_nothing_never(selling: Api) -> None:
    selling.put("/organizations", {"organization": {"email_settings": ["invoice.finalized"]}})
    selling.customer("cus", email="a@x.example", billing_configuration={"invoice_grace_period": 3})
    selling.subscribe()
    assert mails_of(selling) == []
    (draft,) = selling.get("/invoices", external_customer_id="cus")["invoices"]
    selling.put(f"/invoices/{draft['lago_id']}/finalize", {})
    assert [str(each.object_id) for each in mails_of(selling)] == [draft["lago_id"]]
    selling.plan("free", pay_in_advance=True)
    selling.customer("other", email="a@x.example")
    body = {"external_customer_id": "other", "plan_code": "free", "external_id": "other"}
    selling.post("/subscriptions", {"subscription": body})
    assert len(mails_of(selling)) == 1


def test_it_is_sent_to_whom_one_asks(selling: Api) -> None:
    invoice = bill(selling, "cus", email="pay@x.example")
    path = f"/invoices/{invoice['lago_id']}/resend_email"
    assert selling.post(path, {})["mail"]["to"] == ["pay@x.example"]
    mail = selling.post(path, {"to": ["a@bücher.example"], "cc": ["b@x.example"], "bcc": ["c@x.example"]})[
        "mail"
    ]
    assert (mail["to"], mail["cc"], mail["bcc"]) == (
        ["a@xn--bcher-kva.example"],
        ["b@x.example"],
        ["c@x.example"],
    )
    assert mail["status"] == "waiting"


def test_what_is_refused(selling: Api, stranger: Api) -> None:
    selling.customer("drafts", billing_configuration={"invoice_grace_period": 3})
    body = {"external_customer_id": "drafts", "plan_code": "pro", "external_id": "drafts"}
    selling.post("/subscriptions", {"subscription": body})
    (draft,) = selling.get("/invoices", external_customer_id="drafts")["invoices"]
    invoice = bill(selling, "cus")
    path = f"/invoices/{invoice['lago_id']}/resend_email"
    assert selling.details("POST", path, {}) == {"to": ["customer_has_no_email"]}
    assert selling.details("POST", path, {"to": ["a@x.example", "junk"]}) == {"to": ["value_is_invalid"]}
    assert selling.details("POST", path, {"to": "a@x.example"}) == {"to": ["value_is_invalid"]}
    many = [f"{number}@x.example" for number in range(RECIPIENTS_MAX)]
    assert selling.details("POST", path, {"to": many, "cc": ["y@x.example"]}) == {
        "to": ["value_is_out_of_range"]
    }
    refused = selling.code(405, "POST", f"/invoices/{draft['lago_id']}/resend_email", {"to": ["a@x.example"]})
    assert refused == "invoice_not_finalized"
    assert stranger.code(404, "POST", path, {"to": ["a@x.example"]}) == "invoice_not_found"
    bad = {"organization": {"email_settings": ["everything"]}}
    assert selling.details("PUT", "/organizations", bad) == {"email_settings": ["value_is_invalid"]}
    assert mails_of(selling) == []


class Desk:
    """Writes the letters of mails as a worker would."""

    def __init__(self, pool: ConnectionPool[Any], dsn: str) -> None:
        config = replace(from_environment(), database_url=dsn)
        self.context = Context(pool=pool, config=config, renderers={}, is_stopping=lambda: False)

    def write(self, mail: mails.Mail) -> Letter:
        return WRITERS[MailKind(mail.kind)](self.context, mail.organization_id, mail.object_id)


@pytest.fixture
def desk(server: Server) -> Iterator[Desk]:
    pool: ConnectionPool[Any] = open_pool(server.dsn, size=2, name="test-letters")
    try:
        yield Desk(pool, server.dsn)
    finally:
        pool.close()


@pytest.fixture
def german(api: Api) -> Api:
    """An organization that sends everything by mail, and a customer of it that reads German."""
    api.put(
        "/organizations",
        {
            "organization": {
                "legal_name": "Acme GmbH",
                "email": "fragen@acme.example",
                "bank_details": "IBAN DE02",
                "brand_color": "#8A1C1C",
                "email_settings": list(EMAIL_SETTINGS),
            }
        },
    )
    return api


def receivable(api: Api) -> Any:
    """An invoice of 31 euros that is overdue on 6 March."""
    german = {"document_locale": "de"}
    return billed(api, name="Kunde", email="pay@x.example", billing_configuration=german, net_payment_term=0)


def facts(letter: Letter) -> dict[str, str]:
    return {label: value.replace("\u00a0", " ") for label, value in letter.facts}


def test_the_letter_is_in_the_customers_language_with_the_pdf_that_is_kept(german: Api, desk: Desk) -> None:
    invoice = receivable(german)
    (mail,) = mails_of(german)
    letter = desk.write(mail)
    assert letter.subject == f"Acme GmbH: Rechnung {invoice['number']}"
    assert letter.reply_to == "fragen@acme.example"
    assert (facts(letter)["Zu zahlen"], letter.notes) == ("31,00 €", ("IBAN DE02",))
    assert (letter.color, letter.logo_png) == ("#8a1c1c", None)
    (pdf,) = letter.attachments
    assert pdf.name == f"{invoice['number']}.pdf"
    kept = german.row("select content from invoice_document where invoice_id = %(id)s", id=invoice["lago_id"])
    assert bytes(kept[0]) == pdf.content
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(documents, "render_invoice", None)
        assert desk.write(mail).attachments == letter.attachments, "it is not set a second time"
    german.post(f"/invoices/{invoice['lago_id']}/void", {})
    with pytest.raises(GoneError):
        desk.write(mail)


def test_a_receipt_is_mailed_with_its_pdf(german: Api, desk: Desk) -> None:
    invoice = receivable(german)
    pay(german, invoice, 1_050, reference="SEPA 7")
    mail = mails_of(german)[0]
    (receipt,) = german.get("/payment_receipts")["payment_receipts"]
    assert (mail.kind, str(mail.object_id)) == ("payment_receipt", receipt["lago_id"])
    letter = desk.write(mail)
    assert letter.heading == f"Zahlungsbeleg {receipt['number']}"
    assert facts(letter)[f"Rechnung {invoice['number']}"] == facts(letter)["Bezahlt"] == "10,50 €"
    assert receipt["file_url"].endswith(f"/payment_receipts/{receipt['lago_id']}/pdf")
    answer = german.call("GET", f"/payment_receipts/{receipt['lago_id']}/pdf")
    assert answer.content == letter.attachments[0].content
    assert f'"{letter.attachments[0].name}"' in answer.headers["content-disposition"]
    words = PdfReader(BytesIO(answer.content)).pages[0].extract_text()
    assert all(word in words for word in ("Zahlungsbeleg", "SEPA 7", invoice["number"], receipt["number"]))


def test_a_credit_note_is_mailed_with_its_pdf(german: Api, desk: Desk) -> None:
    invoice = german.get(f"/invoices/{receivable(german)['lago_id']}")["invoice"]
    body = {
        "invoice_id": invoice["lago_id"],
        "description": "Kulanz",
        "items": [{"fee_id": invoice["fees"][0]["lago_id"], "amount_cents": 600}],
        "credit_amount_cents": 600,
    }
    note = german.post("/credit_notes", {"credit_note": body})["credit_note"]
    mail = mails_of(german)[0]
    assert (mail.kind, str(mail.object_id)) == ("credit_note", note["lago_id"])
    letter = desk.write(mail)
    assert letter.heading == f"Gutschrift {note['number']}"
    assert facts(letter)["Zur Rechnung"] == invoice["number"]
    assert facts(letter)["Guthaben für spätere Rechnungen"] == "6,00 €"
    assert letter.notes == ("Kulanz",)
    answer = german.call("GET", f"/credit_notes/{note['lago_id']}/pdf")
    assert answer.content == letter.attachments[0].content


def test_requests_are_mailed_to_who_is_asked_with_what_is_still_due(german: Api, desk: Desk) -> None:
    german.put("/organizations", {"organization": {"email_settings": []}})
    invoice = receivable(german)
    move(german, 2024, 3, 8)
    wanted = {
        "external_customer_id": "cus",
        "lago_invoice_ids": [invoice["lago_id"]],
        "email": "boss@x.example",
    }
    german.post("/payment_requests", {"payment_request": wanted})
    (mail,) = mails_of(german)
    assert (mail.kind, mail.recipients) == ("payment_request", ["boss@x.example"])
    pay(german, invoice, 100)
    letter = desk.write(mail)
    assert letter.heading == "Zahlungsaufforderung"
    assert facts(letter)["Zu zahlen"] == "30,00 €"
    assert [each.name for each in letter.attachments] == [f"{invoice['number']}.pdf"]
    assert letter.notes == ("Bitte bezahlen Sie diese überfälligen Rechnungen.", "IBAN DE02")
    pay(german, invoice, 3_000)
    with pytest.raises(GoneError):
        desk.write(mail)


def test_what_somebody_has_marked_as_paid_is_not_asked_for(german: Api, desk: Desk) -> None:
    german.put("/organizations", {"organization": {"email_settings": []}})
    invoice = receivable(german)
    move(german, 2024, 3, 8)
    wanted = {"external_customer_id": "cus", "lago_invoice_ids": [invoice["lago_id"]]}
    german.post("/payment_requests", {"payment_request": wanted})
    german.put(f"/invoices/{invoice['lago_id']}", {"invoice": {"payment_status": "succeeded"}})
    with pytest.raises(GoneError):
        desk.write(mails_of(german)[0])


def test_dunning_is_mailed_by_its_campaign_alone(german: Api, desk: Desk) -> None:
    german.put("/organizations", {"organization": {"email_settings": []}})
    campaign = {
        "code": "late",
        "name": "Late",
        "thresholds": [{"currency": "EUR", "amount_cents": 1}],
        "days_between_attempts": 2,
        "max_attempts": 2,
        "bcc_emails": ["boss@acme.example"],
    }
    german.post("/dunning_campaigns", {"dunning_campaign": campaign})
    german.put("/billing_entities/default", {"billing_entity": {"dunning_campaign_code": "late"}})
    receivable(german)
    move(german, 2024, 3, 20)
    found = mails_of(german)
    assert [(each.kind, each.recipients) for each in found] == 2 * [("payment_request", ["pay@x.example"])]
    assert {tuple(each.bcc) for each in found} == {("boss@acme.example",)}
    assert desk.write(found[0]).heading == "Zahlungserinnerung"


def test_every_kind_is_sent_when_somebody_asks(selling: Api, stranger: Api) -> None:
    invoice = receivable(selling)
    pay(selling, invoice, 100)
    move(selling, 2024, 3, 8)
    fee = selling.get(f"/invoices/{invoice['lago_id']}")["invoice"]["fees"][0]["lago_id"]
    items = [{"fee_id": fee, "amount_cents": 600}]
    note = {"invoice_id": invoice["lago_id"], "items": items, "credit_amount_cents": 600}
    selling.post("/credit_notes", {"credit_note": note})
    wanted = {"external_customer_id": "cus", "lago_invoice_ids": [invoice["lago_id"]]}
    selling.post("/payment_requests", {"payment_request": wanted})
    for name in ("credit_notes", "payment_receipts", "payment_requests"):
        path = f"/{name}/{selling.get(f'/{name}')[name][0]['lago_id']}/resend_email"
        mail = selling.post(path, {"to": ["a@x.example"], "cc": ["b@x.example"], "bcc": ["c@x.example"]})[
            "mail"
        ]
        assert (mail["to"], mail["cc"], mail["bcc"]) == (["a@x.example"], ["b@x.example"], ["c@x.example"])
        assert mail["kind"] == name.removesuffix("s")
        assert selling.post(path, {})["mail"]["to"] == ["pay@x.example"]
        assert stranger.code(404, "POST", path, {"to": ["a@x.example"]}) == f"{mail['kind']}_not_found"


def test_an_operator_sets_an_organizations_mail_server(api: Api) -> None:
    path = {"organization_id": str(api.organization.id)}
    body = {"host": "smtp.example.com", "mail_from": "billing@shop.example", "user": "shop"}
    with pytest.raises(Invalid) as wrong:
        set_mail_server(api.conn, {"mail_server": body}, path)
    assert wrong.value.errors == {"password": ["value_is_mandatory"]}
    shown = set_mail_server(api.conn, {"mail_server": {**body, "password": "secret"}}, path)["mail_server"]
    assert (shown.port, shown.security, shown.has_password) == (587, "starttls", True)
    assert "secret" not in repr(show_mail_server(api.conn, None, path))
    for wrong_body in (
        {"mail_server": {**body, "host": "other.example.com"}},
        {"mail_server": {**body, "user": "somebody"}},
        {"mail_server": {**body, "security": "none"}},
        {"mail_server": {**body, "port": 0}},
        {"mail_server": {**body, "reply_to": "junk"}},
        {"mail_server": {**body, "host": "smtp.example.com/x"}},
    ):
        with pytest.raises(Invalid):
            set_mail_server(api.conn, wrong_body, path)
    delete_mail_server(api.conn, None, path)
    for gone in (show_mail_server, delete_mail_server):
        with pytest.raises(NotFound):
            gone(api.conn, None, path)


def test_a_colour_can_be_read_on_white(api: Api) -> None:
    for color, code in (("#ffff00", "color_is_too_light"), ("red", "invalid_color")):
        body = {"billing_entity": {"brand_color": color}}
        assert api.details("PUT", "/billing_entities/default", body) == {"brand_color": [code]}
    kept = api.put("/billing_entities/default", {"billing_entity": {"brand_color": "#1F4E79"}})
    assert kept["billing_entity"]["brand_color"] == "#1f4e79"
    gone = api.put("/billing_entities/default", {"billing_entity": {"brand_color": None}})
    assert gone["billing_entity"]["brand_color"] is None
