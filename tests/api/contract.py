"""Whether an answer is what the OpenAPI document says."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache, lru_cache
from typing import Any

import httpx2
import jsonschema_rs
from starlette.testclient import TestClient

from permille.api.openapi import document

JSON = "application/json"
ERROR = {"$ref": "#/components/schemas/Error"}
SENT_EMPTY = {"fixed_charges", "entitlements"}
"""What isn't built yet may be sent as long as it says nothing."""
BEFORE = {"413", "415"}
"""Statuses that every operation has, also one without a body: what is sent all the same is refused.

A method that an address does not take is refused before too: the application of these tests has no intake.
"""


def whole_document() -> Mapping[str, Any]:
    """The document at one address, so that a process makes one."""
    return document("http://testserver")


@cache
def patterns() -> list[tuple[re.Pattern[str], Mapping[str, Any]]]:
    """Paths in the order in which they are tried, and their operations by method."""
    found = []
    for path, operations in whole_document()["paths"].items():
        last = ".+" if path.endswith("{transaction_id}") else "[^/]+"
        pattern = re.sub(r"{\w+}", "[^/]+", path).removesuffix("[^/]+") + (last if path.endswith("}") else "")
        found.append((re.compile(f"{pattern}/?"), operations))
    return found


@lru_cache(10_000)
def operation_of(method: str, path: str) -> Mapping[str, Any] | None:
    """The operation that answers, None for an address that is none's."""
    for pattern, operations in patterns():
        if pattern.fullmatch(path) and method.lower() in operations:
            found: Mapping[str, Any] = operations[method.lower()]
            return found
    return None


_validators: dict[str, jsonschema_rs.Draft202012Validator] = {}
DOCUMENT = "urn:document"
"""Under this name all validators share the components: one of its own would have a copy of each, 3 MB."""


@cache
def registry() -> jsonschema_rs.Registry:
    return jsonschema_rs.Registry([(DOCUMENT, {"components": whole_document()["components"]})])


def absolute(schema: Any) -> Any:
    """The schema with references into the shared components."""
    if isinstance(schema, Mapping):
        return {
            name: f"{DOCUMENT}{value}" if name == "$ref" else absolute(value)
            for name, value in schema.items()
        }
    return [absolute(each) for each in schema] if isinstance(schema, list | tuple) else schema


def validator(key: str, schema: Mapping[str, Any]) -> jsonschema_rs.Draft202012Validator:
    """The schema, compiled once."""
    if key not in _validators:
        _validators[key] = jsonschema_rs.Draft202012Validator(
            absolute(schema), validate_formats=True, registry=registry()
        )
    return _validators[key]


def problems(response: httpx2.Response) -> list[str]:
    """What the document does not say of the answer."""
    method, path = response.request.method, response.request.url.raw_path.decode().split("?")[0]
    media_type = response.headers.get("content-type", "").split(";")[0]
    operation = operation_of(method, path)
    status = str(response.status_code)
    is_before = status in BEFORE or '"method_not_allowed"' in response.text
    if operation is not None and status not in operation["responses"] and not is_before:
        return [f"{method} {path} does not say that it answers {status}: {response.text[:500]}"]
    if status not in ("200", "202"):
        return _unlike(response, f"error {status}", ERROR) if method != "HEAD" else []
    if operation is None:
        return [f"{method} {path} is not described"]
    content = operation["responses"][status]["content"]
    if media_type not in content:
        return [f"{method} {path} answers {media_type}"]
    return _unlike(response, operation["operationId"], content[JSON]["schema"]) if media_type == JSON else []


def _unlike(response: httpx2.Response, key: str, schema: Mapping[str, Any]) -> list[str]:
    errors = validator(key, schema).iter_errors(response.json())
    return [f"{key} {'/'.join(map(str, error.instance_path))}: {error.message[:500]}" for error in errors]


def undeclared(response: httpx2.Response) -> list[str]:
    """Parameters and fields that an accepted request sent and that the document does not have."""
    method, path = response.request.method, response.request.url.raw_path.decode().split("?")[0]
    operation = operation_of(method, path)
    if operation is None or response.status_code != 200:
        return []
    known = {each["name"].removesuffix("[]") for each in operation["parameters"] if each["in"] == "query"}
    sent = {re.sub(r"\[.*", "", name) for name in response.request.url.params}
    found = [f"{method} {path} does not declare the parameter {name}" for name in sorted(sent - known)]
    if response.request.content and "requestBody" in operation:
        schema = operation["requestBody"]["content"][JSON]["schema"]
        body = json.loads(response.request.content)
        found += [f"{method} {path} does not declare {name}" for name in unknown_fields(body, schema, "")]
    return found


def unknown_fields(value: Any, schema: Mapping[str, Any], path: str) -> Iterator[str]:
    """Fields of what was sent that the schema does not name; an answer may be sent back as it is."""
    components, sent_back = whole_document()["components"]["schemas"], {}
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        schema = components[name]
        sent_back = components.get(name.removesuffix("Input"), {}).get("properties", {})
    for part in [*schema.get("allOf", ())[:1], *schema.get("anyOf", ())]:
        yield from unknown_fields(value, part, path)
    if isinstance(value, list) and "items" in schema:
        for each in value:
            yield from unknown_fields(each, schema["items"], path)
    if isinstance(value, dict) and "properties" in schema:
        for name, each in value.items():
            if name in schema["properties"]:
                yield from unknown_fields(each, schema["properties"][name], f"{path}.{name}")
            elif name not in sent_back and (each or name not in SENT_EMPTY):
                yield f"{path}.{name}"


class CheckedClient(TestClient):
    """A client that looks at every answer."""

    def request(self, method: str, url: Any, **more: Any) -> Any:
        response = super().request(method, url, **more)
        if response.request.url.path.startswith(("/api/v1/", "/admin/v1/")):
            found = problems(response)
            assert not found, found
        return response
