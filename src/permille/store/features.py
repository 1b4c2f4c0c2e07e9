"""Features, and what plans and subscriptions grant of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from permille.core.feature import Feature, Grant, Grants, Privilege, ValueType
from permille.core.record import names_of
from permille.database.bulk import text_array, uuid_array
from permille.ids import new_id
from permille.store import page_sizes

_NAMES = names_of(Feature)
_COLUMNS = ", ".join(_NAMES)

_SEARCH = (
    "organization_id = %(organization)s"
    " and (%(search)s::text is null or position(lower(%(search)s) in lower(code || ' ' || coalesce(name, ''))) > 0)"
)

_COUNT_OPTIONS = """
select sum(jsonb_array_length(privileges)
    + jsonb_array_length(jsonb_path_query_array(privileges, '$[*].select_options[*]')))
from feature where id = any(%(ids)s::uuid[])
"""

_GRANTS = """
select e.{owner}, e.feature_id, e.values, e.is_removed, e.removed_privileges
from entitlement e where e.{owner} = any(%s::uuid[])
"""


def _feature(row: Mapping[str, Any]) -> Feature:
    privileges = tuple(
        Privilege(
            code=each["code"],
            name=each["name"],
            value_type=ValueType(each["value_type"]),
            select_options=tuple(each["select_options"]),
        )
        for each in row["privileges"]
    )
    return Feature(**{**row, "privileges": privileges})


def _select(conn: Connection[Any], condition: str, values: Mapping[str, Any]) -> list[Feature]:
    with conn.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(f"select {_COLUMNS} from feature where {condition}", values)
        return [_feature(row) for row in rows]


def by_code(conn: Connection[Any], organization_id: UUID, code: str) -> Feature | None:
    return by_codes(conn, organization_id, [code]).get(code)


def by_codes(conn: Connection[Any], organization_id: UUID, codes: Collection[str]) -> dict[str, Feature]:
    """The features with these codes, as far as there are such."""
    values = {"organization": organization_id, "codes": text_array(codes)}
    found = _select(conn, "organization_id = %(organization)s and code = any(%(codes)s::text[])", values)
    return {each.code: each for each in found}


def by_ids(conn: Connection[Any], ids: Collection[UUID]) -> dict[UUID, Feature]:
    found = _select(conn, "id = any(%(ids)s::uuid[])", {"ids": uuid_array(ids)})
    return {each.id: each for each in found}


def listing(
    conn: Connection[Any], organization_id: UUID, *, search: str | None, limit: int, offset: int
) -> tuple[list[Feature], int]:
    """A page, newest first, and how many there are; with a text only those that have it in their code or name.

    Raises Invalid for a page too large.
    """
    values = {"organization": organization_id, "search": search, "limit": limit, "offset": offset}
    page = f"{_SEARCH} order by created_at desc, id limit %(limit)s offset %(offset)s"
    ids = [found[0] for found in conn.execute(f"select id from feature where {page}", values)]
    page_sizes.refuse_large(conn, _COUNT_OPTIONS, ids)
    found = _select(conn, page, values)
    row = conn.execute(f"select count(*) from feature where {_SEARCH}", values).fetchone()
    return found, row[0] if row else 0


def _values(feature: Feature) -> dict[str, Any]:
    privileges = [
        {
            "code": each.code,
            "name": each.name,
            "value_type": each.value_type,
            "select_options": list(each.select_options),
        }
        for each in feature.privileges
    ]
    return {**{name: getattr(feature, name) for name in _NAMES}, "privileges": Jsonb(privileges)}


def add(conn: Connection[Any], feature: Feature) -> bool:
    """Whether its code was free."""
    places = ", ".join(f"%({name})s" for name in _NAMES)
    added = conn.execute(
        f"insert into feature ({_COLUMNS}, updated_at) values ({places}, %(created_at)s)"
        " on conflict (organization_id, code) do nothing",
        _values(feature),
    )
    return added.rowcount > 0


def replace(conn: Connection[Any], feature: Feature, *, now: datetime) -> None:
    """Write what may be changed of a feature."""
    conn.execute(
        "update feature set name = %(name)s, description = %(description)s, privileges = %(privileges)s,"
        " updated_at = %(now)s where id = %(id)s",
        {**_values(feature), "now": now},
    )


def delete(conn: Connection[Any], feature_id: UUID) -> None:
    """The feature, with all that plans and subscriptions grant of it."""
    conn.execute("delete from entitlement where feature_id = %s", [feature_id])
    conn.execute("delete from feature where id = %s", [feature_id])


def forget_privilege(conn: Connection[Any], feature_id: UUID, code: str, *, now: datetime) -> None:
    """The values that plans and subscriptions grant of a privilege."""
    conn.execute(
        "update entitlement set values = values - %(code)s::text,"
        " removed_privileges = array_remove(removed_privileges, %(code)s::text), updated_at = %(now)s"
        " where feature_id = %(feature)s and (values ? %(code)s::text or %(code)s::text = any(removed_privileges))",
        {"code": code, "feature": feature_id, "now": now},
    )


def plans_granting(conn: Connection[Any], feature_id: UUID) -> list[UUID]:
    """The plans that grant a feature."""
    rows = conn.execute(
        "select e.plan_id from entitlement e join plan p on p.id = e.plan_id"
        " where e.feature_id = %s and p.deleted_at is null order by e.plan_id",
        [feature_id],
    )
    return [plan_id for (plan_id,) in rows]


def of_plans(conn: Connection[Any], plan_ids: Collection[UUID]) -> dict[UUID, Grants]:
    """What each plan grants."""
    return _grants(conn, "plan_id", plan_ids)


def of_subscriptions(conn: Connection[Any], subscription_ids: Collection[UUID]) -> dict[UUID, Grants]:
    """What each subscription has of its own."""
    return _grants(conn, "subscription_id", subscription_ids)


def _grants(conn: Connection[Any], owner: str, ids: Collection[UUID]) -> dict[UUID, Grants]:
    found: dict[UUID, dict[UUID, Grant]] = defaultdict(dict)
    rows = conn.execute(_GRANTS.format(owner=owner), [uuid_array(ids)])
    for owner_id, feature_id, values, is_removed, removed in rows:
        found[owner_id][feature_id] = Grant(
            feature_id=feature_id,
            values=values,
            is_removed=is_removed,
            removed_privileges=frozenset(removed),
        )
    return {each: found.get(each, {}) for each in ids}


def set_grants(
    conn: Connection[Any],
    organization_id: UUID,
    grants: Sequence[Grant],
    *,
    plan_id: UUID | None = None,
    subscription_id: UUID | None = None,
    now: datetime,
) -> None:
    """All that a plan or a subscription grants."""
    owner = {"plan": plan_id, "subscription": subscription_id, "now": now}
    conn.execute(
        "delete from entitlement where (plan_id = %(plan)s or subscription_id = %(subscription)s)"
        " and feature_id <> all(%(kept)s::uuid[])",
        {**owner, "kept": uuid_array(each.feature_id for each in grants)},
    )
    conflict = "(plan_id, feature_id) where plan_id is not null"
    if plan_id is None:
        conflict = "(subscription_id, feature_id) where subscription_id is not null"
    with conn.cursor() as cursor:
        cursor.executemany(
            "insert into entitlement as e (id, organization_id, feature_id, plan_id, subscription_id, values,"
            " is_removed, removed_privileges, created_at, updated_at)"
            " values (%(id)s, %(organization)s, %(feature)s, %(plan)s, %(subscription)s, %(values)s, %(is_removed)s,"
            " %(removed)s, %(now)s, %(now)s)"
            f" on conflict {conflict} do update set values = excluded.values, is_removed = excluded.is_removed,"
            " removed_privileges = excluded.removed_privileges, updated_at = excluded.updated_at"
            " where (e.values, e.is_removed, e.removed_privileges)"
            " is distinct from (excluded.values, excluded.is_removed, excluded.removed_privileges)",
            [
                {
                    **owner,
                    "id": new_id(now),
                    "organization": organization_id,
                    "feature": each.feature_id,
                    "values": Jsonb(dict(each.values)),
                    "is_removed": each.is_removed,
                    "removed": sorted(each.removed_privileges),
                }
                for each in grants
            ],
        )
