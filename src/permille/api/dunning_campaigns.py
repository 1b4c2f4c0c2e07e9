"""Dunning campaigns over HTTP. Lago has them over GraphQL alone: semantics-billing.md section 8.5."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.api.http import Call
from permille.api.mails import read_addresses
from permille.api.objects import dunning_campaign as objects
from permille.api.render import instant
from permille.api.validation import DAYS_MAX, LONG_TEXT, MANDATORY, Fields
from permille.core.invoice.dunning import DunningCampaign
from permille.store import dunning
from permille.usecases import dunning as usecase

ATTEMPTS_MAX = 1_000


def create_campaign(call: Call) -> dict[str, Any]:
    """POST /dunning_campaigns."""
    fields = Fields(call.root("dunning_campaign"))
    code = fields.text("code", mandatory=True)
    columns = read_campaign_columns(fields, is_new=True)
    made = usecase.add(call.conn, call.organization.id, {**columns, "code": code}, now=call.now)
    return {"dunning_campaign": render_campaign(made)}


def read_campaign_columns(fields: Fields, *, is_new: bool) -> dict[str, Any]:
    """The columns that a request sets. Raises Invalid."""
    columns: dict[str, Any] = {}
    if is_new or fields.has("name"):
        columns["name"] = fields.text("name", mandatory=True)
    if fields.has("description"):
        columns["description"] = fields.text("description", limit=LONG_TEXT)
    for name, maximum in (("days_between_attempts", DAYS_MAX), ("max_attempts", ATTEMPTS_MAX)):
        value = fields.whole(name, minimum=1, maximum=maximum)
        if is_new and value is None and name not in fields.errors:
            fields.refuse(name, MANDATORY)
        if value is not None:
            columns[name] = value
    if is_new or fields.has("thresholds"):
        columns["thresholds"] = _thresholds(fields)
    if fields.has("bcc_emails"):
        columns["bcc_emails"] = read_addresses(fields, "bcc_emails")
    fields.check()
    return columns


def _thresholds(fields: Fields) -> dict[str, int]:
    given = fields.objects("thresholds")
    if not given:
        if "thresholds" not in fields.errors:
            fields.refuse("thresholds", MANDATORY)
        return {}
    found: dict[str, int] = {}
    currencies = []
    for each in given:
        currency = each.currency("currency", mandatory=True)
        amount = each.whole("amount_cents", minimum=1)
        if amount is None and "amount_cents" not in each.errors:
            each.refuse("amount_cents", MANDATORY)
        if currency and amount:
            found[currency] = amount
            currencies.append(currency)
    fields.refuse_repeated("thresholds", currencies)
    return found


def read_campaign(conn: Connection[Any], organization_id: UUID, fields: Fields) -> UUID | None:
    """The campaign that `dunning_campaign_code` names; None for none. Raises NotFound."""
    code = fields.text("dunning_campaign_code")
    return usecase.by_code(conn, organization_id, code).id if code else None


def list_campaigns(call: Call) -> dict[str, Any]:
    """GET /dunning_campaigns."""
    page = call.page()
    rows, total = dunning.listing(call.conn, call.organization.id, limit=page.per_page, offset=page.offset)
    return {"dunning_campaigns": [render_campaign(row) for row in rows], "meta": page.meta(total)}


def show_campaign(call: Call) -> dict[str, Any]:
    """GET /dunning_campaigns/{code}."""
    return {"dunning_campaign": render_campaign(_campaign(call))}


def update_campaign(call: Call) -> dict[str, Any]:
    """PUT /dunning_campaigns/{code}: with other terms the dunning of its customers begins again."""
    before = _campaign(call)
    columns = read_campaign_columns(Fields(call.root("dunning_campaign")), is_new=False)
    return {"dunning_campaign": render_campaign(usecase.change(call.conn, before, columns, now=call.now))}


def delete_campaign(call: Call) -> dict[str, Any]:
    """DELETE /dunning_campaigns/{code}."""
    campaign = _campaign(call)
    usecase.remove(call.conn, campaign, now=call.now)
    return {"dunning_campaign": render_campaign(campaign)}


def _campaign(call: Call) -> DunningCampaign:
    return usecase.by_code(call.conn, call.organization.id, call.path["code"])


def render_campaign(campaign: DunningCampaign) -> objects.DunningCampaign:
    """A campaign as the API shows it."""
    return objects.DunningCampaign(
        lago_id=campaign.id,
        code=campaign.code,
        name=campaign.name,
        description=campaign.description,
        thresholds=[
            objects.DunningThreshold(currency=currency, amount_cents=cents)
            for currency, cents in campaign.thresholds.items()
        ],
        days_between_attempts=campaign.days_between_attempts,
        max_attempts=campaign.max_attempts,
        bcc_emails=list(campaign.bcc_emails),
        created_at=instant(campaign.created_at),
        updated_at=instant(campaign.updated_at),
    )
