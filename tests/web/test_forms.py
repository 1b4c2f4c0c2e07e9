"""Every form of the web admin by construction: who may send it, and from where."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest
from starlette.routing import Route

from permille import web
from permille.web.visit import Form

from .conftest import SAME_ORIGIN, Browser, join
from .test_read_only import reader_of

SIGNED_OUT = {"/app/sign-in", "/app/sign-in/code", "/app/sign-out", "/app/link/{token}"}
"""Forms of somebody who is not signed in, or is no longer."""
OWN = re.compile(r"/app/(account/.*|switch-organization)")
"""What everybody may do."""
ADMINS = re.compile(
    r"/app/(users.*|developers|api-keys.*|hmac-key/roll|webhook-endpoints/\{lago_id\}/delete|mail-server.*|new-organization)"
)
"""What those who only work with bills may not."""


def forms(server) -> Iterator[tuple[str, str]]:
    """Each form's path, and an address of it."""
    for route in web.routes(server.engine):
        if isinstance(route, Route) and "POST" in (route.methods or ()):
            yield route.path, re.sub(r"\{[^}]+\}", "x", route.path)


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "https://evil.example"},
        {},
    ],
)
def test_no_form_is_taken_from_elsewhere(server, browser: Browser, headers):
    listed = list(forms(server))
    assert len(listed) > 80
    for path, address in listed:
        status = browser.client.post(address, data={}, headers=headers).status_code
        assert status == {"/app/sign-in/code": 303, "/app/link/{token}": 410}.get(path, 403), path


def test_no_form_is_taken_from_a_reader_and_those_of_admins_from_nobody_else(server, browser: Browser):
    reader, finance = reader_of(server, browser), join(server, role="finance")
    for path, address in forms(server):
        if path in SIGNED_OUT:
            continue
        answer = reader.client.post(address, data={}, headers=SAME_ORIGIN)
        assert (answer.status_code == 403) == (not OWN.fullmatch(path)), (path, answer.status_code)
        answer = finance.client.post(address, data={}, headers=SAME_ORIGIN)
        assert (answer.status_code == 403) == bool(ADMINS.fullmatch(path)), (path, answer.status_code)


def test_a_form_of_many_fields_is_looked_up_in_no_time():
    form = Form(pairs=tuple((str(number // 2), str(number)) for number in range(5_000)))
    began = time.thread_time()
    assert all(
        form.get(str(number)) == str(2 * number + 1) and form.has(str(number)) for number in range(2_500)
    )
    assert not any(form.get(f"none{number}") for number in range(10_000))
    assert time.thread_time() - began < 0.3


def test_no_form_is_taken_from_somebody_who_is_not_signed_in(server, browser: Browser):
    browser.client.cookies.clear()
    for path, address in forms(server):
        if path not in SIGNED_OUT:
            answer = browser.client.post(address, data={}, headers=SAME_ORIGIN)
            assert (answer.status_code, answer.headers.get("location")) == (303, "/app/sign-in"), path
