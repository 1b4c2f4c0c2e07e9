"""From a billed month to its PDF: the price lists, real usage, the invoice run, and what is printed."""

from datetime import UTC, date, datetime
from decimal import Decimal
from io import BytesIO
from typing import Any
from uuid import UUID

import psycopg
import pytest
from pypdf import PdfReader

from permille.core.contract.plan import Plan
from permille.core.record import replace
from permille.out.pdf import sections
from permille.out.pdf.assembly import invoice_document
from permille.out.pdf.document import InvoiceDocument, PackagePrice, UnitPrice
from permille.out.pdf.invoice import render_invoice
from permille.store import billable_metrics, plans
from permille.store.fee_items import FeeItem
from permille.usecases.catalogue import price_lists
from permille.usecases.invoices import run
from tests.usecases.world import START, Filter, World, make_world

FEBRUARY = datetime(2024, 2, 1, tzinfo=UTC)
JANUARY = (date(2024, 1, 1), date(2024, 1, 31))


@pytest.fixture
def world(db: psycopg.Connection[Any]) -> World:
    made = make_world(db)
    made.set_entity(
        legal_name="Acme AI, Inc.",
        address_line1="1 Market Street",
        city="San Francisco",
        state="CA",
        zipcode="94105",
        country="US",
        email="billing@acme.example",
        tax_identification_number="12-3456789",
        invoice_footer="Thank you.",
    )
    return made


def bill(world: World) -> InvoiceDocument:
    assert run.bill_due(world.conn, organization_id=world.id, until=FEBRUARY)
    ((invoice_id,),) = world.rows("select id from invoice where organization_id = %s", world.id)
    return invoice_document(world.conn, invoice_id)


def listed(world: World, slug: str) -> Plan:
    price_lists.apply(world.conn, organization=world.organization, slug=slug, now=START)
    plan = plans.plan_by_code(world.conn, world.id, slug)
    assert plan is not None
    return plan


def lines(document: InvoiceDocument) -> list[tuple[str, Decimal, int]]:
    return [(line.description, line.units, line.amount_cents) for line in document.lines]


def text_of(document: InvoiceDocument) -> str:
    reader = PdfReader(BytesIO(render_invoice(document)))
    return " ".join(" ".join(page.extract_text() for page in reader.pages).split())


def test_a_month_of_the_price_lists(world):
    payer = world.customer(
        name="Globex", address_line1="2 Main St", zipcode="10115", city="Berlin", country="DE"
    )
    at = datetime(2024, 1, 10, tzinfo=UTC)
    for slug, sub in [
        ("openai-gpt-4", "gpt4"),
        ("openai-gpt-3.5-turbo", "gpt35"),
        ("openai-images", "images"),
    ]:
        world.subscribe(payer, listed(world, slug), sub)
    world.use("gpt4", "gpt_4_tokens", 1_234_567, at=at, model="8K", type="input")
    world.use("gpt4", "gpt_4_tokens", 999, at=at, model="32K", type="output")
    world.use("gpt4", "gpt_4_tokens", 5_000, at=at, model="128K", type="output")
    world.use("gpt35", "gpt_3_5_turbo_tokens", 7_000, at=at, model="4K", type="input")
    world.use("images", "images_generated", 1_200, at=at, size="512x512")
    document = bill(world)

    assert document.issuer.name == "Acme AI, Inc."
    assert document.issuer.lines == (
        "1 Market Street",
        "San Francisco, CA 94105",
        "United States",
        "Tax ID 12-3456789",
        "billing@acme.example",
    )
    assert (document.customer.name, document.customer.lines) == (
        "Globex",
        ("2 Main St", "10115 Berlin", "Germany"),
    )
    assert (document.paper, document.imprint) == (
        "us-letter",
        "Acme AI, Inc. · 12-3456789 · billing@acme.example",
    )
    assert {each.title for each in document.sections} == {
        "GPT-4, pay as you go",
        "GPT-3.5 Turbo, pay as you go",
        "Image generation, pay as you go",
    }
    assert {each.period for each in document.sections} == {JANUARY}
    assert sorted(lines(document)) == sorted(
        [
            ("GPT-4 8K context, input tokens", Decimal(1_234_567), 37_05),
            ("GPT-4 32K context, output tokens", Decimal(999), 12),
            ("Other", Decimal(5_000), 0),
            ("GPT-3.5 Turbo 4K context, input tokens", Decimal(7_000), 1),
            ("Images of 512 × 512 pixels", Decimal(1_200), 21_60),
        ]
    )
    assert document.total_due_amount_cents == 37_05 + 12 + 1 + 21_60

    text = text_of(document)
    for said in (
        document.number,
        "GPT-4 8K context, input tokens 1,234,567 $0.03 per 1,000 tokens begun 1,235 $37.05",
        "Other 5,000 $0.00 per 1,000 tokens begun 5 $0.00",
        "GPT-3.5 Turbo 4K context, input tokens 7,000 $0.0015 per 1,000 tokens begun 7 $0.01",
        "Images of 512 × 512 pixels 1,200 $0.018 per image $21.60",
        "Total due $58.78",
        "Thank you.",
    ):
        assert said in text


def test_the_fee_of_a_plan_in_advance_names_its_own_period(world):
    metric = world.metric("minutes", field_name="audio_minutes")
    plan = world.plan("pro", name="Pro", amount_cents=49_00, pay_in_advance=True, charges=[(metric, "0.006")])
    since = START.replace(year=2023)
    world.subscribe(
        world.customer(), plan, now=datetime(2024, 1, 2, tzinfo=UTC), subscription_at=since, name="Team A"
    )
    world.use("sub", "minutes", "1234.25", at=datetime(2024, 1, 31, 23, tzinfo=UTC))
    document = bill(world)
    (section,) = document.sections
    assert (section.title, section.period) == ("Team A", JANUARY)
    fee, audio = document.lines
    assert (fee.description, fee.period, fee.amount_cents) == (
        "Subscription fee",
        (date(2024, 2, 1), date(2024, 2, 29)),
        49_00,
    )
    assert fee.price == UnitPrice(amount=Decimal(49))
    assert (audio.description, audio.unit, audio.period) == ("minutes", "audio minutes", None)
    assert audio.price == UnitPrice(amount=Decimal("0.006"))


def test_the_price_of_prorated_units_is_an_average(world):
    """Three seats from the 3rd of January on, of 31 days, come to 1.0383902: a third of that is no price of a seat."""
    metric = world.metric("seats", recurring=True)
    plan = world.plan("pro", charges=[(metric, {"prorated": True, "properties": {"amount": "0.37"}})])
    world.subscribe(world.customer(), plan, now=datetime(2024, 1, 2, tzinfo=UTC))
    world.use("sub", "seats", "3", at=datetime(2024, 1, 3, tzinfo=UTC))
    (line,) = bill(world).lines
    assert isinstance(line.price, UnitPrice)
    assert (line.units, line.price.is_average) == (3, True)
    assert (line.units * line.price.amount).quantize(Decimal("0.01")) == Decimal(line.amount_cents) / 100


def test_groups_tiers_and_free_units(world):
    grouped = world.metric("calls", "count_agg", name="API calls")
    tiers = world.metric("seats")
    packs = world.metric("packs")
    ranges = [
        {"from_value": 0, "to_value": 10, "per_unit_amount": "1", "flat_amount": "0"},
        {"from_value": 11, "to_value": None, "per_unit_amount": "2", "flat_amount": "0"},
    ]
    package = {"amount": "5", "package_size": 100, "free_units": 50}
    plan = world.plan(
        charges=[
            (grouped, {"properties": {"amount": "1", "pricing_group_keys": ["team"]}}),
            (tiers, {"charge_model": "graduated", "properties": {"graduated_ranges": ranges}}),
            (packs, {"charge_model": "package", "properties": package}),
        ]
    )
    payer = world.customer()
    for sub in ("one", "two"):
        world.subscribe(payer, plan, sub)
    at = datetime(2024, 1, 10, tzinfo=UTC)
    world.use("one", "calls", None, at=at, team="red")
    world.use("one", "calls", None, at=at)
    world.use("one", "seats", 13, at=at)
    world.use("one", "packs", 151, at=at)
    world.use("two", "calls", None, at=at, team="red")
    document = bill(world)
    assert {each.title for each in document.sections} == {"pro (one)", "pro (two)"}
    (section,) = (each for each in document.sections if each.title == "pro (one)")
    calls, seats, packages = section.groups
    assert calls.title == "API calls"
    assert [line.description for line in calls.lines] == ["API calls · team: red", "API calls · team: none"]
    assert seats.title is None
    price = seats.lines[0].price
    assert isinstance(price, UnitPrice)
    assert price.is_average
    assert seats.lines[0].price.amount == (Decimal(16) / 13).quantize(Decimal("1e-15"))
    assert packages.lines[0].price == PackagePrice(
        amount=Decimal(5), size=100, packages=2, free_units=Decimal(50)
    )


def test_filters_without_names_and_metrics_deleted_since(world):
    metric = world.metric(filters={"cloud": ("aws", "gcp"), "region": ("eu", "us")})
    price = Filter(
        values={"cloud": ("aws", "gcp"), "region": ("__ALL_FILTER_VALUES__",)}, properties={"amount": "1"}
    )
    plan = world.plan(charges=[(metric, {"properties": {"amount": "0"}, "filters": (price,)})])
    world.subscribe(world.customer(), plan)
    world.use("sub", "tokens", 3, at=datetime(2024, 1, 10, tzinfo=UTC), cloud="aws", region="eu")
    assert run.bill_due(world.conn, organization_id=world.id, until=FEBRUARY)
    billable_metrics.delete(world.conn, billable_metric_id=metric.id, now=FEBRUARY)
    ((invoice_id,),) = world.rows("select id from invoice")
    document = invoice_document(world.conn, invoice_id)
    assert lines(document) == [("aws, gcp, region", Decimal(3), 300)]


def item(field_name: str, aggregation_type: str = "sum_agg") -> FeeItem:
    blank: dict[str, Any] = dict.fromkeys(
        (
            "metric_description",
            "charge_invoice_display_name",
            "filter_id",
            "filter_invoice_display_name",
            "filter_values",
        )
    )
    names: dict[str, Any] = dict.fromkeys(("charge_code", "charge_model", "metric_name", "metric_code"), "x")
    ids: dict[str, Any] = dict.fromkeys(("charge_id", "metric_id"), UUID(int=1))
    plain = FeeItem(
        **blank,
        **names,
        **ids,
        charge_has_filters=False,
        charge_invoiceable=True,
        aggregation_type="sum_agg",
        field_name=None,
    )
    return replace(plain, field_name=field_name, aggregation_type=aggregation_type)


@pytest.mark.parametrize(
    ("field_name", "unit"),
    [
        ("tokens", "tokens"),
        ("audio_minutes", "audio minutes"),
        ("value", None),
        ("status", None),
        ("address", None),
        ("item_id", None),
        ("Tokens", None),
        ("s", None),
    ],
)
def test_units_have_a_name_when_the_property_is_a_plural(field_name, unit):
    assert sections._unit(item(field_name)) == unit
    assert sections._unit(item(field_name, "max_agg")) is None
