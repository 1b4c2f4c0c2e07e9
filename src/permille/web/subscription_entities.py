"""Which billing entity's invoices a subscription is on."""

from __future__ import annotations

from typing import Any

from permille.api.subscriptions import ENTITY
from permille.core.errors import NotFound
from permille.store import billing_entities, customers, subscriptions as subscription_store
from permille.usecases.catalogue import billing_entities as catalogue, subscriptions
from permille.web.shown import in_path
from permille.web.visit import Done, Form, HtmlPage, Visit


def menu(visit: Visit) -> list[tuple[str, str]]:
    """The entities to choose from; none where there is only one."""
    found = billing_entities.all_of(visit.conn, visit.here.id)
    if len(found) == 1:
        return []
    return [("", "The customer's billing entity"), *((each.code, each.name) for each in found)]


def chosen(form: Form) -> dict[str, Any]:
    """What a form says of it, as the API takes it; nothing where it has no menu."""
    return {ENTITY: form.get(ENTITY) or None} if form.has(ENTITY) else {}


def before(visit: Visit) -> HtmlPage:
    """GET /app/subscription-entity/{external_id}."""
    rows = subscription_store.history(visit.conn, visit.here.id, visit.path["external_id"])
    row = next((each for each in rows if each.status in ("active", "pending")), None)
    if row is None:
        raise NotFound("subscription")
    entities = menu(visit)
    own = row.billing_entity_id and billing_entities.by_ids(visit.conn, [row.billing_entity_id])
    context = {
        "row": row,
        "customer": customers.by_ids(visit.conn, [row.customer_id])[row.customer_id],
        "entities": entities,
        "own": own[row.billing_entity_id].code if own and row.billing_entity_id else "",
    }
    return HtmlPage(template="subscription_entity.html", context=context)


def choose(visit: Visit) -> Done:
    """POST /app/subscription-entity/{external_id}."""
    known = subscriptions.to_change(visit.conn, visit.here.id, visit.path["external_id"], status="active")
    body = chosen(visit.form)
    entity_id = catalogue.named(visit.conn, visit.here.id, body.get(ENTITY))
    columns = {"billing_entity_id": entity_id} if body else {}
    subscriptions.change(visit.conn, known, columns=columns, now=visit.now)
    customer = customers.by_ids(visit.conn, [known.customer_id])[known.customer_id]
    to = f"/app/customers/{in_path(customer.external_id)}?tab=subscriptions&said=saved"
    return Done(action="changed subscription", subject=known.external_id, to=to, details=body)
