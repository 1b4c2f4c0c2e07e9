"""The OpenAPI 3.1 document: generated from the table of operations and from the types of the API's objects."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import version
from typing import Annotated, Any, get_args, get_origin

import msgspec
from msgspec import UnsetType
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from permille.api.addresses import Route
from permille.api.http import Engine
from permille.api.objects import error
from permille.api.objects.base import Answer, Input, Number
from permille.api.objects.event_error import EventError
from permille.api.objects.wallet import WalletTransactionDetails
from permille.api.operations import Operation, Shape
from permille.api.routes import ADMIN, ADMIN_OPERATIONS, API, GROUPS, INTAKE_OPERATIONS

JSON = "application/json"
DESCRIPTION = (
    "Usage-based billing. Requests carry the organization's API key as `Authorization: Bearer KEY`. Amounts in "
    "`..._cents` are whole numbers of the currency's smallest unit; exact decimals are texts. Instants are in UTC. "
    "Operations of Lago's API that aren't built yet answer 501 and are not listed."
)
ADMIN_GROUP = "Installation"
DESCRIBED = {
    400: "The request can't be read.",
    401: "The key is missing or unknown.",
    403: "This key may not do this.",
    404: "There is no such object.",
    405: "The object's state doesn't allow this.",
    413: "The body is too large.",
    415: "The body's encoding isn't known.",
    422: "Fields are wrong; each has its codes.",
    500: "Something went wrong on the server.",
    429: "The organization has as many requests at once as it may: wait for some of them, then send it again.",
    503: "The database can't be reached, or it took too long: send it again.",
}
ALWAYS = (400, 401, 403, 429, 500, 503)
IN_PATH = {
    "name": "Its name, percent-encoded: azure%2Fprod-chat-eu.",
    "format": "What sends the events.",
    "charge_code": "Code of the charge.",
    "fixed_charge_code": "Code of the fixed charge.",
    "code": "Code of the object.",
    "external_id": "Your identifier of the customer or subscription.",
    "filter_id": "lago_id of the filter.",
    "key": "Name of the note.",
    "key_id": "lago_id of the API key.",
    "wallet_code": "Your code of the wallet.",
    "lago_id": "The server's identifier of the object.",
    "organization_id": "lago_id of the organization.",
    "activity_id": "Identifier of the entry.",
    "request_id": "Identifier of the request.",
    "transaction_id": "transaction_id of the event.",
    "feature_code": "Your identifier of the feature.",
    "privilege_code": "Your identifier of the privilege.",
}
DESCRIPTION_OPERATION: Operation[None] = Operation(
    "GET",
    "/openapi.json",
    None,
    "Get this document",
    {},
    description="No key is needed.",
)
_PARAMETER = re.compile(r"{(\w+)(:path)?}")


@cache
def document_json(base_url: str) -> bytes:
    """The document as it is served."""
    return msgspec.json.encode(document(base_url))


@cache
def document(base_url: str) -> Mapping[str, Any]:
    """The document."""
    schemas = _Schemas()
    paths: dict[str, dict[str, Any]] = {}
    tags = []
    for name, description, prefix, operations in _groups():
        tags.append({"name": name, "description": description})
        for each in operations:
            path = _PARAMETER.sub(r"{\1}", prefix + each.path)
            described = _operation(each, schemas, name, path)
            paths.setdefault(path, {})[each.method.lower()] = described
    paths[API + DESCRIPTION_OPERATION.path]["get"]["security"] = []
    refused = schemas.of(error.Error)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Permille", "version": version("permille"), "description": DESCRIPTION},
        "servers": [{"url": base_url}],
        "security": [{"api_key": []}],
        "tags": tags,
        "paths": paths,
        "components": {
            "schemas": schemas.components(ONLY_IN_WEBHOOKS),
            "responses": {
                str(status): {"description": text, "content": {JSON: {"schema": refused}}}
                for status, text in DESCRIBED.items()
            },
            "securitySchemes": {
                "api_key": {"type": "http", "scheme": "bearer", "description": "An organization's API key."},
                "admin_key": {"type": "http", "scheme": "bearer", "description": "PERMILLE_ADMIN_KEY."},
            },
        },
    }


def document_route(engine: Engine) -> Route:
    """GET /api/v1/openapi.json, without a key."""

    async def show(_request: Request) -> Response:
        content = await run_in_threadpool(document_json, engine.config.base_url)
        return Response(content, media_type=JSON)

    return Route(API + DESCRIPTION_OPERATION.path, show, methods=[DESCRIPTION_OPERATION.method])


def _groups() -> Iterable[tuple[str, str, str, Iterable[Operation[Any]]]]:
    """Name, description, prefix of the paths and operations, in the order of the page."""
    for group in GROUPS:
        intake = INTAKE_OPERATIONS if group.name == "Events" else ()
        yield group.name, group.description, API, (*intake, *group.operations)
    yield ADMIN_GROUP, "For the operator of the server, with PERMILLE_ADMIN_KEY.", ADMIN, ADMIN_OPERATIONS
    yield "Description", "This description.", API, (DESCRIPTION_OPERATION,)


def _operation(each: Operation[Any], schemas: _Schemas, tag: str, path: str) -> dict[str, Any]:
    names = [name for name, _ in _PARAMETER.findall(each.path)]
    described: dict[str, Any] = {
        "operationId": re.sub(r"\W+", "_", f"{each.method.lower()}{path}").strip("_"),
        "tags": [tag],
        "summary": each.summary,
        "parameters": [
            *(_in_path(name) for name in names),
            *(_in_query(name, type_, schemas, each) for name, type_ in each.query.items()),
        ],
        "responses": {
            "200": {"description": "Done.", "content": _content(each, schemas)},
            **(
                {"202": {"description": "It goes on.", "content": _content(each, schemas)}}
                if each.goes_on
                else {}
            ),
            **{str(status): {"$ref": f"#/components/responses/{status}"} for status in _errors(each, names)},
        },
    }
    if each.description:
        described["description"] = each.description
    if each.body is not None:
        described["requestBody"] = {
            "required": True,
            "content": {JSON: {"schema": _body(each, schemas)}},
        }
    if tag == ADMIN_GROUP:
        described["security"] = [{"admin_key": []}]
    return described


def _errors(each: Operation[Any], names: Iterable[str]) -> list[int]:
    found = {*ALWAYS, *each.errors}
    if each.body is not None:
        found |= {413, 415, 422}
    if each.query:
        found.add(422)
    if any(names):
        found.add(404)
    return sorted(found)


def _in_path(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "in": "path",
        "required": True,
        "description": IN_PATH[name],
        "schema": {"type": "string"},
    }


def _in_query(name: str, type_: Any, schemas: _Schemas, each: Operation[Any]) -> dict[str, Any]:
    schema = dict(schemas.of(type_))
    described: dict[str, Any] = {
        "name": name,
        "in": "query",
        "required": name in each.requires_query,
        "description": schema.pop("description", ""),
        "schema": schema,
    }
    if schema.get("type") == "array":
        return described | {"name": f"{name}[]", "explode": True}
    if schema.get("type") == "object":
        return described | {"style": "deepObject", "explode": True}
    return described


def _content(each: Operation[Any], schemas: _Schemas) -> dict[str, Any]:
    if isinstance(each.answers, str):
        return {each.answers: {"schema": {"type": "string"}}}
    if not each.answers:
        return {JSON: {"schema": {"type": "object"}}}
    schema = schemas.object(each.answers)
    if each.otherwise is not None:
        schema = {"oneOf": [schema, schemas.object(each.otherwise)]}
    also = {each.also: {"schema": {"type": "string"}}} if each.also else {}
    return {JSON: {"schema": schema}, **also}


def _body(each: Operation[Any], schemas: _Schemas) -> dict[str, Any]:
    """The root object with the fields that it must have, and what may be sent beside it."""
    assert each.body is not None
    fields = dict(each.body.fields)
    root = next(iter(fields))
    schema = schemas.object(fields, required=[] if each.otherwise else [root])
    if each.body.required:
        schema["properties"][root] = {
            "allOf": [schema["properties"][root], {"required": list(each.body.required)}]
        }
    del schema["additionalProperties"]
    return schema


ONLY_IN_WEBHOOKS = (EventError, WalletTransactionDetails)
"""Objects that no operation answers."""


class _Schemas:
    """Schemas of types, and the components that they refer to."""

    def __init__(self) -> None:
        self._components: dict[str, Any] = {}
        self._known: dict[Any, dict[str, Any]] = {}

    def of(self, type_: Any) -> dict[str, Any]:
        """The schema of a type; objects are references."""
        if type_ not in self._known:
            (schema,), components = msgspec.json.schema_components(
                [type_], schema_hook=_hook, ref_template="#/components/schemas/{name}"
            )
            self._components |= components
            self._known[type_] = schema
        return {**self._known[type_]}

    def object(self, shape: Shape, *, required: list[str] | None = None) -> dict[str, Any]:
        """The schema of an object with exactly these fields; those that may be UNSET may be left out."""
        fixed = [name for name, type_ in shape.items() if not _may_be_unset(type_)]
        return {
            "type": "object",
            "properties": {name: self.of(type_) for name, type_ in shape.items()},
            "required": fixed if required is None else required,
            "additionalProperties": False,
        }

    def components(self, more: Iterable[type[Answer]]) -> dict[str, Any]:
        """All components by name, and those of more types. Objects of requests require nothing by themselves: operations do."""
        for each in more:
            self.of(each)
        inputs = {each.__name__ for each in _all_below(Input)}
        for name in inputs & self._components.keys():
            self._components[name].pop("required", None)
        return dict(sorted(self._components.items()))


def _all_below(kind: type[Input]) -> Iterable[type[Input]]:
    for each in kind.__subclasses__():
        yield each
        yield from _all_below(each)


def _may_be_unset(type_: Any) -> bool:
    bare = get_args(type_)[0] if get_origin(type_) is Annotated else type_
    return UnsetType in get_args(bare)


def _hook(type_: type) -> dict[str, Any]:
    if type_ is Number:
        return {"type": "number"}
    raise NotImplementedError(type_)
