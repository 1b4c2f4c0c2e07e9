"""What Lago documents of the operations that both have: our answers have those fields, or the differences name them.

Lago's document is read for names alone, and only where it is beside the repository.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from permille.api.routes import API
from tests.api.contract import whole_document

ROOT = Path(__file__).resolve().parents[2]
LAGO = ROOT.parent / "shared" / "lago" / "openapi.yaml"
DIFFERENCES = (ROOT / "docs" / "lago-differences.md").read_text()

ROOTLESS = {
    ("get", "/payment_requests/{lago_id}"),
    ("get", "/payments/{lago_id}"),
    ("post", "/billing_entities"),
    ("put", "/billing_entities/{code}"),
    ("get", "/wallet_transactions/{lago_id}"),
}
"""Where Lago's document leaves out the root key that its API, like ours, answers with."""

Schema = Mapping[str, Any]


def resolved(schema: Schema, whole: Schema) -> dict[str, Any]:
    """The schema without references, the parts of an allOf put together; of alternatives the first object."""
    if "$ref" in schema:
        found: Any = whole
        for part in schema["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        return resolved(found, whole)
    result = {key: value for key, value in schema.items() if key not in ("allOf", "anyOf", "oneOf")}
    parts = list(schema.get("allOf", ()))
    for alternatives in ("anyOf", "oneOf"):
        parts += [each for each in schema.get(alternatives, ()) if each.get("type") != "null"][:1]
    for part in parts:
        more = resolved(part, whole)
        properties = {**result.get("properties", {}), **more.get("properties", {})}
        required = [*result.get("required", ()), *more.get("required", ())]
        result = {**more, **result, "properties": properties, "required": required}
    return result


def missing(theirs: Schema, ours: Schema, whole: Schema, own: Schema, path: str) -> Iterator[str]:
    theirs, ours = resolved(theirs, whole), resolved(ours, own)
    if "items" in theirs and "items" in ours:
        yield from missing(theirs["items"], ours["items"], whole, own, path)
        return
    if not ours.get("properties"):
        return
    for name, each in theirs.get("properties", {}).items():
        if name not in ours["properties"]:
            if name in theirs.get("required", ()):
                yield f"{path}.{name}"
        else:
            yield from missing(each, ours["properties"][name], whole, own, f"{path}.{name}")


def answer(operation: Schema, whole: Schema) -> Schema | None:
    for status in ("200", "201"):
        if status in operation.get("responses", {}):
            content = resolved(operation["responses"][status], whole).get("content", {})
            found: Schema | None = content.get("application/json", {}).get("schema")
            return found
    return None


@pytest.mark.skipif(not LAGO.exists(), reason="Lago's document isn't beside the repository")
def test_our_answers_have_the_fields_that_lago_documents_or_the_differences_name_them() -> None:
    whole = yaml.load(LAGO.read_text(), Loader=yaml.CSafeLoader)
    own = whole_document()
    found: set[str] = set()
    compared = 0
    for path, operations in whole["paths"].items():
        for method, operation in operations.items():
            known = shared(path).get(method)
            if known is None or (theirs := answer(operation, whole)) is None or (method, path) in ROOTLESS:
                continue
            compared += 1
            ours = answer(known, own)
            assert ours is not None, (method, path)
            found |= set(missing(theirs, ours, whole, own, ""))
    assert compared > 60
    names = {each.rsplit(".", 1)[1] for each in found}
    assert sorted(each for each in found if f"`{each.rsplit('.', 1)[1]}`" not in DIFFERENCES) == [], names


@pytest.mark.skipif(not LAGO.exists(), reason="Lago's document isn't beside the repository")
def test_our_operations_take_the_query_parameters_that_lago_documents() -> None:
    whole = yaml.load(LAGO.read_text(), Loader=yaml.CSafeLoader)
    own = whole_document()
    unknown, compared = [], 0
    for path, operations in whole["paths"].items():
        for method, operation in operations.items():
            known = shared(path).get(method)
            if known is None:
                continue
            theirs = queried(operation, whole) | queried(operations, whole)
            compared += len(theirs)
            unknown += [(method, path, name) for name in sorted(theirs - queried(known, own))]
    assert compared > 200
    assert unknown == []


def queried(described: Schema, whole: Schema) -> set[str]:
    """The names of query parameters, without what is in brackets."""
    found = [resolved(each, whole) for each in described.get("parameters", ())]
    return {each["name"].split("[")[0] for each in found if each["in"] == "query"}


def shared(path: str) -> Mapping[str, Any]:
    """Our operations at a path of Lago's, whatever its parameters are called."""
    wanted = shape(path)
    return next(
        (
            operations
            for own, operations in whole_document()["paths"].items()
            if own.startswith(API) and shape(own.removeprefix(API)) == wanted
        ),
        {},
    )


def shape(path: str) -> tuple[str, ...]:
    return tuple("{}" if part.startswith("{") else part for part in path.split("/"))
