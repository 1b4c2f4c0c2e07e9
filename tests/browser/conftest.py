"""A real browser in front of a real `permille up`."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, sync_playwright

from tests.live import ADMIN_KEY, LiveServer, live_server

NAMES = ("chromium", "chromium-browser", "google-chrome")
SCREENSHOTS = Path(__file__).parent.parent.parent / "screenshots"
CLOCK = "2026-10-01T12:00:00Z"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """While it runs Playwright keeps an event loop going, which the tests of other modules can't have."""
    program = next((path for path in map(shutil.which, NAMES) if path), None)
    if program is None:
        assert not os.environ.get("CI"), "CI runs the browser tests: run tools/browser.py as root before"
        pytest.skip("no Chromium: as root, apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def live(reachable_session_path: Path) -> Iterator[LiveServer]:
    folder = reachable_session_path / "browser"
    folder.mkdir(mode=0o711)
    with live_server(folder) as server:
        yield server


@dataclass
class Watch:
    """What must not happen on any page: an error on the console, a request to another host."""

    host: str
    wrong: list[str] = field(default_factory=list)

    def console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and "status of 4" not in message.text:
            self.wrong.append(f"console: {message.text}")

    def request(self, request: Request) -> None:
        address = urlsplit(request.url)
        if address.scheme in ("http", "https", "ws", "wss") and address.netloc != self.host:
            self.wrong.append(f"foreign request: {request.url}")


def watched(page: Page, live: LiveServer) -> Watch:
    watch = Watch(urlsplit(live.url).netloc)
    page.on("console", watch.console)
    page.on("pageerror", lambda error: watch.wrong.append(f"error: {error}"))
    page.on("request", watch.request)
    return watch


@pytest.fixture
def page(chromium: Browser, live: LiveServer) -> Iterator[Page]:
    """A desktop that must see nothing wrong; not signed in."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900}, base_url=live.url)
    tab = context.new_page()
    tab.set_default_timeout(15_000)
    watch = watched(tab, live)
    yield tab
    context.close()
    assert watch.wrong == []


def first_link(live: LiveServer) -> str:
    """The link that `permille up` printed for the first user."""
    found = re.search(r"become the first at (http\S+)", (live.folder / "server.log").read_text())
    assert found is not None, live.log()
    return found.group(1)


def sign_in(page: Page, live: LiveServer, email: str) -> None:
    """By a one-time link of whoever runs the server."""
    answer = httpx2.post(
        f"{live.url}/admin/v1/sign_in_links",
        json={"sign_in_link": {"email": email}},
        headers={"Authorization": f"Bearer {ADMIN_KEY}"},
        timeout=30,
    )
    page.goto(live.url + answer.json()["sign_in_link"]["path"])
    page.wait_for_url("**/app")


def organization(live: LiveServer, name: str) -> dict[str, Any]:
    return live.organization(name=name, test_mode=True, now=CLOCK)


def picture(page: Page, name: str) -> None:
    """For a person to look at; the folder is not committed."""
    SCREENSHOTS.mkdir(exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)
