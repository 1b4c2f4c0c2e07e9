"""Versions of the price catalogue over HTTP: nothing changes before one is approved, and what was used before keeps its price."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest

from permille.store import shipped_prices
from permille.usecases import price_catalogue

from .conftest import Api
from .test_catalogue_charge import metric, move, send, subscribed, usage

__all__ = ["metric", "send"]


def file(**prices: str) -> list[dict[str, Any]]:
    """A price file in which acme's models have these input prices."""
    models = [
        {"id": name, "match": {"equals": name}, "prices": {"input_mtok": float(amount)}}
        for name, amount in prices.items()
    ]
    return [{"id": "acme", "models": models}]


def imported(api: Api, label: str, prices: Any) -> Any:
    body = {"catalogue_version": {"label": label, "prices": prices}}
    return api.post("/llm/catalogue_versions", body)["catalogue_version"]


def approved(api: Api, version: Any, outliers: Any = None, **fields: Any) -> Any:
    """Approve it, with all outliers that its changes name."""
    path = f"/llm/catalogue_versions/{version['lago_id']}"
    if outliers is None:
        shown = api.get(f"{path}/changes", per_page=1000)["changes"]
        outliers = [f"{each['provider']}/{each['model']}" for each in shown if each["is_outlier"]]
    sent = {"catalogue_version": {"accept_outliers": outliers, **fields}}
    return api.post(f"{path}/approve", sent)["catalogue_version"]


def test_a_version_is_charged_by_from_its_date_on(api: Api, metric: Any, send: Any) -> None:
    [first] = api.get("/llm/catalogue_versions")["catalogue_versions"]
    assert (first["label"], first["status"], first["valid_from"]) == (
        shipped_prices.name(),
        "approved",
        None,
    )
    small = imported(api, "small", file(a="1", b="4", c="2"))
    approved(api, small, _all_shipped(), valid_from="2024-03-01")
    subscribed(api, metric, markup="2")
    move(api, 2024, 3, 10)
    send(1_000_000, provider="acme", model="a")
    send(1_000_000, provider="acme", model="new")
    assert usage(api)["amount_cents"] == 200
    second = imported(api, "second", file(a="3", b="4", new="7", c="0.1"))
    assert (second["status"], second["approved_by"]) == ("pending", None)
    assert usage(api)["amount_cents"] == 200
    path = f"/llm/catalogue_versions/{second['lago_id']}"
    shown = api.get(f"{path}/changes")["changes"]
    assert [(each["model"], each["before"], each["after"], each["share"]) for each in shown] == [
        ("c", "2.0", "0.1", "-0.95"), ("a", "1.0", "3.0", "2.0"), ("new", None, "7.0", None),
    ]  # fmt: skip
    assert [each["is_outlier"] for each in shown] == [True, False, False]
    refused = api.details("POST", f"{path}/approve", {"catalogue_version": {"accept_outliers": ["acme/a"]}})
    assert refused == {"accept_outliers": ["outliers_not_accepted"]}
    assert approved(api, second, valid_from="2024-03-12")["accepted_outliers"] == ["acme/c"]
    move(api, 2024, 3, 12, 5)
    send(1_000_000, datetime(2024, 3, 12, 2, tzinfo=UTC), provider="acme", model="a")
    # 2 for what was used before, 6 since, and 14 for what no version had known then
    assert usage(api)["amount_cents"] == 2_200
    lines = {(each["grouped_by"]["model"], each["amount_cents"]) for each in usage(api)["grouped_usage"]}
    assert lines == {("a", 200), ("a", 600), ("new", 1_400)}
    # A correction counts from an earlier date than the version before it.
    approved(api, imported(api, "third", file(a="5", b="4", new="7", c="0.1")), valid_from="2024-03-05")
    assert usage(api)["amount_cents"] == 1_000 + 1_000 + 1_400


def test_versions_are_refused_withdrawn_and_each_organizations_own(api: Api, stranger: Api) -> None:
    path = "/llm/catalogue_versions"
    wrong = {"catalogue_version": {"label": "", "prices": "much"}}
    assert api.details("POST", path, wrong) == {
        "label": ["value_is_mandatory"],
        "prices": ["value_is_invalid"],
    }
    for prices in ([{"id": 1}], ["acme"], [{"id": "acme", "models": [{"id": "a"}]}]):
        body = {"catalogue_version": {"label": "x", "prices": prices}}
        assert api.details("POST", path, body) == {"prices": ["unreadable_prices"]}
    made = imported(api, "small", file(a="1"))
    own = f"{path}/{made['lago_id']}"
    again = {"catalogue_version": {"label": "again", "prices": file(a="1")}}
    assert api.details("POST", path, again) == {"prices": ["value_already_exist"]}
    for method, below in (("GET", ""), ("GET", "/changes"), ("POST", "/approve"), ("DELETE", "")):
        assert stranger.code(404, method, own + below, {}) == "catalogue_version_not_found"
    for text in ("soon", "0001-01-01", "1899-12-31", "2200-01-01"):
        bad = {"catalogue_version": {"valid_from": text}}
        assert api.details("POST", f"{own}/approve", bad) == {"valid_from": ["invalid_date"]}
    assert api.delete(own)["catalogue_version"]["label"] == "small"
    assert api.code(404, "GET", own) == "catalogue_version_not_found"
    [first] = api.get(path)["catalogue_versions"]
    for method, below in (("POST", "/approve"), ("DELETE", "")):
        assert api.code(405, method, f"{path}/{first['lago_id']}{below}", {}) == "already_approved"


def test_litellms_file_is_a_second_source(api: Api, metric: Any, send: Any) -> None:
    path = "/llm/catalogue_versions"
    prices: dict[str, Any] = {
        "acme/new": {
            "litellm_provider": "acme",
            "input_cost_per_token": 0.000_003,
            "output_cost_per_token": 0,
        },
        "acme/a": {
            "litellm_provider": "acme",
            "input_cost_per_token": 9e-06,
            "input_cost_per_token_batches": 5e-07,
        },
        "acme/odd": {"litellm_provider": "acme", "input_cost_per_token": 1e-06, "off_peak_pricing": {}},
    }
    body = {"catalogue_version": {"label": "lite", "source": "litellm", "prices": prices}}
    wrong = {"catalogue_version": {"label": "lite", "source": "somebody", "prices": prices}}
    assert api.details("POST", path, wrong) == {"source": ["value_is_invalid"]}
    wrong = {"catalogue_version": {"label": "lite", "prices": prices}}
    assert api.details("POST", path, wrong) == {"prices": ["unreadable_prices"]}
    made = api.post(path, body)["catalogue_version"]
    assert (made["source"], made["status"]) == ("litellm", "pending")
    found = api.get(f"{path}/{made['lago_id']}/unread_prices", per_page=1)
    assert found["unread_prices"] == [{"what": "off_peak_pricing", "models_count": 1, "example": "acme/odd"}]
    assert found["meta"]["total_count"] == 2
    approved(api, imported(api, "first", file(a="1")), _all_shipped(), valid_from="2024-03-01")
    # It changes no price of the other source, so nothing of it has to be accepted by name.
    assert approved(api, made, valid_from="2024-03-01")["accepted_outliers"] == []
    subscribed(api, metric)
    move(api, 2024, 3, 10)
    send(1_000_000, provider="acme", model="a")
    send(1_000_000, provider="acme", model="a", tier="batch")
    send(1_000_000, provider="acme", model="new")
    lines = [
        (each["grouped_by"]["model"], each["grouped_by"]["tier"], each["amount_cents"])
        for each in usage(api)["grouped_usage"]
    ]
    assert sorted(lines, key=str) == [("a", "batch", 50), ("a", None, 100), ("new", None, 300)]


def test_versions_without_outliers_are_approved_by_themselves_where_that_is_wanted(api: Api) -> None:
    assert api.get("/organizations")["organization"]["auto_approve_prices"] is False
    approved(api, imported(api, "first", file(a="1", b="1")), _all_shipped(), valid_from="2024-03-01")
    assert imported(api, "waits", file(a="2", b="1"))["status"] == "pending"
    wanted = {"organization": {"auto_approve_prices": True}}
    assert api.put("/organizations", wanted)["organization"]["auto_approve_prices"] is True
    made = imported(api, "by itself", file(a="3", b="1"))
    assert (made["status"], made["approved_by"], made["valid_from"]) == ("approved", "Permille", "2024-03-05")
    assert imported(api, "an outlier", file(a="30", b="1"))["status"] == "pending"
    body = {"catalogue_version": {"label": "other", "source": "litellm",
        "prices": {"acme/a": {"litellm_provider": "acme", "input_cost_per_token": 1}}}}  # fmt: skip
    assert api.post("/llm/catalogue_versions", body)["catalogue_version"]["status"] == "pending"
    entries = api.get("/activity_logs")["activity_logs"]
    changed = [name for each in entries for name in (each["activity_object_changes"] or {})]
    assert "auto_approve_prices" in changed
    assert "approved_by" in changed


def test_no_version_approved_by_itself_takes_the_place_of_one_that_is_to_come(api: Api) -> None:
    """It is the 5 March. The prices that were approved for April would never hold."""
    approved(api, imported(api, "first", file(a="1")), _all_shipped(), valid_from="2024-03-01")
    coming = imported(api, "coming", file(a="2"))
    approved(api, coming, valid_from="2024-04-01")
    api.put("/organizations", {"organization": {"auto_approve_prices": True}})
    assert imported(api, "waits", file(a="3"))["status"] == "pending"
    move(api, 2024, 4, 1)
    assert imported(api, "by itself", file(a="4"))["status"] == "approved"


def _all_shipped() -> list[str]:
    return [
        f"{provider.id}/{model.id}"
        for provider in shipped_prices.catalogue().providers
        for model in provider.models
    ]


def test_price_files_of_an_organization_are_bounded(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    path = "/llm/catalogue_versions"
    more = {"catalogue_version": {"label": "more", "prices": file(a="2")}}
    made = imported(api, "small", file(a="1"))
    for name, most in (
        ("PRICE_VERSIONS_MAX", 2),
        ("PRICE_FILES_BYTES_MAX", len(shipped_prices.price_file().content) + 100),
    ):
        with monkeypatch.context() as patched:
            patched.setattr(price_catalogue, name, most)
            assert api.details("POST", path, more) == {"prices": ["too_many_price_files"]}
    api.delete(f"{path}/{made['lago_id']}")
    monkeypatch.setattr(price_catalogue, "PRICE_VERSIONS_MAX", 2)
    assert imported(api, "more", file(a="2"))["label"] == "more"


def test_a_file_is_kept_as_long_as_somebody_has_it(
    api: Api, stranger: Api, db: psycopg.Connection[Any]
) -> None:
    def kept(version: Any) -> bool:
        found = db.execute("select from price_file where encode(digest, 'hex') = %s", [version["digest"]])
        return found.fetchone() is not None

    prices = file(only_here="7.31")
    own, other = imported(api, "mine", prices), imported(stranger, "theirs", prices)
    assert own["digest"] == other["digest"]
    api.delete(f"/llm/catalogue_versions/{own['lago_id']}")
    assert kept(other)
    assert stranger.get(f"/llm/catalogue_versions/{other['lago_id']}/changes", per_page=1)
    stranger.delete(f"/llm/catalogue_versions/{other['lago_id']}")
    assert not kept(other)
