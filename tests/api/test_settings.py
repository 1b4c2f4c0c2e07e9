"""Organization settings, billing entities and webhook endpoints over the API."""

import pytest

from tests.api.conftest import Api, Server, join


def test_organization_settings_are_the_default_billing_entitys(api: Api):
    before = api.get("/organizations")["organization"]
    assert before["name"] == "Acme"
    assert before["document_number_prefix"].startswith("ACM-")
    wanted = {
        "document_numbering": "per_organization",
        "document_number_prefix": "acme-1",
        "timezone": "Europe/Paris",
        "default_currency": "EUR",
        "net_payment_term": 30,
        "webhook_url": "https://example.test/hook",
        "billing_configuration": {"invoice_footer": "Thank you", "invoice_grace_period": 0},
    }
    after = api.put("/organizations", {"organization": wanted})["organization"]
    assert after == api.get("/organizations")["organization"]
    assert after["document_number_prefix"] == "ACME-1"
    assert after["document_numbering"] == "per_organization"
    assert after["webhook_urls"] == ["https://example.test/hook"]
    assert after["billing_configuration"]["invoice_footer"] == "Thank you"
    (entity,) = api.get("/billing_entities")["billing_entities"]
    assert (entity["code"], entity["is_default"]) == ("default", True)
    assert (entity["document_numbering"], entity["net_payment_term"]) == ("per_billing_entity", 30)
    assert entity == api.get("/billing_entities/default")["billing_entity"]
    cleared = api.put("/organizations", {"organization": {"timezone": None, "city": "Paris"}})["organization"]
    assert (cleared["timezone"], cleared["city"]) == ("Europe/Paris", "Paris")


def test_bad_settings_are_reported_at_once(api: Api):
    wanted = {
        "timezone": "Nowhere",
        "default_currency": "XXX",
        "net_payment_term": -1,
        "document_number_prefix": "much too long a prefix",
        "webhook_url": "ftp://x",
        "billing_configuration": {"invoice_grace_period": "soon"},
    }
    assert api.details("PUT", "/organizations", {"organization": wanted}) == {
        "timezone": ["value_is_invalid"],
        "default_currency": ["value_is_invalid"],
        "net_payment_term": ["value_is_out_of_range"],
        "document_number_prefix": ["value_is_too_long"],
        "webhook_url": ["url_invalid"],
        "invoice_grace_period": ["value_is_invalid"],
    }


def test_a_billing_entity_is_changed(api: Api):
    after = api.put(
        "/billing_entities/default", {"billing_entity": {"net_payment_term": 7, "name": "Acme SA"}}
    )
    assert after["billing_entity"]["net_payment_term"] == 7
    assert api.get("/organizations")["organization"]["net_payment_term"] == 7
    assert api.code(404, "GET", "/billing_entities/none") == "billing_entity_not_found"


def test_webhook_endpoints_are_made_changed_and_deleted(api: Api, stranger: Api):
    body = {"webhook_url": "https://example.test/a", "event_types": ["*"], "name": "A"}
    made = api.post("/webhook_endpoints", {"webhook_endpoint": body})["webhook_endpoint"]
    assert made == {
        "lago_id": made["lago_id"],
        "lago_organization_id": str(api.organization.id),
        "webhook_url": "https://example.test/a",
        "signature_algo": "jwt",
        "name": "A",
        "event_types": None,
        "created_at": "2024-03-05T10:00:00Z",
    }
    path = f"/webhook_endpoints/{made['lago_id']}"
    changed = {"signature_algo": "hmac", "event_types": ["invoice.created"]}
    after = api.put(path, {"webhook_endpoint": changed})["webhook_endpoint"]
    assert after == {**made, **changed}
    assert api.get(path)["webhook_endpoint"] == after
    assert api.get("/webhook_endpoints")["webhook_endpoints"] == [after]
    assert stranger.code(404, "GET", path) == "webhook_endpoint_not_found"
    assert stranger.get("/webhook_endpoints")["webhook_endpoints"] == []
    api.delete(path)
    assert api.code(404, "GET", path) == "webhook_endpoint_not_found"


@pytest.mark.parametrize(
    ("body", "details"),
    [
        ({"name": "x"}, {"webhook_url": ["value_is_mandatory"]}),
        ({"webhook_url": "example.test"}, {"webhook_url": ["url_invalid"]}),
        ({"webhook_url": "https://a.test:99999/"}, {"webhook_url": ["url_invalid"]}),
        (
            {"webhook_url": "https://a.test", "signature_algo": "md5"},
            {"signature_algo": ["value_is_invalid"]},
        ),
        ({"webhook_url": "https://a.test", "event_types": ["x.y"]}, {"event_types": ["value_is_invalid"]}),
        ({"webhook_url": "https://a.test", "event_types": "*"}, {"event_types": ["value_is_invalid"]}),
        ({"webhook_url": "https://taken.test"}, {"webhook_url": ["value_already_exist"]}),
    ],
)
def test_rules_of_a_webhook_endpoint(api: Api, body, details):
    api.post("/webhook_endpoints", {"webhook_endpoint": {"webhook_url": "https://taken.test"}})
    assert api.details("POST", "/webhook_endpoints", {"webhook_endpoint": body}) == details


def test_there_are_at_most_ten_webhook_endpoints(api: Api):
    for number in range(10):
        body = {"webhook_endpoint": {"webhook_url": f"https://a.test/{number}"}}
        api.post("/webhook_endpoints", body)
    one_more = {"webhook_endpoint": {"webhook_url": "https://a.test/10"}}
    assert api.details("POST", "/webhook_endpoints", one_more) == {"base": ["exceeded_limit"]}


@pytest.mark.parametrize("host", ["localhost:80", "127.0.0.1", "[::1]:8080", "0.0.0.0", "169.254.169.254"])
def test_only_test_mode_calls_its_own_machine(api: Api, server: Server, host):
    body = {"webhook_endpoint": {"webhook_url": f"http://{host}/hook"}}
    api.post("/webhook_endpoints", body)
    live = join(server, "Live", test_mode=False)
    refused = {"webhook_url": ["loopback_only_in_test_mode"]}
    assert live.details("POST", "/webhook_endpoints", body) == refused
    assert live.details("PUT", "/organizations", {"organization": body["webhook_endpoint"]}) == refused
