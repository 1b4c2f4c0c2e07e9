"""Every path of the API and the function that answers it."""

from __future__ import annotations

from starlette.routing import Route

from permille.api import (
    billable_metrics,
    billing_entities,
    charges,
    credit_notes,
    customers,
    estimates,
    events,
    explanations,
    fees,
    invoices,
    organization_settings,
    organizations,
    plans,
    price_lists,
    sign_in_links,
    subscriptions,
    taxes,
    usage,
    webhook_endpoints,
    webhooks,
)
from permille.api.http import AdminEndpoint, Endpoint, Engine, admin_route, route

API = "/api/v1"
ADMIN = "/admin/v1"

ENDPOINTS: list[tuple[str, str, Endpoint]] = [
    ("GET", "/test_clock", organizations.show_test_clock),
    ("PUT", "/test_clock", organizations.move_test_clock),
    ("GET", "/organizations", organization_settings.show_organization),
    ("PUT", "/organizations", organization_settings.update_organization),
    ("GET", "/billing_entities", billing_entities.list_billing_entities),
    ("GET", "/billing_entities/{code}", billing_entities.show_billing_entity),
    ("PUT", "/billing_entities/{code}", billing_entities.update_billing_entity),
    ("POST", "/billable_metrics", billable_metrics.create_billable_metric),
    ("POST", "/billable_metrics/evaluate_expression", billable_metrics.evaluate_expression),
    ("GET", "/billable_metrics", billable_metrics.list_billable_metrics),
    ("GET", "/billable_metrics/{code}", billable_metrics.show_billable_metric),
    ("PUT", "/billable_metrics/{code}", billable_metrics.update_billable_metric),
    ("DELETE", "/billable_metrics/{code}", billable_metrics.delete_billable_metric),
    ("POST", "/taxes", taxes.create_tax),
    ("GET", "/taxes", taxes.list_taxes),
    ("GET", "/taxes/{code}", taxes.show_tax),
    ("PUT", "/taxes/{code}", taxes.update_tax),
    ("DELETE", "/taxes/{code}", taxes.delete_tax),
    ("POST", "/plans", plans.create_plan),
    ("GET", "/plans", plans.list_plans),
    ("GET", "/plans/{code}", plans.show_plan),
    ("PUT", "/plans/{code}", plans.update_plan),
    ("DELETE", "/plans/{code}", plans.delete_plan),
    ("POST", "/plans/{code}/charges", charges.create_charge),
    ("GET", "/plans/{code}/charges", charges.list_charges),
    ("GET", "/plans/{code}/charges/{charge_code}", charges.show_charge),
    ("PUT", "/plans/{code}/charges/{charge_code}", charges.update_charge),
    ("DELETE", "/plans/{code}/charges/{charge_code}", charges.delete_charge),
    ("POST", "/plans/{code}/charges/{charge_code}/filters", charges.create_filter),
    ("GET", "/plans/{code}/charges/{charge_code}/filters", charges.list_filters),
    ("GET", "/plans/{code}/charges/{charge_code}/filters/{filter_id}", charges.show_filter),
    ("PUT", "/plans/{code}/charges/{charge_code}/filters/{filter_id}", charges.update_filter),
    ("DELETE", "/plans/{code}/charges/{charge_code}/filters/{filter_id}", charges.delete_filter),
    ("POST", "/customers", customers.upsert_customer),
    ("GET", "/customers", customers.list_customers),
    ("GET", "/customers/{external_id}", customers.show_customer),
    ("DELETE", "/customers/{external_id}", customers.delete_customer),
    ("GET", "/customers/{external_id}/subscriptions", subscriptions.list_customer_subscriptions),
    ("GET", "/customers/{external_id}/current_usage", usage.show_current_usage),
    ("GET", "/customers/{external_id}/past_usage", usage.list_past_usage),
    ("POST", "/subscriptions", subscriptions.create_subscription),
    ("GET", "/subscriptions", subscriptions.list_subscriptions),
    ("GET", "/subscriptions/{external_id}", subscriptions.show_subscription),
    ("PUT", "/subscriptions/{external_id}", subscriptions.update_subscription),
    ("DELETE", "/subscriptions/{external_id}", subscriptions.terminate_subscription),
    ("GET", "/customers/{external_id}/invoices", invoices.list_customer_invoices),
    ("GET", "/invoices", invoices.list_invoices),
    ("GET", "/invoices/{lago_id}", invoices.show_invoice),
    ("PUT", "/invoices/{lago_id}", invoices.update_invoice),
    ("POST", "/invoices/{lago_id}/download", invoices.download_invoice),
    ("POST", "/invoices/{lago_id}/download_pdf", invoices.download_invoice),
    ("GET", "/invoices/{lago_id}/pdf", invoices.invoice_pdf),
    ("GET", "/credit_notes", credit_notes.list_credit_notes),
    ("GET", "/credit_notes/{lago_id}", credit_notes.show_credit_note),
    ("POST", "/events/estimate_fees", estimates.estimate_fees),
    ("POST", "/events/estimate_instant_fees", estimates.estimate_instant_fees),
    ("POST", "/events/batch_estimate_instant_fees", estimates.batch_estimate_instant_fees),
    ("GET", "/fees", fees.list_fees),
    ("GET", "/fees/{lago_id}", fees.show_fee),
    ("PUT", "/fees/{lago_id}", fees.update_fee),
    ("GET", "/fees/{lago_id}/explanation", explanations.explain_fee),
    ("GET", "/webhooks/json_public_key", webhooks.show_public_key),
    ("GET", "/webhooks/public_key", webhooks.plain_public_key),
    ("GET", "/events", events.list_events),
    ("GET", "/events/{transaction_id:path}", events.show_event),
    ("POST", "/webhook_endpoints", webhook_endpoints.create_webhook_endpoint),
    ("GET", "/webhook_endpoints", webhook_endpoints.list_webhook_endpoints),
    ("GET", "/webhook_endpoints/{lago_id}", webhook_endpoints.show_webhook_endpoint),
    ("PUT", "/webhook_endpoints/{lago_id}", webhook_endpoints.update_webhook_endpoint),
    ("DELETE", "/webhook_endpoints/{lago_id}", webhook_endpoints.delete_webhook_endpoint),
]

ADMIN_ENDPOINTS: list[tuple[str, str, AdminEndpoint]] = [
    ("POST", "/organizations", organizations.create_organization),
    ("GET", "/organizations", organizations.list_organizations),
    ("POST", "/organizations/{organization_id}/api_keys", organizations.create_api_key),
    ("GET", "/organizations/{organization_id}/api_keys", organizations.list_api_keys),
    ("DELETE", "/organizations/{organization_id}/api_keys/{key_id}", organizations.revoke_api_key),
    ("GET", "/price_lists", price_lists.list_price_lists),
    ("POST", "/sign_in_links", sign_in_links.create_sign_in_link),
    ("POST", "/organizations/{organization_id}/price_lists", price_lists.apply_price_list),
]


def all_routes(engine: Engine) -> list[Route]:
    return [route(engine, method, API + path, endpoint) for method, path, endpoint in ENDPOINTS] + [
        admin_route(engine, method, ADMIN + path, endpoint) for method, path, endpoint in ADMIN_ENDPOINTS
    ]
