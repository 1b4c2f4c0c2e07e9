"""A real browser in front of a real `permille up`: one of each for all browser tests, which come first."""

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
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect, sync_playwright

from tests.live import ADMIN_KEY, LiveServer, live_server

NAMES = ("chromium", "chromium-browser", "google-chrome")
HERE = Path(__file__).parent
SCREENSHOTS = HERE.parent.parent / "screenshots"
CLOCK = "2026-10-01T12:00:00Z"
DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}
PATIENCE = 45_000  # milliseconds: a busy machine is slow, not wrong
REFUSED = "status of 422"  # the browser tells the console of every form that is shown again

AXE = Axe().axe_script
# Every rule of axe-core that is on by default. The browser's own viewer of PDFs is not ours to check.
FINDINGS = """
async () => {
  const found = await axe.run(document, { iframes: false, resultTypes: ["violations"] });
  return found.violations.map((one) => `${one.id}: ${one.help}: ${one.nodes.map((node) => node.html)}`);
}
"""

expect.set_options(timeout=PATIENCE)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The story first, while its server has no user; all of them in one go, so that they share a browser."""
    items.sort(key=lambda item: (HERE not in item.path.parents, item.path.name != "test_story.py"))


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    """While it runs Playwright keeps an event loop going, which other tests can't have."""
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
        if message.type in ("error", "warning") and REFUSED not in message.text:
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
    """A desktop that must see nothing wrong; not signed in. It says yes to every question."""
    context = chromium.new_context(viewport=DESKTOP, base_url=live.url)  # type: ignore[arg-type]
    tab = context.new_page()
    tab.set_default_timeout(PATIENCE)
    tab.on("dialog", lambda dialog: dialog.accept())
    watch = watched(tab, live)
    yield tab
    context.close()
    assert watch.wrong == []


def first_link(live: LiveServer) -> str:
    """The link that `permille up` printed for the first user."""
    found = re.search(r"become the first at (http\S+)", (live.folder / "server.log").read_text())
    assert found is not None, live.log()
    return found.group(1)


def administer(live: LiveServer, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """What whoever runs the server asks for."""
    headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
    answer = httpx2.post(f"{live.url}/admin/v1{path}", json=body, headers=headers, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.json()


def sign_in(page: Page, live: LiveServer, email: str) -> None:
    """By a one-time link of whoever runs the server."""
    made = administer(live, "/sign_in_links", {"sign_in_link": {"email": email}})
    page.goto(live.url + made["sign_in_link"]["path"])
    page.wait_for_url("**/app")


def organization(live: LiveServer, name: str) -> dict[str, Any]:
    return live.organization(name=name, test_mode=True, now=CLOCK)


def choose(page: Page, name: str) -> None:
    page.get_by_label("Organization").select_option(label=f"{name} (test)")
    expect(page.get_by_role("heading", level=1)).to_have_text(name)


def barriers(page: Page) -> list[str]:
    """What axe-core has against the page as it stands."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE)
    return page.evaluate(FINDINGS)


def picture(page: Page, name: str) -> None:
    """For a person to look at; the folder is not committed."""
    SCREENSHOTS.mkdir(exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.jpg", type="jpeg", quality=80, full_page=True)
