"""Customers of an entity that manages the European Union's VAT get the tax that applies to them."""

from __future__ import annotations

from typing import Any

from .conftest import Api

ENTITY = "/billing_entities/default"


def manage(api: Api, country: str = "NL") -> None:
    api.put(ENTITY, {"billing_entity": {"country": country, "eu_tax_management": True}})


def save(api: Api, **fields: Any) -> dict[str, float]:
    body = {"customer": {"external_id": "cus", **fields}}
    return {tax["code"]: tax["rate"] for tax in api.post("/customers", body)["customer"]["taxes"]}


def test_an_entity_that_manages_the_taxes_has_all_of_them(api: Api) -> None:
    refused = {"billing_entity": {"eu_tax_management": True, "country": "US"}}
    assert api.details("PUT", ENTITY, refused) == {"eu_tax_management": ["billing_entity_must_be_in_eu"]}
    own = {"name": "Mine", "code": "lago_eu_be_standard", "rate": 6}
    api.post("/taxes", {"tax": own})
    manage(api)
    found = {tax["code"]: tax["rate"] for tax in api.get("/taxes?per_page=100")["taxes"]}
    assert (len(found), found["lago_eu_nl_standard"], found["lago_eu_be_standard"]) == (46, 21, 6)
    assert api.get(ENTITY)["billing_entity"]["eu_tax_management"] is True
    moved = {"billing_entity": {"country": "CH"}}
    assert api.details("PUT", ENTITY, moved) == {"eu_tax_management": ["billing_entity_must_be_in_eu"]}


def test_the_tax_follows_country_post_code_and_number(api: Api) -> None:
    manage(api)
    assert save(api) == {"lago_eu_nl_standard": 21}
    assert save(api, country="PT", zipcode="1000-001") == {"lago_eu_pt_standard": 23}
    assert save(api, zipcode="9000-011") == {"lago_eu_pt_exception_madeira": 22}
    assert save(api, zipcode="1000-001", tax_identification_number="PT501964843") == {
        "lago_eu_reverse_charge": 0
    }
    assert save(api, tax_identification_number="PT501964842") == {"lago_eu_pt_standard": 23}
    assert save(api, country="BR") == {"lago_eu_tax_exempt": 0}


def test_taxes_that_somebody_chose_stay_until_the_customer_moves(api: Api) -> None:
    api.post("/taxes", {"tax": {"name": "Mine", "code": "mine", "rate": 6}})
    assert save(api, country="BE") == {}
    manage(api)
    assert save(api, name="Bie") == {"lago_eu_be_standard": 21}
    assert save(api, tax_codes=["lago_eu_be_standard"]) == {"lago_eu_be_standard": 21}
    chosen = "select taxes_are_chosen from customer where organization_id = %(organization)s"
    assert api.row(chosen, organization=api.organization.id) == (True,), "no look-up changes it"
    assert save(api, tax_codes=["mine"]) == {"mine": 6}
    assert save(api, name="Bié") == {"mine": 6}
    assert save(api, country="LU") == {"lago_eu_lu_standard": 17}
    assert api.row(chosen, organization=api.organization.id) == (False,)
    api.delete("/taxes/lago_eu_lu_standard")
    assert save(api, country="AT") == {"lago_eu_at_standard": 20}
    assert save(api, country="LU") == {"lago_eu_lu_standard": 17}
