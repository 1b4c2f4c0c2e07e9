"""API keys: what they may do, until when, how they are replaced, and that an end holds on every server at once."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest

from permille.api import http
from permille.api.routes import API, GROUPS, all_routes
from permille.app import build
from permille.clock import system_now
from permille.config import Config
from permille.core.api_key import EVENTS_ONLY, READ_ONLY, RESOURCES, ApiKey, Permissions
from permille.database.connections import open_pool
from permille.http.guesses import GUESSES_A_MINUTE
from permille.http.requests import Requests
from permille.store import api_keys
from permille.usecases import organizations as usecase
from permille.usecases.key_use import KeyUse

from .conftest import Api, Server


def with_key(api: Api, permissions: Permissions | None, expires_at: datetime | None = None) -> Any:
    """Requests with a new key of the organization."""
    made = usecase.add_key(
        api.conn,
        api.organization.id,
        name="k",
        permissions=permissions,
        expires_at=expires_at,
        now=system_now(),
    )
    api.conn.commit()

    def call(method: str, path: str, body: Any = None) -> httpx2.Response:
        headers = {"Authorization": f"Bearer {made.secret}"}
        answer: httpx2.Response = api.client.request(method, f"/api/v1{path}", json=body, headers=headers)
        return answer

    return call


def filled(path: str) -> str:
    return re.sub(r"\{[^}]+\}", "00000000-0000-0000-0000-000000000000", path)


def test_every_group_of_operations_names_what_permissions_call_it() -> None:
    assert {group.resource for group in GROUPS} == set(RESOURCES)


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.resource)
def test_a_key_does_what_it_may_and_nothing_else(api: Api, group: Any) -> None:
    for mode, other in (("read", "write"), ("write", "read")):
        call = with_key(api, {group.resource: [mode]})
        for operation in group.operations:
            needed = "read" if operation.method == "GET" else "write"
            answer = call(operation.method, filled(operation.path), {})
            if needed == mode:
                assert answer.status_code != 401, operation
                assert "action_not_allowed" not in answer.text, operation
            else:
                assert answer.status_code == 403, operation
                assert answer.json()["code"] == f"{other}_action_not_allowed_for_{group.resource}"
    nothing = with_key(api, {"tax" if group.resource != "tax" else "plan": ["read"]})
    for operation in group.operations:
        assert nothing(operation.method, filled(operation.path), {}).status_code == 403, operation


def test_ready_made_permissions(api: Api) -> None:
    events, reader = with_key(api, EVENTS_ONLY), with_key(api, READ_ONLY)
    assert (events("GET", "/plans").status_code, reader("GET", "/plans").status_code) == (403, 200)
    assert reader("POST", "/plans", {"plan": {"code": "p"}}).status_code == 403
    assert with_key(api, None)("GET", "/plans").status_code == 200


def test_a_key_ends_by_itself(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    call = with_key(api, None, expires_at=system_now() + timedelta(hours=1))
    assert call("GET", "/plans").status_code == 200
    monkeypatch.setattr("permille.api.http.system_now", lambda: system_now() + timedelta(hours=1))
    assert call("GET", "/plans").status_code == 401


def test_a_rotated_key_goes_on_until_its_end(api: Api) -> None:
    def lives(secret: str) -> bool:
        api.conn.commit()
        return api_keys.by_secret(api.conn, secret, now=now) is not None

    now = system_now()
    old = usecase.add_key(api.conn, api.organization.id, name="k", permissions=READ_ONLY, now=now)
    new = usecase.rotate_key(api.conn, api.organization.id, old.id, ends_at=now + timedelta(hours=1), now=now)
    assert lives(old.secret)
    assert lives(new.secret)
    kept = next(each for each in api_keys.of_organization(api.conn, api.organization.id) if each.id == new.id)
    assert (kept.name, kept.permissions, kept.expires_at) == ("k", READ_ONLY, None)
    now += timedelta(hours=1)
    assert (lives(old.secret), lives(new.secret)) == (False, True)
    newest = usecase.rotate_key(api.conn, api.organization.id, new.id, ends_at=now, now=now)
    assert (lives(new.secret), lives(newest.secret)) == (False, True)


def test_when_a_key_was_used_is_written_beside_its_requests(api: Api, dsn: str) -> None:
    pool = open_pool(dsn, size=1, name="test")
    use = KeyUse(pool)
    key = usecase.add_key(api.conn, api.organization.id, name="k", now=system_now())
    api.conn.commit()
    first, second = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)
    for at in (second, first):
        use.note(key.id, at)
        use.write()
    use.write()
    pool.close()
    api.conn.rollback()
    found = {each.id: each.last_used_at for each in api_keys.of_organization(api.conn, api.organization.id)}
    assert found[key.id] == second, "a server that is late changes nothing"


def test_a_key_that_a_server_has_not_met_is_looked_up_once_for_its_request(
    api: Api, dsn: str, live_key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_up: list[str] = []
    by_secret = api_keys.by_secret

    def counted(conn: Any, secret: str, **more: Any) -> ApiKey | None:
        looked_up.append(secret)
        return by_secret(conn, secret, **more)

    def revoke() -> None:
        known = by_secret(api.conn, live_key, now=system_now())
        assert known is not None
        usecase.revoke_key(api.conn, known.organization.id, known.id, now=system_now())
        api.conn.commit()

    async def body(while_it_comes: Callable[[], None] | None) -> AsyncIterator[bytes]:
        yield b'{"customer": {'
        if while_it_comes is not None:
            await asyncio.to_thread(while_it_comes)
            await asyncio.sleep(0.3)
        yield b'"external_id": "a"}}'

    async def statuses(*meanwhile: Callable[[], None] | None) -> list[int]:
        server = build(Config(database_url=dsn))
        await server.start()
        await asyncio.sleep(0.2)  # it listens
        try:
            return [await send(server, each) for each in meanwhile]
        finally:
            await server.stop()

    async def send(server: Any, meanwhile: Callable[[], None] | None) -> int:
        transport = httpx2.ASGITransport(app=Requests(server))
        async with httpx2.AsyncClient(transport=transport, base_url="http://t") as client:
            headers = {"Authorization": f"Bearer {live_key}", "Content-Length": "40"}
            return (
                await client.post(f"{API}/customers", content=body(meanwhile), headers=headers)
            ).status_code

    monkeypatch.setattr(api_keys, "by_secret", counted)
    assert asyncio.run(statuses(None, None)) == [200, 200]
    assert looked_up == [live_key] * 2, "once for each"
    assert asyncio.run(statuses(revoke)) == [401], "it was revoked while the body came"


def test_a_revoked_key_sends_no_event_more_on_any_server(api: Api, dsn: str, live_key: str) -> None:
    """F24: servers remember keys for seconds."""
    event = {"code": "c", "external_subscription_id": "s", "transaction_id": "t"}

    async def run() -> None:
        servers = [build(Config(database_url=dsn)) for _ in range(2)]
        for server in servers:
            await server.start()
        try:
            for number, server in enumerate(servers):
                assert await send(server, f"before-{number}") == 200
            await asyncio.to_thread(revoke)
            await asyncio.sleep(0.5)
            for number, server in enumerate(servers):
                assert await send(server, f"after-{number}") == 401
        finally:
            for server in servers:
                await server.stop()

    async def send(server: Any, name: str) -> int:
        transport = httpx2.ASGITransport(app=Requests(server))
        async with httpx2.AsyncClient(transport=transport, base_url="http://t") as client:
            headers = {"Authorization": f"Bearer {live_key}"}
            body = {"event": {**event, "transaction_id": name}}
            return (await client.post(f"{API}/events", json=body, headers=headers)).status_code

    def revoke() -> None:
        known = api_keys.by_secret(api.conn, live_key, now=system_now())
        assert known is not None
        usecase.revoke_key(api.conn, known.organization.id, known.id, now=system_now())
        api.conn.commit()

    asyncio.run(run())


@pytest.fixture
def live_key(server: Server) -> str:
    """The key of an organization without a test clock."""
    made, key = usecase.create(server.conn, name="live", test_now=None, entity={}, now=system_now())
    server.conn.commit()
    assert not made.test_mode
    return key.secret


def test_the_admin_api_makes_and_rotates_keys_and_counts_guesses(dsn: str, server: Server) -> None:
    pool = open_pool(dsn, size=2, name="test")
    config = Config(database_url=dsn, admin_key="admin-secret")
    engine = http.Engine(config=config, pool=pool, key_use=KeyUse(pool))
    made, _ = usecase.create(server.conn, name="o", test_now=None, entity={}, now=system_now())
    server.conn.commit()

    async def run() -> None:
        transport = httpx2.ASGITransport(app=http.application(all_routes(engine)))
        async with httpx2.AsyncClient(transport=transport, base_url="http://t") as client:

            async def post(path: str, body: Any, authorization: str = "Bearer admin-secret") -> Any:
                address = f"/admin/v1/organizations/{made.id}/api_keys{path}"
                return await client.post(address, json=body, headers={"Authorization": authorization})

            wrongs: list[dict[str, Any]] = [
                {"permissions": {"plans": ["read"]}},
                {"permissions": {"plan": ["delete"]}},
                {"permissions": {}},
                {"permissions": ["event"]},
                {"expires_at": "2020-01-01T00:00:00Z"},
            ]
            for wrong in wrongs:
                answer = await post("", {"api_key": {"name": "k", **wrong}})
                assert answer.status_code == 422, wrong
            answer = await post("", {"api_key": {"name": "k", "permissions": {"event": ["write"]}}})
            key = answer.json()["api_key"]
            assert (answer.status_code, key["permissions"]) == (200, {"event": ["write"]})
            rotated = (await post(f"/{key['lago_id']}/rotate", {})).json()["api_key"]
            assert (rotated["permissions"], rotated["name"]) == ({"event": ["write"]}, "k")
            assert (await post(f"/{key['lago_id']}/rotate", {})).status_code == 404, "it is revoked"
            assert (await post("", {}, "Basic admin-secret")).status_code == 401
            for _ in range(GUESSES_A_MINUTE):
                last = await post("", {}, "Bearer wrong")
            assert last.status_code == 429
            assert last.headers["retry-after"]

    asyncio.run(run())
    pool.close()
