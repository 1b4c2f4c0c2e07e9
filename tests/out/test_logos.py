"""The logo on documents: fetched within bounds, kept for a while, left out where it cannot be had."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from typing import Any

import psycopg
import pytest
from PIL import ExifTags, Image
from psycopg_pool import ConnectionPool
from pypdf import PdfReader

from permille.config import Config
from permille.core.customer import BillingEntity
from permille.core.record import replace
from permille.out import addresses, logos, pictures
from permille.out.addresses import Reach
from permille.out.documents import Printer
from permille.out.logos import Fetched, NotFetched, current_logo
from permille.out.pdf.invoice import render_invoice
from permille.out.pictures import UnusablePicture, printable
from permille.store import billing_entities, logos as store, organizations
from tests.live import PATIENCE_SECONDS
from tests.out.test_invoice_pdf import document
from tests.usecases.world import make_world

NOW = datetime(2026, 11, 1, tzinfo=UTC)
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="40" height="20"><rect width="40" height="20"/></svg>'


def picture(kind: str = "PNG", size: tuple[int, int] = (40, 20)) -> bytes:
    out = BytesIO()
    Image.new("RGB", size, "navy").save(out, kind)
    return out.getvalue()


class Site:
    """A web server whose answers are functions of the request handler."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.asked: list[tuple[str, str | None]] = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.asked.append((self.path, self.headers.get("If-None-Match")))
                site.answers[self.path](self)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def put(self, path: str, body: bytes, status: int = 200, **headers: str) -> str:
        def answer(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(status)
            for name, value in headers.items():
                handler.send_header(name.replace("_", "-"), value)
            handler.send_header("Content-Length", str(len(body)))
            handler.end_headers()
            handler.wfile.write(body)

        self.answers[path] = answer
        return self.url + path


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine gets its picture, too."""
    monkeypatch.setattr(logos, "SECONDS_MAX", PATIENCE_SECONDS)
    monkeypatch.setattr(pictures, "TRIAL_SECONDS_MAX", PATIENCE_SECONDS)


@pytest.fixture
def entity(db: psycopg.Connection[Any]) -> BillingEntity:
    world = make_world(db)
    return billing_entities.default(db, world.id)


class OneConnection(ConnectionPool[Any]):
    """A pool that lends the test's own connection."""

    def __init__(self, conn: psycopg.Connection[Any]) -> None:
        self.conn = conn

    def connection(self, timeout: float | None = None) -> Any:  # noqa: ARG002
        return _Lent(self.conn)


class _Lent:
    def __init__(self, conn: psycopg.Connection[Any]) -> None:
        self.conn = conn

    def __enter__(self) -> psycopg.Connection[Any]:
        return self.conn

    def __exit__(self, *_: object) -> None:
        pass


def current(
    db: Any, entity: BillingEntity, url: str | None, *, now: datetime = NOW, reach: Reach = Reach.LOOPBACK
) -> Any:
    return current_logo(OneConnection(db), replace(entity, logo_url=url), reach=reach, now=now)


def fetch(url: str, *, reach: Reach) -> Fetched:
    return logos.fetch(url, None, reach=reach)


def images(pdf: bytes) -> int:
    return len(PdfReader(BytesIO(pdf)).pages[0].images)


def test_a_logo_is_fetched_once_and_printed(db: Any, entity: BillingEntity, site: Site) -> None:
    url = site.put("/logo.png", picture())
    logo = current(db, entity, url)
    assert logo.media_type == "image/png"
    assert current(db, entity, url, now=NOW + timedelta(hours=23)) == logo
    assert len(site.asked) == 1
    assert images(render_invoice(document(), logo)) == 1
    assert images(render_invoice(document())) == 0
    assert render_invoice(document(), logo) == render_invoice(document(), logo)


def test_a_kept_logo_is_asked_for_by_its_etag(db: Any, entity: BillingEntity, site: Site) -> None:
    url = site.put("/logo", picture(), ETag='"v1"', Cache_Control="max-age=7200")
    logo = current(db, entity, url)
    site.put("/logo", b"", 304)
    later = NOW + timedelta(hours=2)
    assert current(db, entity, url, now=later) == logo
    assert site.asked == [("/logo", None), ("/logo", '"v1"')]
    site.put("/logo", SVG, ETag='"v2"')
    assert current(db, entity, url, now=later + timedelta(days=1)).media_type == "image/svg+xml"


def test_a_new_address_is_fetched_at_once(db: Any, entity: BillingEntity, site: Site) -> None:
    current(db, entity, site.put("/old", picture()))
    assert current(db, entity, site.put("/new", SVG)).content == SVG
    assert current(db, entity, None) is None


def test_a_logo_that_cannot_be_had_is_left_out_and_said(
    db: Any, entity: BillingEntity, site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    url = site.put("/logo", b"gone", 404)
    assert current(db, entity, url) is None
    kept = store.of_entity(db, entity.id, url)
    assert kept is not None
    assert kept.problem == "The server answered 404."
    assert url in caplog.text
    site.put("/logo", picture())
    assert current(db, entity, url, now=NOW + timedelta(minutes=9)) is None, "not asked again at once"
    assert current(db, entity, url, now=NOW + timedelta(minutes=10)) is not None
    found = store.of_entity(db, entity.id, url)
    assert found is not None
    assert found.problem is None


def test_after_a_failure_the_kept_logo_is_printed(db: Any, entity: BillingEntity, site: Site) -> None:
    url = site.put("/logo", picture())
    logo = current(db, entity, url)
    site.put("/logo", b"", 500)
    assert current(db, entity, url, now=NOW + timedelta(days=2)) == logo
    kept = store.of_entity(db, entity.id, url)
    assert kept is not None
    assert kept.problem == "The server answered 500."


def test_a_live_organization_fetches_from_no_private_address(
    db: Any, entity: BillingEntity, site: Site
) -> None:
    url = site.put("/logo", picture())
    assert current(db, entity, url, reach=Reach.PUBLIC) is None
    assert site.asked == []


def test_a_logo_of_test_mode_comes_from_outside_or_loopback(
    db: Any, entity: BillingEntity, site: Site
) -> None:
    organization = organizations.by_id(db, entity.organization_id)
    assert organization is not None

    def logo(url: str) -> Any:
        shown = replace(entity, logo_url=url)
        pool = OneConnection(db)
        return Printer(pool=pool, config=Config(), organization=organization, entity=shown).logo(NOW)

    assert organization.test_mode
    assert logo(site.put("/logo", picture())) is not None
    inside = "http://10.0.0.1/logo"
    assert logo(inside) is None
    kept = store.of_entity(db, entity.id, inside)
    assert kept is not None
    assert kept.problem == "10.0.0.1 is 10.0.0.1, which is no public address."


def test_every_hop_of_a_redirect_is_checked(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "is_allowed", lambda address, _reach: address == "127.0.0.1")
    first = site.put("/first", b"", 302, Location="/logo")
    site.put("/logo", picture())
    assert fetch(first, reach=Reach.PUBLIC).body == picture()
    inside = site.put("/inside", b"", 302, Location=f"http://127.0.0.2:{site.server.server_port}/logo")
    with pytest.raises(NotFetched, match="no public address"):
        fetch(inside, reach=Reach.PUBLIC)
    loop = site.put("/loop", b"", 302, Location="/loop")
    with pytest.raises(NotFetched, match="redirects"):
        fetch(loop, reach=Reach.LOOPBACK)


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://example.com/x", "/logo.png", "http://", "nonsense"]
)
def test_only_the_web_is_asked(url: str) -> None:
    with pytest.raises(NotFetched):
        fetch(url, reach=Reach.LOOPBACK)
    with pytest.raises(NotFetched):
        fetch(url, reach=Reach.PUBLIC)


def test_a_picture_without_end_is_given_up(site: Site) -> None:
    def endless(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        try:
            while True:
                handler.wfile.write(b"x" * 65_536)
        except OSError:
            pass

    site.answers["/endless"] = endless
    with pytest.raises(NotFetched, match="larger than 2 MB"):
        fetch(f"{site.url}/endless", reach=Reach.LOOPBACK)


def test_a_document_waits_for_a_slow_server_a_few_seconds_at_most(
    db: Any, entity: BillingEntity, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dripping(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        try:
            for _ in range(100):
                handler.wfile.write(b"x")
                time.sleep(0.1)
        except OSError:
            pass

    site.answers["/slow"] = dripping
    monkeypatch.setattr(logos, "SECONDS_MAX", 0.5)
    begun = time.monotonic()
    assert current(db, entity, f"{site.url}/slow") is None
    assert time.monotonic() - begun < 9


def test_a_server_that_never_ends_its_headers_leaves_no_thread_behind(
    db: Any, entity: BillingEntity, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dripping(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
        try:
            for _ in range(300):
                handler.wfile.write(b"x")
                time.sleep(0.1)
        except OSError:
            pass

    site.answers["/headers"] = dripping
    monkeypatch.setattr(logos, "SECONDS_MAX", 0.5)
    assert current(db, entity, f"{site.url}/headers") is None
    until = time.monotonic() + 20  # the server goes on for 30
    while time.monotonic() < until and any(each.name == "logo" for each in threading.enumerate()):
        time.sleep(0.05)
    assert not [each for each in threading.enumerate() if each.name == "logo"]


def test_an_unforeseen_error_leaves_the_logo_out_too(
    db: Any, entity: BillingEntity, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(_body: bytes) -> None:
        raise IndexError("a bug")

    monkeypatch.setattr(logos, "printable", crash)
    url = site.put("/logo", picture())
    assert current(db, entity, url) is None
    kept = store.of_entity(db, entity.id, url)
    assert kept is not None
    assert kept.problem == "IndexError: a bug"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP"])
def test_pictures_of_points_become_a_small_png(kind: str) -> None:
    logo = printable(picture(kind, (3_000, 300)))
    with Image.open(BytesIO(logo.content)) as made:
        assert (made.format, made.size) == ("PNG", (1_200, 120))


BAD = {
    "no picture": b"hello",
    "nothing": b"",
    "html": b"<html><body>not found</body></html>",
    "cut off": picture()[:60],
    "bmp": picture("BMP"),
    "doctype": b'<!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/passwd">]>' + SVG,
    "entity in utf-16": ('<!DOCTYPE svg [<!ENTITY x "y">]>' + SVG.decode()).encode("utf-16"),
    "not closed": SVG[:-6],
    "a file": SVG.replace(b"<rect", b'<image href="/etc/passwd" width="9" height="9"/><rect'),
    "a file by xlink": SVG.replace(b"<svg", b'<svg xmlns:xlink="http://www.w3.org/1999/xlink"').replace(
        b"<rect", b'<image xlink:href="invoice.typ" width="9" height="9"/><rect'
    ),
    "another site": SVG.replace(
        b"<rect", b'<image href="https://example.com/a.png" width="9" height="9"/><rect'
    ),
    "svg in svg": SVG.replace(b"<rect", b'<image href="data:image/svg+xml;base64,AAAA" width="9"/><rect'),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_harmless_picture_is_refused(name: str) -> None:
    with pytest.raises(UnusablePicture):
        printable(BAD[name])


def test_a_picture_of_too_many_points_is_refused() -> None:
    with pytest.raises(UnusablePicture):
        printable(picture("GIF", (3_000, 3_001)))


def test_a_photo_on_its_side_is_turned() -> None:
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 6
    out = BytesIO()
    Image.new("RGB", (3_000, 300), "navy").save(out, "JPEG", exif=turned)
    with Image.open(BytesIO(printable(out.getvalue()).content)) as made:
        assert made.size == (120, 1_200)


def test_an_svg_that_is_slow_to_set_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    levels = "".join(f'<g id="a{n}">' + f'<use href="#a{n - 1}"/>' * 12 + "</g>" for n in range(1, 12))
    bomb = f'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><g id="a0"><path d="M0 0h9"/></g>{levels}</svg>'
    monkeypatch.setattr(pictures, "TRIAL_SECONDS_MAX", 1)
    begun = time.monotonic()
    with pytest.raises(UnusablePicture):
        printable(bomb.encode())
    assert time.monotonic() - begun < 5


def test_a_wide_logo_stays_within_its_place() -> None:
    logo = printable(picture("PNG", (1_200, 60)))
    pdf = render_invoice(document(), logo)
    assert images(pdf) == 1
    assert "Invoice" in PdfReader(BytesIO(pdf)).pages[0].extract_text()
