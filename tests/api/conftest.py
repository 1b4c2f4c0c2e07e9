"""The real HTTP API in front of a real database, seen by one organization in test mode."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from starlette.testclient import TestClient

from permille.api import openapi, organizations as clocks, routes
from permille.api.http import Engine, application
from permille.config import from_environment
from permille.core.organization import Organization
from permille.database.connections import open_pool
from permille.embedded.postgres import EmbeddedPostgres
from permille.http.requests import Requests
from permille.store import api_keys, audit, organizations
from permille.usecases.key_use import KeyUse
from tests.api.contract import CheckedClient, undeclared
from tests.live import PATIENCE_SECONDS
from tests.locked_customers import CUSTOMER_IS_LOCKED

START = datetime(2024, 3, 5, 10, 0, tzinfo=UTC)

# However busy the machine is, a clock has arrived when its move is answered, and requests that are sent at once are done.
clocks.MOVE_SECONDS = PATIENCE_SECONDS


@dataclass(frozen=True, kw_only=True)
class Api:
    """An organization's key on the API. Methods answer the JSON; a refusal is `refused` with what it expects."""

    client: TestClient
    key: str
    conn: psycopg.Connection[Any]
    organization: Organization

    def call(self, method: str, path: str, body: Any = None, **params: Any) -> Any:
        return self.client.request(
            method,
            f"/api/v1{path}",
            json=body,
            params=params,
            headers={"Authorization": f"Bearer {self.key}"},
        )

    def _ok(self, method: str, path: str, body: Any = None, **params: Any) -> Any:
        response = self.call(method, path, body, **params)
        assert response.status_code == 200, response.text
        if isinstance(self.client, CheckedClient):
            assert not undeclared(response)
        return response.json()

    def get(self, path: str, **params: Any) -> Any:
        return self._ok("GET", path, **params)

    def post(self, path: str, body: Any) -> Any:
        return self._ok("POST", path, body)

    def put(self, path: str, body: Any, **params: Any) -> Any:
        return self._ok("PUT", path, body, **params)

    def delete(self, path: str, **params: Any) -> Any:
        return self._ok("DELETE", path, **params)

    def details(self, method: str, path: str, body: Any, **params: Any) -> Any:
        """The error details of a request that must be refused with 422."""
        response = self.call(method, path, body, **params)
        assert response.status_code == 422, response.text
        assert response.json()["code"] == "validation_errors"
        return response.json()["error_details"]

    def code(self, status: int, method: str, path: str, body: Any = None, **params: Any) -> Any:
        """The code of a request that must be refused with this status."""
        response = self.call(method, path, body, **params)
        assert response.status_code == status, response.text
        return response.json().get("code")

    def metric(self, code: str = "tokens", **fields: Any) -> Any:
        body = {"name": code, "code": code, "aggregation_type": "sum_agg", "field_name": "tokens", **fields}
        return self.post("/billable_metrics", {"billable_metric": body})["billable_metric"]

    def plan(self, code: str = "pro", charges: list[Any] | None = None, **fields: Any) -> Any:
        return self.post("/plans", {"plan": plan_body(code, charges, **fields)})["plan"]

    def customer(self, external_id: str = "cus", **fields: Any) -> Any:
        return self.post("/customers", {"customer": {"external_id": external_id, **fields}})["customer"]

    def subscribe(self, external_id: str = "sub", plan: str = "pro", **fields: Any) -> Any:
        body = {"external_customer_id": "cus", "plan_code": plan, "external_id": external_id, **fields}
        return self.post("/subscriptions", {"subscription": body})["subscription"]

    def row(self, query: str, **values: Any) -> Any:
        """The first row of a query, seen after the requests so far; %(organization)s is this one."""
        self.conn.rollback()
        return self.conn.execute(query, {"organization": self.organization.id, **values}).fetchone()


def plan_body(code: str = "pro", charges: list[Any] | None = None, **fields: Any) -> dict[str, Any]:
    return {
        "name": code,
        "code": code,
        "interval": "monthly",
        "amount_cents": 0,
        "amount_currency": "EUR",
        "pay_in_advance": False,
        "charges": charges or [],
        **fields,
    }


def charge(metric: Any, **fields: Any) -> dict[str, Any]:
    """A standard charge of 1.00 on the metric."""
    return {
        "billable_metric_id": metric["lago_id"],
        "charge_model": "standard",
        "properties": {"amount": "1"},
        **fields,
    }


@dataclass(frozen=True, kw_only=True)
class Server:
    dsn: str
    client: TestClient
    conn: psycopg.Connection[Any]
    engine: Engine


@contextmanager
def serving(
    postgres: EmbeddedPostgres, name: str, client: type[TestClient] = CheckedClient
) -> Iterator[Server]:
    """An API on a new database of that name."""
    with psycopg.connect(postgres.superuser_dsn, autocommit=True) as conn:
        conn.execute(f"create database {name} template permille owner permille")
    dsn = postgres.dsn.replace("@/permille?", f"@/{name}?", 1)
    with psycopg.connect(dsn) as conn:
        conn.execute(CUSTOMER_IS_LOCKED)
    pool = open_pool(dsn, size=4, name="test-api")
    engine = Engine(config=replace(from_environment(), database_url=dsn), pool=pool, key_use=KeyUse(pool))
    engine.turns._shares._seconds = PATIENCE_SECONDS
    with (
        psycopg.connect(dsn) as conn,
        client(
            Requests(application([openapi.document_route(engine), *routes.all_routes(engine)]))
        ) as connected,
    ):
        yield Server(dsn=dsn, client=connected, conn=conn, engine=engine)
    pool.close()


@pytest.fixture(scope="session")
def server(postgres: EmbeddedPostgres) -> Iterator[Server]:
    """One API on one database for all of these tests: organizations never see each other."""
    with serving(postgres, "test_api") as served:
        yield served


@pytest.fixture
def dsn(server: Server) -> str:
    """The database behind the API, for tests that look into it or write to it themselves."""
    return server.dsn


def join(server: Server, name: str, *, test_mode: bool = True) -> Api:
    """A new organization."""
    test_now = START if test_mode else None
    organization = organizations.add(server.conn, name=name, test_now=test_now, entity={}, now=START)
    key = api_keys.add(server.conn, organization_id=organization.id, name="test", now=START)
    server.conn.commit()
    return Api(client=server.client, key=key.secret, conn=server.conn, organization=organization)


@pytest.fixture
def api(server: Server) -> Iterator[Api]:
    """An organization at 2024-03-05T10:00Z that has nothing yet; after the test its books must be in order."""
    joined = join(server, "Acme")
    yield joined
    server.conn.rollback()
    assert list(audit.findings(server.conn, organization_id=joined.organization.id)) == []


@pytest.fixture
def stranger(server: Server) -> Api:
    """Another organization on the same server."""
    return join(server, "Stranger")
