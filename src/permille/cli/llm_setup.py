"""`permille templates today` and `permille llm setup`: the models that the catalogue prices, and a plan of some of them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from psycopg import Connection

from permille.config import Config
from permille.core.errors import Invalid, Refusal
from permille.core.llm.current_models import PricedModel, current_models, providers
from permille.core.llm.model_name import name_model, provider_name, provider_of_model
from permille.core.llm.parts import TokenType
from permille.core.organization import Organization
from permille.core.period import Interval
from permille.core.rating.explanation import plain
from permille.core.rating.unlisted import UnlistedValues
from permille.http.words import message_of
from permille.store.catalogue_versions import catalogue_of
from permille.usecases.catalogue.price_lists import command, command_in_organization
from permille.usecases.llm_setup import Setup, set_up


def set_up_from_command_line(
    config: Config,
    models: Sequence[str],
    *,
    plan: str,
    markup: str,
    include_deprecated: bool = False,
    organization: str | None,
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
        include_deprecated=include_deprecated,
    )
    return command(
        config,
        lambda conn, found, now: set_up(conn, found, wanted, catalogue_of(conn, found.id), now=now),
        operation="permille llm setup",
        organization=organization,
        reason=lambda refusal: _reason(refusal, models),
    )


def print_current_models(
    config: Config, *, provider: str | None, include_deprecated: bool = False, organization: str | None
) -> int:
    """Print a provider's models and prices of today in the organization, or the providers; the exit code."""

    def lines(conn: Connection[Any], found: Organization, now: datetime) -> list[str]:
        prices, on = catalogue_of(conn, found.id), now.date()
        if provider is None:
            return [*providers(prices, on=on), "permille templates today PROVIDER lists their models"]
        models = current_models(prices, provider_name(provider), on=on, include_deprecated=include_deprecated)
        if not models:
            return [f"The catalogue has no price of tokens of {provider!r}."]
        head = f"{'in USD for a million tokens':<60}{'input':>12}{'output':>12}"
        return [head, *map(_line, models)]

    return command_in_organization(
        config,
        lines,
        operation="permille templates today",
        organization=organization,
        reason=message_of,
    )


def _line(each: PricedModel) -> str:
    into, out = (plain(each.prices[kind]) for kind in (TokenType.INPUT, TokenType.OUTPUT))
    since = "  deprecated" if each.is_deprecated else ""
    return f"{each.provider + '/' + each.model:<60}{into:>12}{out:>12}{since}"


def _model(text: str) -> PricedModel:
    """PROVIDER/MODEL; a name without a provider is looked for as it is."""
    provider, slash, name = text.partition("/")
    if not slash:
        provider, name = provider_of_model(text) or name_model(None, text).provider, text
    return PricedModel(provider=provider, model=name, prices={})


def _reason(refusal: Refusal, models: Sequence[str]) -> str:
    errors = refusal.errors if isinstance(refusal, Invalid) else {}
    of_models = {
        models[int(field.split(".")[1])]: codes
        for field, codes in errors.items()
        if field.startswith("models.")
    }
    if deprecated := [name for name, codes in of_models.items() if "model_is_deprecated" in codes]:
        return f"{', '.join(deprecated)} is no longer offered by its provider: choose another model, or add --include-deprecated"
    if strangers := [name for name, codes in of_models.items() if "provider_not_found" in codes]:
        return f"the catalogue has no provider of {', '.join(strangers)}: permille templates today lists them"
    if of_models:
        return f"the catalogue has no price of {', '.join(of_models)}: write PROVIDER/MODEL"
    return f"it can't be made: {refusal}"
