"""The second factor, from setting it up to signing in with it, as somebody does it at a keyboard."""

from __future__ import annotations

import time

import pyotp
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.live import LiveServer

from .browsing import DESKTOP, PHONE, administer, barriers, open_tab, picture, sign_in
from .filled import Filled

pytestmark = pytest.mark.xdist_group("browser")

EMAIL = "factor@example.com"


def is_for_everybody(page: Page, name: str) -> None:
    for scheme, size in (("light", DESKTOP), ("dark", PHONE)):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        page.set_viewport_size(size)
        assert barriers(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
        picture(page, f"{name}-{scheme}")
    page.set_viewport_size(DESKTOP)


def next_code(secret: str) -> str:
    """The code of a time step that no code was taken of: the one after now."""
    return pyotp.TOTP(secret).at(time.time(), counter_offset=1)


def test_a_second_factor_is_set_up_and_asked_for(
    page: Page, chromium: Browser, live: LiveServer, filled: Filled
) -> None:
    sign_in(page, live, EMAIL)
    page.get_by_role("link", name="Account").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Your account")
    is_for_everybody(page, "account")
    page.get_by_role("link", name="Set it up").click()
    page.get_by_role("button", name="Set it up").press("Enter")
    expect(page.get_by_role("img", name="QR code with the key below")).to_be_visible()
    is_for_everybody(page, "second-factor")
    secret = page.locator(".secret code").inner_text().replace(" ", "")
    page.get_by_role("textbox", name="Code").fill(pyotp.TOTP(secret).now())
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Recovery codes")
    expect(page.locator(".codes li")).to_have_count(10)
    is_for_everybody(page, "recovery-codes")
    recovery = page.locator(".codes li").first.inner_text()
    page.get_by_role("link", name="I have them").press("Enter")
    page.get_by_role("link", name="Change it").click()
    is_for_everybody(page, "second-factor-on")

    for code in (next_code(secret), recovery):
        context, tab, watch = open_tab(chromium, live, java_script_enabled=False)
        made = administer(live, "/sign_in_links", {"sign_in_link": {"email": EMAIL}})
        tab.goto(live.url + made["sign_in_link"]["path"])
        tab.get_by_role("button", name="Sign in").click()
        expect(tab.get_by_role("textbox", name="Code")).to_be_focused()
        tab.keyboard.type("000000")
        tab.keyboard.press("Enter")
        expect(tab.get_by_text("This is not the code")).to_be_visible()
        tab.get_by_role("textbox", name="Code").fill(code)
        tab.keyboard.press("Enter")
        expect(tab).to_have_url(f"{live.url}/app")
        context.close()
        assert watch.wrong == []
