"""The price catalogue: reading price files, finding models, and the price of a measure on a date."""

from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from permille.core.llm.catalogue.genai_prices import read_catalogue
from permille.core.llm.catalogue.match import read_rule
from permille.core.llm.catalogue.prices import Catalogue, fallbacks
from permille.core.llm.catalogue.rows import Conditions, Measure, Rate, UnreadablePricesError, context_class
from permille.store import shipped_prices

ACME = {
    "id": "acme",
    "provider_match": {"contains": "acme"},
    "model_match": {"starts_with": "roadrunner"},
    "fallback_model_providers": ["coyote"],
    "models": [
        {
            "id": "roadrunner-2",
            "match": {"or": [{"equals": "roadrunner-2"}, {"starts_with": "roadrunner-2-20"}]},
            "prices": [
                {"prices": {"input_mtok": "3", "output_mtok": "12", "cache_read_mtok": "0.3"}},
                {
                    "constraint": {"start_date": "2026-06-16"},
                    "prices": {
                        "input_mtok": {"base": "2", "tiers": [{"start": 199999, "price": "4"}]},
                        "output_mtok": "12",
                        "input_audio_mtok": "7.5",
                    },
                },
            ],
            "price_variants": [
                {
                    "when": {"processing": "batch"},
                    "constraint": {"start_date": "2026-07-01"},
                    "prices": {"input_mtok": "1.1"},
                }
            ],
        },
        {"id": "anvil", "match": {"regex": "^anvil(-|$)"}, "prices": {"requests_kcount": "5"}},
        {
            "id": "owl",
            "match": {"equals": "owl"},
            "prices": [
                {"prices": {"output_mtok": "1"}},
                {
                    "constraint": {"start_time": "22:30:00+00:00", "end_time": "06:00:00+00:00"},
                    "prices": {"output_mtok": "3"},
                },
            ],
        },
    ],
}
COYOTE = {
    "id": "coyote",
    "models": [{"id": "rocket", "match": {"equals": "rocket"}, "prices": {"output_mtok": "9"}}],
}


def given() -> Catalogue:
    return read_catalogue([ACME, COYOTE], label="test")


def asked(
    on: str, kind: str = "input", *, modality: str = "text", tier: str = "standard", context: int = 0
) -> str | None:
    found = given().price(
        "acme",
        "roadrunner-2",
        Measure("llm_tokens", kind, modality),
        Conditions(tier, context),
        on=date.fromisoformat(on),
    )
    return str(found.row.rate.amount) if found else None


def test_a_price_changes_at_its_date() -> None:
    assert [asked("2026-06-15"), asked("2026-06-16")] == ["3", "2"]


def test_a_price_that_stays_the_same_is_one_row() -> None:
    model = given().model("acme", "roadrunner-2")
    assert model is not None
    [row] = model.by_measure[Measure("llm_tokens", "output")]
    assert (row.rate, row.valid_from, row.valid_to) == (Rate(Decimal(12), 1_000_000), None, None)
    assert model.changes() == {date(2026, 6, 16), date(2026, 7, 1)}


def test_a_measure_without_a_price_has_that_of_what_it_is_a_part_of() -> None:
    assert asked("2026-06-15", "cached_input") == "0.3"
    assert asked("2026-06-16", "cached_input") == "2"
    assert asked("2026-06-16", "cache_write_1h") == "2"
    assert asked("2026-06-16", "reasoning") == "12"
    assert asked("2026-06-16", "input", modality="audio") == "7.5"
    assert asked("2026-06-16", "cached_input", modality="audio") == "7.5"
    assert asked("2026-06-16", "cached_input", modality="image") == "2"


def test_the_size_of_the_input_and_the_tier_choose_among_prices() -> None:
    assert [asked("2026-06-20", context=each) for each in (128_000, 200_000, 272_000)] == ["2", "4", "4"]
    assert [asked("2026-06-20", tier="batch"), asked("2026-07-01", tier="batch")] == ["2", "1.1"]
    assert asked("2026-07-01", tier="batch", context=200_000) == "1.1"
    assert asked("2026-07-01", "output", tier="batch") == "12"


def test_hours_of_the_day_are_a_tier() -> None:
    model = given().model("acme", "owl")
    assert model is not None
    at = [datetime(2026, 1, 1, hour, 30, tzinfo=UTC) for hour in (22, 3, 5, 6, 12)]
    assert [model.tier_at("standard", each) for each in at] == [
        *("standard", "standard", "standard", "off_peak", "off_peak")
    ]
    prices = {
        tier: model.row(Measure("llm_tokens", "output"), Conditions(tier), date(2026, 1, 1))
        for tier in ("standard", "off_peak")
    }
    assert {tier: row and row.rate.amount for tier, row in prices.items()} == {"standard": 3, "off_peak": 1}


def test_models_are_found_by_names_and_rules() -> None:
    catalogue = given()

    def found(provider: str, name: str) -> str | None:
        model = catalogue.model(provider, name)
        return model.id if model else None

    assert found("acme", "Roadrunner-2") == "roadrunner-2"
    assert found("ACME cloud", "roadrunner-2-20260101") == "roadrunner-2"
    assert found("", "roadrunner-2") == "roadrunner-2"
    assert found("acme", "anvil-xl") == "anvil"
    assert found("acme", "rocket") == "rocket"
    assert found("coyote", "anvil") is None
    assert found("nobody", "anvil") is None
    assert catalogue.price("acme", "anvil", Measure("llm_tokens", "input"), Conditions(), on=date.max) is None


def test_a_rate_loses_no_digit() -> None:
    assert Rate(Decimal("0.111"), 3600).of(Decimal(3600)) == Decimal("0.111")
    assert Rate(Decimal("0.15"), 1_000_000).of(Decimal(1)) == Decimal("0.00000015")


def test_fallbacks_end_and_begin_with_the_measure_itself() -> None:
    measure = Measure("llm_tokens", "cache_write_5m", "audio")
    assert [f"{each.type} {each.modality}" for each in fallbacks(measure)] == [
        *("cache_write_5m audio", "cache_write audio", "input audio"),
        *("cache_write_5m text", "cache_write text", "input text"),
    ]


def test_bounds_of_price_lists_are_the_nearest_of_ours() -> None:
    assert [context_class(each) for each in (199_999, 200_000, 524_288, 272_000)] == [
        *(200_000, 200_000, 512_000, 272_000)
    ]


@pytest.mark.parametrize(
    "document",
    [
        {"providers": []},
        [{"id": "acme"}],
        [{"id": "acme", "models": [{"id": "a", "match": {"like": "a"}, "prices": {}}]}],
        [{"id": "acme", "models": [{"id": "a", "match": {"regex": "("}, "prices": {}}]}],
        [{"id": "acme", "models": [{"id": "a", "match": {"equals": "a"}, "prices": {"input_mtok": "-1"}}]}],
        [{"id": "acme", "models": [{"id": "a", "match": {"equals": "a"}, "prices": {"input_mtok": "NaN"}}]}],
        [{"id": "acme", "models": [{"id": "a", "match": {"equals": "a"}, "prices": {"input_mtok": "x"}}]}],
        ["acme"],
    ],
)
def test_what_is_no_price_file_is_refused(document: object) -> None:
    with pytest.raises(UnreadablePricesError, match=r"."):
        read_catalogue(document, label="test")


def test_rules_join_rules() -> None:
    rule = read_rule(
        {"and": [{"contains": "mini"}, {"or": [{"starts_with": "gpt"}, {"ends_with": "Preview"}]}]}
    )
    assert [rule.matches(each) for each in ("gpt-4o-mini", "o1-mini-preview", "o1-mini", "gpt-4o")] == [
        *(True, True, False, False)
    ]


def test_every_price_of_the_shipped_file_is_read() -> None:
    unread = {each.what for each in shipped_prices.catalogue().unread}
    assert unread == {
        "prices when route is mistral/eu",
        "prices when search_type is fast",
    }
    assert shipped_prices.name().startswith("genai-prices-")
    assert sum(len(each.models) for each in shipped_prices.catalogue().providers) > 2_000
