"""Customers over the API: semantics-billing.md sections 1 and 11.4."""

import pytest

from tests.api.conftest import Api

OUR_FIELDS = {"exclude_from_dunning_campaign", "lago_dunning_campaign_id"}
LAGO_FIELDS = {
    "lago_id", "billing_entity_code", "external_id", "account_type", "name", "firstname", "lastname",
    "customer_type", "sequential_id", "slug", "created_at", "updated_at", "country", "address_line1",
    "address_line2", "state", "zipcode", "email", "city", "url", "phone", "logo_url", "legal_name",
    "legal_number", "currency", "tax_identification_number", "timezone", "applicable_timezone",
    "net_payment_term", "external_salesforce_id", "finalize_zero_amount_invoice", "billing_configuration",
    "shipping_address", "skip_invoice_custom_sections", "metadata", "taxes", "integration_customers",
    "applicable_invoice_custom_sections",
}  # fmt: skip


def test_a_customer_has_all_of_lagos_fields(api: Api):
    made = api.customer(
        name="Acme",
        country="fr",
        currency="EUR",
        timezone="Europe/Paris",
        net_payment_term=0,
        customer_type="company",
        shipping_address={"city": "Paris", "country": "FR"},
        billing_configuration={"invoice_grace_period": 0, "document_locale": "fr"},
    )
    assert set(made) == LAGO_FIELDS | OUR_FIELDS
    assert made == api.get("/customers/cus")["customer"]
    assert (made["country"], made["net_payment_term"], made["sequential_id"]) == ("FR", 0, 1)
    assert made["slug"].endswith("-001")
    assert made["applicable_timezone"] == "Europe/Paris"
    assert made["shipping_address"]["city"] == "Paris"
    assert made["billing_configuration"] == {
        "invoice_grace_period": 0,
        "payment_provider": None,
        "payment_provider_code": None,
        "document_locale": "fr",
        "subscription_invoice_issuing_date_anchor": None,
        "subscription_invoice_issuing_date_adjustment": None,
    }


def test_the_same_external_id_again_changes_only_what_is_sent(api: Api):
    first = api.customer(name="Acme", city="Paris", billing_configuration={"document_locale": "fr"})
    second = api.customer(name="New", billing_configuration={"invoice_grace_period": 0})
    assert (second["lago_id"], second["name"], second["city"]) == (first["lago_id"], "New", "Paris")
    assert second["billing_configuration"]["document_locale"] == "fr"
    assert api.customer(city=None)["city"] is None
    assert api.get("/customers")["meta"]["total_count"] == 1


def test_a_grace_period_is_the_customers_own_or_inherited(api: Api):
    for body in ({"invoice_grace_period": 2}, {"billing_configuration": {"invoice_grace_period": 2}}):
        assert api.customer(**body)["billing_configuration"]["invoice_grace_period"] == 2
    details = api.details(
        "POST", "/customers", {"customer": {"external_id": "x", "invoice_grace_period": -1}}
    )
    assert details == {"invoice_grace_period": ["value_is_out_of_range"]}


def test_every_bad_field_is_reported_at_once(api: Api):
    wanted = {
        "external_id": " ",
        "country": "France",
        "currency": "XXX",
        "timezone": "Mars/Base",
        "net_payment_term": -1,
        "customer_type": "alien",
        "finalize_zero_amount_invoice": "maybe",
        "name": ["a"],
        "metadata": [{"key": "k", "value": "v"}] * 6,
    }
    assert api.details("POST", "/customers", {"customer": wanted}) == {
        "external_id": ["value_is_mandatory"],
        "country": ["value_is_invalid"],
        "currency": ["value_is_invalid"],
        "timezone": ["value_is_invalid"],
        "net_payment_term": ["value_is_out_of_range"],
        "customer_type": ["value_is_invalid"],
        "finalize_zero_amount_invoice": ["invalid_value"],
        "name": ["value_is_invalid"],
        "metadata": ["invalid_count"],
    }


def test_metadata_is_replaced_and_entries_keep_their_ids(api: Api):
    entry = {"key": "a", "value": "1", "display_in_invoice": True}
    (first,) = api.customer(metadata=[entry])["metadata"]
    assert first["display_in_invoice"] is True
    kept, new = api.customer(
        metadata=[{"id": first["lago_id"], "key": "a", "value": "2"}, {"key": "b", "value": "3"}]
    )["metadata"]
    assert (kept["lago_id"], kept["value"], new["key"]) == (first["lago_id"], "2", "b")
    assert api.customer(name="x")["metadata"] == [kept, new]
    assert api.customer(metadata=[])["metadata"] == []


def test_an_unknown_billing_entity_is_not_found(api: Api):
    wanted = {"customer": {"external_id": "a", "billing_entity_code": "nowhere"}}
    assert api.code(404, "POST", "/customers", wanted) == "billing_entity_not_found"


def test_numbers_go_on_and_an_external_id_is_free_after_deletion(api: Api):
    api.customer("a")
    gone = api.customer("b")
    assert api.delete("/customers/b")["customer"]["lago_id"] == gone["lago_id"]
    assert api.code(404, "GET", "/customers/b") == "customer_not_found"
    back = api.customer("b")
    assert (back["sequential_id"], back["lago_id"] == gone["lago_id"]) == (3, False)


def test_a_deleted_customers_subscriptions_end(api: Api):
    api.plan()
    api.customer()
    api.subscribe("a")
    api.subscribe("b", subscription_at="2024-04-01T00:00:00Z")
    api.delete("/customers/cus")
    rows = api.get("/subscriptions", **{"status[]": ["terminated", "canceled"]})["subscriptions"]
    assert {row["external_id"]: row["status"] for row in rows} == {"a": "terminated", "b": "canceled"}


def test_a_deleted_customers_drafts_are_final_whatever_they_bill(api: Api):
    api.plan(amount_cents=700)
    api.customer(billing_configuration={"invoice_grace_period": 40})
    api.subscribe("ended", billing_time="calendar")
    api.subscribe("runs", billing_time="calendar")
    api.delete("/subscriptions/ended")
    api.put("/test_clock", {"test_clock": {"now": "2024-04-02T00:00:00Z"}})
    assert {each["status"] for each in api.get("/invoices")["invoices"]} == {"draft"}
    api.delete("/customers/cus")
    assert {each["status"] for each in api.get("/invoices")["invoices"]} == {"finalized"}


@pytest.mark.parametrize(
    ("params", "found"),
    [
        ({}, ["c", "b", "a"]),
        ({"currencies[]": ["USD"]}, ["b"]),
        ({"countries[]": ["FR", "DE"]}, ["c", "a"]),
        ({"search_term": "acme"}, ["a"]),
        ({"customer_type": "company"}, ["c"]),
        ({"has_customer_type": "false"}, ["b", "a"]),
        ({"metadata[level]": "gold"}, ["b"]),
        ({"metadata[level]": ""}, ["c", "a"]),
        ({"account_type[]": ["partner"]}, []),
        ({"billing_entity_codes[]": ["default"]}, ["c", "b", "a"]),
        ({"billing_entity_codes[]": ["other"]}, []),
    ],
)
def test_the_list_is_narrowed(api: Api, params, found):
    api.customer("a", name="ACME", country="FR")
    api.customer("b", currency="USD", metadata=[{"key": "level", "value": "gold"}])
    api.customer("c", country="DE", customer_type="company")
    rows = api.get("/customers", **params)["customers"]
    assert sorted(row["external_id"] for row in rows) == sorted(found)


def test_customers_are_the_organizations_own(api: Api, stranger: Api):
    api.customer(name="Ours")
    assert stranger.code(404, "GET", "/customers/cus") == "customer_not_found"
    assert stranger.customer(name="Theirs")["sequential_id"] == 1
    assert api.get("/customers/cus")["customer"]["name"] == "Ours"


@pytest.mark.parametrize("country", ["ZZ", "XX", "EU", "QQ", "1A", "USA"])
def test_a_country_is_one_that_there_is(api: Api, country: str) -> None:
    body = {"customer": {"external_id": "cus", "country": country}}
    assert api.details("POST", "/customers", body) == {"country": ["value_is_invalid"]}


def test_a_country_may_be_in_small_letters(api: Api) -> None:
    assert api.customer(country="de")["country"] == "DE"
