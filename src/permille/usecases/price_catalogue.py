"""The price catalogue of an organization: versions are imported, compared and approved, and never change by themselves.

Providers ask the same of everybody, so files are kept once an installation. An approval changes what customers pay, so
each organization gives its own.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from datetime import date, datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.bounds import PRICE_FILES_BYTES_MAX, PRICE_VERSIONS_MAX, is_price_date
from permille.core.errors import Invalid, NotAllowed, NotFound
from permille.core.llm.catalogue import outlier
from permille.core.llm.catalogue.diff import PriceChange, changes
from permille.core.llm.catalogue.prices import Catalogue
from permille.core.llm.catalogue.rows import UnreadablePricesError, UnreadPrices
from permille.core.record import replace
from permille.database import locks
from permille.ids import new_id
from permille.store import catalogue_versions, organizations, plans, price_files, shipped_prices
from permille.store.activity import ActorKind
from permille.store.catalogue_versions import CatalogueVersion
from permille.store.price_files import PriceFile
from permille.usecases import activity
from permille.usecases.price_change import prices_changed

ADOPTED = "permille serve"
"""What adopts the file of a new release, as the audit log names it."""

log = logging.getLogger(__name__)


def adopt_shipped(conn: Connection[Any], *, now: datetime) -> None:
    """Let the file that comes with this release wait for approval in organizations that never had it."""
    pending = catalogue_versions.adopt_shipped(conn, now=now)
    for organization in organizations.that_auto_approve_prices(conn, pending):
        version = catalogue_versions.of_file(conn, organization.id, shipped_prices.price_file().digest)
        assert version is not None, "it is pending"
        change = activity.begin(conn, ActorKind.COMMAND_LINE, ADOPTED, organization=organization, now=now)
        made = _approved_by_itself(conn, version, now=organization.now(now))
        if made.approval is not None:
            pending.discard(organization.id)
            activity.describe(conn, change, action="approved catalogue version", subject=made.label)
    if pending:
        log.warning("The prices of %s wait for approval: permille prices versions", shipped_prices.name())


def _approved_by_itself(
    conn: Connection[Any], version: CatalogueVersion, *, now: datetime
) -> CatalogueVersion:
    """The version, approved from today on where it has no outlier and replaces the prices of its source that hold today.

    Prices that were approved for a date to come would never hold.
    """
    last = catalogue_versions.approved_last(conn, version.organization_id, version.source)
    if last is None or (last.valid_from and last.valid_from > now.date()):
        return version
    if outlier.models(changes_of(conn, version, on=now.date())):
        return version
    return approve(conn, version.organization_id, version.id, who=catalogue_versions.BY_ITSELF, now=now)


def import_file(
    conn: Connection[Any], organization_id: UUID, file: PriceFile, *, label: str, who: str, now: datetime
) -> CatalogueVersion:
    """A version with the prices of a file, pending unless the organization has those without outliers approved at once.

    Raises Invalid for a file that can't be read, is there already, or is one too many.
    """
    try:
        file.read(label)
    except UnreadablePricesError as error:
        raise Invalid({"prices": ["unreadable_prices"]}) from error
    locks.change_catalogue(conn, organization_id)
    before = catalogue_versions.of_file(conn, organization_id, file.digest)
    if before is not None and _counts(conn, before):
        raise Invalid({"prices": ["value_already_exist"]})
    number, size = catalogue_versions.kept(conn, organization_id)
    if number >= PRICE_VERSIONS_MAX or size + len(file.content) > PRICE_FILES_BYTES_MAX:
        raise Invalid({"prices": ["too_many_price_files"]})
    price_files.add(conn, file, now=now)
    made = CatalogueVersion(
        id=new_id(now),
        organization_id=organization_id,
        digest=file.digest,
        source=file.source,
        label=label,
        created_at=now,
        imported_by=who,
    )
    catalogue_versions.add(conn, made)
    if organizations.that_auto_approve_prices(conn, [organization_id]):
        return _approved_by_itself(conn, made, now=now)
    return made


def _counts(conn: Connection[Any], version: CatalogueVersion) -> bool:
    """Whether it waits, or is what its source says now: an older one may be imported again."""
    if version.approval is None:
        return True
    last = catalogue_versions.approved_last(conn, version.organization_id, version.source)
    return last is not None and last.id == version.id


def by_id(conn: Connection[Any], organization_id: UUID, version_id: UUID | None) -> CatalogueVersion:
    """A version of the organization's. Raises NotFound."""
    found = version_id and catalogue_versions.by_id(conn, organization_id, version_id)
    if not found:
        raise NotFound("catalogue_version")
    return found


def unread_of(conn: Connection[Any], version: CatalogueVersion) -> Sequence[UnreadPrices]:
    """What a version's file says that is not understood and left out."""
    return _read(conn, version).unread


def changes_of(conn: Connection[Any], version: CatalogueVersion, *, on: date) -> list[PriceChange]:
    """What a version changes of the prices of a UTC date, as its source has had them before; outliers first."""
    last = catalogue_versions.approved_last(conn, version.organization_id, version.source)
    before = _read(conn, last) if last is not None else Catalogue(label="", providers=())
    return sorted(changes(before, _read(conn, version), on=on), key=lambda each: not outlier.is_outlier(each))


def _read(conn: Connection[Any], version: CatalogueVersion) -> Catalogue:
    return catalogue_versions.read(conn, version.digest, version.label)


def approve(
    conn: Connection[Any],
    organization_id: UUID,
    version_id: UUID | None,
    *,
    accept_outliers: Collection[str] = (),
    valid_from: date | None = None,
    who: str,
    now: datetime,
) -> CatalogueVersion:
    """Charge by a pending version from a UTC date on, today by default; usage before keeps its prices.

    A date in the past corrects prices: periods that are not billed are priced by it. Raises NotFound, NotAllowed for one
    that is approved, and Invalid while an outlier is not accepted by the name of its model.
    """
    locks.change_catalogue(conn, organization_id)
    version = by_id(conn, organization_id, version_id)
    if version.approval is not None:
        raise NotAllowed("already_approved")
    from_ = valid_from or now.date()
    if not is_price_date(from_):
        raise Invalid({"valid_from": ["invalid_date"]})
    outliers = outlier.models(changes_of(conn, version, on=from_))
    if not set(outliers) <= set(accept_outliers):
        raise Invalid({"accept_outliers": ["outliers_not_accepted"]})
    approved = replace(
        version, approved_at=now, approved_by=who, valid_from=from_, accepted_outliers=tuple(outliers)
    )
    catalogue_versions.approve(conn, approved)
    plan_ids = plans.priced_by_catalogue(conn, organization_id)
    prices_changed(conn, organization_id, plan_ids=plan_ids, now=now)
    return by_id(conn, organization_id, version_id)


def withdraw(conn: Connection[Any], organization_id: UUID, version_id: UUID | None) -> CatalogueVersion:
    """Delete a pending version. Raises NotFound, and NotAllowed for one that is approved: charges may go by it."""
    locks.change_catalogue(conn, organization_id)
    version = by_id(conn, organization_id, version_id)
    if version.approval is not None:
        raise NotAllowed("already_approved")
    catalogue_versions.delete(conn, version.id)
    return version
