"""Features, and how what is granted of them is shown. semantics-billing.md section 9.5."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from psycopg import Connection

from permille.api.http import Call
from permille.api.objects import feature as objects
from permille.api.render import instant
from permille.api.validation import DUPLICATED, INVALID, Fields, plain_texts
from permille.core.feature import Entitlement, Feature, Privilege, ValueType
from permille.ids import new_id
from permille.store import features as store
from permille.usecases.catalogue import features as catalogue

DESCRIPTION_MAX = 600
PRIVILEGES_MAX = 100
OPTIONS_MAX = 100


def create_feature(call: Call) -> dict[str, Any]:
    """POST /features."""
    fields = Fields(call.root("feature"))
    made = read_new_feature(fields, call.organization.id, now=call.now)
    fields.check()
    catalogue.add(call.conn, made)
    return {"feature": render_feature(made)}


def read_new_feature(fields: Fields, organization_id: UUID, *, now: datetime) -> Feature:
    """A new feature. Problems gather in `fields`."""
    return Feature(
        id=new_id(now),
        organization_id=organization_id,
        code=fields.text("code", mandatory=True) or "",
        name=fields.text("name"),
        description=fields.text("description", limit=DESCRIPTION_MAX),
        privileges=read_privileges(fields, ()),
        created_at=now,
    )


def list_features(call: Call) -> dict[str, Any]:
    """GET /features."""
    page = call.page()
    found, total = store.listing(
        call.conn,
        call.organization.id,
        search=call.query.get("search_term") or None,
        limit=page.per_page,
        offset=page.offset,
    )
    return {"features": [render_feature(each) for each in found], "meta": page.meta(total)}


def show_feature(call: Call) -> dict[str, Any]:
    """GET /features/{code}."""
    found = catalogue.by_code(call.conn, call.organization.id, call.path["code"])
    return {"feature": render_feature(found)}


def update_feature(call: Call) -> dict[str, Any]:
    """PUT /features/{code}: privileges are added, never taken away."""
    before = _to_change(call)
    fields = Fields(call.root("feature"))
    changes, privileges = read_feature_changes(fields), read_privileges(fields, before.privileges)
    fields.check()
    after = catalogue.change(call.conn, before, changes=changes, privileges=privileges, now=call.now)
    return {"feature": render_feature(after)}


def read_feature_changes(fields: Fields) -> dict[str, Any]:
    """The texts of a feature that are sent. Problems gather in `fields`."""
    changes: dict[str, Any] = {}
    if fields.has("name"):
        changes["name"] = fields.text("name")
    if fields.has("description"):
        changes["description"] = fields.text("description", limit=DESCRIPTION_MAX)
    return changes


def delete_feature(call: Call) -> dict[str, Any]:
    """DELETE /features/{code}: nobody has it any more."""
    gone = _to_change(call)
    catalogue.remove(call.conn, gone, payload=removed_payload(gone), now=call.now)
    return {"feature": render_feature(gone)}


def removed_payload(gone: Feature) -> dict[str, Any]:
    """What the webhook of its deletion shows."""
    shown: dict[str, Any] = msgspec.to_builtins(render_feature(gone))
    return shown


def delete_privilege(call: Call) -> dict[str, Any]:
    """DELETE /features/{code}/privileges/{privilege_code}."""
    after = catalogue.remove_privilege(call.conn, _to_change(call), call.path["privilege_code"], now=call.now)
    return {"feature": render_feature(after)}


def _to_change(call: Call) -> Feature:
    return catalogue.to_change(call.conn, call.organization.id, call.path["code"])


def read_privileges(fields: Fields, known: Sequence[Privilege]) -> tuple[Privilege, ...]:
    """The privileges that are sent. Problems gather in `fields`."""
    types = {each.code: each.value_type for each in known}
    found = [_privilege(each, types) for each in fields.objects("privileges", limit=PRIVILEGES_MAX) or ()]
    codes = [each.code for each in found]
    if len(set(codes)) < len(codes):
        fields.refuse("privileges", DUPLICATED)
    return tuple(found)


def _privilege(entry: Fields, types: Mapping[str, ValueType]) -> Privilege:
    code = entry.text("code", mandatory=True) or ""
    chosen = entry.choice("value_type", list(ValueType))
    value_type = types.get(code) or ValueType(chosen or ValueType.STRING)
    return Privilege(
        code=code,
        name=entry.text("name"),
        value_type=value_type,
        select_options=_options(entry, value_type, is_known=code in types),
    )


def _options(entry: Fields, value_type: ValueType, *, is_known: bool) -> tuple[str, ...]:
    config = entry.nested("config")
    given = config.given.get("select_options") if config else None
    options = plain_texts(given) if given is not None else []
    if value_type is not ValueType.SELECT:
        if given:
            entry.refuse("config", INVALID)
        return ()
    if options is None or len(options) > OPTIONS_MAX or not all(options) or not (options or is_known):
        entry.refuse("config", INVALID)
        return ()
    return tuple(dict.fromkeys(options))


def render_feature(feature: Feature) -> objects.Feature:
    return objects.Feature(
        code=feature.code,
        name=feature.name,
        description=feature.description,
        privileges=[objects.Privilege(**_privilege_fields(each)) for each in feature.privileges],
        created_at=instant(feature.created_at),
    )


def render_features(conn: Connection[Any], ids: Sequence[UUID]) -> dict[UUID, objects.Feature]:
    """What webhooks of these features show."""
    return {feature_id: render_feature(found) for feature_id, found in store.by_ids(conn, ids).items()}


def _privilege_fields(privilege: Privilege) -> dict[str, Any]:
    options = list(privilege.select_options) if privilege.value_type is ValueType.SELECT else None
    return {
        "code": privilege.code,
        "name": privilege.name,
        "value_type": privilege.value_type,
        "config": objects.PrivilegeConfig(select_options=options),
    }


def render_plan_entitlement(found: Entitlement) -> objects.PlanEntitlement:
    return objects.PlanEntitlement(
        code=found.feature.code,
        name=found.feature.name,
        description=found.feature.description,
        privileges=[
            objects.PlanPrivilege(
                **_privilege_fields(each.privilege), value=each.privilege.value_of(each.value)
            )
            for each in found.privileges
        ],
    )


def render_subscription_entitlement(found: Entitlement) -> objects.SubscriptionEntitlement:
    def shown(privilege: Privilege, text: str | None) -> Any:
        return None if text is None else privilege.value_of(text)

    return objects.SubscriptionEntitlement(
        code=found.feature.code,
        name=found.feature.name,
        description=found.feature.description,
        privileges=[
            objects.SubscriptionPrivilege(
                **_privilege_fields(each.privilege),
                value=each.privilege.value_of(each.value),
                plan_value=shown(each.privilege, each.plan_value),
                override_value=shown(each.privilege, each.own_value),
            )
            for each in found.privileges
        ],
        overrides=found.overrides,
    )
