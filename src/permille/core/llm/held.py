"""Usage that is kept aside, by what is to be done about it."""

from __future__ import annotations

from collections.abc import Mapping

from permille.core.record import Record

NOBODY_PAYS = frozenset(
    {
        "subscription_missing",
        "subscription_not_found",
        "customer_not_found",
        "subscription_not_running",
        "subscription_ambiguous",
    }
)
INCOMPLETE = frozenset({"id_missing", "model_missing"})
WITHOUT_USAGE = frozenset({"usage_missing"})
GROUP_PROPERTIES = ("key", "team", "user")
"""What gateways say of a call, beside who pays."""


class HeldGroup(Record, kw_only=True):
    """Usages that are kept aside for one reason and were sent for one subscription, customer, key, team and user."""

    code: str
    external_subscription_id: str | None
    external_customer_id: str | None
    properties: Mapping[str, str]

    @property
    def is_attributable(self) -> bool:
        """Whether all of it can be counted once somebody says what was missing."""
        return self.code in NOBODY_PAYS | INCOMPLETE
