"""The minimum commitment and the usage thresholds in the forms of plans."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from permille.api.validation import problem_of
from permille.core.contract.plan import Plan
from permille.core.contract.threshold import UsageThreshold
from permille.core.errors import Invalid
from permille.web.charge_form import amount_text, to_cents
from permille.web.visit import Form

COMMITMENT, COMMITMENT_NAME = "commitment", "commitment_name"
THRESHOLDS, RECURRING = "thresholds", "recurring_threshold"


NO_AMOUNTS = dict.fromkeys((COMMITMENT, COMMITMENT_NAME, THRESHOLDS, RECURRING), "")
"""What the fields of a new plan hold at first."""


def shown_amounts(plan: Plan) -> dict[str, str]:
    """What the fields hold at first."""
    committed, currency = plan.minimum_commitment, plan.amount_currency
    known = sorted(plan.applicable_thresholds, key=lambda each: each.amount_cents)
    return {
        COMMITMENT: amount_text(committed.amount_cents, currency) if committed else "",
        COMMITMENT_NAME: (committed.invoice_display_name or "") if committed else "",
        THRESHOLDS: "; ".join(
            amount_text(each.amount_cents, currency) for each in known if not each.recurring
        ),
        RECURRING: "; ".join(amount_text(each.amount_cents, currency) for each in known if each.recurring),
    }


def read_amounts(form: Form, currency: str, known: Sequence[UsageThreshold] = ()) -> dict[str, Any]:
    """The two fields of a plan as the API takes them, as far as the form has them. Raises Invalid.

    Thresholds that stay as `known` are not sent; those with an amount that is known keep their names.
    """
    body: dict[str, Any] = {}
    if form.has(COMMITMENT):
        cents = _cents(form.get(COMMITMENT), currency, COMMITMENT)
        named = {"amount_cents": cents, "invoice_display_name": form.get(COMMITMENT_NAME) or None}
        body["minimum_commitment"] = named if cents else {}
    if form.has(THRESHOLDS) or form.has(RECURRING):
        wanted = _thresholds(form, currency)
        if sorted(wanted) != sorted((each.recurring, each.amount_cents) for each in known):
            names = {(each.recurring, each.amount_cents): each.threshold_display_name for each in known}
            body["usage_thresholds"] = [
                {
                    "amount_cents": cents,
                    "recurring": recurring,
                    "threshold_display_name": names.get((recurring, cents)),
                }
                for recurring, cents in wanted
            ]
    return body


def _thresholds(form: Form, currency: str) -> list[tuple[bool, int]]:
    return [
        (recurring, cents)
        for name, recurring in ((THRESHOLDS, False), (RECURRING, True))
        for text in re.split(r"[;\n]", form.get(name))
        if (cents := _cents(text.strip(), currency, name))
    ]


def _cents(text: str, currency: str, name: str) -> int:
    """The amount, 0 for an empty text."""
    cents = to_cents(text, currency) if text else 0
    if not isinstance(cents, int) or cents < 0:
        raise Invalid({name: [problem_of(cents, "value_is_invalid")]})
    return cents
