"""Mail to customers over the API and from bills: who gets an invoice, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from psycopg_pool import ConnectionPool

from permille.config import from_environment
from permille.core.mail import RECIPIENTS_MAX
from permille.database.connections import open_pool
from permille.out.kind import Context
from permille.out.mail.letters import GoneError, invoice_letter
from permille.store import mails

from .conftest import Api, Server


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
    first = bill(selling, "one", email="a@x.example, junk, b@x.example")
    bill(selling, "nobody")
    bill(selling, "junk", email="junk")
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


def test_the_letter_is_in_the_customers_language_with_the_pdf(selling: Api, server: Server) -> None:
    selling.put(
        "/organizations", {"organization": {"legal_name": "Acme GmbH", "email": "fragen@acme.example"}}
    )
    invoice = bill(selling, "cus", name="Kunde", billing_configuration={"document_locale": "de"})
    pool: ConnectionPool[Any] = open_pool(server.dsn, size=2, name="test-letters")
    try:
        config = replace(from_environment(), database_url=server.dsn)
        context = Context(pool=pool, config=config, renderers={}, is_stopping=lambda: False)
        made = selling.row("select id from invoice where organization_id = %(organization)s")[0]
        letter = invoice_letter(context, selling.organization.id, made)
        selling.post(f"/invoices/{invoice['lago_id']}/void", {})
        with pytest.raises(GoneError):
            invoice_letter(context, selling.organization.id, made)
    finally:
        pool.close()
    assert letter.subject == f"Acme GmbH: Rechnung {invoice['number']}"
    assert letter.reply_to == "fragen@acme.example"
    assert dict(letter.facts)["Zu zahlen"].replace("\u00a0", " ").endswith("€")
    (pdf,) = letter.attachments
    assert pdf.content.startswith(b"%PDF")
