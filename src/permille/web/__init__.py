"""The web admin: pages rendered here, working without JavaScript, on the same functions as the API."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute

from permille.api.addresses import Route
from permille.api.http import Engine
from permille.core.errors import NotFound
from permille.web import (
    account,
    add_ons,
    alerts,
    api_reference,
    api_requests,
    audit_log,
    billing_entities,
    catalogue_versions,
    charges,
    connect,
    coupons,
    credit_notes,
    current_prices,
    custom_sections,
    customers,
    developers,
    dunning,
    events,
    features,
    fixed_charges,
    held_usages,
    holds,
    home,
    invoices,
    late_usage,
    llm_usage,
    mail_server,
    mails,
    margin,
    metrics,
    one_off,
    own_account,
    own_plans,
    payer_rules,
    payments,
    plans,
    pricing_units,
    regenerated_invoices,
    settings,
    sign_in,
    subscription_entities,
    wallets,
)
from permille.web.pages import action, form_page, page, refused, unavailable
from permille.web.rendering import STATIC, static_file
from permille.web.visit import ADMINS, ANYBODY, OWNERS

__all__ = ["routes", "unavailable"]

YEAR_SECONDS = 31_536_000


def routes(engine: Engine) -> list[BaseRoute]:
    """Every address of the web admin, and / which leads to it."""
    return [
        Route("/", _to_app, methods=["GET"]),
        Route("/app/static/{name}", _static, methods=["GET"]),
        *sign_in.routes(engine),
        *own_account.routes(engine),
        *api_reference.routes(engine),
        page(engine, "", home.overview_page),
        *_account(engine),
        *_customers(engine),
        *_catalogue(engine),
        *_offers(engine),
        *_billing(engine),
        *_developers(engine),
        Route("/app/{rest:path}", _nowhere, methods=["GET"]),
    ]


async def _to_app(_request: Request) -> Response:
    return RedirectResponse("/app", 303)


async def _nowhere(_request: Request) -> Response:
    return refused(NotFound("page"))


async def _static(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in STATIC:
        return Response("not found", 404, media_type="text/plain")
    headers = {
        "cache-control": f"public, max-age={YEAR_SECONDS}, immutable",
        "x-content-type-options": "nosniff",
    }
    return Response(static_file(name), headers=headers, media_type=STATIC[name])


def _account(engine: Engine) -> list[Route]:
    return [
        action(engine, "/switch-organization", account.switch_organization, writers=ANYBODY),
        form_page(
            engine,
            "/new-organization",
            account.blank_organization,
            account.create_organization,
            writers=OWNERS,
        ),
        form_page(engine, "/test-clock", account.clock_page, account.move_clock),
        form_page(engine, "/users", account.list_users, account.invite, writers=ADMINS),
        action(engine, "/users/{user_id}/role", account.change_role, on=account.list_users, writers=ADMINS),
        action(
            engine,
            "/users/second-factor",
            account.require_second_factor,
            on=account.list_users,
            writers=ADMINS,
        ),
        action(
            engine,
            "/users/{user_id}/reset-second-factor",
            account.reset_second_factor,
            on=account.list_users,
            writers=ADMINS,
        ),
        action(engine, "/users/{user_id}/remove", account.remove_user, on=account.list_users, writers=ADMINS),
        page(engine, "/settings", settings.show, settings.update),
        page(engine, "/api-requests", api_requests.listing),
        page(engine, "/audit-log", audit_log.listing),
        page(engine, "/audit-log.csv", audit_log.as_csv),
        page(engine, "/audit-log.jsonl", audit_log.as_json_lines),
    ]


def _customers(engine: Engine) -> list[Route]:
    return [
        page(engine, "/customers", customers.listing),
        form_page(engine, "/new-customer", customers.blank, customers.create),
        page(engine, "/customers/{external_id:path}", customers.detail),
        form_page(engine, "/edit-customer/{external_id:path}", customers.before, customers.update),
        form_page(
            engine, "/subscribe/{external_id:path}", customers.again("subscriptions"), customers.subscribe
        ),
        page(engine, "/own-plan/{external_id:path}", own_plans.detail),
        action(
            engine,
            "/cancel-own-price-change/{external_id:path}",
            own_plans.cancel_change,
            on=own_plans.detail,
        ),
        form_page(engine, "/edit-own-plan/{external_id:path}", own_plans.before, own_plans.update),
        form_page(
            engine, "/edit-own-charge/{external_id:path}", own_plans.before_charge, own_plans.update_charge
        ),
        form_page(engine, "/apply-coupon/{external_id:path}", customers.again("coupons"), coupons.apply),
        action(engine, "/end-coupon/{external_id:path}", coupons.end),
        form_page(engine, "/new-wallet/{external_id:path}", wallets.blank, wallets.create),
        page(engine, "/wallets/{lago_id}", wallets.detail, wallets.top_up),
        form_page(engine, "/edit-wallet/{lago_id}", wallets.before, wallets.update),
        action(engine, "/wallets/{lago_id}/terminate", wallets.terminate, on=wallets.detail),
        page(engine, "/wallet-transactions/{lago_id}", wallets.transaction),
        page(engine, "/alerts/{external_id:path}", alerts.detail, alerts.create),
        action(engine, "/delete-alert/{external_id:path}", alerts.delete, on=alerts.detail),
        action(engine, "/end-subscription/{external_id:path}", customers.end_subscription),
        form_page(
            engine,
            "/subscription-entity/{external_id:path}",
            subscription_entities.before,
            subscription_entities.choose,
        ),
        action(engine, "/delete-customer/{external_id:path}", customers.delete, on=customers.detail),
    ]


def _catalogue(engine: Engine) -> list[Route]:
    return [
        page(engine, "/billable-metrics", metrics.listing),
        form_page(engine, "/new-billable-metric", metrics.blank, metrics.create),
        page(engine, "/billable-metrics/{code:path}", metrics.detail),
        form_page(engine, "/edit-billable-metric/{code:path}", metrics.before, metrics.update),
        action(engine, "/delete-billable-metric/{code:path}", metrics.delete, on=metrics.detail),
        page(engine, "/plans", plans.listing),
        form_page(engine, "/new-plan", plans.blank, plans.create),
        page(engine, "/plans/{code:path}", plans.detail),
        form_page(engine, "/edit-plan/{code:path}", plans.before, plans.update),
        action(engine, "/cancel-price-change/{code:path}", plans.cancel_change, on=plans.detail),
        action(engine, "/delete-plan/{code:path}", plans.delete, on=plans.detail),
        form_page(engine, "/add-charge/{code:path}", charges.blank, charges.add),
        form_page(engine, "/edit-charge/{code:path}", charges.before, charges.update),
        action(engine, "/delete-charge/{code:path}", charges.delete, on=plans.detail),
        form_page(engine, "/add-fixed-charge/{code:path}", fixed_charges.blank, fixed_charges.add),
        form_page(engine, "/edit-fixed-charge/{code:path}", fixed_charges.before, fixed_charges.update),
        action(engine, "/delete-fixed-charge/{code:path}", fixed_charges.delete, on=plans.detail),
    ]


def _offers(engine: Engine) -> list[Route]:
    return [
        page(engine, "/coupons", coupons.listing),
        form_page(engine, "/new-coupon", coupons.blank, coupons.create),
        page(engine, "/coupons/{code:path}", coupons.detail),
        form_page(engine, "/edit-coupon/{code:path}", coupons.before, coupons.update),
        action(engine, "/delete-coupon/{code:path}", coupons.delete, on=coupons.detail),
        page(engine, "/custom-sections", custom_sections.listing),
        form_page(engine, "/new-custom-section", custom_sections.blank, custom_sections.create),
        form_page(engine, "/edit-custom-section/{code:path}", custom_sections.before, custom_sections.update),
        action(
            engine, "/delete-custom-section/{code:path}", custom_sections.delete, on=custom_sections.listing
        ),
        form_page(
            engine,
            "/subscription-sections/{external_id:path}",
            custom_sections.of_subscription,
            custom_sections.choose_of_subscription,
        ),
        page(engine, "/add-ons", add_ons.listing),
        form_page(engine, "/new-add-on", add_ons.blank, add_ons.create),
        form_page(engine, "/edit-add-on/{code:path}", add_ons.before, add_ons.update),
        action(engine, "/delete-add-on/{code:path}", add_ons.delete, on=add_ons.listing),
        page(engine, "/features", features.listing),
        form_page(engine, "/new-feature", features.blank, features.create),
        form_page(engine, "/edit-feature/{code:path}", features.before, features.update),
        action(engine, "/delete-feature/{code:path}", features.delete, on=features.listing),
        page(engine, "/entitlements/{code:path}", features.plan_grants, features.set_plan_grants),
        page(engine, "/own-entitlements/{external_id:path}", features.own_grants, features.set_own_grants),
        page(engine, "/pricing-units", pricing_units.listing),
        form_page(engine, "/new-pricing-unit", pricing_units.blank, pricing_units.create),
        form_page(engine, "/edit-pricing-unit/{code:path}", pricing_units.before, pricing_units.update),
        action(engine, "/delete-pricing-unit/{code:path}", pricing_units.delete, on=pricing_units.listing),
        page(
            engine,
            "/catalogue-versions",
            catalogue_versions.listing,
            catalogue_versions.import_file,
            takes_files=True,
        ),
        page(
            engine,
            "/catalogue-versions/{lago_id}",
            catalogue_versions.detail,
            catalogue_versions.approve,
        ),
        action(
            engine, "/auto-approve-prices", catalogue_versions.auto_approve, on=catalogue_versions.listing
        ),
        action(
            engine,
            "/delete-catalogue-version/{lago_id}",
            catalogue_versions.delete,
            on=catalogue_versions.detail,
        ),
        action(
            engine, "/credit-corrections/{lago_id}", catalogue_versions.credit, on=catalogue_versions.detail
        ),
        page(engine, "/templates", plans.gallery, plans.apply_price_list),
        page(engine, "/templates/{provider}", current_prices.show, current_prices.create),
    ]


def _billing(engine: Engine) -> list[Route]:
    return [
        page(engine, "/invoices", invoices.listing),
        page(engine, "/invoices.csv", invoices.as_csv),
        page(engine, "/invoices/{lago_id}", invoices.detail),
        page(engine, "/invoices/{lago_id}/pdf", invoices.pdf),
        action(engine, "/invoices/{lago_id}/refresh", invoices.refresh, on=invoices.detail),
        action(engine, "/invoices/{lago_id}/finalize", invoices.finalize, on=invoices.detail),
        action(engine, "/send-by-mail/{kind}/{lago_id}", mails.send, on=mails.sent_from),
        page(engine, "/mail", mails.listing),
        action(engine, "/mail/test", mail_server.send_test, on=mails.listing),
        form_page(engine, "/mail-server", mail_server.show, mail_server.save, writers=OWNERS),
        action(engine, "/mail-server/remove", mail_server.remove, writers=OWNERS),
        action(engine, "/mails/{mail_id}/send-again", mails.send_again, on=mails.listing),
        action(engine, "/invoices/{lago_id}/void", invoices.void, on=invoices.detail),
        form_page(
            engine,
            "/regenerate-invoice/{lago_id}",
            regenerated_invoices.blank,
            regenerated_invoices.create,
        ),
        form_page(engine, "/credit-invoice/{lago_id}", credit_notes.blank, credit_notes.create),
        page(engine, "/credit-notes", credit_notes.listing),
        page(engine, "/credit-notes/{lago_id}", credit_notes.detail),
        page(engine, "/credit-notes/{lago_id}/pdf", credit_notes.pdf),
        action(engine, "/credit-notes/{lago_id}/void", credit_notes.void, on=credit_notes.detail),
        action(engine, "/credit-notes/{lago_id}/refunded", credit_notes.refunded, on=credit_notes.detail),
        form_page(engine, "/new-one-off/{external_id:path}", one_off.blank, one_off.create),
        page(engine, "/payments", payments.listing),
        page(engine, "/receipts/{lago_id}/pdf", payments.receipt_pdf),
        form_page(engine, "/record-payment/{lago_id}", payments.blank, payments.create),
        action(engine, "/invoices/{lago_id}/request", payments.request, on=invoices.detail),
        page(engine, "/dunning", dunning.listing),
        form_page(engine, "/new-dunning-campaign", dunning.blank, dunning.create),
        form_page(engine, "/edit-dunning-campaign/{code:path}", dunning.before, dunning.update),
        action(engine, "/delete-dunning-campaign/{code:path}", dunning.delete, on=dunning.listing),
        page(engine, "/billing-entities", billing_entities.listing),
        form_page(engine, "/new-billing-entity", billing_entities.blank, billing_entities.create),
        form_page(
            engine, "/edit-billing-entity/{code:path}", billing_entities.before, billing_entities.update
        ),
        page(engine, "/fees/{lago_id}", invoices.fee),
        page(engine, "/holds", holds.listing),
        action(engine, "/holds/retry", holds.retry, on=holds.listing),
        page(engine, "/late-usage", late_usage.listing),
        action(engine, "/late-usage/{lago_id}/bill", late_usage.bill, on=late_usage.listing),
        action(engine, "/late-usage/{lago_id}/accept", late_usage.accept, on=late_usage.listing),
        page(engine, "/events", events.tail),
        page(engine, "/events/{transaction_id:path}", events.detail, events.amend),
    ]


def _developers(engine: Engine) -> list[Route]:
    return [
        page(engine, "/margin", margin.show),
        page(engine, "/margin.csv", margin.as_csv),
        page(engine, "/connect", connect.overview),
        page(engine, "/connect/{name}", connect.guide),
        page(engine, "/llm-usage", llm_usage.todo, llm_usage.attribute),
        page(engine, "/held-usages", held_usages.listing, held_usages.attribute),
        action(engine, "/count-unknown-model/{name:path}", llm_usage.count_unknown, on=llm_usage.todo),
        page(engine, "/model-aliases", llm_usage.aliases, llm_usage.add_alias),
        action(engine, "/edit-model-alias/{name:path}", llm_usage.change_alias, on=llm_usage.aliases),
        action(engine, "/delete-model-alias/{name:path}", llm_usage.delete_alias, on=llm_usage.aliases),
        page(engine, "/payer-rules", payer_rules.listing, payer_rules.add),
        form_page(engine, "/edit-payer-rule/{lago_id}", payer_rules.before, payer_rules.update),
        action(engine, "/delete-payer-rule/{lago_id}", payer_rules.delete, on=payer_rules.listing),
        page(engine, "/developers", developers.overview, developers.create_endpoint, writers=ADMINS),
        page(engine, "/api-keys", developers.overview, developers.create_key, writers=ADMINS),
        action(
            engine, "/api-keys/{key_id}/revoke", developers.revoke_key, on=developers.overview, writers=ADMINS
        ),
        action(
            engine, "/api-keys/{key_id}/rotate", developers.rotate_key, on=developers.overview, writers=ADMINS
        ),
        action(engine, "/hmac-key/roll", developers.roll_hmac_key, on=developers.overview, writers=ADMINS),
        action(
            engine,
            "/webhook-endpoints/{lago_id}/delete",
            developers.delete_endpoint,
            on=developers.overview,
            writers=ADMINS,
        ),
        action(engine, "/webhooks/{webhook_id}/replay", developers.replay, on=developers.overview),
    ]
