"""The price lists that come with Permille: whole, valid, exact, and the same however often they are applied."""

import dataclasses
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
import pytest
from msgspec import to_builtins

from permille.api import price_lists as api
from permille.api.charge_input import ChargesOfPlan, read_charges
from permille.api.validation import Fields
from permille.cli import llm_setup
from permille.config import from_environment
from permille.core.contract.compiled import compile_plan_charge
from permille.core.contract.plan import Charge
from permille.core.errors import BadRequest, Invalid, NotFound
from permille.core.metering.usage import Partial
from permille.core.organization import Organization
from permille.core.period import Period
from permille.core.rating.rate import rate
from permille.core.record import replace
from permille.store import billable_metrics, organizations, plans
from permille.usecases.catalogue import price_lists
from tests.core.given import in_period

NOW = datetime(2026, 10, 1, 9, tzinfo=UTC)
OCTOBER = Period(datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC))
SLUGS = ["openai-audio-transcription", "openai-gpt-3.5-turbo", "openai-gpt-4", "openai-images"]

TOKENS = {
    "openai-gpt-4": {
        ("8K", "input"): "0.03",
        ("8K", "output"): "0.06",
        ("32K", "input"): "0.06",
        ("32K", "output"): "0.12",
    },
    "openai-gpt-3.5-turbo": {
        ("4K", "input"): "0.0015",
        ("4K", "output"): "0.002",
        ("16K", "input"): "0.003",
        ("16K", "output"): "0.005",
    },
}


@pytest.fixture
def organization(db: psycopg.Connection[Any]) -> Organization:
    return organizations.add(db, name="Acme", test_now=NOW, entity={}, now=NOW)


def apply(db: psycopg.Connection[Any], organization: Organization, slug: str) -> price_lists.Applied:
    return price_lists.apply(db, organization=organization, slug=slug, now=NOW)


def charge_of(db: psycopg.Connection[Any], organization: Organization, slug: str) -> Charge:
    plan: Any = plans.plan_by_code(db, organization.id, slug)
    assert plan is not None
    assert (plan.interval, plan.amount_cents, plan.amount_currency) == ("monthly", 0, "USD")
    (charge,) = plan.charges
    return charge


def cents(charge: Charge, units: str, **dimensions: str) -> Decimal:
    """What so many units of these dimensions cost alone, in fractions of a cent."""
    partial = Partial(events_count=1, values_count=1, sum=Decimal(units))
    fees = rate(
        compile_plan_charge(charge, currency="USD"),
        [(dimensions, partial)],
        subscription_id=1,
        rated=in_period(OCTOBER),
    )
    return sum((fee.precise_amount_cents for fee in fees), Decimal(0))


def test_these_lists_come_with_permille():
    assert [each.slug for each in price_lists.list_price_lists()] == SLUGS
    assert all(each.description and each.plan.charges for each in price_lists.list_price_lists())


@pytest.mark.parametrize("slug", SLUGS)
def test_a_list_is_applied_once(db, organization, slug):
    first = apply(db, organization, slug)
    assert first.plan_created
    assert all(first.billable_metrics.values())
    plan: Any = plans.plan_by_code(db, organization.id, slug)
    counts = "select (select count(*) from plan), (select count(*) from charge_filter), (select count(*) from metering)"
    before = db.execute(counts).fetchone()
    again = apply(db, organization, slug)
    assert not again.plan_created
    assert again.billable_metrics == dict.fromkeys(first.billable_metrics, False)
    assert plans.plan_by_code(db, organization.id, slug) == plan
    assert db.execute(counts).fetchone() == before


@pytest.mark.parametrize("slug", SLUGS)
def test_the_catalogue_api_reads_the_same_charges(db, organization, slug):
    """A list is what a client would have got by sending it to POST /plans."""
    apply(db, organization, slug)
    plan: Any = plans.plan_by_code(db, organization.id, slug)
    (price_list,) = (each for each in price_lists.list_price_lists() if each.slug == slug)
    metrics = {charge.metric.code: charge.metric for charge in plan.charges}
    sent = [
        {
            "billable_metric_id": str(metrics[each.billable_metric_code].id),
            "charge_model": each.charge_model.value,
            "invoice_display_name": each.invoice_display_name,
            "properties": dict(each.properties),
            "filters": [
                {
                    "invoice_display_name": one.invoice_display_name,
                    "values": {key: list(values) for key, values in one.values.items()},
                    "properties": dict(one.properties),
                }
                for one in each.filters
            ],
        }
        for each in price_list.plan.charges
    ]
    around = Fields({})
    read = read_charges(
        [Fields(each, around) for each in sent],
        ChargesOfPlan(
            plan_id=plan.id,
            existing=(),
            metrics={metric.id: metric for metric in metrics.values()},
            is_subscribed=False,
            now=NOW,
            currency=plan.amount_currency,
        ),
    )
    assert around.errors == {}
    assert [without_ids(charge) for charge in read] == [without_ids(charge) for charge in plan.charges]


def without_ids(charge: Charge) -> Charge:
    return replace(
        charge, id=charge.plan_id, filters=tuple(replace(each, id=UUID(int=0)) for each in charge.filters)
    )


@pytest.mark.parametrize("slug", TOKENS)
def test_tokens_cost_what_the_price_page_says(db, organization, slug):
    apply(db, organization, slug)
    charge = charge_of(db, organization, slug)
    assert len(charge.filters) == len(TOKENS[slug])
    for (model, kind), dollars in TOKENS[slug].items():
        for tokens, thousands in [("1", 1), ("1000", 1), ("1001", 2), ("250000", 250)]:
            assert cents(charge, tokens, model=model, type=kind) == thousands * Decimal(dollars) * 100
        (own,) = (each for each in charge.filters if each.values == {"model": (model,), "type": (kind,)})
        assert model in str(own.invoice_display_name)
        assert f"{kind} tokens" in str(own.invoice_display_name)
    assert cents(charge, "5000", model="other", type="input") == 0


def test_images_cost_by_their_size(db, organization):
    apply(db, organization, "openai-images")
    charge = charge_of(db, organization, "openai-images")
    sizes = {"256x256": "1.6", "512x512": "1.8", "1024x1024": "2"}
    assert {size: cents(charge, "1", size=size) for size in sizes} == {
        size: Decimal(price) for size, price in sizes.items()
    }


def test_audio_costs_by_the_minute(db, organization):
    apply(db, organization, "openai-audio-transcription")
    assert cents(charge_of(db, organization, "openai-audio-transcription"), "100.5") == Decimal("60.3")


def test_a_metric_that_fits_is_used_and_another_one_is_refused(db, organization):
    apply(db, organization, "openai-gpt-4")
    plan: Any = plans.plan_by_code(db, organization.id, "openai-gpt-4")
    plans.delete(db, plan_id=plan.id, now=NOW)
    again = apply(db, organization, "openai-gpt-4")
    assert (again.plan_created, again.billable_metrics) == (True, {"gpt_4_tokens": False})

    metric: Any = billable_metrics.by_code(db, organization.id, "gpt_4_tokens")
    plan = plans.plan_by_code(db, organization.id, "openai-gpt-4")
    plans.delete(db, plan_id=plan.id, now=NOW)
    billable_metrics.replace(db, replace(metric, field_name="characters"))
    with pytest.raises(Invalid):
        apply(db, organization, "openai-gpt-4")


def test_there_is_no_such_list(db, organization):
    with pytest.raises(NotFound):
        apply(db, organization, "no-such-list")


class TestAdminApi:
    def test_the_lists_are_shown(self, db):
        shown = to_builtins(api.list_price_lists(db, None, {}))["price_lists"]
        assert [each["slug"] for each in shown] == SLUGS
        (gpt4,) = (each for each in shown if each["slug"] == "openai-gpt-4")
        assert (gpt4["plan_code"], gpt4["billable_metric_codes"]) == ("openai-gpt-4", ["gpt_4_tokens"])

    def test_a_list_is_applied(self, db, organization):
        def post(body: Any, organization_id: object = organization.id) -> Any:
            return to_builtins(api.apply_price_list(db, body, {"organization_id": str(organization_id)}))

        body = {"price_list": {"slug": "openai-gpt-4"}}
        for created in (True, False):
            assert post(body) == {
                "price_list": {
                    "slug": "openai-gpt-4",
                    "billable_metrics": [{"code": "gpt_4_tokens", "created": created}],
                    "plan": {"code": "openai-gpt-4", "created": created},
                }
            }
        with pytest.raises(NotFound, match="price_list_not_found"):
            post({"price_list": {"slug": "junk"}})
        with pytest.raises(Invalid, match="value_is_mandatory"):
            post({"price_list": {"slug": None, "x": 1}})
        with pytest.raises(BadRequest):
            post({})
        for nobody in ("junk", UUID(int=7)):
            with pytest.raises(NotFound, match="organization_not_found"):
                post(body, nobody)


def test_the_command_line_applies_a_list(dsn, db, organization, capsys):
    db.commit()
    config = dataclasses.replace(from_environment(), database_url=dsn)

    def run(slug: str, wanted: str | None) -> tuple[int, str]:
        code = price_lists.apply_from_command_line(config, slug=slug, organization=wanted)
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    assert run("openai-gpt-4", None) == (
        0,
        "billable metric gpt_4_tokens: created\nplan openai-gpt-4: created\n",
    )
    code, said = run("openai-gpt-4", "Acme")
    assert (code, said.count("was there already")) == (0, 2)
    assert run("openai-gpt-4", str(organization.id))[0] == 0
    assert run("nothing", None)[0] == 1
    assert run("openai-gpt-4", "Nobody")[0] == 1
    organizations.add(db, name="Acme", test_now=NOW, entity={}, now=NOW)
    db.commit()
    code, said = run("openai-gpt-4", "Acme")
    assert code == 1
    assert str(organization.id) in said


def test_the_command_line_lists_models_of_today_and_makes_a_plan_of_them(dsn, db, organization, capsys):
    db.commit()
    config = dataclasses.replace(from_environment(), database_url=dsn)

    def said(code: int) -> str:
        captured = capsys.readouterr()
        assert code == 0, captured.err
        return " ".join(captured.out.split())

    found = said(llm_setup.print_current_models(config, provider=None, organization="Acme"))
    assert "anthropic" in found
    found = said(llm_setup.print_current_models(config, provider="OpenAI", organization=None))
    assert "openai/gpt-5 1.25 10 " in found
    assert "no price of tokens of 'x'" in said(
        llm_setup.print_current_models(config, provider="x", organization=None)
    )
    wrong = llm_setup.set_up_from_command_line(
        config, ["gpt-5", "opanai/gpt-5"], plan="today", markup="2", organization=None
    )
    assert (wrong, "no provider of opanai/gpt-5:" in capsys.readouterr().err) == (1, True)
    made = llm_setup.set_up_from_command_line(config, ["gpt-5"], plan="today", markup="2", organization=None)
    assert "plan today: created" in said(made)
    plan = plans.plan_by_code(db, organization.id, "today")
    assert plan is not None
    assert [each.properties["amount"] for each in plan.charges[0].filters] == [
        "0.0000025",
        "0.00000025",
        "0.00002",
    ]
