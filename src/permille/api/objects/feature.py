"""Features, and what plans and subscriptions grant of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from permille.api.objects.base import Answer, CreatedAt, Input, one_of, says
from permille.core.feature import Value, ValueType

FeatureCode = Annotated[str, says("Your identifier, unique among features.", example="seats")]
FeatureName = Annotated[str | None, says("Name for people.", example="Number of seats")]
FeatureDescription = Annotated[str | None, says("Internal note.")]
PrivilegeCode = Annotated[str, says("Your identifier, unique in the feature.", example="max")]
Type = Annotated[str, one_of(*ValueType, says="What its value is; string by default.")]
GrantedValue = Annotated[Value, says("The value, in the type of the privilege.", example=10)]
SelectOptions = Annotated[list[str], says("The values of a select privilege.")]


class PrivilegeConfig(Answer, omit_defaults=True):
    """What values a privilege takes; empty unless it is a select."""

    select_options: SelectOptions | None = None


class Privilege(Answer, kw_only=True):
    """A detail of a feature that is granted with a value."""

    code: PrivilegeCode
    name: FeatureName
    value_type: Type
    config: Annotated[PrivilegeConfig, says("The options of a select.")]


class Feature(Answer, kw_only=True):
    """What plans can grant."""

    code: FeatureCode
    name: FeatureName
    description: FeatureDescription
    privileges: Annotated[list[Privilege], says("Details that are granted with values.")]
    created_at: CreatedAt


class PlanPrivilege(Privilege, kw_only=True):
    """A privilege with the value that a plan grants."""

    value: GrantedValue


class PlanEntitlement(Answer, kw_only=True):
    """A feature that a plan grants."""

    code: FeatureCode
    name: FeatureName
    description: FeatureDescription
    privileges: Annotated[list[PlanPrivilege], says("Privileges that have a value.")]


class SubscriptionPrivilege(Privilege, kw_only=True):
    """A privilege with the value that a subscription has, and where it is from."""

    value: GrantedValue
    plan_value: Annotated[Value | None, says("The plan's value, null if it grants none.")]
    override_value: Annotated[Value | None, says("The subscription's own value, null without one.")]


class SubscriptionEntitlement(Answer, kw_only=True):
    """A feature that a subscription has."""

    code: FeatureCode
    name: FeatureName
    description: FeatureDescription
    privileges: Annotated[list[SubscriptionPrivilege], says("Privileges that have a value.")]
    overrides: Annotated[
        Mapping[str, Value],
        says("The values of the subscription's own. A change of plan begins without them."),
    ]


class PrivilegeConfigInput(Input):
    """What values a privilege takes."""

    select_options: SelectOptions


class PrivilegeInput(Input, kw_only=True):
    """Fields of a privilege."""

    code: PrivilegeCode
    name: FeatureName
    value_type: Type
    config: Annotated[PrivilegeConfigInput, says("The options of a select.")]


class FeatureInput(Input, kw_only=True):
    """Fields of a feature."""

    code: FeatureCode
    name: FeatureName
    description: FeatureDescription
    privileges: Annotated[
        list[PrivilegeInput], says("An existing one gets the name and more options; others are new.")
    ]
