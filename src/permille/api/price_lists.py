"""The admin API's price lists: see what comes with Permille, and put one into an organization."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from psycopg import Connection

from permille.api.http import root_object
from permille.api.objects import price_list as objects
from permille.api.validation import Fields, parse_uuid
from permille.clock import system_now
from permille.core.errors import NotFound
from permille.core.rating.unlisted import UnlistedValues
from permille.store import organizations
from permille.usecases.catalogue import price_lists


def list_price_lists(_conn: Connection[Any], _body: Any, _path: Mapping[str, str]) -> dict[str, Any]:
    """GET /admin/v1/price_lists."""
    return {
        "price_lists": [
            objects.PriceList(
                slug=each.slug,
                name=each.plan.name,
                description=each.description,
                billable_metric_codes=[metric.code for metric in each.billable_metrics],
                plan_code=each.slug,
            )
            for each in price_lists.list_price_lists()
        ]
    }


def apply_price_list(conn: Connection[Any], body: Any, path: Mapping[str, str]) -> dict[str, Any]:
    """POST /admin/v1/organizations/{organization_id}/price_lists. The second time nothing changes."""
    slug, unlisted_values = read_price_list(Fields(root_object(body, "price_list")))
    organization_id = parse_uuid(path["organization_id"])
    organization = organizations.by_id(conn, organization_id) if organization_id else None
    if organization is None:
        raise NotFound("organization")
    applied = price_lists.apply(
        conn,
        organization=organization,
        slug=slug,
        now=organization.now(system_now()),
        unlisted_values=unlisted_values,
    )
    return {
        "price_list": objects.AppliedPriceList(
            slug=applied.slug,
            billable_metrics=[
                objects.AppliedObject(code=code, created=created)
                for code, created in applied.billable_metrics.items()
            ],
            plan=objects.AppliedObject(code=applied.plan_code, created=applied.plan_created),
        )
    }


def read_price_list(fields: Fields) -> tuple[str, UnlistedValues]:
    """The slug, and what is done with unlisted values. Raises Invalid."""
    slug = fields.text("slug", mandatory=True)
    unlisted_values = fields.choice("unlisted_values", tuple(UnlistedValues))
    fields.check()
    return slug or "", UnlistedValues(unlisted_values or UnlistedValues.FREE)
