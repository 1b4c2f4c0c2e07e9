"""Mail against a real SMTP server: what arrives, who refuses, what hangs, and each mail once."""

from __future__ import annotations

import asyncio
import dataclasses
import email
import email.policy
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, Envelope, Session
from psycopg_pool import ConnectionPool

from permille.clock import system_now
from permille.config import Config
from permille.core.errors import Invalid
from permille.core.mail import (
    PAUSES,
    MailKind,
    MailSecurity,
    MailServer,
    address,
    addresses,
    allowed_in_test_mode,
)
from permille.core.record import replace
from permille.database.connections import open_pool
from permille.ids import new_id
from permille.out.kind import Context
from permille.out.mail import sending, smtp
from permille.out.mail.letter import Attachment, Letter, message_of
from permille.out.mail.letters import WRITERS
from permille.out.mail.trial import send_trial
from permille.store import mails
from permille.store.mails import NewMail
from permille.usecases import mail as usecase
from tests.live import free_port
from tests.usecases.world import make_world

NOW = datetime(2026, 5, 1, tzinfo=UTC)
LETTER = Letter(
    sender_name="Acme\r\nBcc: x@evil.example",
    reply_to="ask@acme.example",
    subject="Acme: Rechnung 7",
    heading="Rechnung <7>",
    facts=(("Gesamt", "12,50 €"),),
    notes=(),
    language="de",
    is_right_to_left=False,
    attachments=(Attachment(name="7.pdf", content=b"%PDF-1.7"),),
    color="#8a1c1c",
)


@dataclass
class Receiver:
    """A mail server with answers that tests choose."""

    answers: dict[str, str] = field(default_factory=dict)
    """Recipient -> what RCPT answers."""
    data_answer: str = "250 taken"
    hangs: float = 0.0
    received: list[Envelope] = field(default_factory=list)

    async def handle_RCPT(  # noqa: N802 -- the library looks for this name
        self, server: Any, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        del server, session, options
        if address in self.answers:
            return self.answers[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Session, envelope: Envelope) -> str:  # noqa: N802
        del server, session
        self.received.append(envelope)
        await asyncio.sleep(self.hangs)
        return self.data_answer

    @property
    def messages(self) -> list[EmailMessage]:
        return [
            email.message_from_bytes(bytes(each.original_content or b""), policy=email.policy.SMTP)
            for each in self.received
        ]


@pytest.fixture
def receiver() -> Iterator[tuple[Receiver, Config]]:
    handler = Receiver()
    controller = Controller(handler, hostname="127.0.0.1", port=free_port())
    controller.start()
    try:
        yield handler, config_of(controller)
    finally:
        controller.stop()


def config_of(controller: Controller, **settings: Any) -> Config:
    defaults: dict[str, Any] = {"smtp_security": "none", "smtp_timeout_seconds": 10}
    return Config(
        smtp_host="127.0.0.1",
        smtp_port=controller.port,
        mail_from="billing@acme.example",
        **{**defaults, **settings},
    )


@dataclass
class World:
    db: psycopg.Connection[Any]
    pool: ConnectionPool[psycopg.Connection[Any]]
    organization_id: UUID
    config: Config
    now: datetime = NOW

    def queue(self, *to: str, **more: Any) -> UUID:
        new = NewMail(kind=MailKind.INVOICE, object_id=new_id(NOW), recipients=list(to), **more)
        (mail_id,) = mails.add(self.db, self.organization_id, [new], now=NOW, system_now=self.now)
        self.db.commit()
        return mail_id

    def send(self) -> int:
        context = Context(pool=self.pool, config=self.config, renderers={}, is_stopping=lambda: False)
        return sending.send_due(context, str(self.organization_id), clock=lambda: self.now)

    def mail(self, mail_id: UUID) -> mails.Mail:
        found = mails.by_ids(self.db, self.organization_id, [mail_id])[mail_id]
        self.db.rollback()
        return found


@pytest.fixture
def world(
    db: psycopg.Connection[Any], dsn: str, receiver: tuple[Receiver, Config], monkeypatch: pytest.MonkeyPatch
) -> Iterator[World]:
    monkeypatch.setattr(sending, "WRITERS", {MailKind.INVOICE: lambda *_: LETTER})
    made = make_world(db, test_now=None)
    db.commit()
    pool = open_pool(dsn, size=2, name="test-mail")
    try:
        yield World(db, pool, made.id, receiver[1])
    finally:
        pool.close()


def test_what_arrives_is_the_letter_and_a_header_has_one_line(
    world: World, receiver: tuple[Receiver, Config]
) -> None:
    mail_id = world.queue("pay@customer.example", cc=["boss@customer.example"], bcc=["tax@customer.example"])
    assert world.send() == 1
    (envelope,) = receiver[0].received
    assert sorted(envelope.rcpt_tos) == [
        "boss@customer.example",
        "pay@customer.example",
        "tax@customer.example",
    ]
    (message,) = receiver[0].messages
    assert message["To"] == "pay@customer.example"
    assert message["Cc"] == "boss@customer.example"
    assert message["Bcc"] is None
    assert message["From"].addresses[0].addr_spec == "billing@acme.example"
    assert message["From"].addresses[0].display_name == "Acme Bcc: x@evil.example"
    assert (message["Reply-To"], message["Subject"]) == ("ask@acme.example", "Acme: Rechnung 7")
    assert message["Message-ID"] == f"<{mail_id}@acme.example>"
    html, text = message.get_body(("html",)), message.get_body(("plain",))
    assert html is not None
    assert text is not None
    assert "Rechnung &lt;7&gt;" in html.get_content()
    assert "Gesamt: 12,50 €" in text.get_content()
    (pdf,) = message.iter_attachments()
    assert (pdf.get_filename(), pdf.get_content_type()) == ("7.pdf", "application/pdf")
    assert pdf.get_payload(decode=True) == b"%PDF-1.7"
    sent = world.mail(mail_id)
    assert (sent.status, sent.attempts, sent.next_attempt_at, sent.sent_at) == ("sent", 1, None, NOW)
    assert world.send() == 0


@pytest.mark.parametrize(
    ("answer", "status", "waits"),
    [("450 4.2.0 Greylisted", "waiting", True), ("550 5.1.1 No such user", "failed", False)],
)
def test_a_refusal_for_now_is_repeated_and_one_for_good_is_not(
    world: World, receiver: tuple[Receiver, Config], answer: str, status: str, waits: bool
) -> None:
    receiver[0].answers["pay@customer.example"] = answer
    mail_id = world.queue("pay@customer.example")
    world.send()
    refused = world.mail(mail_id)
    assert (refused.status, refused.response) == (status, answer)
    assert refused.next_attempt_at == (NOW + PAUSES[0] if waits else None)
    receiver[0].answers.clear()
    world.now += PAUSES[0]
    world.send()
    assert len(receiver[0].received) == (1 if waits else 0)


def test_the_others_get_it_where_one_is_refused(world: World, receiver: tuple[Receiver, Config]) -> None:
    receiver[0].answers["gone@customer.example"] = "550 5.1.1 No such user"
    mail_id = world.queue("gone@customer.example", "pay@customer.example")
    world.send()
    sent = world.mail(mail_id)
    assert sent.status == "sent"
    assert "refused: gone@customer.example" in (sent.response or "")


def test_attempts_end_and_what_waited_too_long_is_given_up(
    world: World, receiver: tuple[Receiver, Config]
) -> None:
    receiver[0].data_answer = "451 4.3.0 Later"
    mail_id = world.queue("pay@customer.example")
    for pause in (*PAUSES, timedelta(0)):
        assert world.send() == 1
        world.now += pause
    assert world.mail(mail_id).status == "failed"
    assert len(receiver[0].received) == len(PAUSES) + 1
    late = world.queue("pay@customer.example")
    world.now += timedelta(days=4)
    world.send()
    assert world.mail(late).status == "failed"
    assert len(receiver[0].received) == len(PAUSES) + 1


def test_a_server_that_hangs_costs_the_time_limit_and_the_mail_is_not_sent_twice(
    world: World, receiver: tuple[Receiver, Config]
) -> None:
    world.config = dataclasses.replace(world.config, smtp_timeout_seconds=2)
    receiver[0].hangs = 20.0
    mail_id = world.queue("pay@customer.example")
    began = time.monotonic()
    world.send()
    assert time.monotonic() - began < 18
    hung = world.mail(mail_id)
    assert (hung.status, hung.next_attempt_at) == ("unknown", None)
    world.now += timedelta(days=1)
    assert world.send() == 0


def test_a_worker_that_is_killed_sends_no_mail_twice_and_loses_none(
    world: World, receiver: tuple[Receiver, Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before the server can have it, the mail is sent by the next worker; killed later, it is unknown."""

    class Killed(BaseException):
        pass

    def die(*_: Any, **__: Any) -> Any:
        raise Killed

    queued = {world.queue(to): to for to in ("a@customer.example", "b@customer.example")}
    for place, name in ((smtp.Connection, "open"), (sending, "_record")):
        with monkeypatch.context() as patch:
            patch.setattr(place, name, die)
            with pytest.raises(Killed):
                world.send()
    world.now += timedelta(hours=1)
    world.send()
    by_status = {str(world.mail(mail_id).status): mail_id for mail_id in queued}
    assert by_status.keys() == {"sent", "unknown"}
    handed_over, resumed = by_status["unknown"], by_status["sent"]
    assert [each.rcpt_tos for each in receiver[0].received] == [[queued[handed_over]], [queued[resumed]]]
    mails.repeat(world.db, world.organization_id, handed_over, system_now=world.now)
    world.db.commit()
    world.send()
    ids = [each["Message-ID"] for each in receiver[0].messages]
    assert ids[0] == ids[2] != ids[1]


def test_no_server_is_no_attempt_lost(world: World) -> None:
    world.config = dataclasses.replace(world.config, smtp_port=1)
    mail_id = world.queue("pay@customer.example")
    world.send()
    waiting = world.mail(mail_id)
    assert (waiting.status, waiting.attempts) == ("waiting", 1)
    assert "ConnectionRefusedError" in (waiting.response or "")
    world.config = dataclasses.replace(world.config, smtp_host=None)
    world.now += timedelta(hours=1)
    assert world.send() == 0


def test_test_mode_reaches_the_list_only(world: World, receiver: tuple[Receiver, Config]) -> None:
    world.db.execute(
        "update organization set test_mode = true, test_now = now() where id = %s", [world.organization_id]
    )
    nobody = world.queue("pay@customer.example")
    world.send()
    assert world.mail(nobody).status == "suppressed"
    world.config = dataclasses.replace(
        world.config, mail_test_recipients="@acme.example, qa@customer.example"
    )
    world.queue("pay@customer.example", "QA@customer.example", cc=["dev@acme.example"])
    world.send()
    (envelope,) = receiver[0].received
    assert sorted(envelope.rcpt_tos) == ["QA@customer.example", "dev@acme.example"]


def test_starttls_is_checked_and_signed_in(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    handler, seen = Receiver(), []

    def authenticate(_server: Any, session: Session, _envelope: Envelope, _how: str, data: Any) -> AuthResult:
        seen.append((bool(session.ssl), data.login, data.password))
        return AuthResult(success=data.password == b"right")

    controller = Controller(
        handler, hostname="127.0.0.1", port=free_port(), tls_context=context, require_starttls=True,
        authenticator=authenticate, auth_required=True,
    )  # fmt: skip
    controller.start()
    try:
        world.config = config_of(controller, smtp_security="starttls", smtp_user="u", smtp_password="right")
        mail_id = world.queue("pay@customer.example")
        world.send()
        assert "CERTIFICATE_VERIFY_FAILED" in (world.mail(mail_id).response or "")
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        for password, status in (("wrong", "waiting"), ("right", "sent")):
            world.config = dataclasses.replace(world.config, smtp_password=password)
            world.now += timedelta(days=1)
            world.send()
            assert world.mail(mail_id).status == status
        assert all(encrypted for encrypted, *_ in seen)
    finally:
        controller.stop()
    assert len(handler.received) == 1


def test_nothing_is_sent_to_a_server_that_offers_no_starttls(
    world: World, receiver: tuple[Receiver, Config]
) -> None:
    world.config = dataclasses.replace(
        world.config, smtp_security="starttls", smtp_user="u", smtp_password="p"
    )
    mail_id = world.queue("pay@customer.example")
    world.send()
    mail = world.mail(mail_id)
    assert mail.status == "waiting"
    assert "STARTTLS extension not supported by server" in (mail.response or "")
    assert receiver[0].received == []


OWN = MailServer(
    host="127.0.0.1", port=1, security=MailSecurity.NONE, user=None, mail_from="rechnung@shop.example",
    reply_to="hilfe@shop.example",
)  # fmt: skip


def set_own(world: World, **changes: Any) -> None:
    """Give the organization a server of its own."""
    server = dataclasses.replace(OWN, **changes)
    usecase.set_server(world.db, world.organization_id, server, now=world.now)
    world.db.commit()


def test_an_organizations_own_server_is_used_in_place_of_the_installations(
    world: World, receiver: tuple[Receiver, Config]
) -> None:
    world.config = dataclasses.replace(world.config, smtp_host=None, webhook_allow_private=True)
    world.queue("pay@customer.example")
    assert world.send() == 0
    set_own(world, host="localhost", port=receiver[1].smtp_port)
    assert world.send() == 1
    (message,) = receiver[0].messages
    assert message["From"].addresses[0].addr_spec == "rechnung@shop.example"
    assert message["Reply-To"] == "hilfe@shop.example"
    usecase.remove_server(world.db, world.organization_id)
    world.db.commit()
    world.queue("pay@customer.example")
    assert world.send() == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "10.0.0.1", "169.254.169.254", "::1"])
def test_an_own_server_in_a_private_network_is_not_called(
    world: World, receiver: tuple[Receiver, Config], host: str
) -> None:
    set_own(world, host=host, port=receiver[1].smtp_port)
    mail_id = world.queue("pay@customer.example")
    world.send()
    refused = world.mail(mail_id)
    assert (refused.status, receiver[0].received) == ("waiting", [])
    assert "no public address" in (refused.response or "")


def test_a_server_that_fails_is_tried_once_for_all_mails_and_again_when_it_is_mended(
    world: World, receiver: tuple[Receiver, Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usecase, "system_now", lambda: world.now)
    world.config = dataclasses.replace(world.config, webhook_allow_private=True)
    set_own(world)
    ids = [world.queue(f"{number}@customer.example") for number in range(3)]
    assert world.send() == 1
    found = [world.mail(mail_id) for mail_id in ids]
    assert sorted(each.attempts for each in found) == [0, 0, 1]
    assert {each.next_attempt_at for each in found} == {NOW + PAUSES[0]}
    assert all("ConnectionRefusedError" in (each.response or "") for each in found)
    assert world.send() == 0
    world.now += timedelta(seconds=1)
    set_own(world, port=receiver[1].smtp_port)
    assert world.send() == 3
    assert len(receiver[0].received) == 3


def test_a_test_mail_goes_the_same_way(
    world: World, receiver: tuple[Receiver, Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "WRITERS", WRITERS)
    usecase.send_test(world.db, world.organization_id, "me@shop.example", now=NOW)
    world.db.commit()
    world.now = system_now()
    assert world.send() == 1
    assert [each.rcpt_tos for each in receiver[0].received] == [["me@shop.example"]]
    with pytest.raises(Invalid):
        usecase.send_test(world.db, world.organization_id, "junk", now=NOW)


def test_ten_workers_send_each_mail_once(world: World, receiver: tuple[Receiver, Config]) -> None:
    for number in range(12):
        world.queue(f"{number}@customer.example")
    threads = [threading.Thread(target=world.send) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    got = [each.rcpt_tos[0] for each in receiver[0].received]
    assert sorted(got) == sorted(f"{number}@customer.example" for number in range(12))


def test_a_trial_says_what_the_server_answers(receiver: tuple[Receiver, Config]) -> None:
    handler, config = receiver
    good = send_trial(config, "me@acme.example")
    assert (good.ok, len(handler.received)) == (True, 1)
    handler.answers["you@acme.example"] = "550 5.7.1 Not here"
    assert "550 5.7.1 Not here" in send_trial(config, "you@acme.example").text
    assert not send_trial(config, "junk").ok
    assert "PERMILLE_SMTP_HOST" in send_trial(Config(), "me@acme.example").text


def test_addresses() -> None:
    assert addresses("a@x.example, junk, b@x.example,a@x.example") == ["a@x.example", "b@x.example"]
    assert addresses(None) == addresses("") == []
    assert address("a@bücher.example") == "a@xn--bcher-kva.example"
    assert address("a@x.example\nBcc: b@x.example") is None
    assert allowed_in_test_mode(["a@x.example", "b@y.example"], ["@x.example"]) == ["a@x.example"]
    assert allowed_in_test_mode(["a@x.example"], [""]) == []


def mail_to_write() -> mails.Mail:
    return mails.Mail(
        id=new_id(NOW), organization_id=new_id(NOW), kind=MailKind.INVOICE, object_id=new_id(NOW),
        recipients=["a@x.example"], cc=[], bcc=[], status="waiting", attempts=0, next_attempt_at=None,  # type: ignore[arg-type]
        handed_over_at=None, response=None, sent_at=None, queued_at=NOW, created_at=NOW,
    )  # fmt: skip


def test_a_mail_is_written_right_to_left_where_its_language_is() -> None:
    letter = replace(LETTER, language="ar", is_right_to_left=True)
    body = message_of(mail_to_write(), letter, sender="b@acme.example", now=NOW).get_body(("html",))
    assert body is not None
    assert 'dir="rtl"' in body.get_content()


def test_the_logo_is_in_the_mail_and_the_heading_has_the_colour() -> None:
    letter = replace(LETTER, logo_png=b"picture")
    message = message_of(mail_to_write(), letter, sender="b@acme.example", now=NOW)
    again = email.message_from_bytes(message.as_bytes(policy=email.policy.SMTP), policy=email.policy.SMTP)
    page = again.get_body(("html",))
    assert page is not None
    (logo,) = [part for part in again.walk() if part.get_content_type() == "image/png"]
    assert logo.get_payload(decode=True) == b"picture"
    assert f'src="cid:{logo["Content-ID"].strip("<>")}"' in page.get_content()
    assert "color:#8a1c1c" in page.get_content()
    assert [part.get_filename() for part in again.iter_attachments()] == ["7.pdf"]
    text = again.get_body(("plain",))
    assert text is not None
    assert "Gesamt: 12,50 €" in text.get_content()
    plain = message_of(mail_to_write(), LETTER, sender="b@acme.example", now=NOW).get_body(("html",))
    assert plain is not None
    assert "<img" not in plain.get_content()
