"""PDFs: a few at once in threads of their own, a share for each organization, and kept while they show the same."""

from __future__ import annotations

import asyncio
import subprocess
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from permille.core.errors import Refusal
from permille.http.shares import Workshop
from permille.out.pdf import typesetting
from permille.store import invoice_documents
from tests.live import PATIENCE_SECONDS

from .conftest import Api


def test_one_document_of_an_organization_at_once_and_a_short_queue() -> None:
    async def run() -> None:
        workshop = Workshop(at_once=2, waiting=6, waiting_of_one=3)
        go_on = threading.Event()
        running: list[str] = []
        most = 0

        def work(owner: str) -> str:
            nonlocal most
            running.append(owner)
            most = max(most, len(running))
            assert running.count(owner) == 1
            assert go_on.wait(PATIENCE_SECONDS)
            running.remove(owner)
            return owner

        async def made(owner: str) -> str:
            return await workshop.make(owner, lambda: work(owner))

        async def until(holds: Callable[[], bool]) -> None:
            for _ in range(100 * PATIENCE_SECONDS):
                if holds():
                    return
                await asyncio.sleep(0.01)

        many = [asyncio.create_task(made("many")) for _ in range(10)]
        await until(lambda: sum(task.done() for task in many) == 6 and running == ["many"])
        refused = [task for task in many if task.done()]
        assert len(refused) == 6
        for task in refused:
            error = task.exception()
            assert isinstance(error, Refusal)
            assert (error.status, error.code) == (503, "too_many_documents")
        others = [asyncio.create_task(made(name)) for name in ("a", "b")]
        await until(lambda: len(running) == 2)
        assert running == ["many", "a"], "another has the second place at once"
        go_on.set()
        assert await asyncio.gather(*others) == ["a", "b"]
        assert await asyncio.gather(*[task for task in many if task not in refused]) == ["many"] * 4
        assert most == 2
        workshop.close()

    asyncio.run(run())


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The threads in which documents were set, one for each."""
    threads: list[str] = []
    real = typesetting.typeset

    def noted(*args: Any, **named: Any) -> bytes:
        threads.append(threading.current_thread().name)
        return real(*args, **named)

    monkeypatch.setattr("permille.out.pdf.invoice.typeset", noted)
    return threads


def bill(api: Api, **plan: Any) -> str:
    api.plan(amount_cents=3_100, **plan)
    api.customer(name="Ann")
    api.subscribe(subscription_at="2024-03-01T00:00:00Z")
    api.put("/test_clock", {"test_clock": {"now": datetime(2024, 4, 1, 1, tzinfo=UTC).isoformat()}})
    (invoice,) = api.get("/invoices")["invoices"]
    return f"/invoices/{invoice['lago_id']}"


def pdf(api: Api, invoice: str) -> bytes:
    answer = api.call("GET", f"{invoice}/pdf")
    assert answer.status_code == 200, answer.text
    return answer.content


def test_the_pdf_of_a_final_invoice_is_kept_while_it_shows_the_same(api: Api, made: list[str]) -> None:
    invoice = bill(api)
    first = pdf(api, invoice)
    assert pdf(api, invoice) == first
    assert len(made) == 1
    assert made[0].startswith("documents"), "in a thread of the documents' own"
    api.customer(name="Ann Onymous")
    changed = pdf(api, invoice)
    assert changed != first
    assert pdf(api, invoice) == changed
    api.put("/billing_entities/default", {"billing_entity": {"invoice_footer": "See you"}})
    assert pdf(api, invoice) != changed
    assert len(made) == 3
    kept = api.row(
        "select count(*), max(size) from invoice_document where organization_id = %(organization)s"
    )
    assert kept == (1, len(pdf(api, invoice)))


def test_a_kept_pdf_is_found_without_laying_it_out(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    invoice = bill(api)
    first = pdf(api, invoice)

    def layout(*_: Any) -> None:
        raise AssertionError("it is laid out again")

    monkeypatch.setattr("permille.out.pdf.invoice._layout", layout)
    assert pdf(api, invoice) == first


def test_a_pdf_that_takes_too_long_is_refused_and_made_when_there_is_time(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    invoice = bill(api)

    def too_long(*_: Any, **__: Any) -> None:
        raise subprocess.TimeoutExpired("typst", 60)

    with monkeypatch.context() as busy:
        busy.setattr(subprocess, "run", too_long)
        answer = api.call("GET", f"{invoice}/pdf")
    assert (answer.status_code, answer.json()["code"]) == (503, "took_too_long")
    assert "retry-after" in answer.headers
    assert pdf(api, invoice).startswith(b"%PDF")


def test_a_draft_is_not_kept(api: Api, made: list[str]) -> None:
    api.put("/billing_entities/default", {"billing_entity": {"invoice_grace_period": 3}})
    invoice = bill(api)
    assert pdf(api, invoice) == pdf(api, invoice)
    assert len(made) == 2


def test_what_is_kept_of_an_organization_is_bounded(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    bill(api)
    for month in (5, 6, 7):
        now = datetime(2024, month, 1, 1, tzinfo=UTC).isoformat()
        api.put("/test_clock", {"test_clock": {"now": now}})
    invoices = [f"/invoices/{each['lago_id']}" for each in api.get("/invoices")["invoices"]]
    assert len(invoices) == 4
    size = len(pdf(api, invoices[0]))
    monkeypatch.setattr(invoice_documents, "BYTES_MAX", 3 * size)
    for invoice in invoices:
        pdf(api, invoice)
        time.sleep(0.001)
    (count,) = api.row("select count(*) from invoice_document where organization_id = %(organization)s")
    assert count in (2, 3)
