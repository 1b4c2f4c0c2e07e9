"""The API's description for people: whole, without signing in, loading nothing from elsewhere."""

from __future__ import annotations

import re

import pytest
from starlette.testclient import TestClient

from permille.api.openapi import document
from permille.web.api_reference import group_pages
from tests.web.conftest import Server

PAGES = group_pages("http://localhost")


@pytest.fixture
def client(server: Server) -> TestClient:
    """Somebody who is not signed in."""
    return TestClient(server.client.app)


def test_the_list_leads_to_every_operation(client: TestClient) -> None:
    page = client.get("/docs/api")
    assert page.status_code == 200
    links = set(re.findall(r'href="(/docs/api/[^"]+)"', page.text))
    assert {f"/docs/api/{group.slug}#{one.anchor}" for group in PAGES for one in group.operations} <= links
    described = document("http://localhost")["paths"].values()
    assert sum(map(len, described)) == sum(len(group.operations) for group in PAGES)
    assert 'href="/api/v1/openapi.json"' in page.text


@pytest.mark.parametrize("slug", [group.slug for group in PAGES])
def test_a_group_shows_its_operations_with_a_call_and_links_that_lead_somewhere(
    client: TestClient, slug: str
) -> None:
    response = client.get(f"/docs/api/{slug}")
    assert response.status_code == 200
    anchors = set(re.findall(r' id="([^"]+)"', response.text))
    assert set(re.findall(r'href="#([^"]+)"', response.text)) <= anchors
    assert not re.findall(r'(?:src|href)="(?!/|#)', response.text)
    (group,) = (each for each in PAGES if each.slug == slug)
    labels = re.findall(r' aria-label="([^"]+)"', response.text)
    labels += re.findall(r"<h[23][^>]*>([^<]+)", response.text)
    assert len(labels) == len(set(labels)), "each part is called something else"
    assert response.text.count("<pre>curl") == len(group.operations)
    for one in group.operations:
        assert one.anchor in anchors
        assert f"{one.method} {one.path}" in response.text


def test_fields_are_those_of_the_objects(client: TestClient) -> None:
    text = client.get("/docs/api/taxes").text
    for name in ("applied_to_billing_entities_codes", "rate", "per_page"):
        assert f"<code>{name}</code>" in text
    assert "Percentage of the amount before taxes" in text


def test_a_call_names_what_it_cannot_do_without() -> None:
    (taxes,) = (each for each in PAGES if each.slug == "taxes")
    create, listing = taxes.operations[0], taxes.operations[1]
    assert create.curl == (
        "curl -X POST 'http://localhost/api/v1/taxes' \\\n  -H 'Authorization: Bearer KEY' \\\n"
        "  -H 'Content-Type: application/json' \\\n"
        '  -d \'{"tax": {"name": "...", "code": "pro", "rate": 20}}\''
    )
    assert listing.curl == "curl 'http://localhost/api/v1/taxes' \\\n  -H 'Authorization: Bearer KEY'"


def test_there_is_no_such_group(client: TestClient) -> None:
    assert client.get("/docs/api/nothing").status_code == 404
