"""`permille llm setup`: the metrics of language models and a plan by the catalogue's prices."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation

from permille.config import Config
from permille.core.errors import Invalid, Refusal
from permille.core.llm.model_name import name_model
from permille.core.period import Interval
from permille.core.rating.unlisted import UnlistedValues
from permille.store.catalogue_versions import catalogue_of
from permille.usecases.catalogue.price_lists import command
from permille.usecases.llm_setup import PricedModel, Setup, set_up


def set_up_from_command_line(
    config: Config, models: Sequence[str], *, plan: str, markup: str, organization: str | None
) -> int:
    """Make them in the organization of that name or id, or in the only one there is; the exit code."""
    try:
        factor = Decimal(markup)
    except InvalidOperation:
        factor = Decimal(-1)
    if not factor.is_finite() or factor < 0:
        print(f"permille: the markup {markup!r} is no number of zero or more", file=sys.stderr)
        return 1
    wanted = Setup(
        plan_code=plan,
        plan_name=plan,
        currency="USD",
        interval=Interval.MONTHLY,
        models=[_model(each) for each in models],
        calls={},
        markup=factor,
        unlisted_values=UnlistedValues.HELD,
    )
    return command(
        config,
        lambda conn, found, now: set_up(conn, found, wanted, catalogue_of(conn, found.id), now=now),
        operation="permille llm setup",
        organization=organization,
        reason=lambda refusal: _reason(refusal, models),
    )


def _model(text: str) -> PricedModel:
    """PROVIDER/MODEL; a name without a provider is looked for as it is."""
    provider, slash, name = text.partition("/")
    if not slash:
        provider, name = name_model(None, text).provider, text
    return PricedModel(provider=provider, model=name, prices={})


def _reason(refusal: Refusal, models: Sequence[str]) -> str:
    errors = refusal.errors if isinstance(refusal, Invalid) else {}
    unknown = [models[int(field.split(".")[1])] for field in errors if field.startswith("models.")]
    if unknown:
        return f"the catalogue has no price of {', '.join(unknown)}: write PROVIDER/MODEL"
    return f"it can't be made: {refusal}"
