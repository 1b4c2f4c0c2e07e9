"""Changes of the catalogue are told: semantics-billing.md section 9.2."""

from tests.api.conftest import Api, charge


def told(api: Api) -> list[str]:
    api.conn.rollback()
    rows = api.conn.execute(
        "select webhook_type from webhook where organization_id = %s order by created_at, id",
        [api.organization.id],
    ).fetchall()
    return [kind for (kind,) in rows if not kind.startswith("invoice.")]


def test_every_change_is_reported_to_the_endpoints(api: Api):
    api.post("/webhook_endpoints", {"webhook_endpoint": {"webhook_url": "http://127.0.0.1:9/hook"}})
    metric = api.metric()
    api.put("/billable_metrics/tokens", {"billable_metric": {"name": "Tokens"}})
    api.plan(charges=[charge(metric)])
    api.put("/plans/pro", {"plan": {"name": "Pro"}})
    api.customer()
    api.customer(name="Acme")
    api.subscribe()
    api.subscribe()
    api.put("/subscriptions/sub", {"subscription": {"name": "Mine"}})
    api.delete("/subscriptions/sub")
    api.delete("/plans/pro")
    api.delete("/billable_metrics/tokens")
    assert sorted(told(api)) == sorted(
        [
            "billable_metric.created",
            "billable_metric.updated",
            "plan.created",
            "plan.updated",
            "customer.created",
            "customer.updated",
            "subscription.started",
            "subscription.updated",
            "subscription.terminated",
            "plan.deleted",
            "billable_metric.deleted",
        ]
    )


def test_a_refused_change_is_not_reported(api: Api):
    api.post("/webhook_endpoints", {"webhook_endpoint": {"webhook_url": "http://127.0.0.1:9/hook"}})
    api.plan()
    api.details("PUT", "/plans/pro", {"plan": {"name": ""}})
    assert told(api) == ["plan.created"]
