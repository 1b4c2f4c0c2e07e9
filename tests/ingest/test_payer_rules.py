"""Rules about who pays, over HTTP: by every road, before and after a request of an end user, and for what waits."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tests.ingest.conftest import Client, Talk
from tests.ingest.test_llm_usage import chat


async def rule(client: Client, field: str, value: str, status: int = 200, **more: Any) -> Any:
    given = {"field": field, "value": value, **more}
    answer = await client.post("/llm/payer_rules", {"payer_rule": given}, status)
    return answer.get("payer_rule", answer)


async def payload(client: Client, number: int, **more: Any) -> str:
    """What became of a payload of LiteLLM: the subscription that pays, or the problem."""
    body = {
        "id": f"chatcmpl-L{number}",
        "custom_llm_provider": "openai",
        "model": "gpt-5.4-mini",
        "prompt_tokens": 10,
        "completion_tokens": 1,
        "total_tokens": 11,
        **more,
    }
    (usage,) = (await client.post("/llm/litellm", [body]))["usages"]
    return str(
        usage["problem"]["code"] if usage["problem"] else usage["events"][0]["external_subscription_id"]
    )


def test_what_waits_is_counted_by_a_new_rule(talk: Callable[[Talk], None]) -> None:
    async def conversation(client: Client) -> None:
        unpaid = {"external_subscription_id": None, "properties": {"team": "t1"}}
        wrong = chat(9, **unpaid)
        wrong["response"]["usage"]["total_tokens"] = 7
        sent = await client.send(
            chat(1, **unpaid),
            chat(2, external_subscription_id="nobody", payer_names={"key": ["k", "t1"]}),
            chat(3, external_subscription_id=None, external_customer_id="no", payer_names={"team": "t1"}),
            chat(4, external_subscription_id=None),
            wrong,
        )
        assert {each["status"] for each in sent} == {"held"}
        attributes = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "user.id": "u-9"}
        counts = {"gen_ai.usage.input_tokens": 5, "gen_ai.usage.output_tokens": 7}
        named = {"gen_ai.response.model": "gpt-5.4-mini", "gen_ai.response.id": "chatcmpl-span"}
        span = {
            "traceId": "0" * 31 + "1",
            "spanId": "0" * 15 + "1",
            "name": "chat",
            "attributes": [
                {"key": key, "value": {"intValue" if isinstance(value, int) else "stringValue": value}}
                for key, value in {**attributes, **counts, **named}.items()
            ],
        }
        trace = {"resourceSpans": [{"scopeSpans": [{"scope": {"name": "x"}, "spans": [span]}]}]}
        posted = await client.http.post(
            "/v1/traces", content=json.dumps(trace).encode(), headers={"content-type": "application/json"}
        )
        assert posted.status_code == 200, posted.text

        made = await rule(client, "team", "t1", external_customer_id="cus")
        assert (made["counted_usages"], made["overrides_request"]) == (2, True)
        assert await client.counted() == {"input": 2 * 2006, "output": 2 * 300}
        assert (await rule(client, "user", "u-9", external_subscription_id="sub"))["counted_usages"] == 1
        assert await client.counted() == {"input": 2 * 2006 + 5, "output": 2 * 300 + 7}
        (later,) = await client.send(chat(5, **unpaid))
        assert later["status"] == "counted"
        (again,) = await client.send(chat(1, **unpaid))
        assert again["status"] == "repeated"
        held = await client.get("/llm/held_usages?status=counted")
        assert {each["counted_for"] for each in held["held_usages"]} == {"sub"}
        assert held["meta"]["total_count"] == 3

    talk(conversation)


def test_a_second_road_adds_its_names_to_what_waits_and_takes_no_detail_from_it(
    talk: Callable[[Talk], None],
) -> None:
    async def conversation(client: Client) -> None:
        await client.post("/llm/intakes", {"intake": {"format": "openmeter"}})
        nobody = {"external_subscription_id": None}
        first = chat(1, **nobody)
        totals = dict(first["response"]["usage"])
        first["response"]["usage"]["prompt_tokens_details"] = {"cached_tokens": 1920}
        await client.send(first)
        await client.send(chat(1, **nobody, payer_names={"team": "t1"}))
        name = first["response"]["id"]
        event = {
            "specversion": "1.0",
            "type": "litellm_tokens",
            "id": name,
            "source": "litellm-proxy",
            "subject": "no",
            "time": "2026-10-01T00:00:00Z",
        }
        posted = await client.http.post(
            "/api/v1/events",
            content=json.dumps({**event, "data": {"model": "gpt-5.4-mini", **totals}}).encode(),
            headers={"content-type": "application/cloudevents+json"},
        )
        assert posted.status_code == 200, posted.text
        (held,) = (await client.get("/llm/held_usages"))["held_usages"]
        details = held["sent"]["response"]["usage"]["prompt_tokens_details"]
        assert (held["payer_names"], details) == (
            {"team": ["t1"], "end_user": ["no"]},
            {"cached_tokens": 1920},
        )
        await client.send(
            {
                **chat(1, **nobody),
                "response": {"id": name, "model": "gpt-5.4-mini", "object": "chat.completion"},
            }
        )
        (held,) = (await client.get("/llm/held_usages"))["held_usages"]
        assert held["problem"]["code"] == "subscription_not_found", "the counts of the first are there"
        assert (await rule(client, "team", "t1", external_customer_id="cus"))["counted_usages"] == 1

    talk(conversation)


def test_what_waits_takes_the_counts_of_a_road_that_says_more_and_contradicts_nothing(
    talk: Callable[[Talk], None],
) -> None:
    async def conversation(client: Client) -> None:
        async def counts(*details: dict[str, int], **more: Any) -> list[Any]:
            """What waits of each call, after it came by another road that says this."""
            calls = [chat(number, external_subscription_id=None) for number in range(len(details))]
            for call, detail in zip(calls, details, strict=True):
                usage = call["response"]["usage"]
                usage["prompt_tokens_details"] = {"cached_tokens": detail["cached_tokens"]}
                usage |= {name: number for name, number in detail.items() if name in usage}
            said = await client.send(*calls, **more)
            assert {each["status"] for each in said} == {"held"}
            held = (await client.get("/llm/held_usages"))["held_usages"]
            return [each["sent"]["response"]["usage"] for each in sorted(held, key=lambda one: one["id"])]

        plain = {"cached_tokens": 0}
        other = {"cached_tokens": 9, "completion_tokens": 301, "total_tokens": 2307}
        await counts(plain, plain)
        finer, contradicted = await counts({"cached_tokens": 1920}, other)
        assert finer["prompt_tokens_details"] == {"cached_tokens": 1920}
        assert contradicted["completion_tokens"] == 300
        assert (await counts(plain, plain))[0] == finer, "less changes nothing"

    talk(conversation)


def test_a_request_chooses_who_pays_only_where_no_rule_does(talk: Callable[[Talk], None]) -> None:
    async def conversation(client: Client) -> None:
        await client.post("/customers", {"customer": {"external_id": "other"}})
        other = {"external_customer_id": "other", "plan_code": "p", "external_id": "sub_other"}
        await client.post("/subscriptions", {"subscription": other})
        of_team = {"metadata": {"user_api_key_team_id": "t1"}}
        by_metadata = {
            "metadata": {**of_team["metadata"], "requester_metadata": {"subscription": "sub_other"}}
        }
        assert await payload(client, 1, end_user="other", **of_team) == "sub_other"
        assert await payload(client, 2, end_user="stranger", **of_team) == "customer_not_found"
        made = await rule(client, "team", "t1", external_customer_id="cus")
        assert made["counted_usages"] == 1
        assert await payload(client, 3, end_user="other", **of_team) == "sub"
        assert await payload(client, 4, **by_metadata) == "sub"
        changed = await client.http.put(
            f"/api/v1/llm/payer_rules/{made['lago_id']}",
            content=json.dumps({"payer_rule": {"overrides_request": False}}).encode(),
        )
        assert changed.json()["payer_rule"]["overrides_request"] is False
        assert await payload(client, 5, end_user="other", **of_team) == "sub_other"
        assert await payload(client, 6, end_user="stranger", **of_team) == "sub"
        assert await payload(client, 7, **by_metadata) == "sub_other"
        (said,) = await client.send(chat(8, external_subscription_id="sub_other", payer_names={"team": "t1"}))
        assert said["events"][0]["external_subscription_id"] == "sub_other"
        assert (await client.http.delete(f"/api/v1/llm/payer_rules/{made['lago_id']}")).status_code == 200
        assert await payload(client, 9, end_user="stranger", **of_team) == "customer_not_found"

    talk(conversation)


def test_wrong_rules_and_names_are_refused_by_field(talk: Callable[[Talk], None]) -> None:
    async def conversation(client: Client) -> None:
        assert (await rule(client, "team", "t", 404, external_customer_id="no"))[
            "code"
        ] == "customer_not_found"
        assert (await rule(client, "team", "t", 404, external_subscription_id="no"))["status"] == 404
        for field, value, more, wrong in (
            ("colour", "t", {"external_customer_id": "cus"}, "field"),
            ("team", "", {"external_customer_id": "cus"}, "value"),
            ("team", "t", {}, "external_customer_id"),
            (
                "team",
                "t",
                {"external_customer_id": "cus", "external_subscription_id": "sub"},
                "external_subscription_id",
            ),
            ("tag", "t", {"external_customer_id": "cus", "overrides_request": True}, "overrides_request"),
            ("tag", "t", {"external_customer_id": "cus", "position": 0}, "position"),
        ):
            answer = await rule(client, field, value, 422, **more)
            assert list(answer["error_details"]) == [wrong]
        await rule(client, "team", "t", external_customer_id="cus")
        assert (await rule(client, "team", "t", 422, external_customer_id="cus"))["error_details"] == {
            "value": ["value_already_exist"]
        }
        refused: list[dict[str, Any]] = [
            {"payer_names": {"colour": "x"}},
            {"payer_names": {"team": [1]}},
            {"payer_requested": "no"},
        ]
        for sent in refused:
            answer = await client.post("/llm/usage", {"usage": chat(1, **sent)}, 422)
            assert list(answer["error_details"]["0"]) == list(sent)

    talk(conversation)
