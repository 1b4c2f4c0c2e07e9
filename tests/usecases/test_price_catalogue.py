"""A release's price file: the first one holds, a later one changes nothing before somebody approves it."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest

from permille.cli import price_versions
from permille.config import from_environment
from permille.core.llm.catalogue.rows import Conditions, Measure
from permille.core.llm.catalogue.sources import DEFAULT
from permille.store import catalogue_versions, organizations, shipped_prices
from permille.store.price_files import PriceFile
from permille.usecases import price_catalogue

NOW = datetime(2026, 11, 3, 10, tzinfo=UTC)


def model(name: str, amount: str) -> dict[str, Any]:
    return {"id": name, "match": {"equals": name}, "prices": {"input_mtok": amount}}


def release(monkeypatch: pytest.MonkeyPatch, label: str, **prices: str) -> None:
    """The package is another one from now on: its price file has acme's models with these input prices."""
    models = [model(name, amount) for name, amount in prices.items()]
    file = PriceFile(DEFAULT, json.dumps([{"id": "acme", "models": models}]).encode())
    monkeypatch.setattr(shipped_prices, "price_file", lambda: file)
    monkeypatch.setattr(shipped_prices, "name", lambda: label)
    monkeypatch.setattr(shipped_prices, "catalogue", lambda: file.read(label))


def price(db: psycopg.Connection[Any], organization: Any, model: str = "a") -> tuple[str, str]:
    found = catalogue_versions.catalogue_of(db, organization.id).price(
        "acme", model, Measure("llm_tokens", "input"), Conditions(), on=date(2026, 11, 3)
    )
    assert found is not None
    return found.version, str(found.row.rate.amount)


def test_a_release_changes_no_price_by_itself(
    db: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    release(monkeypatch, "r1", a="1")
    first = organizations.add(db, name="First", test_now=NOW, entity={}, now=NOW)
    catalogue = catalogue_versions.catalogue_of(db, first.id)
    assert catalogue_versions.catalogue_of(db, first.id) is catalogue
    release(monkeypatch, "r2", a="2")
    price_catalogue.adopt_shipped(db, now=NOW)
    second = organizations.add(db, name="Second", test_now=NOW, entity={}, now=NOW)
    price_catalogue.adopt_shipped(db, now=NOW)
    assert price(db, first) == ("r1", "1")
    assert price(db, second) == ("r2", "2")
    rows = db.execute(
        "select organization_id, label, approval from catalogue_version order by label, approval"
    ).fetchall()
    assert rows == [(first.id, "r1", 1), (second.id, "r2", 1), (first.id, "r2", None)]
    # An installation from before versions were kept goes on with what it has.
    db.execute("delete from catalogue_version")
    assert price(db, first) == ("r2", "2")
    price_catalogue.adopt_shipped(db, now=NOW)
    release(monkeypatch, "r3", a="3")
    assert price(db, first) == ("r2", "2")


def test_a_release_is_approved_where_the_organization_lets_it(
    db: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    release(monkeypatch, "r1", a="1", b="1")
    first, second = (organizations.add(db, name=name, test_now=NOW, entity={}, now=NOW) for name in "AB")
    organizations.auto_approve_prices(db, first.id, is_on=True)
    release(monkeypatch, "r2", a="2", b="1")
    price_catalogue.adopt_shipped(db, now=NOW)
    assert (price(db, first), price(db, second)) == (("r2", "2"), ("r1", "1"))
    entry = db.execute("select organization_id, action, subject from audit_entry").fetchall()
    assert entry == [(first.id, "approved catalogue version", "r2")]
    release(monkeypatch, "r3", a="2")
    price_catalogue.adopt_shipped(db, now=NOW)
    assert price(db, first, "b") == ("r2", "1"), "a price that is gone is an outlier"
    release(monkeypatch, "r4", a="4", b="1")
    organizations.auto_approve_prices(db, first.id, is_on=False)
    price_catalogue.adopt_shipped(db, now=NOW)
    assert price(db, first) == ("r2", "2")


def test_versions_are_imported_and_approved_on_the_command_line(
    dsn: str, db: psycopg.Connection[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    release(monkeypatch, "r1", a="1", b="2")
    organization = organizations.add(db, name="First", test_now=NOW, entity={}, now=NOW)
    db.commit()
    config = replace(from_environment(), database_url=dsn)
    path = tmp_path / "newer.json"
    path.write_text(json.dumps([{"id": "acme", "models": [model("a", "1.5")]}]))
    assert price_versions.import_file(config, path, source=DEFAULT, label=None, organization=None) == 0
    said = capsys.readouterr().out
    version_id = UUID(said.split()[0])
    assert "newer  pending: it changes 2 prices" in said
    assert "accept by name: acme/b" in said
    approve = {"valid_from": None, "organization": None}
    assert price_versions.approve(config, version_id, accept_outliers=[], **approve) == 1
    assert "name their models" in capsys.readouterr().err
    assert price_versions.approve(config, version_id, accept_outliers=["acme/b"], **approve) == 0
    assert price_versions.versions(config, organization="First") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2].endswith("newer  approved by command line, from 2026-11-03 on")
    assert lines[-1].endswith("r1  approved by Permille, always")
    assert price(db, organization) == ("newer", "1.5")
    path.write_text(
        json.dumps({"acme/x": {"litellm_provider": "acme", "input_cost_per_token": 1, "rate_cost": 2}})
    )
    assert price_versions.import_file(config, path, source="litellm", label=None, organization=None) == 0
    assert capsys.readouterr().out.splitlines()[1:] == [
        "  not understood: rate_cost, 1 models, such as acme/x"
    ]
    path.write_text("nothing")
    assert price_versions.import_file(config, path, source=DEFAULT, label="x", organization=None) == 1
    assert "price file of that source" in capsys.readouterr().err
    assert (
        price_versions.import_file(config, tmp_path / "none", source=DEFAULT, label="x", organization=None)
        == 1
    )
