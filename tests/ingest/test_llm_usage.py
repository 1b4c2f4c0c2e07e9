"""POST /api/v1/llm/usage down to the database: counted once, kept aside with the reason, attributed later."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from typing import Any
from uuid import UUID

import psycopg

from permille.store import recent_usages
from tests.core.llm.samples import usages

from .conftest import SECRET, Client, Talk


def chat(number: int = 1, **more: Any) -> dict[str, Any]:
    """A chat of 2,006 in, 1,920 of them cached, and 300 out."""
    case = next(each for each in usages() if each["name"] == "chat completion, cached and reasoning")
    answer = deepcopy(case["given"])
    answer["id"] = f"chatcmpl-{number}"
    answer["choices"][0]["message"]["content"] = SECRET
    return {"provider": "openai", "response": answer, "external_subscription_id": "sub", **more}


def test_an_answer_is_counted_once_by_whatever_road(talk: Callable[[Talk], None]) -> None:
    async def conversation(client: Client) -> None:
        first, second = await client.send(chat(), chat(2, properties={"team": "t1"}))
        assert [first["id"], first["status"]] == ["openai:chatcmpl-1", "counted"]
        assert [each["transaction_id"] for each in first["events"]] == [
            "openai:chatcmpl-1",
            "openai:chatcmpl-1:output",
        ]
        assert second["events"][0]["properties"] == {
            "team": "t1",
            "provider": "openai",
            "model": "gpt-5.4-mini",
            "model_raw": "gpt-5.4-mini-2026-03-17",
            "snapshot": "2026-03-17",
            "api": "openai_chat",
            "tier": "standard",
            "context": "0",
            "type": "input",
            "modality": "text",
            "quantity": "2006",
        }
        again = await client.send(chat(), chat(3), chat(3), chat(2, external_customer_id="cus"))
        assert [each["status"] for each in again] == ["repeated", "counted", "repeated", "repeated"]
        assert await client.counted() == {"input": 6018, "output": 900}
        usage = await client.get("/customers/cus/current_usage?external_subscription_id=sub")
        assert usage["customer_usage"]["charges_usage"][0]["units"] == "6918.0"

    talk(conversation)


def test_a_call_is_the_same_after_the_metric_has_changed(talk: Callable[[Talk], None]) -> None:
    async def conversation(client: Client) -> None:
        await client.send(chat())
        body = {"filters": [{"key": "type", "values": ["input", "cached_input", "output", "reasoning"]}]}
        answer = await client.http.put(
            "/api/v1/billable_metrics/llm_tokens", content=json.dumps({"billable_metric": body}).encode()
        )
        assert answer.status_code == 200, answer.text
        (again,) = await client.send(chat())
        assert again["status"] == "repeated"
        (fresh,) = await client.send(chat(2))
        assert sum(int(each["properties"]["quantity"]) for each in fresh["events"]) == 2306
        assert len(fresh["events"]) == 4

    talk(conversation)


def test_what_cannot_be_counted_is_kept_and_attributed(talk: Callable[[Talk], None]) -> None:
    async def conversation(client: Client) -> None:
        wrong = chat(4)
        wrong["response"]["usage"]["total_tokens"] = 7
        nameless = {
            "provider": "ollama",
            "response": {"model": "llama3.1:8b", "done": True, "prompt_eval_count": 5, "eval_count": 7},
            "external_subscription_id": "sub",
        }
        sent = [
            chat(1, external_subscription_id="nobody"),
            chat(2, external_subscription_id=None),
            chat(3, external_subscription_id=None, external_customer_id="cus"),
            wrong,
            nameless,
        ]
        found = await client.send(*sent)
        assert [each["status"] for each in found] == ["held", "held", "counted", "held", "held"]
        codes = [each["problem"] and each["problem"]["code"] for each in found]
        assert codes == [
            "subscription_not_found",
            "subscription_missing",
            None,
            "total_mismatch",
            "id_missing",
        ]
        listed = (await client.get("/llm/held_usages"))["held_usages"]
        assert {each["lago_id"] for each in listed} == {each["held_usage_id"] for each in found} - {None}
        assert SECRET not in json.dumps(listed)

        again = await client.send(sent[0])
        assert again[0]["held_usage_id"] == found[0]["held_usage_id"]
        path = f"/llm/held_usages/{found[0]['held_usage_id']}"
        counted = await client.post(f"{path}/attribute", {"held_usage": {"external_subscription_id": "sub"}})
        assert counted["held_usage"]["counted_for"] == "sub"
        nameless_path = f"/llm/held_usages/{found[4]['held_usage_id']}/attribute"
        await client.post(nameless_path, {})
        assert await client.counted() == {"input": 2006 * 2 + 5, "output": 300 * 2 + 7}
        refused = await client.post(f"{path}/attribute", {}, status=422)
        assert refused["error_details"] == {"held_usage": ["usage_is_counted"]}
        mismatch = f"/llm/held_usages/{found[3]['held_usage_id']}/attribute"
        assert (await client.post(mismatch, {}, status=422))["error_details"] == {
            "held_usage": ["total_mismatch"]
        }
        # A call that comes again with its subscription is counted, and no longer waits.
        (late,) = await client.send(chat(2))
        assert late["status"] == "counted"
        waiting = (await client.get("/llm/held_usages"))["held_usages"]
        assert [each["lago_id"] for each in waiting] == [found[3]["held_usage_id"]]
        assert (await client.send(chat(1)))[0]["status"] == "repeated"

    talk(conversation)


def test_an_organizations_own_names_of_models_go_first(talk: Callable[[Talk], None]) -> None:
    async def conversation(client: Client) -> None:
        def sent(number: int) -> dict[str, Any]:
            call = chat(number, provider="azure.ai.openai")
            call["response"]["model"] = "prod-chat-eu"
            return call

        def said(found: Any) -> tuple[Any, ...]:
            properties = found["events"][0]["properties"]
            warned = [each["code"] for each in found["warnings"]]
            return properties["provider"], properties["model"], properties["model_raw"], warned

        (before,) = await client.send(sent(1))
        assert said(before) == ("azure", "prod-chat-eu", "prod-chat-eu", ["model_unknown"])
        alias = {"name": "azure.ai.openai/prod-chat-eu", "model": "openai/gpt-5.4-mini-2026-03-17"}
        made = (await client.post("/llm/model_aliases", {"model_alias": alias}))["model_alias"]
        assert made["name"] == "azure/prod-chat-eu"
        again, after = await client.send(sent(1), sent(2))
        assert again["status"] == "repeated"
        assert after["id"] == "azure:chatcmpl-2"
        assert said(after) == ("openai", "gpt-5.4-mini", "prod-chat-eu", [])

        litellm: dict[str, Any] = {
            "id": "l1",
            "model": "azure/prod-chat-eu",
            "custom_llm_provider": "azure",
            "end_user": "cus",
        }
        litellm |= {"status": "success", "prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}
        (by_gateway,) = (await client.post("/llm/litellm", [litellm]))["usages"]
        assert said(by_gateway)[:2] == ("openai", "gpt-5.4-mini")

        path = "/llm/model_aliases"
        assert (await client.get(f"{path}/azure%2Fprod-chat-eu"))["model_alias"] == made
        for wrong, problem in (
            (alias, {"name": ["value_already_exist"]}),
            ({"name": "prod", "model": "/x"}, {"name": ["provider_is_missing"]}),
            ({"name": "a/b"}, {"model": ["value_is_mandatory"]}),
        ):
            refused = await client.post(path, {"model_alias": wrong}, status=422)
            assert refused["error_details"] == problem
        change = json.dumps({"model_alias": {"model": "openai/gpt-5.4"}}).encode()
        answer = await client.http.put(f"/api/v1{path}/azure%2Fprod-chat-eu", content=change)
        assert answer.json()["model_alias"]["model"] == "openai/gpt-5.4"
        assert said((await client.send(sent(3)))[0])[1] == "gpt-5.4"
        await client.http.delete(f"/api/v1{path}/azure%2Fprod-chat-eu")
        assert (await client.get(path))["model_aliases"] == []
        assert said((await client.send(sent(4)))[0])[1] == "prod-chat-eu"

    talk(conversation)


def test_what_waits_for_one_reason_is_attributed_at_once(talk: Callable[[Talk], None]) -> None:
    async def conversation(client: Client) -> None:
        def held(number: int, **more: Any) -> dict[str, Any]:
            return chat(number, external_subscription_id=None, **more)

        keyed = {"properties": {"key": "k1"}}
        await client.send(held(1, **keyed), held(2, **keyed), held(3), held(4, external_customer_id="ghost"))
        found = (await client.get("/llm/held_usage_groups"))["held_usage_groups"]
        assert [(each["code"], each["key"], each["calls_count"]) for each in found] == [
            ("subscription_missing", "k1", 2),
            ("customer_not_found", None, 1),
            ("subscription_missing", None, 1),
        ]
        path = "/llm/held_usage_groups/attribute"
        group = {"code": "subscription_missing", "key": "k1", "payer": {"external_customer_id": "nobody"}}
        refused = await client.post(path, {"held_usage_group": group}, status=422)
        assert refused["error_details"] == {"held_usage": ["customer_not_found"]}
        group["payer"] = {"external_customer_id": "cus"}
        counted = await client.post(path, {"held_usage_group": group})
        assert counted["held_usage_group"] == {"counted_count": 2, "waiting_count": 0}
        await client.post(path, {"held_usage_group": group}, status=404)
        assert await client.counted() == {"input": 2006 * 2, "output": 300 * 2}
        assert (await client.get("/llm/held_usage_groups"))["meta"]["total_count"] == 2

    talk(conversation)


def test_calls_of_an_unknown_model_are_counted_under_it_once_it_has_an_alias(
    talk: Callable[[Talk], None], db: psycopg.Connection[Any]
) -> None:
    def sent(number: int, name: str = "prod") -> dict[str, Any]:
        call = chat(number, provider="azure")
        call["response"]["model"] = name
        return call

    async def conversation(client: Client) -> None:
        async def used() -> dict[str, int]:
            found = await client.get("/customers/cus/current_usage?external_subscription_id=sub")
            filters = found["customer_usage"]["charges_usage"][0]["filters"]
            values = {(each["values"] or {"model": ["other"]})["model"][0]: each["units"] for each in filters}
            return {name: int(float(units)) for name, units in values.items()}

        metric = (await client.get("/billable_metrics/llm_tokens"))["billable_metric"]
        charge = {
            "billable_metric_id": metric["lago_id"],
            "charge_model": "standard",
            "properties": {"amount": "0"},
            "filters": [{"values": {"model": ["gpt-5.4-mini"]}, "properties": {"amount": "0.02"}}],
        }
        plan = {"plan": {"charges": [charge]}}
        answer = await client.http.put("/api/v1/plans/p", content=json.dumps(plan).encode())
        assert answer.status_code == 200, answer.text
        await client.send(sent(1), sent(2, "other"))
        clock = {"test_clock": {"now": "2026-11-05T00:00:00Z"}}
        answer = await client.http.put("/api/v1/test_clock", content=json.dumps(clock).encode())
        assert answer.status_code == 200, answer.text
        await client.send(sent(3), sent(4, "azure/prod"), sent(3), sent(5), chat(6))
        amendment = {"transaction_id": "by-hand", "event_transaction_id": "azure:chatcmpl-5", "kind": "void"}
        await client.post("/events/amendments", {"amendment": {**amendment, "reason": "free"}})
        listed = (await client.get("/llm/unknown_models"))["unknown_models"]
        assert [(each["name"], each["model"], each["calls_count"]) for each in listed] == [
            ("azure/prod", None, 4),
            ("azure/other", None, 1),
        ]
        assert (await used())["gpt-5.4-mini"] == 2306
        path = "/llm/unknown_models/azure%2Fprod/count"
        refused = await client.post(path, {}, status=422)
        assert refused["error_details"] == {"name": ["alias_is_missing"]}
        alias = {"name": "azure/azure/prod", "model": "openai/gpt-5.4-nano"}
        await client.post("/llm/model_aliases", {"model_alias": alias})
        (first,) = [(await client.post(path, {}))["unknown_model"]]
        counts = ("calls_count", "moved_count", "billed_count", "amended_count")
        assert [first[name] for name in counts] == [0, 2, 1, 1]
        assert (await used())["gpt-5.4-mini"] == 2306
        await client.post(path, {}, status=404)

        # The alias was wrong: what it has moved moves again.
        alias["model"] = "openai/gpt-5.4-mini-2026-03-17"
        change = json.dumps({"model_alias": alias}).encode()
        await client.http.put("/api/v1/llm/model_aliases/azure%2Fprod", content=change)
        again = (await client.post(path, {}))["unknown_model"]
        assert [again[name] for name in counts] == [0, 2, 0, 0]
        assert (await used())["gpt-5.4-mini"] == 3 * 2306
        moved = (await client.get("/events/azure:chatcmpl-3"))["event"]["amendments"][-1]
        assert moved["reason"] == "azure/prod is openai/gpt-5.4-mini-2026-03-17"
        said = moved["replacement"]["properties"]
        names = ("provider", "model", "snapshot", "model_raw", "quantity")
        assert [said[name] for name in names] == ["openai", "gpt-5.4-mini", "2026-03-17", "prod", "2006"]
        assert [each["name"] for each in (await client.get("/llm/unknown_models"))["unknown_models"]] == [
            "azure/other"
        ]

    talk(conversation)


def test_what_came_lately_is_shown_without_content(
    talk: Callable[[Talk], None], db: psycopg.Connection[Any]
) -> None:
    owner = db.execute("select id from organization").fetchone()

    async def conversation(client: Client) -> None:
        client.http.headers["user-agent"] = "our-backend/1"
        await client.send(chat(1), chat(1), chat(2, external_subscription_id="nobody"))
        await client.send(chat(3), dry_run=True)
        await client.post("/llm/usage", {"usages": [{"provider": SECRET}]}, status=422)
        for number in range(3):
            await client.send(*(chat(100 * number + each) for each in range(10, 110)))

    talk(conversation)  # it writes what waits at its end
    found, total = recent_usages.listing(db, owner[0] if owner else UUID(int=0), limit=1_000, offset=0)
    assert total == len(found) == recent_usages.KEPT
    assert {(each.status, each.client, each.road) for each in found} == {
        ("counted", "our-backend/1", "/api/v1/llm/usage")
    }
    assert found[0].identity == "openai:chatcmpl-309"
    assert found[0].model == "gpt-5.4-mini-2026-03-17"
    assert [each["quantity"] for each in found[0].events] == ["2006", "300"]
    assert SECRET not in str(found)


def test_a_container_is_one_session_over_several_answers(talk: Callable[[Talk], None]) -> None:
    async def conversation(client: Client) -> None:
        case = next(each for each in usages() if each["name"].startswith("responses: cache writes"))
        calls = [
            {
                "provider": "openai",
                "response": {**case["given"], "id": f"resp_{n}"},
                "external_subscription_id": "sub",
            }
            for n in range(3)
        ]
        found = await client.send(*calls)
        assert [each["status"] for each in found] == ["counted"] * 3
        counted = await client.counted()
        assert counted["code_interpreter_session"] == 1
        assert counted["web_search"] == 6
        assert counted["input"] == 15_000

    talk(conversation)


def test_a_call_that_cannot_be_stored_leaves_the_others_of_its_request(talk: Callable[[Talk], None]) -> None:
    async def conversation(client: Client) -> None:
        await client.send(chat(4))
        filters = [{"key": "type", "values": ["input", "output"]}, {"key": "team", "values": ["t"]}]
        body = {"billable_metric": {"filters": filters}}
        await client.http.put("/api/v1/billable_metrics/llm_tokens", content=json.dumps(body).encode())
        long = chat(2, properties={"team": "t" * 300})
        sent = await client.send(chat(1), long, chat(3), chat(4))
        assert [each["status"] for each in sent] == ["counted", "held", "counted", "repeated"]
        assert sent[1]["problem"]["code"] == "cannot_be_stored"
        assert await client.counted() == {"input": 3 * 2006, "output": 3 * 300}

    talk(conversation)


def test_a_dry_run_stores_nothing(talk: Callable[[Talk], None]) -> None:
    async def conversation(client: Client) -> None:
        body = {"usage": chat(), "dry_run": True}
        answer = await client.post("/llm/usage", body)
        assert answer["dry_run"] is True
        assert answer["usages"][0]["status"] == "counted"
        held = await client.send(chat(external_subscription_id=None), dry_run=True)
        assert held[0]["status"] == "held"
        assert await client.counted() == {}
        assert (await client.get("/llm/held_usages"))["held_usages"] == []

    talk(conversation)


def test_a_malformed_request_is_refused_by_index(talk: Callable[[Talk], None]) -> None:
    async def conversation(client: Client) -> None:
        both = chat(usage={"prompt_tokens": 1})
        body = {"usages": [chat(), both, 7, chat(timestamp="soon"), {"response": {}, "provider": 1}]}
        refused = await client.post("/llm/usage", body, status=422)
        assert refused["error_details"] == {
            "1": {"response": ["incompatible_params"]},
            "2": {"usage": ["invalid_format"]},
            "3": {"timestamp": ["invalid_format"]},
            "4": {"provider": ["value_is_invalid"]},
        }
        assert (await client.post("/llm/usage", {"usages": []}, status=422))["error_details"] == {
            "usages": ["no_usages"]
        }
        assert await client.counted() == {}

    talk(conversation)


def test_no_prompt_and_no_answer_is_stored(talk: Callable[[Talk], None], db: psycopg.Connection[Any]) -> None:
    async def conversation(client: Client) -> None:
        await client.send(chat(), chat(2, external_subscription_id=None))

    talk(conversation)
    for table in ("event", "held_usage", "series"):
        rows = db.execute(f"select count(*) from {table} t where t::text like %s", [f"%{SECRET}%"]).fetchone()
        assert rows == (0,)
