"""LLM usage, to do: unknown models, usage that nobody pays for, that has no price, or that can't be counted as it came."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.api.model_aliases import read_alias
from permille.api.validation import Fields
from permille.core.llm.held import GROUP_PROPERTIES, INCOMPLETE, NOBODY_PAYS, WITHOUT_USAGE, HeldGroup
from permille.core.llm.model_name import alias_name
from permille.store import held_groups, model_aliases, subscriptions, unknown_models, unpriced
from permille.store.held_groups import HeldSum
from permille.store.subscriptions import SubscriptionSearch
from permille.usecases import held_groups as held_usecase, unknown_models as unknown_usecase
from permille.usecases.catalogue import model_aliases as catalogue
from permille.usecases.llm_usages import Attribution
from permille.usecases.unpriced import UnpricedUsage, newest
from permille.web.visit import Done, HtmlPage, Visit

TODO = "/app/llm-usage"
ALIASES = "/app/model-aliases"
SHOWN = 50
PAYERS_SHOWN = 500


def todo(visit: Visit) -> HtmlPage:
    """GET /app/llm-usage."""
    conn, here = visit.conn, visit.here.id
    unknown, unknown_count = unknown_models.listing(conn, here, limit=SHOWN, offset=0)
    held, _ = held_groups.groups(conn, here, limit=SHOWN, offset=0)
    running, _ = subscriptions.listing(
        conn, here, SubscriptionSearch(statuses=["active"]), limit=PAYERS_SHOWN, offset=0
    )
    without_price = newest(conn, here, limit=SHOWN)
    context = {
        "unknown": unknown,
        "unknown_count": unknown_count,
        "unpriced": without_price,
        "unpriced_models": _models(conn, here, without_price),
        "unpriced_count": unpriced.count(conn, here),
        "unattributed": _of(held, NOBODY_PAYS | INCOMPLETE),
        "without_usage": _of(held, WITHOUT_USAGE),
        "quarantined": [
            each for each in held if each.group.code not in NOBODY_PAYS | INCOMPLETE | WITHOUT_USAGE
        ],
        "payers": running,
        "names": GROUP_PROPERTIES,
    }
    return HtmlPage(template="llm_usage.html", context=context)


def _models(conn: Connection[Any], organization_id: UUID, found: Sequence[UnpricedUsage]) -> list[str]:
    """The models of what has no price, as aliases name them; those that have an alias are left out."""
    values = [each.of.values for each in found]
    names = {
        alias_name(provider, model)
        for one in values
        if (provider := one.get("provider")) and (model := one.get("model"))
    }
    return sorted(name for name in names if model_aliases.by_name(conn, organization_id, name) is None)


def todo_counts(visit: Visit) -> list[tuple[str, int]]:
    """What is to be done, in words, and how much of it there is; unpriced usage is shown beside it."""
    held = held_groups.counts(visit.conn, visit.here.id)
    unattributed = sum(held.pop(code, 0) for code in NOBODY_PAYS | INCOMPLETE)
    without_usage = sum(held.pop(code, 0) for code in WITHOUT_USAGE)
    found = [
        ("Unknown models", unknown_models.count(visit.conn, visit.here.id)),
        ("Calls that nobody pays for", unattributed),
        ("Calls without usage", without_usage),
        ("Calls in quarantine", sum(held.values())),
    ]
    return [(what, count) for what, count in found if count]


def _of(held: list[HeldSum], codes: frozenset[str]) -> list[HeldSum]:
    return [each for each in held if each.group.code in codes]


def attribute(visit: Visit) -> Done:
    """POST /app/llm-usage: count a group of what is held."""
    form = visit.form
    group = HeldGroup(
        code=form.get("code"),
        external_subscription_id=form.get("external_subscription_id") or None,
        external_customer_id=form.get("external_customer_id") or None,
        properties=form.filled(*GROUP_PROPERTIES),
    )
    said = Attribution(
        external_subscription_id=form.get("payer") or None,
        external_customer_id=None,
        model=form.get("model") or None,
        response_id=None,
    )
    counted = held_usecase.attribute_group(visit.conn, visit.here.id, group, said, now=visit.now)
    return Done(
        action="counted held usage",
        subject=form.get("payer") or group.code,
        to=f"{TODO}?said=attributed",
        details={"code": group.code, "count": counted, **form.filled("payer", "model", *GROUP_PROPERTIES)},
    )


def count_unknown(visit: Visit) -> Done:
    """POST /app/count-unknown-model/{name}."""
    name = visit.path["name"]
    moved = unknown_usecase.count_under_model(visit.conn, visit.here.id, name, api_key_id=None, now=visit.now)
    counts = {str(outcome): count for outcome, count in moved.outcomes.items()}
    return Done(
        action="counted under a model's alias", subject=name, to=f"{TODO}?said=counted_again", details=counts
    )


def aliases(visit: Visit) -> HtmlPage:
    """GET /app/model-aliases."""
    page = visit.page()
    found, total = model_aliases.listing(visit.conn, visit.here.id, limit=page.per_page, offset=page.offset)
    return HtmlPage(template="model_aliases.html", context={"aliases": found, "meta": page.meta(total)})


def add_alias(visit: Visit) -> Done:
    """POST /app/model-aliases."""
    body = _body(visit)
    blank = catalogue.blank(visit.conn, visit.here.id, now=visit.now)
    made = read_alias(Fields(body), blank, now=visit.now)
    catalogue.add(visit.conn, made)
    to = TODO if visit.form.get("back") == "todo" else ALIASES
    return Done(action="created model alias", subject=made.name, to=f"{to}?said=created", details=body)


def change_alias(visit: Visit) -> Done:
    """POST /app/edit-model-alias/{name}."""
    known = catalogue.to_change(visit.conn, visit.here.id, visit.path["name"])
    body = {"name": known.name, "model": visit.form.get("model")}
    catalogue.change(visit.conn, read_alias(Fields(body), known, now=visit.now))
    return Done(action="changed model alias", subject=known.name, to=f"{ALIASES}?said=saved", details=body)


def delete_alias(visit: Visit) -> Done:
    """POST /app/delete-model-alias/{name}."""
    gone = catalogue.to_change(visit.conn, visit.here.id, visit.path["name"])
    catalogue.remove(visit.conn, gone)
    return Done(action="deleted model alias", subject=gone.name, to=f"{ALIASES}?said=deleted")


def _body(visit: Visit) -> dict[str, Any]:
    return {name: visit.form.get(name) for name in ("name", "model")}
