"""What an edit of prices does to the bills that are running: the amounts before and after, compared."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from uuid import UUID

from permille.core.record import Record

MOST_CHANGED = 5


class RunningBill(Record, kw_only=True):
    """What the usage of a subscription's running period comes to so far."""

    external_subscription_id: str
    external_customer_id: str
    currency: str
    amount_cents: int


class BillChange(Record, kw_only=True):
    """A running bill before and after an edit."""

    before: RunningBill
    after: RunningBill

    @property
    def difference(self) -> int:
        return self.after.amount_cents - self.before.amount_cents


class CurrencyTotal(Record, kw_only=True):
    """All running bills in one currency, before and after an edit."""

    currency: str
    before: int
    after: int

    @property
    def difference(self) -> int:
        return self.after - self.before


class Preview(Record, kw_only=True):
    """What an edit does to the running bills of the subscriptions that it reaches."""

    subscriptions: int
    """How many subscriptions it reaches."""
    compared: int
    """How many of their bills were looked at."""
    changed: int
    totals: Sequence[CurrencyTotal]
    most_changed: Sequence[BillChange]


def compare_bills(
    before: Mapping[UUID, RunningBill], after: Mapping[UUID, RunningBill], *, subscriptions: int
) -> Preview:
    """The bills of both sides, by subscription; one that is gone after the edit is left out."""
    pairs = [BillChange(before=bill, after=after[key]) for key, bill in before.items() if key in after]
    sums: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for each in pairs:
        sums[each.before.currency][0] += each.before.amount_cents
        sums[each.after.currency][1] += each.after.amount_cents
    changed = [each for each in pairs if each.before != each.after]
    most = sorted(changed, key=lambda each: (-abs(each.difference), each.before.external_subscription_id))
    return Preview(
        subscriptions=subscriptions,
        compared=len(pairs),
        changed=len(changed),
        totals=[CurrencyTotal(currency=key, before=b, after=a) for key, (b, a) in sorted(sums.items())],
        most_changed=most[:MOST_CHANGED],
    )
