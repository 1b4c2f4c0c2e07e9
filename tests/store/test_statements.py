"""Every SQL statement in the source is one that PostgreSQL understands, and takes time and chance as parameters."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import EnumType
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import errors

from permille.embedded.postgres import EmbeddedPostgres
from tests.conftest import fresh_database
from tests.core.test_tidy import IMPURE_SQL, MODULES, SOURCE, name

STATEMENT = re.compile(
    r"\s*(--[^\n]*\n\s*)*(with\s+(recursive\s+)?\w+(\s*\([\w, ]+\))?\s+as\b|select\b|insert into\b|update\s+\w+|delete from\b)",
    re.IGNORECASE,
)
VERB = re.compile(r"\b(select|insert into|update|delete from)\b", re.IGNORECASE)
"""In every statement; a module without one is not parsed."""
PREPARED = re.compile(r"\s*(--[^\n]*\n\s*)*(with|select|insert|update|delete)\b", re.IGNORECASE)
PLACEHOLDER = re.compile(r"%%|%s|%\((\w+)\)[sb]|%b")
TEMPLATE = re.compile(r"\{\w+\}")
FRAGMENTS_MAX = 0.22
"""What share of the statements may be put together of parts that only a call knows. Those are run by other tests."""

WITHOUT_A_TYPE = (
    errors.IndeterminateDatatype,
    errors.AmbiguousFunction,
    errors.AmbiguousParameter,
    errors.DatatypeMismatch,
)
"""Refusals of a parameter whose type only its value says; the statement's names and grammar were right."""

READS_THE_CLOCK = {"cli/doctor.py", "store/clock_seen.py"}
"""They compare the database's clock with ours."""


@dataclass(frozen=True, slots=True)
class Statement:
    path: Path
    line: int
    text: str | None
    """None where parts of it are only known to a call."""

    def __str__(self) -> str:
        return f"{name(self.path)}:{self.line}"


def module_of(path: Path) -> Any:
    return importlib.import_module("permille." + ".".join(path.relative_to(SOURCE).with_suffix("").parts))


def value_of(node: ast.expr, path: Path) -> str | None:
    """The text of a string or f-string whose parts the module knows."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    expression = compile(ast.Expression(node), name(path), "eval")
    try:
        return str(eval(expression, vars(module_of(path))))
    except NameError:
        return None


def literal_parts(node: ast.AST) -> str:
    """The text of a string as far as it is written there."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    return "".join(literal_parts(part) for part in node.values) if isinstance(node, ast.JoinedStr) else ""


@lru_cache(maxsize=1)
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def strings(path: Path) -> Iterator[ast.Constant | ast.JoinedStr]:
    """Every string of a module once: the parts of an f-string are no strings of their own."""
    parts: set[int] = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.JoinedStr):
            parts |= {id(part) for part in ast.walk(node)} - {id(node)}
        if isinstance(node, ast.Constant | ast.JoinedStr) and id(node) not in parts:
            yield node


def parts(tree: ast.AST) -> set[str]:
    """The names of strings that are put into other strings: no statements by themselves."""
    found: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.FormattedValue() | ast.BinOp(op=ast.Add()):
                found |= {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}
    return found


def of_parts(path: Path) -> set[int]:
    """The lines of strings that are assigned to such names, or joined to others where they are written."""
    tree = parsed(path)
    names = parts(tree)
    found: set[int] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Assign(targets=[ast.Name(id=target)], value=value) if target in names:
                found.add(value.lineno)
            case ast.BinOp(op=ast.Add()):
                found |= {side.lineno for side in (node.left, node.right)}
    return found


@cache
def statements(path: Path) -> list[Statement]:
    nodes = [node for node in strings(path) if STATEMENT.match(literal_parts(node))]
    fragments = of_parts(path) if nodes else set()
    found = []
    for node in nodes:
        text = None if node.lineno in fragments else value_of(node, path)
        found.append(Statement(path, node.lineno, None if text is None or TEMPLATE.search(text) else text))
    return found


WITH_SQL = [path for path in MODULES if VERB.search(path.read_text())]


def numbered(text: str) -> str:
    """Psycopg's placeholders as PostgreSQL's own."""
    numbers: dict[str, int] = {}

    def number(match: re.Match[str]) -> str:
        if match.group() == "%%":
            return "%"
        key = match.group(1) or f"the {len(numbers) + 1}th"
        return f"${numbers.setdefault(key, len(numbers) + 1)}"

    return PLACEHOLDER.sub(number, text) if "%(" in text or "%s" in text else text


def test_statements_are_found() -> None:
    found = [each for path in WITH_SQL for each in statements(path)]
    assert len(found) > 250
    assert sum(each.text is None for each in found) <= FRAGMENTS_MAX * len(found)


@pytest.fixture(scope="module")
def database(postgres: EmbeddedPostgres) -> Iterator[psycopg.Connection[Any]]:
    """One for all statements, none of which is executed."""
    with fresh_database(postgres, "statements") as url, psycopg.connect(url, autocommit=True) as conn:
        yield conn


@pytest.mark.parametrize("path", WITH_SQL, ids=name)
def test_postgres_understands_every_statement(path: Path, database: psycopg.Connection[Any]) -> None:
    wrong = []
    for each in statements(path):
        if each.text is None or not PREPARED.match(each.text):
            continue
        try:
            database.execute(f"prepare looked_at as {numbered(each.text)}")
            database.execute("deallocate looked_at")
        except WITHOUT_A_TYPE:
            continue
        except psycopg.Error as error:
            if "operator does not exist" not in str(error):  # between an interval and an untyped parameter
                wrong.append(f"{each}: {error}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_no_statement_reads_a_clock_or_draws_chance(path: Path) -> None:
    for node in strings(path):
        text = literal_parts(node)
        if re.search(r"\b(select|insert into|update|delete from|where|set|values|returning)\b", text):
            found = IMPURE_SQL.search(re.sub(r"--[^\n]*", "", text))
            assert not found or name(path) in READS_THE_CLOCK, f"{name(path)}:{node.lineno}"


ENGINES = [path for path in MODULES if {"store", "events", "database"} & set(path.relative_to(SOURCE).parts)]


def pasted(function: ast.FunctionDef) -> Iterator[tuple[int, str]]:
    """Names whose values a statement of a function has in its text, with their lines; conditions only choose."""
    for node in ast.walk(function):
        if isinstance(node, ast.JoinedStr) and STATEMENT.match(literal_parts(node)):
            for part in node.values:
                found = part.value if isinstance(part, ast.FormattedValue) else None
                while isinstance(found, ast.Attribute | ast.Subscript):
                    found = found.value
                if isinstance(found, ast.Name):
                    yield node.lineno, found.id


def from_callers(function: ast.FunctionDef, path: Path) -> set[str]:
    """The parameters of a function that may be anything: not an Enum of its module."""
    known = vars(module_of(path))
    every = (*function.args.args, *function.args.kwonlyargs)
    return {
        each.arg
        for each in every
        if not (isinstance(each.annotation, ast.Name) and isinstance(known.get(each.annotation.id), EnumType))
    }


def with_data(path: Path, tree: ast.Module) -> list[str]:
    """Where the text of a statement has a parameter of its function, or of the public one that calls it with its own."""
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    takes = {  # private function -> places of the parameters that it puts into a statement
        each.name: {
            place
            for place, argument in enumerate(each.args.args)
            if argument.arg in {word for _, word in pasted(each)} & from_callers(each, path)
        }
        for each in functions
        if each.name.startswith("_")
    }
    found = []
    for each in functions:
        if each.name in takes:
            continue
        given = from_callers(each, path)
        found += [f"{name(path)}:{line} {word}" for line, word in pasted(each) if word in given]
        for call in ast.walk(each):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name):
                sent = [call.args[place] for place in takes.get(call.func.id, ()) if place < len(call.args)]
                found += [
                    f"{name(path)}:{call.lineno} {word.id}"
                    for word in sent
                    if isinstance(word, ast.Name) and word.id in given
                ]
    return found


@pytest.mark.parametrize("path", ENGINES, ids=name)
def test_what_callers_give_is_no_text_of_a_statement(path: Path) -> None:
    assert with_data(path, parsed(path)) == []


def test_text_of_callers_in_a_statement_is_found() -> None:
    source = """
def direct(conn, name: str): conn.execute(f"select 1 from plan where name = '{name}'")
def by(conn, search): return _rows(conn, search)
def _rows(conn, condition): conn.execute(f"select 1 from plan where {condition}")
def fine(conn, wait: bool): conn.execute(f"select 1 from plan {'' if wait else 'for update'}")
"""
    path = next(path for path in ENGINES if path.stem == "plans")
    assert [each.partition(" ")[2] for each in with_data(path, ast.parse(source))] == ["name", "search"]
