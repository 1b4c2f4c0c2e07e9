"""The audit log by construction: every table is audited or says why not, and every writing operation leaves its entry."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from starlette.testclient import TestClient

from permille import web
from permille.api.addresses import Route
from permille.api.http import Engine, application
from permille.api.routes import ADMIN_OPERATIONS, ENDPOINTS, all_routes
from permille.config import from_environment
from permille.database.connections import open_pool
from permille.embedded.postgres import EmbeddedPostgres
from permille.usecases.key_use import KeyUse
from permille.web import sign_in
from tests.api.contract import CheckedClient

from .conftest import Api, Server, charge
from .test_tenants import BODIES, everything, paths, settle

NOT_AUDITED = {
    "the log itself": "audit_entry audit_change",
    "events are data, and have their own list; amendments are audited": "event struck_event counted_once",
    "derived from the units of plans and subscriptions, which are audited": "fixed_charge_units",
    "derived from events and prices by the engine": "series event_hour usage_cell event_count series_month unique_cell metering"
    " metering_version metering_state advance_event unpriced_advance_event held_advance_event advance_rounding"
    " advance_level unknown_model_call unchecked_series unchecked_organization unpriced_usage unpriced_series late_mark late_check usage_chart"
    " alert_mark alert_check triggered_alert threshold_mark threshold_check wallet_check wallet_mark wallet_to_refresh",
    "belong to an invoice, a credit note or a payment that is audited": "invoice_sequence invoice_subscription invoice_document announced_document"
    " credit_note_item invoice_credit coupon_credit invoice_payment payment_request_invoice payment_receipt dunning"
    " wallet_consumption progressive_credit applied_usage_threshold",
    "what is asked for, whatever comes of it": "api_log recent_usage",
    "what is sent; asking for it is in the log of operations": "mail",
    "follows from the VAT number of a customer, who is audited": "vat_check",
    "the engine's own state": "billing_hold fence company clock_seen signing_key logo schema_migration price_file",
    "signing in is no change": "user_session sent_form known_browser sign_in_failure sign_in_identity",
    "secrets: what is done with them is in the log in words": "second_factor recovery_code",
    "of the library for jobs": "procrastinate_jobs procrastinate_events procrastinate_periodic_defers"
    " procrastinate_workers",
}
CHANGES_NOTHING = {
    "POST /events/estimate_fees",
    "POST /events/estimate_instant_fees",
    "POST /events/batch_estimate_instant_fees",
    "POST /invoices/preview",
    "POST /invoices/{lago_id}/download",
    "POST /invoices/{lago_id}/download_pdf",
}
"""Operations that write nothing that belongs into the log."""
ROOTS: dict[str, Any] = {
    **BODIES,
    "/events": {"amendment": {"transaction_id": "am", "event_transaction_id": "tx-late", "kind": "void"}},
}


@pytest.fixture
def settled(api: Api, dsn: str) -> Api:
    settle(api, dsn)
    return api


def entries(api: Api) -> list[dict[str, Any]]:
    """The organization's entries, oldest first, each with the objects that it changed."""
    api.conn.rollback()
    rows = api.conn.execute(
        "select e.id, e.actor, e.api_key_prefix, e.operation, e.request_id, e.organization_at,"
        " array(select jsonb_build_object('type', object_type, 'code', object_code, 'action', action, 'changes', changes)"
        " from audit_change where entry_id = e.id order by object_type, object_code) from audit_entry e"
        " where organization_id = %s order by at, id",
        [api.organization.id],
    ).fetchall()
    names = ("id", "actor", "key", "operation", "request_id", "organization_at", "objects")
    return [dict(zip(names, row, strict=True)) for row in rows]


def test_every_table_is_audited_or_says_why_not(api: Api) -> None:
    tables = {
        row[0]
        for row in api.conn.execute(
            "select relname from pg_class where relkind in ('r', 'p') and not relispartition"
            " and relnamespace = 'public'::regnamespace"
        )
    }
    audited = {
        row[0]
        for row in api.conn.execute(
            "select tgrelid::regclass::text from pg_trigger where tgname like 'audited_%'"
        )
    }
    exempt = {table for listed in NOT_AUDITED.values() for table in listed.split()}
    assert not audited & exempt
    assert tables - audited - exempt == set()


def audited_columns(api: Api) -> dict[str, tuple[list[str], bool]]:
    """Table -> its columns that are the engine's own business, and whether its rows say whose they are."""
    rows = api.conn.execute(
        "select tgrelid::regclass::text, tgargs, exists (select from pg_attribute where attrelid = tgrelid"
        " and attname = 'organization_id') from pg_trigger where tgname like 'audited_%'"
    ).fetchall()
    return {
        table: (bytes(words).split(b"\0")[2].decode().split(), is_owned) for table, words, is_owned in rows
    }


def state(api: Api) -> dict[str, str]:
    """A digest of each audited table's rows of the organization, without the engine's own business."""
    api.conn.rollback()
    query = " union all ".join(
        f"select '{table}', md5(coalesce(string_agg(line, '' order by line), '')) from (select (to_jsonb(t)"
        f" - array[{', '.join(repr(each) for each in ignored)}]::text[])::text as line from {table} t"
        f"{' where organization_id = %(organization)s' if is_owned else ''}) lines"
        for table, (ignored, is_owned) in audited_columns(api).items()
    )
    return dict(api.conn.execute(query, {"organization": api.organization.id}).fetchall())


def test_every_writing_operation_that_changes_something_leaves_an_entry(settled: Api) -> None:
    seen = everything(settled)
    writing = [each for each in ENDPOINTS if each[0] != "GET"]
    silent = []
    before, count = state(settled), len(entries(settled))
    for method, path, _ in sorted(writing, key=lambda each: (each[0] == "DELETE", each[1].count("/"))):
        for one in list(dict.fromkeys(paths(path, seen)))[:2]:
            body = ROOTS.get("/" + path.split("/")[1]) if method != "DELETE" else None
            answer = settled.call(method, one, body)
            after, found = state(settled), entries(settled)
            changed = {name for name in after if after[name] != before[name]}
            if f"{method} {path}" in CHANGES_NOTHING:
                changed -= {"webhook"}  # a document is announced once it is there
            if changed and len(found) == count:
                silent.append((method, one, changed))
            if len(found) > count:
                assert answer.status_code == 200, (method, one)
                assert found[-1]["operation"] == f"{method} /api/v1{path}"
                assert found[-1]["actor"] == "api_key"
                assert settled.key.startswith(found[-1]["key"])
                assert found[-1]["request_id"] == answer.headers["x-request-id"]
                assert f"{method} {path}" not in CHANGES_NOTHING
            before, count = after, len(found)
    assert silent == []


def test_an_entry_has_the_fields_that_differ_before_and_after(api: Api) -> None:
    metric = api.metric("tokens")
    api.plan("pro", [charge(metric, code="by_token")])
    api.put("/plans/pro/charges/by_token", {"charge": {"properties": {"amount": "2"}}})
    last = entries(api)[-1]
    assert last["organization_at"] == api.organization.test_now
    (changed,) = [each for each in last["objects"] if each["type"] == "charge"]
    assert changed["action"] == "updated"
    assert changed["changes"] == {"properties": [{"amount": "1"}, {"amount": "2"}]}


def test_a_dry_run_and_a_refusal_leave_no_entry(api: Api) -> None:
    metric = api.metric("tokens")
    api.plan("pro", [charge(metric, code="by_token")])
    count = len(entries(api))
    api.put("/plans/pro/charges/by_token", {"charge": {"properties": {"amount": "2"}}, "dry_run": True})
    api.details("POST", "/taxes", {"tax": {"name": "VAT", "code": "vat", "rate": "x"}})
    assert len(entries(api)) == count


def test_what_becomes_due_when_the_clock_moves_is_the_engines_own_work(settled: Api) -> None:
    moves = [each for each in entries(settled) if each["operation"] == "PUT /api/v1/test_clock"]
    assert [[one["type"] for one in each["objects"]] for each in moves] == [["organization"]]
    assert moves[0]["objects"][0]["changes"] == {"test_target": [None, "2024-04-02T00:00:00+00:00"]}


def test_amendments_are_in_the_log_without_properties(settled: Api) -> None:
    replacement = {
        "transaction_id": "am-1",
        "event_transaction_id": "tx-tokens",
        "kind": "replace",
        "reason": "wrong",
        "event": {
            "code": "tokens",
            "external_subscription_id": "sub",
            "properties": {"tokens": "very secret"},
        },
    }
    settled.call("POST", "/events/amendments", {"amendment": replacement})
    voided = {**replacement, "transaction_id": "am-2", "event_transaction_id": "tx-late", "kind": "void"}
    del voided["event"]
    settled.post("/events/amendments", {"amendment": voided})
    last = entries(settled)[-1]["objects"][0]
    assert (last["type"], last["action"], last["code"]) == ("event_amendment", "created", "tx-late")
    settled.conn.rollback()
    assert not settled.row(
        "select from audit_change where changes ? 'properties' and object_type = 'event_amendment'"
    )


def test_secrets_are_never_in_the_log(server: Server, postgres: EmbeddedPostgres) -> None:
    with psycopg.connect(server.dsn) as conn:
        pool = open_pool(server.dsn, size=1, name="test-admin")
        config = replace(from_environment(), database_url=server.dsn, admin_key="the-admin-key")
        with CheckedClient(
            application(all_routes(Engine(config=config, pool=pool, key_use=KeyUse(pool))))
        ) as client:
            assert {each.method for each in ADMIN_OPERATIONS} == {"GET", "POST", "PUT", "DELETE"}
            secrets, found = walk_admin(client)
        pool.close()
        rows = conn.execute("select actor, operation from audit_entry where organization_id = %s", [found])
        done = rows.fetchall()
        assert {row[0] for row in done} == {"admin_key"}
        changing = {
            f"{each.method} /admin/v1{each.path}" for each in ADMIN_OPERATIONS if each.method != "GET"
        }
        assert {row[1] for row in done} == changing
        log = conn.execute("select string_agg(e::text, '') from audit_entry e").fetchone()
        changes = conn.execute("select string_agg(c::text, '') from audit_change c").fetchone()
        assert log
        assert changes
        assert not [secret for secret in secrets if secret in log[0] + changes[0]]


def walk_admin(client: TestClient) -> tuple[list[str], str]:
    """Call every writing operation of the admin API; the secrets that were answered, and the organization."""

    def call(method: str, path: str, body: Any = None) -> Any:
        headers = {"Authorization": "Bearer the-admin-key"}
        answer = client.request(method, f"/admin/v1{path}", json=body, headers=headers)
        assert answer.status_code == 200, answer.text
        return answer.json()

    made = call("POST", "/organizations", {"organization": {"name": "Made"}})["organization"]
    here = f"/organizations/{made['lago_id']}"
    key = call("POST", f"{here}/api_keys", {"api_key": {"name": "second"}})["api_key"]
    rotated = call("POST", f"{here}/api_keys/{key['lago_id']}/rotate", {})["api_key"]
    call("DELETE", f"{here}/api_keys/{rotated['lago_id']}")
    call("POST", f"{here}/price_lists", {"price_list": {"slug": "openai-gpt-4"}})
    wanted = {"email": "new@example.com", "organization_id": made["lago_id"]}
    link = call("POST", "/sign_in_links", {"sign_in_link": wanted})["sign_in_link"]
    token = link["path"].rsplit("/", 1)[1]
    server = {
        "host": "smtp.example.com",
        "mail_from": "bills@example.com",
        "user": "u",
        "password": "mail-secret",
    }
    call("PUT", f"{here}/mail_server", {"mail_server": server})
    call("DELETE", f"{here}/mail_server")
    return [
        "mail-secret",
        made["api_key"],
        made["hmac_key"],
        key["api_key"],
        rotated["api_key"],
        token,
        "the-admin-key",
    ], made["lago_id"]


def test_every_form_of_the_web_admin_goes_through_the_door_that_says_whose_a_change_is(dsn: str) -> None:
    """`pages.page` begins a change before each form; the others are the sign-in and what says it itself."""
    pool = open_pool(dsn, size=1, name="test-forms")
    routes = web.routes(Engine(config=from_environment(), pool=pool, key_use=KeyUse(pool)))
    pool.close()
    forms = [each for each in routes if isinstance(each, Route) and "POST" in (each.methods or ())]
    assert len(forms) > 25
    elsewhere = {each.path for each in forms if not each.endpoint.__qualname__.startswith("page.")}
    signing_in = {"/app/sign-in", "/app/sign-in/code", "/app/sign-out", "/app/link/{token}"}
    own_desk = {"password", "second-factor/off", "second-factor/recovery-codes"}
    assert elsewhere == signing_in | {f"/app/account/{each}" for each in own_desk}


def test_the_command_line_is_in_the_log(api: Api, dsn: str) -> None:
    config = replace(from_environment(), database_url=dsn)
    sign_in.sign_in_link(config, email="cli@example.com", organization=str(api.organization.id))
    (found,) = entries(api)
    assert (found["actor"], found["operation"]) == ("command_line", "permille sign-in-link")
    assert {each["type"] for each in found["objects"]} == {"app_user", "membership", "one_time_link"}


def test_lago_reads_the_log_as_activity_logs(settled: Api, stranger: Api) -> None:
    settled.put("/taxes/vat", {"tax": {"rate": "21"}})
    found = settled.get("/activity_logs", **{"activity_types[]": "tax.updated"})["activity_logs"]
    (one,) = found
    assert one["activity_source"] == "api"
    assert one["resource_type"] == "Tax"
    assert [Decimal(rate) for rate in one["activity_object_changes"]["rate"]] == [20, 21]
    assert settled.get(f"/activity_logs/{one['activity_id']}")["activity_log"] == one
    assert stranger.code(404, "GET", f"/activity_logs/{one['activity_id']}") == "activity_log_not_found"
    assert settled.get("/activity_logs", **{"activity_sources[]": "front"})["activity_logs"] == []
    of_customer = settled.get("/activity_logs", external_customer_id="cus")["activity_logs"]
    assert {each["resource_type"] for each in of_customer} >= {"Customer", "Subscription"}
    kinds = settled.get("/activity_logs", **{"resource_types[]": "BillableMetric"})["activity_logs"]
    assert {each["resource_type"] for each in kinds} == {"BillableMetric"}
    assert settled.get("/activity_logs", from_date="2199-01-01")["activity_logs"] == []
    assert settled.details("GET", "/activity_logs", None, from_date="soon") == {"from_date": ["invalid_date"]}


@pytest.mark.parametrize("column", ["object_id", "object_code", "external_subscription_id"])
def test_the_log_is_read_by_indexes(api: Api, column: str) -> None:
    api.conn.execute("set local enable_seqscan = off")
    query = f"select * from audit_change where organization_id = %s and {column} = 'x' order by at desc, id desc limit 50"
    plan = repr(api.conn.execute(f"explain {query}", [api.organization.id]).fetchall())
    assert "Index Cond" in plan
    assert column in plan
    assert "Sort" not in plan
