"""POST and GET /events/amendments: usage follows at once, fees are explained, invoices stay."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from psycopg_pool import ConnectionPool

from permille.core.instants import microseconds
from permille.events.draft import Draft
from permille.events.log import Request
from permille.events.postgres.writer import Memory, open_connection, store
from permille.usecases.invoices import advance

from .conftest import START, Api, charge

PATH = "/events/amendments"
_numbers = itertools.count(1)


class Sender:
    """Events of one organization, stored as ingestion does."""

    def __init__(self, dsn: str, api: Api) -> None:
        self.api, self.conn, self.memory = api, open_connection(dsn), Memory()

    def __call__(
        self, at: datetime = START, sub: str | None = "sub", code: str = "tokens", **properties: Any
    ) -> str:
        return self.named(f"amd-{next(_numbers)}", at, sub, code, **properties)

    def named(
        self,
        name: str,
        at: datetime = START,
        sub: str | None = "sub",
        code: str = "tokens",
        **properties: Any,
    ) -> str:
        request = Request(
            self.api.organization.id,
            [Draft(name, code, sub, microseconds(at), None, properties)],
            microseconds(at),
        )
        store(self.conn, self.memory, [request])
        assert request.duplicates in ([], [0])
        return "" if request.duplicates else name


@pytest.fixture
def send(dsn: str, api: Api) -> Any:
    sender = Sender(dsn, api)
    yield sender
    sender.conn.close()


def asked(event: str, kind: str = "void", **fields: Any) -> dict[str, Any]:
    return {
        "transaction_id": f"fix-{next(_numbers)}",
        "event_transaction_id": event,
        "external_subscription_id": "sub",
        "kind": kind,
        "reason": "Counted twice by the gateway",
        **fields,
    }


def amend(api: Api, event: str, kind: str = "void", **fields: Any) -> Any:
    return api.post(PATH, {"amendment": asked(event, kind, **fields)})["amendment"]


def refused(api: Api, body: Any) -> Any:
    return api.details("POST", PATH, body)


def ready(api: Api, *, aggregation: str = "sum_agg", price: str = "0.01", **fields: Any) -> None:
    metric = api.metric(
        aggregation_type=aggregation,
        field_name=None if aggregation == "count_agg" else "tokens",
        filters=[{"key": "model", "values": ["8K", "32K"]}],
        **fields,
    )
    properties = {"amount": price, "pricing_group_keys": ["team"]}
    api.plan("pro", [charge(metric, properties=properties)])
    api.customer()
    api.subscribe()


def used(api: Api) -> Any:
    found = api.get("/customers/cus/current_usage", external_subscription_id="sub")
    (line,) = found["customer_usage"]["charges_usage"]
    return line["units"], line["events_count"], line["amount_cents"]


def move(api: Api, *when: Any) -> None:
    at = datetime(*when).replace(tzinfo=UTC).isoformat()
    api.put("/test_clock", {"test_clock": {"now": at}})


def test_usage_follows_at_once(api: Api, send: Sender) -> None:
    ready(api)
    first, second = send(tokens=100), send(tokens=50, team="red")
    assert used(api) == ("150.0", 2, 150)
    amend(api, first)
    assert used(api) == ("50.0", 1, 50)
    amend(api, second, "replace", properties={"tokens": 70, "team": "blue"})
    assert used(api) == ("70.0", 1, 70)
    amend(api, second, "replace", timestamp=int((START - timedelta(days=40)).timestamp()))
    assert used(api) == ("0.0", 0, 0)
    amend(api, second, "replace", code="other")
    assert used(api) == ("0.0", 0, 0)
    amend(api, first, "replace", properties={"tokens": 5})
    assert used(api) == ("5.0", 1, 5)


@pytest.mark.parametrize(
    ("aggregation", "expected"),
    [
        ("count_agg", ["3.0", "2.0", "3.0"]),
        ("sum_agg", ["12.0", "5.0", "6.0"]),
        ("max_agg", ["7.0", "3.0", "3.0"]),
        ("latest_agg", ["7.0", "3.0", "1.0"]),
        ("unique_count_agg", ["3.0", "2.0", "3.0"]),
    ],
)
def test_every_aggregation_follows(api: Api, send: Sender, aggregation: str, expected: list[str]) -> None:
    ready(api, aggregation=aggregation)
    for hour, tokens in enumerate((2, 3)):
        send(START + timedelta(hours=hour), tokens=tokens)
    last = send(START + timedelta(hours=3), tokens=7)
    found = [used(api)[0]]
    amend(api, last)
    found.append(used(api)[0])
    amend(api, last, "replace", properties={"tokens": 1})
    found.append(used(api)[0])
    assert found == expected


def test_a_weighted_sum_follows(api: Api, send: Sender) -> None:
    ready(api, aggregation="weighted_sum_agg", weighted_interval="seconds", price="1")
    send(tokens=10)
    whole = used(api)[0]
    wrong = send(START + timedelta(days=2), tokens=20)
    assert used(api)[0] != whole
    amend(api, wrong)
    assert used(api)[0] == whole
    amend(api, wrong, "replace", timestamp=int(START.timestamp()))
    assert round(Decimal(used(api)[0]), 9) == round(Decimal(whole) * 3, 9)


def test_a_removal_that_was_wrong(api: Api, send: Sender) -> None:
    ready(api, aggregation="unique_count_agg")
    send(tokens="seat-1")
    removal = send(tokens="seat-1", operation_type="remove")
    assert used(api)[0] == "0.0"
    amend(api, removal, "replace", properties={"tokens": "seat-2", "operation_type": "remove"})
    assert used(api)[0] == "1.0"


def test_a_replacement_keeps_its_place_among_events_of_one_instant(api: Api, send: Sender) -> None:
    ready(api, aggregation="latest_agg")
    first = send(tokens=1)
    send(tokens=2)
    amend(api, first, "replace", properties={"tokens": 9})
    assert used(api)[0] == "2.0"


def test_an_expression_makes_what_a_replacement_counts(api: Api, send: Sender) -> None:
    ready(api, expression="event.properties.mb / 1024")
    name = send(mb=1024)
    made = amend(api, name, "replace", properties={"mb": 2048})
    assert used(api)[0] == "2.0"
    assert made["replacement"]["properties"] == {"mb": 2048}
    body = {"amendment": asked(name, "replace", properties={"gb": 1})}
    (problem,) = refused(api, body)["properties"]
    assert problem.startswith("expression_evaluation_failed")
    assert used(api)[0] == "2.0"


def test_what_is_answered_listed_and_shown(api: Api, send: Sender) -> None:
    ready(api)
    name = send(tokens=100, model="8K")
    first = amend(api, name, "replace", properties={"tokens": 7}, precise_total_amount_cents="1.5")
    second = amend(api, name)
    assert first["kind"] == "replace"
    assert first["replacement"] == {
        "code": "tokens",
        "timestamp": "2024-03-05T10:00:00.000Z",
        "precise_total_amount_cents": "1.5",
        "properties": {"tokens": 7},
    }
    assert first["reason"] == "Counted twice by the gateway"
    assert first["lago_superseded_by_id"] is None
    key = api.row("select id from api_key where organization_id = %(organization)s")[0]
    assert first["lago_api_key_id"] == str(key)
    assert first["created_at"] == "2024-03-05T10:00:00Z"
    assert first["proposed_credit_notes"] == []
    assert second["replacement"] is None

    event = api.get(f"/events/{name}")["event"]
    assert event["properties"] == {"tokens": 100, "model": "8K"}, "as it was sent"
    assert event["lago_id"] == first["lago_event_id"] == second["lago_event_id"]
    assert [each["lago_id"] for each in event["amendments"]] == [first["lago_id"], second["lago_id"]]
    assert event["amendments"][0]["lago_superseded_by_id"] == second["lago_id"]

    other = send(tokens=1)
    listed = api.get("/events")
    assert listed["meta"]["total_count"] == 2
    assert {each["transaction_id"]: len(each["amendments"]) for each in listed["events"]} == {
        name: 2,
        other: 0,
    }


def test_a_list_counts_what_was_sent(api: Api, send: Sender) -> None:
    ready(api)
    names = [send(START + timedelta(hours=n), tokens=n) for n in range(4)]
    amend(api, names[0])
    amend(api, names[1], "replace", code="other")
    amend(api, names[2], "replace", timestamp=int((START + timedelta(days=9)).timestamp()))
    amend(api, names[2], "replace", timestamp=int((START + timedelta(days=8)).timestamp()))
    for search, expected in (
        ({}, 4),
        ({"code": "tokens"}, 4),
        ({"code": "other"}, 0),
        ({"timestamp_from": (START + timedelta(days=1)).isoformat()}, 0),
        ({"timestamp_to": (START + timedelta(minutes=90)).isoformat()}, 2),
    ):
        found = api.get("/events", **search)
        assert (len(found["events"]), found["meta"]["total_count"]) == (expected, expected), search


def test_the_list_of_amendments(api: Api, stranger: Api, send: Sender) -> None:
    ready(api)
    names = [send(tokens=1), send(tokens=2), send(sub="else", tokens=2)]
    made = [
        amend(api, names[0]),
        amend(api, names[1], "replace", properties={"tokens": 3}),
        amend(api, names[2], external_subscription_id="else"),
    ]
    move(api, 2024, 3, 8)
    made.append(amend(api, names[1]))

    def ids(**search: Any) -> list[str]:
        return [each["lago_id"] for each in api.get(PATH, **search)["amendments"]]

    newest = [each["lago_id"] for each in reversed(made)]
    assert ids() == newest
    assert ids(per_page=1, page=2) == [newest[1]]
    assert api.get(PATH, per_page=3)["meta"]["total_pages"] == 2
    assert ids(kind="replace") == [made[1]["lago_id"]]
    assert ids(event_transaction_id=names[1]) == [newest[0], newest[2]]
    assert ids(external_subscription_id="else") == [made[2]["lago_id"]]
    assert ids(created_from="2024-03-07") == [newest[0]]
    assert ids(created_to="2024-03-07", kind="void") == [newest[1], newest[3]]
    assert stranger.get(PATH)["amendments"] == []
    assert api.details("GET", PATH, None, kind="undo", created_from="soon") == {
        "kind": ["value_is_invalid"],
        "created_from": ["invalid_date"],
    }


def test_what_is_wrong_is_named(api: Api, stranger: Api, send: Sender) -> None:
    name = send(tokens=1)
    assert refused(api, {"amendment": {"kind": "undo"}}) == {
        "transaction_id": ["value_is_mandatory"],
        "event_transaction_id": ["value_is_mandatory"],
        "reason": ["value_is_mandatory"],
        "kind": ["value_is_invalid"],
    }
    hostile: Any
    for hostile in ([], {}, 1, "x" * 300, "\0", True):
        body = {"amendment": {**asked(name), "kind": hostile, "transaction_id": hostile, "reason": hostile}}
        assert "kind" in refused(api, body)
    assert refused(api, {"amendment": asked(name, kind="")}) == {"kind": ["value_is_mandatory"]}
    assert refused(api, {"amendment": asked(name, properties={"tokens": 1})}) == {
        "properties": ["value_is_invalid"]
    }
    assert refused(api, {"amendment": asked(name, "replace")}) == {"properties": ["value_is_mandatory"]}
    wrong = asked(name, "replace", properties=[1], timestamp="2024-03-05", code="")
    assert refused(api, {"amendment": wrong}) == {
        "properties": ["invalid_format"],
        "timestamp": ["invalid_format"],
        "code": ["value_is_mandatory"],
    }
    unknown = {"event_transaction_id": ["event_not_found"]}
    assert refused(api, {"amendment": asked("never")}) == unknown
    assert refused(api, {"amendment": asked(name, external_subscription_id="else")}) == unknown
    assert refused(stranger, {"amendment": asked(name)}) == unknown
    assert api.call("POST", PATH, {}).status_code == 400
    assert refused(api, {"amendments": []}) == {"amendments": ["no_amendments"]}
    assert refused(api, {"amendments": [asked(name)] * 1_001}) == {"amendments": ["too_many_amendments"]}


def test_an_event_needs_its_subscription_only_when_there_are_two(api: Api, send: Sender) -> None:
    name = send(tokens=1)
    body = asked(name)
    del body["external_subscription_id"]
    assert api.post(PATH, {"amendment": body})["amendment"]["external_subscription_id"] == "sub"
    send.named(name, sub="else", tokens=1)
    body = {**body, "transaction_id": "again"}
    assert refused(api, {"amendment": body}) == {"external_subscription_id": ["value_is_mandatory"]}
    body["external_subscription_id"] = "else"
    assert api.post(PATH, {"amendment": body})["amendment"]["external_subscription_id"] == "else"


def test_many_are_all_or_nothing_with_errors_by_index(api: Api, send: Sender) -> None:
    ready(api)
    names = [send(tokens=n) for n in (1, 2)]
    fine = [asked(names[0]), asked(names[1], "replace", properties={"tokens": 9})]
    bad = [fine[0], asked("never"), {**fine[1], "transaction_id": fine[0]["transaction_id"]}]
    assert refused(api, {"amendments": bad}) == {
        "1": {"event_transaction_id": ["event_not_found"]},
        "2": {"transaction_id": ["value_already_exist"]},
    }
    assert refused(api, {"amendments": [fine[0], 1]}) == {"1": {"amendment": ["invalid_format"]}}
    assert used(api)[0] == "3.0"
    made = api.post(PATH, {"amendments": fine})["amendments"]
    assert [each["transaction_id"] for each in made] == [each["transaction_id"] for each in fine]
    assert used(api)[0] == "9.0"
    again = {"transaction_id": ["value_already_exist"]}
    assert refused(api, {"amendments": fine}) == {"0": again, "1": again}
    assert refused(api, {"amendment": fine[0]}) == again


def test_two_of_one_event_in_a_request(api: Api, send: Sender) -> None:
    ready(api)
    name = send(tokens=1)
    pair = [asked(name, "replace", properties={"tokens": tokens}) for tokens in (5, 8)]
    first, second = api.post(PATH, {"amendments": pair})["amendments"]
    assert used(api) == ("8.0", 1, 8)
    assert first["lago_superseded_by_id"] == second["lago_id"]


def test_a_voided_transaction_id_stays_taken(api: Api, send: Sender) -> None:
    ready(api)
    name = send(tokens=5)
    amend(api, name)
    assert send.named(name, tokens=5) == "", "a duplicate"
    assert used(api)[0] == "0.0"


def billed(api: Api, send: Sender) -> tuple[list[str], Any]:
    """Two events of March, billed."""
    names = [send(tokens=100, team="red"), send(tokens=50, team="red")]
    move(api, 2024, 4, 1, 1)
    (fee,) = api.get("/fees", fee_type="charge")["fees"]
    assert fee["amount_cents"] == 150
    return names, fee


def explained(api: Api, fee: Any) -> Any:
    return api.get(f"/fees/{fee['lago_id']}/explanation")["fee_explanation"]


def test_a_final_invoice_stays_and_a_credit_note_is_proposed(api: Api, send: Sender) -> None:
    ready(api)
    names, fee = billed(api, send)
    before = api.get(f"/invoices/{fee['lago_invoice_id']}")
    made = amend(api, names[0], "replace", properties={"tokens": 60, "team": "red"})
    assert made["proposed_credit_notes"] == [
        {
            "lago_invoice_id": fee["lago_invoice_id"],
            "invoice_number": before["invoice"]["number"],
            "lago_fee_id": fee["lago_id"],
            "currency": "EUR",
            "billed_amount_cents": 150,
            "recomputed_amount_cents": 110,
            "difference_amount_cents": 40,
        }
    ]
    assert api.get(f"/invoices/{fee['lago_invoice_id']}") == before
    found = explained(api, fee)
    assert found["recomputed"] == {
        "amount_cents": 110,
        "units": "110.0",
        "events_count": 2,
        "is_same": False,
    }
    assert [each["lago_id"] for each in found["amendments"]] == [made["lago_id"]]
    shown = {event["transaction_id"]: event for event in found["events"]["page"]}
    assert shown.keys() == set(names)
    assert shown[names[0]]["properties"] == {"tokens": 60, "team": "red"}
    assert shown[names[0]]["lago_id"] == made["lago_event_id"]

    amend(api, names[0])
    amend(api, names[1])
    found = explained(api, fee)
    assert found["recomputed"]["amount_cents"] == 0
    assert found["recomputed"]["is_same"] is False
    assert len(found["amendments"]) == 3
    (one, two, three) = api.get(PATH)["amendments"]
    for each in (one, two, three):
        (proposed,) = each["proposed_credit_notes"]
        assert (proposed["recomputed_amount_cents"], proposed["difference_amount_cents"]) == (0, 150)

    amend(api, names[0], "replace", properties={"tokens": 100, "team": "red"})
    amend(api, names[1], "replace", properties={"tokens": 50, "team": "red"})
    assert explained(api, fee)["recomputed"]["is_same"] is True
    assert all(each["proposed_credit_notes"] == [] for each in api.get(PATH)["amendments"])


def test_an_event_that_was_moved_away_still_names_its_amendment(api: Api, send: Sender) -> None:
    ready(api)
    names, fee = billed(api, send)
    made = amend(api, names[0], "replace", properties={"tokens": 100, "team": "blue"})
    (proposed,) = made["proposed_credit_notes"]
    assert proposed["difference_amount_cents"] == 100
    assert [each["lago_id"] for each in explained(api, fee)["amendments"]] == [made["lago_id"]]


def test_past_usage_is_what_was_billed(api: Api, send: Sender) -> None:
    ready(api)
    names, _ = billed(api, send)
    search = {"external_subscription_id": "sub"}
    before = api.get("/customers/cus/past_usage", **search)
    amend(api, names[0])
    assert api.get("/customers/cus/past_usage", **search) == before


def test_a_draft_follows_when_it_is_priced_again(api: Api, send: Sender) -> None:
    ready(api)
    api.post("/customers", {"customer": {"external_id": "cus", "invoice_grace_period": 3}})
    name = send(tokens=100)
    move(api, 2024, 4, 1, 1)
    (draft,) = api.get("/invoices")["invoices"]
    assert (draft["status"], draft["fees_amount_cents"]) == ("draft", 100)
    assert amend(api, name)["proposed_credit_notes"] == []
    refreshed = api.put(f"/invoices/{draft['lago_id']}/refresh", None)["invoice"]
    assert refreshed["fees_amount_cents"] == 0
    amend(api, name, "replace", properties={"tokens": 30})
    move(api, 2024, 4, 5)
    final = api.get(f"/invoices/{draft['lago_id']}")["invoice"]
    assert (final["status"], final["fees_amount_cents"]) == ("finalized", 30)


def in_advance(api: Api) -> None:
    metric = api.metric()
    api.plan("pro", [charge(metric, pay_in_advance=True, properties={"amount": "0.01"})])
    api.customer()
    api.subscribe()


def bill_waiting(server_dsn: str) -> None:
    with ConnectionPool(server_dsn, min_size=1, max_size=1, open=True) as pool:
        while advance.bill_live(pool, START):
            pass


def test_fees_in_advance(api: Api, send: Sender, dsn: str) -> None:
    in_advance(api)
    first, second = send(tokens=100), send(tokens=50)
    bill_waiting(dsn)
    fee = next(each for each in api.get("/fees")["fees"] if each["event_transaction_id"] == first)
    assert fee["amount_cents"] == 100
    made = amend(api, first, "replace", properties={"tokens": 60})
    (proposed,) = made["proposed_credit_notes"]
    assert proposed["lago_fee_id"] == fee["lago_id"]
    assert proposed["difference_amount_cents"] == 40
    found = explained(api, fee)
    assert found["recomputed"]["amount_cents"] == 60
    assert [each["lago_id"] for each in found["amendments"]] == [made["lago_id"]]
    (proposed,) = amend(api, second)["proposed_credit_notes"]
    assert proposed["recomputed_amount_cents"] == 0


def test_an_event_amended_before_its_fee_in_advance(api: Api, send: Sender, dsn: str) -> None:
    in_advance(api)
    first, second, _ = send(tokens=100), send(tokens=50), send(tokens=3)
    amend(api, first)
    amend(api, second, "replace", properties={"tokens": 7})
    bill_waiting(dsn)
    amounts = {each["event_transaction_id"]: each["amount_cents"] for each in api.get("/fees")["fees"]}
    assert first not in amounts
    assert sorted(amounts.values()) == [3, 7]
    assert api.row("select count(*) from advance_event where organization_id = %(organization)s") == (0,)


def test_what_is_stored_stays(api: Api, send: Sender, dsn: str) -> None:
    ready(api)
    name = send(tokens=5)
    query = "select e.* from event e where transaction_id = %(name)s order by created_at, identity limit 1"
    before = api.row(query, name=name)
    amend(api, name, "replace", properties={"tokens": 6})
    with psycopg.connect(dsn) as conn:
        identity = before[4]
        assert conn.execute("select e.* from event e where identity = %s", [identity]).fetchone() == before
