"""The audit log: every form leaves an entry with what it changed; filters and exports."""

from __future__ import annotations

import csv
import html
import io
import json
from typing import Any

import psycopg
import pytest

from permille.api import taxes
from permille.web import audit_log

from .conftest import Browser
from .test_two_doors import CHANGES, catalogue  # noqa: F401

FORMS = [name for name in CHANGES if name.endswith("web")]


def lines(browser: Browser, query: str = "") -> list[dict[str, Any]]:
    """The exported log, the newest first."""
    answer = browser.client.get(f"/app/audit-log.jsonl{query}")
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    return [json.loads(line) for line in answer.text.splitlines()]


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.usefixtures("catalogue")
def test_a_form_leaves_one_entry_with_what_it_changed(browser: Browser, api: Any, name: str) -> None:
    count = len(lines(browser))
    CHANGES[name](browser, api)
    found = lines(browser)
    assert len(found) == count + 1
    last = found[0]
    assert last["actor"] == "user"
    assert last["user_email"]
    assert last["operation"].startswith("POST /app/")
    assert last["action"]
    assert last["objects"]
    assert all(each["changes"] for each in last["objects"])


def test_a_change_shows_the_fields_before_and_after(browser: Browser) -> None:
    browser.sent("/new-customer", {"external_id": "acme", "name": "Acme"})
    browser.sent("/edit-customer/acme", {"external_id": "acme", "name": "Acme AI"})
    (changed,) = lines(browser)[0]["objects"]
    assert (changed["object_type"], changed["object_code"], changed["action"]) == (
        "customer",
        "acme",
        "updated",
    )
    assert changed["changes"]["name"] == ["Acme", "Acme AI"]
    assert '"name"' in html.unescape(browser.ok("/audit-log"))


def test_filters_by_who_what_and_when(browser: Browser) -> None:
    browser.sent("/new-customer", {"external_id": "acme", "name": "Acme"})
    browser.sent("/new-customer", {"external_id": "other", "name": "Other"})
    (found,) = lines(browser, "?what=acme")
    assert found["objects"][0]["object_code"] == "acme"
    assert len(lines(browser, f"?who={found['user_email']}")) == 2
    assert len(lines(browser, "?who=user")) == 2
    assert lines(browser, "?who=api_key") == []
    day = found["at"][:10]
    assert len(lines(browser, f"?from={day}&to={day}")) == 2
    assert lines(browser, "?to=2001-01-01") == []
    assert "No change fits these filters" in browser.ok("/audit-log", what="nothing")
    assert browser.client.get("/app/audit-log?from=soon").status_code == 422


def test_the_csv_has_a_row_for_each_field_and_no_formulas(browser: Browser) -> None:
    browser.sent("/new-customer", {"external_id": "acme", "name": "=1+1"})
    rows = list(csv.DictReader(io.StringIO(browser.client.get("/app/audit-log.csv").text)))
    named = next(row for row in rows if row["field"] == "name")
    assert (named["object_code"], named["before"], named["after"]) == ("acme", "", "'=1+1")


def test_an_export_that_has_not_all_says_so(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_log, "ROWS_MAX", 1)
    browser.sent("/new-customer", {"external_id": "acme", "name": "Acme"})
    files = [browser.client.get(f"/app/audit-log.{kind}").text for kind in ("csv", "jsonl")]
    assert not any("Not all" in text for text in files)
    browser.sent("/new-customer", {"external_id": "other", "name": "Other"})
    for kind in ("csv", "jsonl"):
        *_, last = browser.client.get(f"/app/audit-log.{kind}").text.splitlines()
        assert "Not all: these are the newest 1 entries." in last


def test_a_new_hmac_key_is_in_the_log_but_not_shown(browser: Browser) -> None:
    browser.post("/hmac-key/roll", {})
    (changed,) = lines(browser)[0]["objects"]
    assert changed["changes"] == {"hmac_key": ["(not shown)", "(not shown)"]}


def test_organizations_see_their_own_log_only(browser: Browser, reader: Browser) -> None:
    browser.sent("/new-customer", {"external_id": "acme", "name": "Acme"})
    assert lines(reader) == []


def test_what_nobody_has_asked_for_leaves_no_entry(browser: Browser, api: Any) -> None:
    """Without a door that says whose it is, a change is the engine's own work."""
    api(taxes.create_tax, {"tax": {"name": "VAT", "code": "vat", "rate": "19"}})
    with psycopg.connect(browser.dsn) as conn:
        query = "select count(*) from audit_change where organization_id = %s"
        assert conn.execute(query, [browser.organization.id]).fetchone() == (0,)
