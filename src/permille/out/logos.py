"""The logo that documents print: fetched from the billing entity's logo_url, and kept for a while.

It is fetched when a document is made and the kept one is out of date. A document waits for it a few seconds at
most; a logo that cannot be had is left out, and why is logged and shown beside the PDF.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any
from urllib.parse import urljoin

from psycopg import Connection
from psycopg_pool import ConnectionPool

from permille.core.customer import BillingEntity
from permille.core.record import Record
from permille.out.addresses import Reach
from permille.out.calls import Answer, CallError, Client
from permille.out.pdf.document import Logo
from permille.out.pictures import UnusablePicture, printable
from permille.store import logos
from permille.store.logos import StoredLogo

log = logging.getLogger(__name__)

SECONDS_MAX = 6
BYTES_MAX = 2 * 1024**2
HOPS_MAX = 4
REDIRECTS = (301, 302, 303, 307, 308)
ETAG_MAX, PROBLEM_MAX = 255, 500
RETRY_AFTER = timedelta(minutes=10)
KEPT, KEPT_MIN, KEPT_MAX = timedelta(days=1), timedelta(hours=1), timedelta(days=7)
_MAX_AGE = re.compile(r"max-age=(\d{1,9})")


class NotFetched(Exception):  # noqa: N818 -- what went wrong is the name
    """Why the logo could not be had, in a sentence for the user."""


class Fetched(Record, kw_only=True):
    """What the logo's server answered; `body` is None when the kept logo is still the newest."""

    body: bytes | None
    etag: str | None
    kept_for: timedelta


def current_logo(
    pool: ConnectionPool[Connection[Any]], entity: BillingEntity, *, reach: Reach, now: datetime
) -> Logo | None:
    """The logo to print now, None where there is none to be had. `now` is the system's clock."""
    url = entity.logo_url
    if not url:
        return None
    with pool.connection() as conn:
        kept = logos.of_entity(conn, entity.id, url)
    if kept is None or kept.expires_at <= now:
        kept = _renewed(entity, url, kept, reach=reach, now=now)
        with pool.connection() as conn:
            logos.save(conn, kept)
    if kept.content is None or kept.media_type is None:
        return None
    return Logo(content=kept.content, media_type=kept.media_type)


def _renewed(
    entity: BillingEntity, url: str, kept: StoredLogo | None, *, reach: Reach, now: datetime
) -> StoredLogo:
    """The logo as the server has it; after a failure the kept one, with what the problem is."""
    logo = (
        Logo(content=kept.content, media_type=kept.media_type)
        if kept and kept.content and kept.media_type
        else None
    )
    etag, problem, kept_for = kept.etag if kept else None, None, RETRY_AFTER
    try:
        fetched, made = _in_time(url, etag if logo else None, reach=reach)
        logo, etag, kept_for = made or logo, fetched.etag or etag, fetched.kept_for
    except (NotFetched, UnusablePicture) as error:
        problem = str(error)[:PROBLEM_MAX]
        log.warning("The logo %s of billing entity %s: %s", url, entity.id, problem)
    return StoredLogo(
        billing_entity_id=entity.id,
        url=url,
        content=logo.content if logo else None,
        media_type=logo.media_type if logo else None,
        etag=etag,
        problem=problem,
        checked_at=now,
        expires_at=now + kept_for,
    )


def _in_time(url: str, etag: str | None, *, reach: Reach) -> tuple[Fetched, Logo | None]:
    """Fetch and check in a thread of its own, since name servers may not answer at all.

    Raises NotFetched and UnusablePicture, and nothing else: no logo stops a document.
    """
    outcome: list[tuple[Fetched, Logo | None] | Exception] = []

    def work() -> None:
        try:
            fetched = fetch(url, etag, reach=reach)
            outcome.append((fetched, None if fetched.body is None else printable(fetched.body)))
        except (NotFetched, UnusablePicture) as error:
            outcome.append(error)
        except Exception as error:
            log.exception("The logo %s", url)
            outcome.append(NotFetched(f"{type(error).__name__}: {error}"))

    thread = threading.Thread(target=work, name="logo", daemon=True)
    thread.start()
    thread.join(SECONDS_MAX)
    if not outcome:
        raise NotFetched(f"No picture within {SECONDS_MAX} seconds.")
    (found,) = outcome
    if isinstance(found, Exception):
        raise found
    return found


def fetch(url: str, etag: str | None, *, reach: Reach) -> Fetched:
    """The bytes behind the URL, after a few redirects; each hop is checked. Raises NotFetched."""
    headers = {"Accept": "image/*"}
    if etag:
        headers["If-None-Match"] = etag
    until = time.monotonic() + SECONDS_MAX
    for _ in range(HOPS_MAX):
        with Client(reach) as client:
            try:
                seconds = until - time.monotonic()
                answer = client.call("GET", url, headers=headers, seconds=seconds, bytes_max=BYTES_MAX)
            except CallError as error:
                raise NotFetched(str(error)) from error
        if answer.status not in REDIRECTS or "location" not in answer.headers:
            return _read(answer)
        url = urljoin(url, answer.headers["location"])
    raise NotFetched(f"More than {HOPS_MAX - 1} redirects.")


def _read(answer: Answer) -> Fetched:
    age = _MAX_AGE.search(answer.headers.get("cache-control", ""))
    kept_for = timedelta(seconds=int(age[1])) if age else KEPT
    kept_for = min(max(kept_for, KEPT_MIN), KEPT_MAX)
    sent = answer.headers.get("etag", "")
    etag = sent if sent.isascii() and 0 < len(sent) <= ETAG_MAX else None
    if answer.status == HTTPStatus.NOT_MODIFIED:
        return Fetched(body=None, etag=etag, kept_for=kept_for)
    if answer.status != HTTPStatus.OK:
        raise NotFetched(f"The server answered {answer.status}.")
    if not answer.is_whole:
        raise NotFetched("The picture is larger than 2 MB.")
    return Fetched(body=answer.body, etag=etag, kept_for=kept_for)
