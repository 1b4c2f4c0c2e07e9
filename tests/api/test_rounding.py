"""Small prices that are rounded together, over HTTP: every view of one world comes to the same cents."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from decimal import Decimal
from io import BytesIO
from typing import Any

import pytest
from pypdf import PdfReader

from permille.core.instants import microseconds
from permille.database.connections import open_pool
from permille.events.draft import Draft
from permille.events.log import Request
from permille.events.postgres.writer import Memory, open_connection, store
from permille.usecases.invoices import advance
from permille.usecases.usage import levels

from .conftest import START, Api, charge

_numbers = itertools.count(1)
CENT = {"amount": "0.004"}
GROUPED = {**CENT, "pricing_group_keys": ["user"]}


@pytest.fixture
def send(dsn: str, api: Api) -> Any:
    """An event of one token for each of these users; their transaction ids."""
    conn, memory = open_connection(dsn), Memory()

    def many(users: int, at: datetime = START) -> list[str]:
        drafts = [
            Draft(
                f"ro-{next(_numbers)}",
                "tokens",
                "sub",
                microseconds(at),
                None,
                {"tokens": 1, "user": f"u{n}"},
            )
            for n in range(users)
        ]
        store(conn, memory, [Request(api.organization.id, drafts, microseconds(at))])
        return [draft.transaction_id for draft in drafts]

    yield many
    conn.close()


def move(api: Api, *when: Any) -> None:
    at = datetime(*when).replace(tzinfo=UTC) if when else START
    api.put("/test_clock", {"test_clock": {"now": at.isoformat()}})


def ready(api: Api, *charges: Any, **customer: Any) -> Any:
    made = api.plan("pro", list(charges), amount_currency="USD")
    api.customer(**customer)
    api.subscribe(subscription_at="2024-03-01T00:00:00Z")
    return made


def usage(api: Api, kind: str = "current", **search: Any) -> Any:
    found = api.get(f"/customers/cus/{kind}_usage", external_subscription_id="sub", **search)
    return next(iter(found.values()))


def explained(api: Api, fee: Any) -> Any:
    return api.get(f"/fees/{fee['lago_id']}/explanation")["fee_explanation"]


def fees(api: Api) -> list[Any]:
    return sorted(
        api.get("/fees", fee_type="charge", per_page=1_000)["fees"], key=lambda fee: fee["created_at"]
    )


def test_the_option_is_written_read_and_followed(api: Api) -> None:
    tokens = api.metric()
    made = ready(api, charge(tokens))
    assert made["charges"][0]["rounding"] == "per_fee", "as in Lago"
    path = "/plans/pro/charges/tokens"
    assert api.put(path, {"charge": {"rounding": "per_charge"}})["charge"]["rounding"] == "per_charge"
    assert api.put(path, {"charge": {"invoice_display_name": "T"}})["charge"]["rounding"] == "per_charge"
    assert api.get("/plans/pro")["plan"]["charges"][0]["rounding"] == "per_charge"
    refused = api.details("PUT", path, {"charge": {"rounding": "sometimes"}})
    assert refused == {"rounding": ["value_is_invalid"]}
    more = charge(tokens, code="more", rounding="per_charge")
    assert api.post("/plans/pro/charges", {"charge": more})["charge"]["rounding"] == "per_charge"
    own = "/subscriptions/sub/charges/tokens"
    assert api.put(own, {"charge": {"min_amount_cents": 5}})["charge"]["rounding"] == "per_charge"
    api.put(path, {"charge": {"rounding": "per_fee", "cascade_updates": True}})
    assert api.get(own)["charge"]["rounding"] == "per_fee"
    assert api.put(own, {"charge": {"rounding": "per_charge"}})["charge"]["rounding"] == "per_charge"
    assert api.get(path)["charge"]["rounding"] == "per_fee"


def test_every_view_of_a_period_comes_to_the_same(api: Api, send: Any) -> None:
    """300 users at 0.4 cents: 1.20, where Lago bills nothing. With a tax of 20 %, and a grace period."""
    api.post("/taxes", {"tax": {"name": "VAT", "code": "vat", "rate": "20", "applied_to_organization": True}})
    tokens = api.metric()
    made = ready(
        api,
        charge(tokens, properties=GROUPED, rounding="per_charge"),
        charge(tokens, code="alone", properties=GROUPED),
        billing_configuration={"invoice_grace_period": 3},
    )
    send(300)
    current = usage(api)
    together, alone = sorted(current["charges_usage"], key=lambda each: -each["amount_cents"])
    assert (together["amount_cents"], alone["amount_cents"]) == (120, 0)
    assert sum(each["amount_cents"] for each in together["grouped_usage"]) == 120
    assert (current["amount_cents"], current["taxes_amount_cents"]) == (120, 24)
    projected = max(usage(api, "projected")["charges_usage"], key=lambda each: each["projected_amount_cents"])
    # the 5th of 31 days: 6.2 units of each user, 300 x 6.2 x 0.4 cents
    assert projected["projected_amount_cents"] == 744
    move(api, 2024, 4, 1, 1)
    (draft,) = api.get("/invoices")["invoices"]
    assert (draft["status"], draft["fees_amount_cents"], draft["taxes_amount_cents"]) == ("draft", 120, 24)
    send(1, at=datetime(2024, 3, 20, tzinfo=UTC))
    refreshed = api.put(f"/invoices/{draft['lago_id']}/refresh", {})["invoice"]
    assert refreshed["fees_amount_cents"] == 121, "301 x 0.4 = 120.4, and of the other charge one line of 0.8"
    api.put(f"/invoices/{draft['lago_id']}/finalize", {})
    invoice = api.get(f"/invoices/{draft['lago_id']}")["invoice"]
    assert sum(fee["amount_cents"] for fee in invoice["fees"]) == invoice["fees_amount_cents"] == 121
    assert (invoice["taxes_amount_cents"], invoice["total_amount_cents"]) == (24, 145)
    lines = [fee for fee in invoice["fees"] if fee["lago_charge_id"] == made["charges"][0]["lago_id"]]
    assert (len(lines), sum(fee["amount_cents"] for fee in lines)) == (300, 120)
    assert {fee["precise_amount"] for fee in lines} == {"0.004", "0.008"}
    past = api.get("/customers/cus/past_usage", external_subscription_id="sub")["usage_periods"][0]
    assert past["amount_cents"] == 121
    assert sorted(each["amount_cents"] for each in past["charges_usage"]) == [1, 120]
    text = _pdf(api, invoice)
    assert "$1.21" in text
    assert "$1.45" in text
    for cents in (0, 1):
        fee = next(each for each in lines if each["amount_cents"] == cents)
        found = explained(api, fee)
        assert found["recomputed"]["is_same"], found
        assert Decimal(found["formula"][-1]["amount"]) == Decimal(cents) / 100 - Decimal(
            fee["precise_amount"]
        )
        assert "the sum of all fees of the charge on the bill" in found["formula"][-1]["text"]


def _pdf(api: Api, invoice: Any) -> str:
    pdf = api.call("GET", f"/invoices/{invoice['lago_id']}/pdf")
    return " ".join("".join(page.extract_text() for page in PdfReader(BytesIO(pdf.content)).pages).split())


def test_filters_share_the_rounding_with_the_default_and_the_minimum(api: Api, send: Any) -> None:
    tokens = api.metric(filters=[{"key": "user", "values": ["u0", "u1"]}])
    priced = [{"values": {"user": [user]}, "properties": CENT} for user in ("u0", "u1")]
    ready(api, charge(tokens, properties=CENT, filters=priced, rounding="per_charge", min_amount_cents=7))
    send(3)
    assert usage(api)["amount_cents"] == 1, "3 x 0.4 = 1.2"
    move(api, 2024, 4, 1, 1)
    (invoice,) = api.get("/invoices")["invoices"]
    made = api.get(f"/invoices/{invoice['lago_id']}")["invoice"]["fees"]
    charges = [fee for fee in made if fee["item"]["type"] == "charge"]
    assert sorted(fee["amount_cents"] for fee in charges) == [0, 0, 1, 6]
    assert sum(Decimal(fee["precise_amount"]) for fee in charges) == Decimal("0.07")
    assert all(explained(api, fee)["recomputed"]["is_same"] for fee in charges)


@pytest.mark.parametrize("invoiceable", [True, False])
def test_fees_in_advance_carry_the_rest_forward(api: Api, send: Any, invoiceable: bool) -> None:
    tokens = api.metric()
    ready(
        api,
        charge(tokens, properties=CENT, rounding="per_charge", pay_in_advance=True, invoiceable=invoiceable),
    )
    cents = 0
    for count in range(1, 8):
        event = {"code": "tokens", "external_subscription_id": "sub", "properties": {"tokens": 1}}
        (estimate,) = api.post("/events/estimate_fees", {"event": event})["fees"]
        send(1)
        move(api)
        cents += estimate["amount_cents"]
        assert cents == sum(fee["amount_cents"] for fee in fees(api)) == (count * 4 + 5) // 10
        assert usage(api)["amount_cents"] == cents
    assert [fee["precise_amount"] for fee in fees(api)] == ["0.004"] * 7
    assert {fee["precise_unit_amount"] for fee in fees(api)} == {"0.004"}
    found = [explained(api, fee) for fee in fees(api)]
    assert all(each["recomputed"]["is_same"] for each in found)
    assert any("earlier fees of the charge come to 0.004, with this one 0.008" in str(each) for each in found)
    send(1, at=datetime(2024, 3, 5, 9, tzinfo=UTC))
    move(api)
    assert sum(fee["amount_cents"] for fee in fees(api)) == 3, "8 x 0.4 = 3.2"


def test_a_batch_and_runs_that_are_undone_bill_the_sum_once(
    api: Api, send: Any, dsn: str, monkeypatch: Any
) -> None:
    """A thousand events at 0.4 cents, in batches of which one fails at its end and is billed again: 4.00."""
    monkeypatch.setattr(advance, "BATCH", 300)
    tokens = api.metric()
    terms = {"pay_in_advance": True, "invoiceable": False}
    ready(api, charge(tokens, properties=GROUPED, rounding="per_charge", **terms))
    send(1_000)
    keep, failures = levels.Carried.keep, iter([False, True])

    def failing(carried: Any, conn: Any) -> None:
        keep(carried, conn)
        if next(failures, False):
            raise SystemExit("killed")

    monkeypatch.setattr(levels.Carried, "keep", failing)
    with open_pool(dsn, size=2, name="killed") as pool:
        for _ in range(6):
            try:
                with pool.connection() as conn:
                    advance.bill_events(conn, api.organization.id, now=START, wait=True)
            except SystemExit:
                continue
    api.conn.rollback()
    made = fees(api)
    assert (len(made), sum(fee["amount_cents"] for fee in made)) == (1_000, 400)
    assert usage(api)["amount_cents"] == 400


def test_amendments_and_changes_of_the_option_keep_what_is_billed_and_go_on(api: Api, send: Any) -> None:
    tokens = api.metric()
    terms = {"pay_in_advance": True, "invoiceable": False, "regroup_paid_fees": "invoice"}
    ready(api, charge(tokens, properties=CENT, **terms))
    send(4)
    move(api)
    assert sum(fee["amount_cents"] for fee in fees(api)) == 0, "each by itself"
    api.put("/plans/pro/charges/tokens", {"charge": {"rounding": "per_charge"}})
    voided, *_ = send(3)
    move(api)
    assert sum(fee["amount_cents"] for fee in fees(api)) == 1, "3 x 0.4 from the change on"
    api.post(
        "/events/amendments",
        {
            "amendments": [
                {
                    "transaction_id": "fix-rounding",
                    "event_transaction_id": voided,
                    "external_subscription_id": "sub",
                    "kind": "void",
                    "reason": "a test",
                }
            ]
        },
    )
    for fee in fees(api):
        api.put(f"/fees/{fee['lago_id']}", {"fee": {"payment_status": "succeeded"}})
    send(4)
    move(api)
    together = [fee for fee in fees(api) if "earlier fees" in str(explained(api, fee)["formula"])]
    precise = sum(Decimal(fee["precise_amount"]) for fee in together)
    assert sum(fee["amount_cents"] for fee in together) == round(precise * 100 + Decimal("1e-9"))
    move(api, 2024, 4, 1, 1)
    regrouped = [
        each for each in api.get("/invoices")["invoices"] if each["invoice_type"] == "advance_charges"
    ]
    assert [each["fees_amount_cents"] for each in regrouped] == [1]


def test_a_renewal_of_what_is_carried_over_is_rounded_together(api: Api, send: Any) -> None:
    tokens = api.metric(recurring=True)
    ready(api, charge(tokens, properties=GROUPED, rounding="per_charge", pay_in_advance=True))
    send(30)
    move(api, 2024, 4, 1, 1)
    renewed = [fee for fee in fees(api) if fee["from_date"].startswith("2024-04-01")]
    assert (len(renewed), sum(fee["amount_cents"] for fee in renewed)) == (30, 12)
    assert all(explained(api, fee)["recomputed"]["is_same"] for fee in renewed)


def test_a_renewal_and_the_events_of_its_period_are_two_sums(api: Api, send: Any) -> None:
    """31 x 0.4 = 12.4 cents on April's draft and 0.4 of an event, which is final: 12 and 0.

    A late event of March then makes the draft 12.8, so 13, and leaves the event's fee as it was billed.
    The next event's 0.4 is a cent, as both are 0.8. In all 13.6 are billed as 14.
    """
    tokens = api.metric(recurring=True)
    terms = {"rounding": "per_charge", "pay_in_advance": True}
    grace = {"billing_configuration": {"invoice_grace_period": 5}}
    ready(api, charge(tokens, properties=GROUPED, **terms), **grace)
    send(31)

    def billed() -> list[int]:
        """On April's draft, and by the events of April."""
        of_april = [fee for fee in fees(api) if fee["from_date"].startswith("2024-04-01")]
        sums = {True: 0, False: 0}
        for fee in of_april:
            sums[fee["event_transaction_id"] is None] += fee["amount_cents"]
        return [sums[True], sums[False]]

    move(api, 2024, 4, 1, 1)
    send(1, at=datetime(2024, 4, 1, tzinfo=UTC))
    move(api, 2024, 4, 1, 2)
    assert billed() == [12, 0]
    assert usage(api)["amount_cents"] == 13, "of 12.8"
    send(1, at=datetime(2024, 3, 30, tzinfo=UTC))
    move(api, 2024, 4, 8)
    assert billed() == [13, 0]
    send(1, at=datetime(2024, 4, 8, tzinfo=UTC))
    move(api, 2024, 4, 9)
    assert billed() == [13, 1]


def test_credits_are_rounded_together_before_they_are_money(api: Api, send: Any) -> None:
    unit = {"code": "credits", "name": "Credits", "short_name": "CR"}
    api.post("/pricing_units", {"pricing_unit": unit})
    terms = {"code": "credits", "conversion_rate": "0.5"}
    ready(api, charge(api.metric(), properties=GROUPED, rounding="per_charge", applied_pricing_unit=terms))
    send(100)
    (used,) = usage(api)["charges_usage"]
    assert (used["amount_cents"], used["pricing_unit_details"]["amount_cents"]) == (20, 40)
    move(api, 2024, 4, 1, 1)
    made = fees(api)
    assert sum(fee["amount_cents"] for fee in made) == 20
    assert sum(fee["pricing_unit_details"]["amount_cents"] for fee in made) == 40
    assert all(explained(api, fee)["recomputed"]["is_same"] for fee in made[:3])
