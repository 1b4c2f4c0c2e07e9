"""VAT numbers are looked up in VIES: what it says chooses the tax, and nobody waits for it."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from psycopg_pool import ConnectionPool

from permille.api.webhooks import RENDERERS
from permille.config import Config
from permille.core.customer import Customer
from permille.database.connections import encode_answer, open_pool
from permille.out import vies
from permille.store import vat_checks
from permille.usecases import vat_checks as usecase
from permille.usecases.catalogue import billing_entities, customers, eu_taxes
from tests.out.test_calls import Server

from .world import World, make_world, ts

NOW = ts(2027, 3, 4, 9)
LISBON, ROME, BERLIN = "PT501964843", "IT00743110157", "DE136695976"
REGISTERED = {"isValid": True, "userError": "VALID", "name": "Loja & Filhos", "address": "---"}
UNKNOWN = {"isValid": False, "userError": "INVALID"}


def failing(error: str) -> dict[str, Any]:
    return {"isValid": False, "userError": error}


@dataclass
class Vies:
    """A register with answers that tests choose, by the path's last two parts."""

    answers: dict[str, dict[str, Any]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    server: Server = field(init=False)

    def __post_init__(self) -> None:
        self.server = Server(self._answer)

    def _answer(self, connection: socket.socket) -> None:
        path = self.server.heads[-1].split()[1].decode()
        number = path.removeprefix("/rest-api/ms/").replace("/vat/", "")
        self.asked.append(number)
        body = json.dumps(self.answers.get(number, UNKNOWN)).encode()
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))


@dataclass
class Seller:
    """A live organization in the Netherlands that manages the taxes, and the register that is asked."""

    conn: psycopg.Connection[Any]
    pool: ConnectionPool[Any]
    vies: Vies
    world: World
    is_configured: bool = True

    def save(self, external_id: str = "cus", **columns: Any) -> None:
        before = customers.to_change(self.conn, self.world.id, external_id)
        if before is None:
            customers.add(self.conn, self.world.id, external_id, columns=columns, now=NOW)
        else:
            customers.change(self.conn, before, columns=columns, now=NOW)
        self.conn.commit()

    def look(self, after: timedelta = timedelta()) -> int:
        url = f"http://127.0.0.1:{self.vies.server.port}/rest-api/" if self.is_configured else None
        config = Config(vies_url=url, webhook_allow_private=True)
        self.conn.commit()
        return usecase.look_live(self.pool, config, NOW + after, lambda: False)

    def customer(self, external_id: str = "cus") -> Customer:
        self.conn.rollback()
        return customers.by_external_id(self.conn, self.world.id, external_id)

    def tax(self, external_id: str = "cus") -> list[str]:
        return [each.code.removeprefix("lago_eu_") for each in self.customer(external_id).taxes]

    def said(self) -> list[dict[str, Any]]:
        """What webhooks of look-ups say."""
        rows = self.world.rows("select object_id from webhook where webhook_type = 'customer.vies_check'")
        found = []
        for (check_id,) in rows:
            shown = RENDERERS["customer.vies_check"](self.conn, [check_id])[check_id]
            customer = json.loads(encode_answer(shown))
            assert customer["external_id"] == "cus"
            found.append(customer["vies_check"])
        return found

    def waits_until(self, external_id: str) -> Any:
        customer = self.customer(external_id)
        check = vat_checks.newest_of(self.conn, customer.id, customer.tax_identification_number)
        assert check is not None
        return check.next_attempt_at and check.next_attempt_at - NOW


@pytest.fixture
def pool(dsn: str) -> Iterator[ConnectionPool[Any]]:
    opened = open_pool(dsn, size=3, name="test")
    yield opened
    opened.close()


@pytest.fixture
def seller(db: psycopg.Connection[Any], pool: ConnectionPool[Any]) -> Iterator[Seller]:
    made = sells(db, pool, Vies())
    yield made
    made.vies.server.socket.close()


def sells(db: psycopg.Connection[Any], pool: ConnectionPool[Any], register: Vies, **world: Any) -> Seller:
    made = make_world(db, **{"test_now": None, **world})
    made.set_entity(country="NL", eu_tax_management=True)
    db.execute(
        "insert into webhook_endpoint (id, organization_id, webhook_url, signature_algo, created_at, updated_at)"
        " values (gen_random_uuid(), %s, 'http://127.0.0.1:9/', 'hmac', now(), now())",
        [made.id],
    )
    db.commit()
    return Seller(conn=db, pool=pool, vies=register, world=made)


def test_what_the_register_says_chooses_the_tax_and_is_reported(seller: Seller) -> None:
    seller.vies.answers[LISBON] = REGISTERED
    seller.save(country="PT", tax_identification_number="pt 501 964 843")
    assert (seller.tax(), seller.look(), seller.tax()) == (["reverse_charge"], 1, ["reverse_charge"])
    seller.save(tax_identification_number=ROME)
    assert (seller.tax(), seller.look(), seller.tax()) == (["reverse_charge"], 1, ["pt_standard"])
    seller.save(tax_identification_number="PT501964842")
    assert (seller.look(), seller.look(), seller.tax()) == (1, 0, ["pt_standard"])
    assert seller.vies.asked == [LISBON, ROME], "nothing is asked about a number that can't be one"
    fact = {"valid": False, "valid_format": True, "name": None, "address": None}
    assert seller.said() == [
        {**fact, "valid": True, "vat_number": "pt 501 964 843", "name": "Loja & Filhos"},
        {**fact, "vat_number": ROME},
        {**fact, "valid_format": False, "vat_number": "PT501964842"},
    ]


def test_a_number_that_was_found_to_be_unknown_stays_so_until_it_is_registered(seller: Seller) -> None:
    seller.save(country="PT", tax_identification_number=BERLIN)
    seller.look()
    seller.save(country="ES")
    assert seller.tax() == ["es_standard"], "what is known of the number counts in another country too"
    seller.vies.answers[BERLIN] = REGISTERED
    later = timedelta(seconds=1)
    assert (seller.look(later), seller.tax(), seller.vies.asked) == (1, ["reverse_charge"], [BERLIN] * 2)
    seller.save(name="Otra", zipcode="28001")
    assert (seller.look(), seller.tax()) == (0, ["reverse_charge"]), "a post code is not looked up"


def test_a_tax_that_somebody_chose_stays(seller: Seller) -> None:
    seller.save(country="AT", tax_identification_number=ROME)
    seller.save("other", country="BE")
    chosen = seller.customer("other").taxes[0].id
    seller.save(tax_ids=[chosen], taxes_are_chosen=True)
    assert (seller.look(), seller.tax(), seller.said()[0]["valid"]) == (1, ["be_standard"], False)


def test_a_tax_that_somebody_chose_stays_also_where_it_is_the_one_that_follows(seller: Seller) -> None:
    """Until what decides it changes, or nobody's choice is left."""
    seller.save(country="AT", tax_identification_number=ROME)
    chosen = [seller.customer().taxes[0].id]
    seller.save(tax_ids=chosen, taxes_are_chosen=True)
    assert (seller.look(), seller.tax()) == (1, ["reverse_charge"])
    seller.save(country="BE")
    assert seller.tax() == ["be_standard"]
    seller.vies.answers[ROME] = REGISTERED
    assert (seller.look(timedelta(seconds=1)), seller.tax()) == (1, ["reverse_charge"])


@pytest.mark.parametrize(
    ("error", "others_wait"), [("SERVICE_UNAVAILABLE", True), ("MS_MAX_CONCURRENT_REQ", False)]
)
def test_a_register_that_is_away_is_asked_again_later_each_time(
    seller: Seller, error: str, others_wait: bool
) -> None:
    seller.vies.answers[ROME] = failing(error)
    seller.save("rome", country="IT", tax_identification_number=ROME)
    seller.save(country="DE", tax_identification_number=BERLIN)
    assert seller.look() == (1 if others_wait else 2)
    minute = timedelta(minutes=1)
    assert (seller.waits_until("rome"), seller.waits_until("cus")) == (
        minute,
        minute if others_wait else None,
    )
    seller.look(minute)
    assert (seller.waits_until("rome"), seller.tax("rome")) == (6 * minute, ["reverse_charge"])
    seller.vies.answers[ROME] = UNKNOWN
    seller.look(6 * minute)
    assert (seller.waits_until("rome"), seller.tax("rome")) == (None, ["it_standard"])


def test_a_number_that_is_never_answered_for_holds_up_no_other(seller: Seller) -> None:
    seller.vies.answers[ROME] = failing("VAT_BLOCKED")
    seller.save("rome", country="IT", tax_identification_number=ROME)
    seller.save(country="DE", tax_identification_number=BERLIN)
    minutes = [timedelta(minutes=each) for each in range(4)]
    assert sum(map(seller.look, minutes)) == 3
    assert (seller.waits_until("rome"), seller.waits_until("cus")) == (6 * minutes[1], None)
    assert seller.tax() == ["de_standard"]


def test_what_changed_while_the_register_was_asked_is_not_decided(
    seller: Seller, monkeypatch: pytest.MonkeyPatch
) -> None:
    seller.save(country="PT", tax_identification_number=LISBON)
    real = vies.look_up

    def meanwhile(*asked: Any) -> Any:
        monkeypatch.undo()
        seller.save(tax_identification_number=ROME)
        return real(*asked)

    monkeypatch.setattr(usecase, "look_up", meanwhile)
    seller.vies.answers[ROME] = REGISTERED
    assert (seller.look(), seller.tax()) == (2, ["reverse_charge"])
    assert [each["vat_number"] for each in seller.said()] == [ROME]


def test_nothing_is_asked_in_test_mode_nor_without_an_address_nor_of_who_is_gone(
    seller: Seller, db: psycopg.Connection[Any], pool: ConnectionPool[Any]
) -> None:
    tested = sells(db, pool, seller.vies, name="Test", test_now=NOW)
    tested.save(country="PT", tax_identification_number=LISBON)
    seller.save(country="PT", tax_identification_number=LISBON)
    seller.is_configured = False
    assert seller.look() == 0
    seller.is_configured = True
    customers.remove(db, customers.to_remove(db, seller.world.id, "cus"), now=NOW)
    seller.save(country="PT", tax_identification_number=LISBON)
    entity = seller.customer().billing_entity
    off = {"eu_tax_management": False}
    billing_entities.change(db, seller.world.id, entity, settings=off, now=NOW)
    assert (seller.look(), seller.vies.asked) == (0, [])


def test_a_customer_of_whom_an_answer_cannot_be_recorded_holds_nobody_up(
    seller: Seller, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, minute = eu_taxes.after_check, timedelta(minutes=1)

    def failing_for_one(conn: Any, customer: Customer, **given: Any) -> Any:
        if customer.external_id == "bad":
            raise KeyError("a bug")
        return real(conn, customer, **given)

    def fenced() -> list[Any]:
        seller.conn.rollback()
        return seller.world.rows(
            "select c.external_id, f.failures from fence f left join customer c on c.id = f.customer_id"
            " where f.organization_id = %s",
            seller.world.id,
        )

    seller.save("bad", country="PT", tax_identification_number=LISBON)
    seller.save(country="IT", tax_identification_number=ROME)
    with monkeypatch.context() as patched:
        patched.setattr(eu_taxes, "after_check", failing_for_one)
        assert seller.look() == 2
        assert (seller.waits_until("bad"), seller.waits_until("cus")) == (minute, None)
        assert seller.look(minute) == 1
        assert (seller.waits_until("bad"), fenced()) == (6 * minute, [("bad", 2)])
    assert seller.look(6 * minute) == 1
    assert (seller.waits_until("bad"), fenced(), seller.tax("bad")) == (None, [], ["pt_standard"])
