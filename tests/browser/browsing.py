"""What the browser tests do again and again, and what must not happen on any page."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, expect

from tests.live import ADMIN_KEY, PATIENCE_SECONDS, LiveServer

SCREENSHOTS = Path(__file__).parent.parent.parent / "screenshots"
CLOCK = "2026-10-01T12:00:00Z"
DESKTOP: Any = {"width": 1280, "height": 900}
PHONE: Any = {"width": 390, "height": 844}
PATIENCE = PATIENCE_SECONDS * 1_000  # milliseconds
# The browser tells the console of a form that is shown again (422), and of a link that is over (410).
EXPECTED = re.compile(r"status of 4(22|10)\b")

AXE = Axe().axe_script
# Every rule of axe-core that is on by default. The browser's own viewer of PDFs is not ours to check.
FINDINGS = """
async () => {
  for (let frame = 0; frame < 2; frame++) await new Promise(requestAnimationFrame);
  const found = await axe.run(document, { iframes: false, resultTypes: ["violations"] });
  return found.violations.map((one) => `${one.id}: ${one.help}: ${one.nodes.map((node) => node.html)}`);
}
"""

expect.set_options(timeout=PATIENCE)


@dataclass
class Watch:
    """Errors on the console and requests to other hosts: there shall be none."""

    host: str
    wrong: list[str] = field(default_factory=list)

    def console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not EXPECTED.search(message.text):
            self.wrong.append(f"console: {message.text}")

    def request(self, request: Request) -> None:
        address = urlsplit(request.url)
        if address.scheme in ("http", "https", "ws", "wss") and address.netloc != self.host:
            self.wrong.append(f"foreign request: {request.url}")


def open_tab(browser: Browser, live: LiveServer, **options: Any) -> tuple[BrowserContext, Page, Watch]:
    """A browser of its own, not signed in, with one tab that is watched and says yes to every question."""
    options = {"base_url": live.url, "viewport": DESKTOP, "reduced_motion": "reduce", **options}
    context = browser.new_context(**options)
    page, watch = context.new_page(), Watch(urlsplit(live.url).netloc)
    page.set_default_timeout(PATIENCE)
    page.on("dialog", lambda dialog: dialog.accept())
    page.on("console", watch.console)
    page.on("pageerror", lambda error: watch.wrong.append(f"error: {error}"))
    page.on("request", watch.request)
    return context, page, watch


def first_link(live: LiveServer) -> str:
    """The link that `permille up` printed for the first user."""
    found = re.search(r"become the first at (http\S+)", (live.folder / "server.log").read_text())
    assert found is not None, live.log()
    return found.group(1)


def administer(live: LiveServer, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """What whoever runs the server asks for."""
    headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
    answer = httpx2.post(f"{live.url}/admin/v1{path}", json=body, headers=headers, timeout=PATIENCE_SECONDS)
    assert answer.status_code == 200, answer.text
    return answer.json()


def sign_in(page: Page, live: LiveServer, email: str) -> None:
    """By a one-time link of whoever runs the server."""
    made = administer(live, "/sign_in_links", {"sign_in_link": {"email": email}})
    page.goto(live.url + made["sign_in_link"]["path"])
    page.wait_for_url("**/app")


def organization(live: LiveServer, name: str, *price_lists: str) -> dict[str, Any]:
    """A new one in test mode, its clock at CLOCK, with these price lists."""
    made = live.organization(name=name, test_mode=True, now=CLOCK)
    for slug in price_lists:
        path = f"/organizations/{made['lago_id']}/price_lists"
        administer(live, path, {"price_list": {"slug": slug}})
    return made


def choose(page: Page, name: str) -> None:
    page.get_by_label("Organization").select_option(label=f"{name} (test)")
    page.get_by_role("button", name="Switch").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(name)


def barriers(page: Page) -> list[str]:
    """What axe-core has against the page as it stands."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE)
    return page.evaluate(FINDINGS)


def picture(page: Page, name: str) -> None:
    """For a person to look at, who asks with PICTURES=1; the folder is not committed."""
    if os.environ.get("PICTURES"):
        SCREENSHOTS.mkdir(exist_ok=True)
        page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)
