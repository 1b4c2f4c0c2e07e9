"""The README's pictures, taken from the demo's data: docs/screenshots/*.png. Run by `make screenshots`."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from permille.embedded import running
from permille.embedded.postgres import erase

ROOT = Path(__file__).resolve().parent.parent
PICTURES = ROOT / "docs" / "screenshots"
DESKTOP = {"width": 1200, "height": 800}
SHOTS = {
    "usage": "/app/customers/acme?subscription=acme-gpt_4_tokens",
    "home": "/app",
    "price-grid": "/app/edit-charge/openai-gpt-4?charge=gpt_4_tokens",
    "events": "/app/events",
}


def sign_in_link(folder: Path) -> str:
    """Runs the demo in the folder, which leaves its server running."""
    done = subprocess.run(
        [sys.executable, "-m", "permille", "demo", "--folder", str(folder), "--port", "8300"],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "200"},
        check=False,
    )
    found = re.search(r"Web admin: +(\S+)", done.stdout)
    if found is None:
        sys.exit(done.stdout + done.stderr)
    return found.group(1)


def take(browser: Browser, link: str) -> None:
    base = link.split("/app/", maxsplit=1)[0]
    context = browser.new_context(viewport=DESKTOP)  # type: ignore[arg-type]
    page = context.new_page()
    page.goto(link)
    page.wait_for_url("**/app/customers/acme")
    for name, path in SHOTS.items():
        page.goto(base + path)
        picture(page, name)
    page.goto(f"{base}/app/invoices")
    page.get_by_role("link", name="DEM-").first.click()
    page.locator("iframe").scroll_into_view_if_needed()
    page.wait_for_timeout(4_000)  # the browser's own viewer draws the PDF
    picture(page, "invoice")
    context.close()


def picture(page: Page, name: str) -> None:
    page.screenshot(path=PICTURES / f"{name}.png")
    print(PICTURES / f"{name}.png")


def main() -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)
    parent = Path(tempfile.mkdtemp(prefix="permille-pictures-", dir="/tmp"))
    parent.chmod(0o711)
    folder = parent / "demo"
    link = sign_in_link(folder)
    try:
        with sync_playwright() as playwright:
            program = shutil.which("chromium") or shutil.which("google-chrome")
            browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
            take(browser, link)
            browser.close()
    finally:
        running.stop(folder / "data")
        erase(folder / "data")
        shutil.rmtree(parent, ignore_errors=True)


if __name__ == "__main__":
    main()
