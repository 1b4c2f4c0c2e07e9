"""Features and what plans and subscriptions grant of them: entitlements.

A subscription has what its plan grants, with values of its own over it, without what was taken away from it.
Source: semantics-billing.md section 9.5.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

from permille.core.record import Record, field, replace

INTEGER_MAX = 2**63 - 1
TEXT_MAX = 255

Value = int | bool | str

_DIGITS = re.compile(r"-?[0-9]{1,19}")


class ValueType(StrEnum):
    """What the value of a privilege is."""

    INTEGER = "integer"
    STRING = "string"
    BOOLEAN = "boolean"
    SELECT = "select"


class Privilege(Record, kw_only=True):
    """A detail of a feature that is granted with a value, such as how many seats."""

    code: str
    name: str | None
    value_type: ValueType
    select_options: tuple[str, ...] = ()

    def text_of(self, given: Any) -> str | None:
        """A value as it is kept; None for one that the type doesn't take."""
        match self.value_type:
            case ValueType.INTEGER:
                return _integer_text(given)
            case ValueType.BOOLEAN:
                text = str(given).lower() if isinstance(given, bool | str) else ""
                return text if text in ("true", "false") else None
            case ValueType.STRING | ValueType.SELECT:
                is_fine = isinstance(given, str) and 0 < len(given) <= TEXT_MAX and "\0" not in given
                return given if is_fine else None

    def value_of(self, text: str) -> Value:
        """A value that is kept, in its type."""
        match self.value_type:
            case ValueType.INTEGER:
                return int(text)
            case ValueType.BOOLEAN:
                return text == "true"
            case ValueType.STRING | ValueType.SELECT:
                return text


def _integer_text(given: Any) -> str | None:
    if isinstance(given, str) and _DIGITS.fullmatch(given):
        given = Decimal(given)
    if isinstance(given, bool) or not isinstance(given, int | Decimal):
        return None
    is_fine = -INTEGER_MAX <= given <= INTEGER_MAX and given == int(given)
    return str(int(given)) if is_fine else None


class Feature(Record, kw_only=True):
    """What a plan can grant."""

    id: UUID
    organization_id: UUID
    code: str
    name: str | None
    description: str | None
    privileges: tuple[Privilege, ...]
    created_at: datetime

    def privilege(self, code: str) -> Privilege | None:
        return next((each for each in self.privileges if each.code == code), None)


def merge_privileges(known: Sequence[Privilege], sent: Iterable[Privilege]) -> tuple[Privilege, ...]:
    """The privileges with others: one that is known keeps its type, gets the name, and more options."""
    merged = {each.code: each for each in known}
    for each in sent:
        before = merged.get(each.code)
        if before is None:
            merged[each.code] = each
            continue
        options = dict.fromkeys((*before.select_options, *each.select_options))
        merged[each.code] = replace(before, name=each.name, select_options=tuple(options))
    return tuple(merged.values())


class Grant(Record, kw_only=True):
    """What a plan, or a subscription over its plan, says of a feature: values by the codes of privileges."""

    feature_id: UUID
    values: Mapping[str, str] = field(default_factory=dict)
    is_removed: bool = False
    """Whether a subscription does not have the feature although its plan grants it."""
    removed_privileges: frozenset[str] = frozenset()
    """Likewise of the feature's privileges."""


Grants = Mapping[UUID, Grant]
"""By feature."""


class EntitledPrivilege(Record, kw_only=True):
    """A privilege with the value that counts, and where it is from."""

    privilege: Privilege
    value: str
    plan_value: str | None
    own_value: str | None


class Entitlement(Record, kw_only=True):
    """A feature that is granted."""

    feature: Feature
    privileges: tuple[EntitledPrivilege, ...]

    @property
    def overrides(self) -> dict[str, Value]:
        """The values of the subscription's own."""
        return {
            each.privilege.code: each.privilege.value_of(each.own_value)
            for each in self.privileges
            if each.own_value is not None
        }


def entitlements(features: Mapping[UUID, Feature], plan: Grants, own: Grants) -> list[Entitlement]:
    """What counts, by the features' codes; of a plan alone without `own`."""
    granted = [
        features[feature_id]
        for feature_id in plan.keys() | own.keys()
        if feature_id in features and not (feature_id in own and own[feature_id].is_removed)
    ]
    return [
        Entitlement(feature=each, privileges=_privileges(each, plan.get(each.id), own.get(each.id)))
        for each in sorted(granted, key=lambda feature: feature.code)
    ]


def _privileges(feature: Feature, plan: Grant | None, own: Grant | None) -> tuple[EntitledPrivilege, ...]:
    found = []
    for each in feature.privileges:
        plan_value = plan.values.get(each.code) if plan else None
        own_value = own.values.get(each.code) if own else None
        value = plan_value if own_value is None else own_value
        if value is not None and not (own and each.code in own.removed_privileges):
            found.append(
                EntitledPrivilege(privilege=each, value=value, plan_value=plan_value, own_value=own_value)
            )
    return tuple(found)


def with_values(known: Grants, sent: Mapping[UUID, Mapping[str, str]]) -> dict[UUID, Grant]:
    """A plan's grants with more features and values; what isn't sent stays."""
    merged = dict(known)
    for feature_id, values in sent.items():
        before = known.get(feature_id, Grant(feature_id=feature_id))
        merged[feature_id] = replace(before, values={**before.values, **values})
    return merged


def with_own_values(plan: Grants, own: Grants, sent: Mapping[UUID, Mapping[str, str]]) -> dict[UUID, Grant]:
    """A subscription's own grants with more features and values.

    What was taken away comes back. A value that is the plan's is none of its own.
    """
    merged = dict(own)
    for feature_id, values in sent.items():
        of_plan, before = plan.get(feature_id), own.get(feature_id, Grant(feature_id=feature_id))
        plan_values = of_plan.values if of_plan else {}
        kept = {**before.values, **values}
        after = Grant(
            feature_id=feature_id,
            values={code: value for code, value in kept.items() if plan_values.get(code) != value},
            removed_privileges=before.removed_privileges - values.keys(),
        )
        if of_plan and not after.values and not after.removed_privileges:
            merged.pop(feature_id, None)
        else:
            merged[feature_id] = after
    return merged


def without_feature(plan: Grants, own: Grants, feature_id: UUID) -> dict[UUID, Grant]:
    """A subscription's own grants when a feature is taken away from it that it or its plan has."""
    kept = {each: grant for each, grant in own.items() if each != feature_id}
    if feature_id in plan:
        kept[feature_id] = Grant(feature_id=feature_id, is_removed=True)
    return kept


def without_privilege(plan: Grants, own: Grants, feature_id: UUID, code: str) -> dict[UUID, Grant]:
    """Likewise of a privilege."""
    before = own.get(feature_id, Grant(feature_id=feature_id))
    is_of_plan = feature_id in plan and code in plan[feature_id].values
    after = replace(
        before,
        values={each: value for each, value in before.values.items() if each != code},
        removed_privileges=before.removed_privileges | ({code} if is_of_plan else set()),
    )
    return {**own, feature_id: after}
