"""`permille prices versions`, `import` and `approve`: which prices an organization charges by."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.config import Config
from permille.core.llm.catalogue import outlier
from permille.core.organization import Organization
from permille.http.words import message_of
from permille.store import catalogue_versions
from permille.store.catalogue_versions import CatalogueVersion
from permille.store.price_files import PriceFile
from permille.usecases import price_catalogue
from permille.usecases.catalogue.price_lists import command_in_organization

SHOWN_MAX = 100
WHO = "command line"


def versions(config: Config, *, organization: str | None) -> int:
    """Print the versions, newest first; the exit code."""

    def listed(conn: Connection[Any], of: Organization, now: datetime) -> list[str]:
        found, total = catalogue_versions.listing(conn, of.id, limit=SHOWN_MAX, offset=0)
        lines = [line for each in found for line in _lines(conn, each, now)]
        return [*lines, *([f"and {total - SHOWN_MAX} older ones"] if total > SHOWN_MAX else [])]

    return in_organization(config, listed, operation="permille prices versions", organization=organization)


def import_file(
    config: Config, path: Path, *, source: str, label: str | None, organization: str | None
) -> int:
    """Make a pending version of a price file; the exit code."""
    try:
        file = PriceFile(source, path.read_bytes())
    except OSError as error:
        print(f"permille: {path} can't be read: {error}", file=sys.stderr)
        return 1

    def imported(conn: Connection[Any], of: Organization, now: datetime) -> list[str]:
        made = price_catalogue.import_file(conn, of.id, file, label=label or path.stem, who=WHO, now=now)
        return [*_lines(conn, made, now), *_unread(conn, made)]

    return in_organization(config, imported, operation="permille prices import", organization=organization)


def approve(
    config: Config,
    version_id: UUID | None,
    *,
    valid_from: date | None,
    accept_outliers: Sequence[str],
    organization: str | None,
) -> int:
    """Charge by a pending version; the exit code."""

    def approved(conn: Connection[Any], of: Organization, now: datetime) -> list[str]:
        made = price_catalogue.approve(
            conn,
            of.id,
            version_id,
            accept_outliers=accept_outliers,
            valid_from=valid_from,
            who=WHO,
            now=now,
        )
        return _lines(conn, made, now)

    return in_organization(config, approved, operation="permille prices approve", organization=organization)


def in_organization(config: Config, work: Any, *, operation: str, organization: str | None) -> int:
    """Do it in the organization, and print what it says; the exit code."""
    return command_in_organization(
        config, work, operation=operation, organization=organization, reason=message_of
    )


def _unread(conn: Connection[Any], version: CatalogueVersion) -> list[str]:
    """What is left out of its file."""
    found = price_catalogue.unread_of(conn, version)
    return [
        f"  not understood: {each.what}, {each.models_count} models, such as {each.example}" for each in found
    ]


def _lines(conn: Connection[Any], version: CatalogueVersion, now: datetime) -> list[str]:
    """What it is; of a pending one also how many prices it changes, and the models that have to be named."""
    if version.approval is not None:
        since = "always" if version.valid_from is None else f"from {version.valid_from} on"
        return [f"{version.id}  {version.label}  approved by {version.approved_by}, {since}"]
    found = price_catalogue.changes_of(conn, version, on=now.date())
    outliers = outlier.models(found)
    return [
        f"{version.id}  {version.label}  pending: it changes {len(found)} prices",
        *(f"  accept by name: {each}" for each in outliers),
    ]
