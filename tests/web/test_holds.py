"""What is held is on a page, with why and when it is tried again, and can be tried again at once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import psycopg

from permille.store import billing_holds, customers, fences

from .conftest import text_of

SINCE = datetime(2026, 10, 2, tzinfo=UTC)


def test_nothing_is_held(browser):
    assert "Nothing is held." in text_of(browser.ok("/holds"))
    assert "/app/holds" not in browser.ok("")


def test_held_customers_and_failed_tasks_are_shown_and_tried_again(server, browser, gpt4):
    here = browser.organization.id
    with psycopg.connect(server.dsn) as conn:
        customer = customers.by_external_id(conn, here, "acme")
        assert customer is not None
        billing_holds.hold(
            conn,
            organization_id=here,
            customer_id=customer.id,
            due_at=SINCE,
            reason="ValueError: year 10000 (core/period.py:150)",
            now=SINCE + timedelta(days=9_000),
        )
        for customer_id in (None, customer.id):
            fences.put(conn, here, "Late usage", customer_id=customer_id, reason="KeyError: 'x'", now=SINCE)
    assert "1 customer cannot be billed." in text_of(browser.ok(""))
    words = text_of(browser.ok("/holds"))
    assert "acme 2 Oct 2026" in words
    assert "ValueError: year 10000 (core/period.py:150)" in words
    assert "Late usage all 1 times since 2 Oct 2026" in words
    assert "Late usage acme 1 times since 2 Oct 2026" in words
    browser.sent("/holds/retry")
    with psycopg.connect(server.dsn) as conn:
        assert conn.execute("select bool_and(retry_at <= %s) from fence", [SINCE]).fetchone() == (True,)
        later = SINCE + timedelta(days=9_000)
        assert conn.execute("select bool_and(retry_at < %s) from billing_hold", [later]).fetchone() == (True,)
