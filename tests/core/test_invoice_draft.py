"""An invoice's totals against fractions, whatever its lines, discounts, taxes and credits are."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, strategies as st

from permille.core.contract.plan import Plan
from permille.core.contract.subscription import Subscription
from permille.core.coupon import AppliedCoupon, CouponCredit
from permille.core.customer import BillingEntity, Customer
from permille.core.fee_kind import FeeKind
from permille.core.invoice import numbering
from permille.core.invoice.billing import BillingRequest, InvoicingReason, grouped, plan_billing
from permille.core.invoice.draft import (
    InvoiceDates,
    InvoiceDraft,
    InvoiceKind,
    InvoiceStatus,
    Line,
    changed,
    out_of_range,
)
from permille.core.invoice.facts import Facts, PlanPrices
from permille.core.invoice.kinds import STEPS, make
from permille.core.invoice.late_usage import LateUsageFees
from permille.core.invoice.numbering import InvoiceNumber
from permille.core.money import AMOUNT_MAX
from permille.core.rating.fee import Fee
from permille.core.record import names_of, replace
from permille.core.tax import AppliedTax, Tax, Taxed

from .test_tax import half_up, tax

AT = datetime(2026, 2, 1, tzinfo=UTC)
ONE, TWO = UUID(int=1), UUID(int=2)


def entity(**fields: Any) -> BillingEntity:
    columns = {
        "id": ONE,
        "timezone": "UTC",
        "net_payment_term": 0,
        "invoice_grace_period": 0,
        "finalize_zero_amount_invoice": True,
        "document_numbering": "per_customer",
        "document_number_prefix": "PRE",
        "subscription_invoice_issuing_date_anchor": "next_period_start",
        "subscription_invoice_issuing_date_adjustment": "align_with_finalization_date",
        "taxes": (),
        "custom_sections": (),
    }
    return BillingEntity(**{**dict.fromkeys(names_of(BillingEntity)), **columns, **fields})


def customer(number: int = 1, **fields: Any) -> Customer:
    columns = {
        "id": UUID(int=number),
        "sequential_id": number,
        "finalize_zero_amount_invoice": "inherit",
        "billing_configuration": {},
        "billing_entity": entity(),
        "taxes": (),
        "custom_sections": (),
    }
    return Customer(**{**dict.fromkeys(names_of(Customer)), **columns, **fields})


def plan(**fields: Any) -> Plan:
    columns = {"interval": "monthly", "amount_cents": 0, "amount_currency": "EUR", "pay_in_advance": False}
    more = {"charges": (), "taxes": (), "price_versions": ()}
    return Plan(**{**dict.fromkeys(names_of(Plan)), **columns, **more, **fields})


def subscription(number: int, **fields: Any) -> Subscription:
    columns = {
        "id": UUID(int=number),
        "external_id": f"sub-{number}",
        "status": "active",
        "billing_time": "calendar",
        "consolidate_invoice": True,
        "upgraded": False,
        **dict.fromkeys(
            ("subscription_at", "started_at", "created_at"), datetime(2026, 1, number, tzinfo=UTC)
        ),
    }
    return Subscription(**{**dict.fromkeys(names_of(Subscription)), **columns, **fields})


def fee(amount_cents: int, precise_cents: Decimal | None = None, **fields: Any) -> Fee:
    return Fee(
        **{
            "subscription_id": ONE,
            "charge_id": None,
            "charge_filter_id": None,
            "invoice_display_name": None,
            "units": Decimal(1),
            "events_count": 1,
            "total_aggregated_units": None,
            "amount_cents": amount_cents,
            "precise_amount_cents": Decimal(amount_cents) if precise_cents is None else precise_cents,
            "unit_amount_cents": amount_cents,
            "precise_unit_amount": Decimal(amount_cents),
            "amount_details": {},
            "grouped_by": {},
            "from_": datetime(2026, 1, 1, tzinfo=UTC),
            "to": AT,
            **fields,
            "kind": FeeKind(fields.get("kind", "charge")),
        }
    )


def draft(*lines: Line, number: int = 7, **fields: Any) -> InvoiceDraft:
    """An invoice of no subscription, unless `fields` say so."""
    return InvoiceDraft(
        **{
            "id": UUID(int=number),
            "kind": InvoiceKind.IN_ADVANCE,
            "customer": customer(),
            "currency": "EUR",
            "at": AT,
            "made_at": AT,
            "lines": lines,
            **fields,
        }
    )


TAXES = tuple(tax(number, rate) for number, rate in enumerate(("20", "5.5", "0", "19.6"), start=1))


@st.composite
def lines(pull: st.DrawFn) -> Line:
    """A line with taxes of its plan or of its own, and a discount that is at most its amount."""
    cents = pull(st.integers(0, 10**7))
    fraction = pull(st.decimals("-0.5", "0.49", places=3))
    taxes = tuple(pull(st.lists(st.sampled_from(TAXES), max_size=3, unique=True)))
    discount = pull(st.decimals(0, cents, places=2)) if pull(st.booleans()) else Decimal(0)
    billed = fee(cents, cents + fraction)
    if pull(st.booleans()):
        return Line(billed, plan(taxes=taxes), discount_cents=discount)
    from_plan = pull(st.sampled_from((None, plan(taxes=TAXES[:1]))))
    return Line(billed, None if not taxes else from_plan, own_taxes=taxes, discount_cents=discount)


def discounted(cents: int) -> tuple[CouponCredit, ...]:
    """What a coupon took off lines."""
    empty: dict[str, Any] = dict.fromkeys(names_of(AppliedCoupon))
    return (CouponCredit(amount_cents=cents, left=AppliedCoupon(**empty)),)


def taxes_of(line: Line) -> tuple[Tax, ...]:
    return line.own_taxes or (line.plan.taxes if line.plan else ())


def owed(line: Line) -> Fraction:
    return Fraction(line.fee.amount_cents) - Fraction(line.discount_cents)


@given(st.lists(lines(), min_size=1, max_size=6), st.lists(st.integers(1, 10**7), max_size=3))
def test_totals_are_those_of_fractions(some: list[Line], balances: list[int]) -> None:
    notes = [(UUID(int=100 + i), cents) for i, cents in enumerate(balances)]
    discounts = half_up(sum((Fraction(line.discount_cents) for line in some), Fraction(0)))
    (made,) = make([draft(*some, coupons=discounted(discounts))], Facts(balances={(ONE, "EUR"): notes}))
    fees = sum(line.fee.amount_cents for line in some)
    taxes = half_up(
        sum((owed(line) * Fraction(each.rate) / 100 for line in some for each in taxes_of(line)), Fraction(0))
    )
    payable = fees - discounts + taxes
    paid = min(sum(balances), payable)
    assert made.fees_amount_cents == fees
    assert made.coupons_amount_cents == discounts
    assert made.sub_total_excluding_taxes_amount_cents == fees - discounts
    assert made.taxes_amount_cents == taxes == sum(each.amount_cents for each in made.taxed.applied)
    assert made.sub_total_including_taxes_amount_cents == payable
    assert made.credit_notes_amount_cents == paid
    assert made.total_amount_cents == payable - paid
    assert made.payment_status == ("pending" if payable > paid else "succeeded")
    for before, line in zip(some, made.lines, strict=True):
        rates = sum((Fraction(each.rate) for each in taxes_of(before)), Fraction(0))
        assert line.taxed.amount_cents == half_up(owed(before) * rates / 100)


@given(st.lists(st.integers(0, 1_000), min_size=1, max_size=8), st.lists(st.integers(1, 900), max_size=4))
def test_no_balance_is_spent_twice_in_a_batch(amounts: list[int], balances: list[int]) -> None:
    notes = [(UUID(int=100 + i), cents) for i, cents in enumerate(balances)]
    drafts = [draft(Line(fee(cents), plan()), number=i) for i, cents in enumerate(amounts)]
    made = make(drafts, Facts(balances={(ONE, "EUR"): notes, (ONE, "USD"): [(TWO, 10**6)]}))
    spent: dict[Any, int] = {}
    for each in made:
        for credit in each.credits:
            spent[credit.credit_note_id] = spent.get(credit.credit_note_id, 0) + credit.amount_cents
    assert all(spent.get(note_id, 0) <= cents for note_id, cents in notes)
    assert TWO not in spent, "credit in another currency"
    assert all(each.credit_notes_amount_cents <= each.fees_amount_cents for each in made)
    assert sum(spent.values()) == min(sum(amounts), sum(balances))


def test_a_draft_takes_no_credit_and_has_no_number_until_it_is_final() -> None:
    facts = Facts(balances={(ONE, "EUR"): [(TWO, 40)]})
    waiting = draft(Line(fee(100), plan()), has_grace_period=True)
    (made,) = make([waiting], facts)
    assert (made.status, made.credits, made.number_text) == (InvoiceStatus.DRAFT, (), "PRE-DRAFT")
    (final,) = make([replace(waiting, dates=made.dates, has_grace_period=False)], facts)
    assert (final.status, final.total_amount_cents) == (InvoiceStatus.FINALIZED, 60)
    assert replace(final, number=InvoiceNumber(4, None)).number_text == "PRE-001-004"


def test_usage_without_a_price_keeps_an_invoice_a_draft() -> None:
    (made,) = make([draft(Line(fee(100, is_held=True), plan()))], Facts())
    assert made.waits_for_price
    assert (made.status, made.price_retry_at) == (InvoiceStatus.DRAFT, AT), "it is looked at again at once"


@pytest.mark.parametrize(
    ("cents", "own", "expected"),
    [
        (0, "inherit", InvoiceStatus.FINALIZED),
        (0, "finalize", InvoiceStatus.FINALIZED),
        (0, "skip", InvoiceStatus.CLOSED),
        (1, "skip", InvoiceStatus.FINALIZED),
    ],
)
def test_an_invoice_for_nothing_is_closed_where_the_customer_wants_none(
    cents: int, own: str, expected: InvoiceStatus
) -> None:
    payer = customer(finalize_zero_amount_invoice=own)
    assert draft(Line(fee(cents), plan()), customer=payer).status is expected


def test_fees_paid_before_are_summed_with_the_taxes_that_they_had() -> None:
    applied = [AppliedTax(tax=TAXES[0], amount_cents=cents, fees_amount_cents=3) for cents in (1, 1)]
    some = [
        Line(
            fee(3),
            plan(taxes=(TAXES[1],)),
            taxed=Taxed(
                amount_cents=1, precise_amount_cents=Decimal("0.6"), rate=Decimal(20), applied=(each,)
            ),
            fee_id=TWO,
        )
        for each in applied
    ]
    facts = Facts(balances={(ONE, "EUR"): [(TWO, 40)]})
    (made,) = make([draft(*some, kind=InvoiceKind.PAID_FEES)], facts)
    assert (made.fees_amount_cents, made.taxes_amount_cents, made.total_amount_cents) == (6, 2, 8)
    assert (made.total_paid_amount_cents, made.payment_status, made.credits) == (8, "succeeded", ())
    assert [(each.tax.code, each.amount_cents) for each in made.taxed.applied] == [("t1", 2)]
    assert made.invoice_type == "advance_charges"


def test_lines_are_ordered_by_subscription_and_late_usage_is_last() -> None:
    rows = [subscription(number) for number in (3, 2)]
    terms, payer = plan(amount_cents=3_100), customer()
    billings = [
        plan_billing(
            BillingRequest(subscription=row, at=AT),
            plan=terms,
            customer=payer,
            first_started_at=None,
            next_plan=None,
        )
        for row in rows
    ]
    (together,) = grouped(billings)
    assert [each.subscription.id for each in together] == [UUID(int=2), UUID(int=3)], "as they were made"
    late = fee(5, subscription_id=UUID(int=2), late_usage_id=ONE)
    made = draft(billings=together, kind=InvoiceKind.SUBSCRIPTION).adding(
        [Line(late, terms), *(Line(fee(1, subscription_id=row.id), terms) for row in rows)]
    )
    made = made.adding([Line(fee(2, subscription_id=UUID(int=2)), terms)])
    assert [(line.fee.subscription_id, line.fee.amount_cents) for line in made.lines] == [
        (UUID(int=2), 1),
        (UUID(int=2), 2),
        (UUID(int=3), 1),
        (UUID(int=2), 5),
    ]


def test_subscriptions_of_which_nothing_is_due_are_left_out() -> None:
    billed = subscription(2, charges_billed_until=AT, fee_billed_until=AT)
    due = subscription(3)
    terms, payer = plan(id=ONE, amount_cents=3_100), customer()
    for rows, expected in (([billed, due], [due.id]), ([billed], None)):
        billings = tuple(
            plan_billing(
                BillingRequest(subscription=row, at=AT),
                plan=terms,
                customer=payer,
                first_started_at=None,
                next_plan=None,
            )
            for row in rows
        )
        facts = Facts(prices={ONE: PlanPrices.of(terms)})
        made = make([draft(billings=billings, kind=InvoiceKind.SUBSCRIPTION)], facts)
        found = [[each.subscription.id for each in one.billings] for one in made]
        assert found == ([expected] if expected else [])


def test_late_usage_is_billed_by_the_plan_of_its_time() -> None:
    taxed = plan(taxes=(TAXES[0],))
    late = LateUsageFees(late_usage_id=TWO, plan=taxed, fees=[fee(500, late_usage_id=TWO)])
    (made,) = make([draft(number=9, kind=InvoiceKind.LATE_USAGE)], Facts(late_usage={UUID(int=9): [late]}))
    assert (made.late_usage_ids, made.taxes_amount_cents, made.total_amount_cents) == ((TWO,), 100, 600)


def test_every_kind_has_steps() -> None:
    assert STEPS.keys() == set(InvoiceKind)


def test_a_new_invoice_is_dated_by_the_grace_period_and_a_final_one_by_its_day() -> None:
    payer = customer(net_payment_term=10, billing_configuration={"invoice_grace_period": 3})
    waiting = draft(
        Line(fee(1), plan()), kind=InvoiceKind.SUBSCRIPTION, customer=payer, has_grace_period=True
    )
    (made,) = make([waiting], Facts())
    assert made.dates == InvoiceDates(
        issuing_date=date(2026, 2, 4),
        payment_due_date=date(2026, 2, 14),
        expected_finalization_date=date(2026, 2, 4),
        net_payment_term=10,
        finalizes_at=datetime(2026, 2, 4, tzinfo=UTC),
    )
    early = replace(
        waiting, dates=made.dates, has_grace_period=False, made_at=datetime(2026, 2, 2, tzinfo=UTC)
    )
    (final,) = make([early], Facts())
    assert final.dates == InvoiceDates(
        issuing_date=date(2026, 2, 2),
        payment_due_date=date(2026, 2, 12),
        expected_finalization_date=date(2026, 2, 4),
        net_payment_term=10,
        finalizes_at=None,
    )


def test_numbers_count_on_in_each_sequence() -> None:
    shared = entity(id=TWO, document_numbering="per_billing_entity")
    partner = customer(4, billing_entity=shared, account_type="partner")
    payers = [
        customer(1),
        customer(2, billing_entity=shared),
        partner,
        customer(1),
        customer(3, billing_entity=shared),
    ]
    of_customer, of_entity = numbering.counts(payers)
    assert (of_customer[ONE, ONE], of_entity) == (2, {TWO: 2})
    found = numbering.next_numbers(payers, dict.fromkeys(of_customer, 10), {TWO: 70})
    assert found == [(11, None), (11, 71), (11, None), (12, None), (11, 72)]
    shown = [numbering.number_text(payer, number, at=AT) for payer, number in zip(payers, found, strict=True)]
    assert shown == [
        "PRE-001-011",
        "PRE-202602-071",
        f"PRE-{partner.sequential_id:03}-011",
        "PRE-001-012",
        "PRE-202602-072",
    ]


def test_amounts_beyond_64_bits_are_named() -> None:
    fine = draft(Line(fee(AMOUNT_MAX), plan()))
    wrong = draft(Line(fee(AMOUNT_MAX), plan()), Line(fee(1), plan()), customer=customer(2))
    assert out_of_range([fine, wrong]) == {TWO: f"{AMOUNT_MAX + 1} is out of range"}


def test_reasons_are_those_of_the_api() -> None:
    assert [str(reason) for reason in InvoicingReason] == [
        "subscription_periodic",
        "subscription_starting",
        "subscription_terminating",
        "in_advance_charge",
        "in_advance_charge_periodic",
        "progressive_billing",
        "late_usage",
    ]


def test_what_the_subscriptions_say_of_an_invoice() -> None:
    nobody = draft(Line(fee(1), plan()))
    assert (nobody.purchase_order_number, nobody.is_recurring, nobody.skip_charges) == (None, False, False)
    assert nobody.is_on_invoice
    assert not replace(nobody, kind=InvoiceKind.FEES_ALONE).is_on_invoice
    for reason, recurring, skips in (
        (InvoicingReason.PERIODIC, True, False),
        (InvoicingReason.STARTING, False, True),
        (InvoicingReason.TERMINATING, False, False),
    ):
        billing = plan_billing(
            BillingRequest(subscription=subscription(1, purchase_order_number="PO-7"), at=AT, reason=reason),
            plan=plan(),
            customer=customer(),
            first_started_at=None,
            next_plan=None,
        )
        found = draft(billings=(billing,))
        shown = (found.purchase_order_number, found.is_recurring, found.skip_charges)
        assert shown == ("PO-7", recurring, skips)


def test_a_discount_lowers_the_base_of_precise_taxes_too() -> None:
    line = Line(fee(100, Decimal("100.4")), plan(taxes=(TAXES[0],)), discount_cents=Decimal("10.5"))
    assert (line.taxable_cents, line.precise_taxable_cents) == (Decimal("89.5"), Decimal("89.9"))
    (made,) = make([draft(line)], Facts())
    assert made.lines[0].taxed.precise_amount_cents == Decimal("17.98")
    assert AMOUNT_MAX == 9_223_372_036_854_775_807


@pytest.mark.parametrize(
    "changes",
    [
        {"lines": (Line(fee(0)),)},
        {"lines": (Line(fee(900, is_held=True)),)},
        {"has_grace_period": True},
        {"kind": InvoiceKind.CREDIT, "lines": ()},
        {"awaits_payment": True},
        {"taxed": Taxed(7, Decimal(7), Decimal(1), ())},
        {"number": InvoiceNumber(1, None), "custom_sections": ()},
        {"customer": customer(finalize_zero_amount_invoice="skip"), "lines": ()},
    ],
)
@pytest.mark.parametrize("before", [{}, {"awaits_payment": True}, {"has_grace_period": True}])
def test_what_was_computed_of_an_invoice_follows_its_changes(
    before: dict[str, Any], changes: dict[str, Any]
) -> None:
    def computed(one: InvoiceDraft) -> tuple[Any, ...]:
        return one.status, one.fees_amount_cents, one.waits_for_price, one.total_amount_cents

    first = draft(Line(fee(500)), **before)
    assert computed(first) == computed(replace(first))
    assert computed(changed(first, **changes)) == computed(replace(first, **changes))
