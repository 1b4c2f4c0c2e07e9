"""The description of the API for people: pages made of the OpenAPI document, for everybody, without signing in."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from permille.api.addresses import Route
from permille.api.http import Engine
from permille.api.openapi import DESCRIPTION_OPERATION, JSON, document
from permille.api.routes import API
from permille.core.errors import NotFound
from permille.core.record import Record
from permille.web.pages import refused
from permille.web.rendering import plain

ADDRESS = "/docs/api"
_IN_WORDS = {"string": "text", "integer": "whole number", "boolean": "true or false", "null": "null"}
_FORMATS = {"date-time": "instant", "date": "date", "uuid": "UUID"}

Schema = Mapping[str, Any]


class Kind(Record, kw_only=True):
    """The type of a field in words, and the object that it leads to."""

    words: str
    object: str | None = None


class Field(Record, kw_only=True):
    """A parameter, or a field of an object."""

    name: str
    kind: Kind
    is_required: bool
    description: str
    values: Sequence[str]
    example: str


class FieldList(Record, kw_only=True):
    """A list of fields with its heading."""

    heading: str
    fields: Sequence[Field]


class Shown(Record, kw_only=True):
    """An operation of the page."""

    anchor: str
    method: str
    path: str
    summary: str
    description: str
    parts: Sequence[FieldList]
    errors: Sequence[tuple[str, str]]
    curl: str


class GroupPage(Record, kw_only=True):
    """A group of operations, and the objects that they lead to."""

    slug: str
    name: str
    description: str
    operations: Sequence[Shown]
    objects: Sequence[tuple[str, str, Sequence[Field]]]


def routes(engine: Engine) -> list[Route]:
    """The list of all operations, and a page for each group of them."""

    async def index(_request: Request) -> Response:
        found = await run_in_threadpool(group_pages, engine.config.base_url)
        return plain("api_groups.html", groups=found, document_url=API + DESCRIPTION_OPERATION.path)

    async def group(request: Request) -> Response:
        found = await run_in_threadpool(group_pages, engine.config.base_url)
        wanted = next((each for each in found if each.slug == request.path_params["slug"]), None)
        if wanted is None:
            return refused(NotFound("page"))
        return plain("api_group.html", group=wanted, groups=found, address=ADDRESS)

    return [Route(ADDRESS, index, methods=["GET"]), Route(f"{ADDRESS}/{{slug}}", group, methods=["GET"])]


@cache
def group_pages(base_url: str) -> list[GroupPage]:
    """All pages, in the document's order."""
    whole = document(base_url)
    return [_page(tag, whole) for tag in whole["tags"]]


def _page(tag: Schema, whole: Schema) -> GroupPage:
    found = [
        _shown(method, path, operation, whole)
        for path, operations in whole["paths"].items()
        for method, operation in operations.items()
        if tag["name"] in operation["tags"]
    ]
    schemas = whole["components"]["schemas"]
    named = list(_reached([part.fields for each in found for part in each.parts], schemas))
    return GroupPage(
        slug=re.sub(r"\W+", "-", tag["name"].lower()),
        name=tag["name"],
        description=tag["description"],
        operations=found,
        objects=[
            (name, schemas[name].get("description", ""), _fields(schemas[name], schemas)) for name in named
        ],
    )


def _reached(lists: Sequence[Sequence[Field]], schemas: Schema) -> Iterator[str]:
    """The objects that fields lead to, each once, and those that these lead to."""
    waiting = [field.kind.object for fields in lists for field in fields if field.kind.object]
    seen: set[str] = set()
    while waiting:
        name = waiting.pop(0)
        if name not in seen:
            seen.add(name)
            yield name
            waiting += [each.kind.object for each in _fields(schemas[name], schemas) if each.kind.object]


def _shown(method: str, path: str, operation: Schema, whole: Schema) -> Shown:
    schemas = whole["components"]["schemas"]
    body = operation.get("requestBody", {}).get("content", {}).get(JSON, {}).get("schema")
    answer = operation["responses"]["200"]["content"].get(JSON, {}).get("schema", {})
    parts = [
        FieldList(heading="Parameters", fields=[_parameter(each) for each in operation["parameters"]]),
        *(_parts("Request", body, schemas) if body else ()),
        *(
            part
            for heading, each in zip(
                ("Answer", "Answer instead"), answer.get("oneOf", [answer]), strict=False
            )
            for part in _parts(heading, each, schemas)
        ),
    ]
    refusals = whole["components"]["responses"]
    return Shown(
        anchor=operation["operationId"],
        method=method.upper(),
        path=path,
        summary=operation["summary"],
        description=operation.get("description", ""),
        parts=[part for part in parts if part.fields],
        errors=[
            (status, refusals[status]["description"])
            for status in operation["responses"]
            if status not in ("200", "202")
        ],
        curl=_curl(method.upper(), path, operation, body, whole),
    )


def _parts(heading: str, schema: Schema, schemas: Schema) -> Iterator[FieldList]:
    """The fields of an object, and those of the objects under its root keys."""
    fields = _fields(schema, schemas)
    yield FieldList(heading=heading, fields=fields)
    for field in fields:
        if field.kind.object and field.name != "meta":
            root = schema["properties"][field.name]
            required = root["allOf"][1]["required"] if "allOf" in root else None
            found = _fields(schemas[field.kind.object], schemas, required)
            yield FieldList(heading=f"{heading}: {field.name}", fields=found)


def _fields(schema: Schema, schemas: Schema, required: Sequence[str] | None = None) -> list[Field]:
    wanted = schema.get("required", ()) if required is None else required
    return [
        _field(name, each, is_required=name in wanted, schemas=schemas)
        for name, each in schema.get("properties", {}).items()
    ]


def _parameter(parameter: Schema) -> Field:
    schema = {**parameter["schema"], "description": parameter["description"]}
    return _field(parameter["name"], schema, is_required=parameter["required"], schemas={})


def _field(name: str, schema: Schema, *, is_required: bool, schemas: Schema) -> Field:
    kind = _kind(schema)
    described = schema.get("description") or next(
        (each["description"] for each in schema.get("anyOf", ()) if "description" in each), ""
    )
    if not described and kind.object:
        described = schemas[kind.object].get("description", "")
    examples = schema.get("examples", [])
    return Field(
        name=name,
        kind=kind,
        is_required=is_required,
        description=described,
        values=[str(value) for value in schema.get("enum", ()) if value is not None],
        example=str(examples[0]) if examples else "",
    )


def _kind(schema: Schema) -> Kind:
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        return Kind(words=name, object=name)
    if "allOf" in schema:
        return _kind(schema["allOf"][0])
    if "anyOf" in schema:
        kinds = [_kind(each) for each in schema["anyOf"]]
        words = " or ".join(dict.fromkeys(each.words for each in kinds))
        return Kind(words=words, object=next((each.object for each in kinds if each.object), None))
    if schema.get("type") == "array":
        item = _kind(schema.get("items", {}))
        return Kind(words=f"list of {item.words}", object=item.object)
    words = _FORMATS.get(schema.get("format", "")) or schema.get("type", "any")
    return Kind(words=_IN_WORDS.get(words, words))


def _curl(method: str, path: str, operation: Schema, body: Schema | None, whole: Schema) -> str:
    """A call that can be copied: required parameters and fields only."""
    needed = [each["name"] for each in operation["parameters"] if each["required"] and each["in"] == "query"]
    query = "?" + "&".join(f"{name}=..." for name in needed) if needed else ""
    url = whole["servers"][0]["url"] + path.replace("{", "<").replace("}", ">") + query
    lines = [f"curl -X {method} '{url}'" if method != "GET" else f"curl '{url}'"]
    if operation.get("security", whole["security"]):
        lines.append("-H 'Authorization: Bearer KEY'")
    if body is not None:
        sent = json.dumps(_example(body, whole["components"]["schemas"]))
        lines += ["-H 'Content-Type: application/json'", f"-d '{sent}'"]
    return " \\\n  ".join(lines)


def _example(body: Schema, schemas: Schema) -> dict[str, Any]:
    root, schema = next(iter(body["properties"].items()))
    kind = _kind(schema)
    if kind.object is None:
        return {root: {} if schema.get("type") != "string" else "..."}
    fields = _fields(schemas[kind.object], schemas)
    wanted = schema["allOf"][1]["required"] if "allOf" in schema else [fields[0].name]
    found = {
        each.name: _sample(each, schemas[kind.object]["properties"][each.name])
        for each in fields
        if each.name in wanted
    }
    return {root: [found] if schema.get("type") == "array" else found}


def _sample(field: Field, schema: Schema) -> Any:
    examples = schema.get("examples")
    if examples:
        return examples[0]
    if field.values:
        return field.values[0]
    return 0 if schema.get("type") == "integer" else "..."
