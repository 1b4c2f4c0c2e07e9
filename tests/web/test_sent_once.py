"""Every form is done once, with a script or without: sent again, it shows what came of it the first time."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from starlette.routing import Route

from permille import web
from permille.store import sent_forms, users
from permille.store.sent_forms import SentForm

from .conftest import START, Browser, text_of
from .test_coupons import AMOUNT
from .test_wallets import WALLET

WITHOUT_A_SESSION_OR_WITH_A_PASSWORD = {
    "/app/sign-in",
    "/app/sign-in/code",
    "/app/sign-out",
    "/app/sign-in/sso",
    "/app/link/{token}",
    "/app/account/password",
    "/app/account/second-factor/off",
    "/app/account/second-factor/recovery-codes",
}


def token_of(page: str, action: str = "") -> str:
    """The token of the page's form that is sent to the action; without one, to the page itself."""
    sent_to = rf'[^>]* action="/app{re.escape(action)}"' if action else r"(?![^>]*\baction=)"
    field = r'<input type="hidden" name="form_token" value="([^"]+)">'
    found = re.search(rf'<form method="post"{sent_to}[^>]*>{field}', page)
    assert found is not None, action
    return found[1]


def entries(browser: Browser, operation: str) -> int:
    query = "select count(*) from audit_entry where organization_id = %s and operation = %s"
    return browser.row(query, browser.organization.id, operation)[0]


def test_every_form_that_changes_anything_is_done_once(server):
    """Those that are sent to `page`, which is where it is seen to."""
    elsewhere = {
        route.path
        for route in web.routes(server.engine)
        if isinstance(route, Route) and "POST" in (route.methods or set())
        if getattr(route.endpoint, "__qualname__", "") != "page.<locals>.handle"
    }
    assert elsewhere <= WITHOUT_A_SESSION_OR_WITH_A_PASSWORD


@pytest.mark.parametrize(
    ("path", "route", "form"),
    [
        ("/new-customer", "/new-customer", {"external_id": "once", "name": "Once", "currency": "USD"}),
        (
            "/subscribe/acme",
            "/subscribe/{external_id:path}",
            {"plan_code": "openai-gpt-4", "external_id": "acme-2", "billing_time": "calendar"},
        ),
        ("/new-wallet/acme", "/new-wallet/{external_id:path}", WALLET),
        ("/new-coupon", "/new-coupon", {**AMOUNT, "plan": "openai-gpt-4"}),
    ],
)  # fmt: skip
def test_what_is_made_by_a_form_is_made_once(browser, gpt4, path, route, form):
    page = browser.ok("/customers/acme", tab="subscriptions") if "subscribe" in path else browser.ok(path)
    form = {**form, "form_token": token_of(page, path if "subscribe" in path else "")}
    before = entries(browser, f"POST /app{route}")
    first = browser.sent(path, form)
    again = browser.sent(path, form)
    assert entries(browser, f"POST /app{route}") == before + 1
    assert again.partition("?")[0] == first.partition("?")[0]
    shown = text_of(browser.client.get(again).text)
    assert "nothing was done a second time" in shown
    assert "Created." not in shown


def test_money_is_given_once_and_again_by_other_fields_or_another_page(browser, gpt4):
    path = browser.sent("/new-wallet/acme", WALLET).removeprefix("/app").partition("?")[0]
    given = "select sum(credit_amount) from wallet_transaction where organization_id = %s"
    before = browser.row(given, browser.organization.id)[0]
    form = {"granted_credits": "7", "form_token": token_of(browser.ok(path))}
    for sent, more in ((form, 7), (form, 7), ({**form, "granted_credits": "1"}, 8)):
        browser.sent(path, sent)
        assert browser.row(given, browser.organization.id)[0] == before + more
    loaded_again = {**form, "form_token": token_of(browser.ok(path))}
    for _ in range(2):
        asked = browser.refused(path, loaded_again)
        assert "You sent the same a moment ago, and it was done." in text_of(asked)
    assert 'value="7"' in asked
    for _ in range(2):
        browser.sent(path, {**form, "form_token": token_of(asked)})
        assert browser.row(given, browser.organization.id)[0] == before + 15


def test_the_same_is_not_asked_for_ever(browser, gpt4):
    path = browser.sent("/new-wallet/acme", WALLET).removeprefix("/app").partition("?")[0]
    for _ in range(2):
        browser.sent(path, {"granted_credits": "7", "form_token": token_of(browser.ok(path))})
        with psycopg.connect(browser.dsn) as conn:
            conn.execute("update sent_form set sent_at = sent_at - interval '11 minutes'")


def test_of_two_clicks_at_a_time_one_waits_for_the_other(browser):
    session = users.digest_of(browser.client.cookies["permille"])
    form = SentForm(session=session, digest=b"form", content=b"fields")
    with psycopg.connect(browser.dsn) as first, psycopg.connect(browser.dsn) as second:
        assert sent_forms.claim(first, form, now=START) is None
        with ThreadPoolExecutor(1) as clicks:
            waiting = clicks.submit(sent_forms.claim, second, form, now=START)
            with pytest.raises(TimeoutError):
                waiting.result(0.1)
            sent_forms.led_to(first, form, "/app/there")
            first.commit()
            assert waiting.result() == "/app/there"


def test_a_form_that_was_refused_may_be_sent_again(browser, gpt4):
    wrong = {
        "granted_credits": "soon",
        "rate_amount": "1",
        "form_token": token_of(browser.ok("/new-wallet/acme")),
    }
    browser.refused("/new-wallet/acme", wrong)
    browser.refused("/new-wallet/acme", wrong)


def test_a_change_of_prices_asks_again_after_the_back_button(browser, gpt4):
    page = browser.ok("/edit-plan/openai-gpt-4")
    form = {"name": "GPT-4", "amount": "3", "form_token": token_of(page)}
    for _ in range(2):
        assert "Nothing is saved yet." in browser.post("/edit-plan/openai-gpt-4", form).text


def test_a_key_is_made_once(browser):
    form = {"key_name": "ci", "form_token": token_of(browser.ok("/developers"), "/api-keys")}
    assert "ci" in browser.post("/api-keys", form).text
    assert browser.sent("/api-keys", form) == "/app/developers?said=sent_before"
    count = "select count(*) from api_key where organization_id = %s and name = 'ci'"
    assert browser.row(count, browser.organization.id) == (1,)


def test_each_form_of_each_page_has_a_token_of_its_own(browser, gpt4):
    tokens: list[str] = []
    for path in ("/customers/acme", "/developers", "/plans/openai-gpt-4", "/users"):
        page = browser.ok(path)
        forms = re.findall(r'<form\b[^>]*method="post"[^>]*>', page)
        own = re.findall(r'name="form_token" value="([^"]+)"', page)
        assert len(own) == sum("data-again" not in form for form in forms), path
        tokens += own
    assert len(set(tokens)) == len(tokens) > 5
