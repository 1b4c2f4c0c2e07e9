"""What became of an object: an entry of the audit log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any
from uuid import UUID

from permille.api.objects.base import Answer, CreatedAt, instant_of, one_of, says

SOURCES = ("api", "front", "system")


class ActivityLog(Answer):
    """What a request has changed of one object."""

    activity_id: Annotated[UUID, says("The server's own identifier of the entry.")]
    activity_type: Annotated[str, says("Kind of the object and what became of it.", example="plan.updated")]
    activity_source: Annotated[
        str, one_of(*SOURCES, says="api: with a key; front: in the web admin; system: from the command line.")
    ]
    activity_object: Annotated[None, says("Always null: what changed is in activity_object_changes.")]
    activity_object_changes: Annotated[
        Mapping[str, Sequence[Any]],
        says("Changed field -> its value before and after. Secrets are never shown."),
    ]
    user_email: Annotated[str | None, says("Who did it in the web admin.")]
    resource_id: Annotated[str, says("Identifier of the object.")]
    resource_type: Annotated[str, says("Kind of the object.", example="BillableMetric")]
    external_customer_id: Annotated[str | None, says("Your identifier of the customer whose object it is.")]
    external_subscription_id: Annotated[
        str | None, says("Your identifier of the subscription whose object it is.")
    ]
    organization_id: Annotated[UUID | None, says("The organization.")]
    logged_at: Annotated[str, instant_of("When it was changed, by the system's clock.")]
    created_at: CreatedAt
