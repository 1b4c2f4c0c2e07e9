"""A real browser in front of a real `permille up`: one of each for all browser tests, which come first."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright
from tools import browser

from tests.live import LiveServer, live_server

from .browsing import open_tab
from .filled import Filled, fill

HERE = Path(__file__).parent


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The story first, while its server has no user; all of them in one go, so that they share a browser."""
    items.sort(key=lambda item: (HERE not in item.path.parents, item.path.name != "test_story.py"))


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    """While it runs Playwright keeps an event loop going, which other tests can't have."""
    program = browser.found()
    if program is None:
        pytest.skip(f"no Chromium: as root, apt-get install {' '.join(browser.PACKAGES)}")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture(scope="package")
def live(reachable_session_path: Path) -> Iterator[LiveServer]:
    folder = reachable_session_path / "browser"
    folder.mkdir(mode=0o711)
    with live_server(folder) as server:
        yield server


@pytest.fixture(scope="package")
def filled(live: LiveServer) -> Filled:
    return fill(live)


@pytest.fixture
def page(chromium: Browser, live: LiveServer) -> Iterator[Page]:
    """A desktop that must see nothing wrong; not signed in."""
    context, tab, watch = open_tab(chromium, live)
    yield tab
    context.close()
    assert watch.wrong == []
