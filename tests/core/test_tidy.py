"""The rules of the house that a machine can keep."""

import ast
import re
from collections import Counter
from collections.abc import Callable, Iterable
from functools import cache, lru_cache
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src" / "permille"
MODULES = sorted(SOURCE.rglob("*.py"))
CORE = [path for path in MODULES if path.is_relative_to(SOURCE / "core")]
SQL = sorted(SOURCE.rglob("*.sql"))

LINES_MAX = 70
CLOCKS = {
    ("datetime", "now"),
    ("datetime", "utcnow"),
    ("datetime", "today"),
    ("date", "today"),
    ("time", "time"),
    ("time", "time_ns"),
    ("time", "localtime"),
    ("time", "gmtime"),
}
IMPURE_SQL = re.compile(
    r"\b(now|random|gen_random_uuid|uuidv7|uuidv4|clock_timestamp|statement_timestamp|transaction_timestamp)\s*\("
    r"|\b(current_timestamp|current_date|current_time|localtimestamp|localtime)\b",
    re.IGNORECASE,
)
CHANCE = {"uuid1", "uuid3", "uuid4", "uuid5", "getnode"}


def name(path: Path) -> str:
    return str(path.relative_to(SOURCE))


Rule = Callable[[Path], None]
RULES: list[tuple[Rule, frozenset[Path]]] = []


def rule(paths: Iterable[Path]) -> Callable[[Rule], Rule]:
    """What all of these files keep. They are looked at file by file, so that each is read and parsed once."""

    def add(kept: Rule) -> Rule:
        RULES.append((kept, frozenset(paths)))
        return kept

    return add


@lru_cache(maxsize=1)
def nodes(path: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(path.read_text(), filename=str(path))))


def top_level(path: Path) -> list[ast.stmt]:
    module = nodes(path)[0]
    assert isinstance(module, ast.Module)
    return module.body


def called(node: ast.AST) -> tuple[str, str] | None:
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return None
    owner = node.func.value
    last = owner.attr if isinstance(owner, ast.Attribute) else getattr(owner, "id", "")
    return last, node.func.attr


def test_there_is_something_to_look_at() -> None:
    assert len(CORE) > 15
    assert SQL


@rule(CORE)
def core_has_no_float(path: Path) -> None:
    for node in nodes(path):
        is_literal = isinstance(node, ast.Constant) and isinstance(node.value, float)
        is_name = isinstance(node, ast.Name) and node.id == "float"
        has_float = is_literal or is_name
        assert not has_float, f"{name(path)}:{getattr(node, 'lineno', 0)}"


@rule(CORE)
def core_leaves_chance_to_others(path: Path) -> None:
    for node in nodes(path):
        imported = node.names if isinstance(node, ast.Import | ast.ImportFrom) else []
        assert not {alias.name for alias in imported} & {"random", "secrets", "os", "time", *CHANCE}, name(
            path
        )
        assert not isinstance(node, ast.Attribute) or node.attr not in CHANCE, name(path)


@rule([path for path in MODULES if path.name != "clock.py" and "client" not in path.parts])
def only_the_clock_reads_the_time(path: Path) -> None:
    for node in nodes(path):
        assert called(node) not in CLOCKS, f"{name(path)}:{getattr(node, 'lineno', 0)}"


@rule(MODULES)
def functions_are_short(path: Path) -> None:
    for node in nodes(path):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            length = node.end_lineno - node.lineno + 1
            assert length <= LINES_MAX, f"{name(path)}:{node.lineno} {node.name} has {length} lines"


@rule(CORE)
def public_functions_of_core_say_what_they_do(path: Path) -> None:
    for node in top_level(path):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{name(path)}:{node.lineno} {node.name}"


@rule(SQL)
def sql_takes_time_and_chance_as_parameters(path: Path) -> None:
    ours = path.read_text().partition("-- Jobs: the schema of procrastinate")[0]
    for number, line in enumerate(ours.splitlines(), start=1):
        found = IMPURE_SQL.search(line.split("--")[0])
        assert not found, f"{name(path)}:{number} {line.strip()}"


WEB = [path for path in MODULES if path.is_relative_to(SOURCE / "web")]


@cache
def parameters_of(module: str, wanted: str) -> list[str]:
    """The parameters of a module's function, with their types; none for what is no function of it."""
    path = SOURCE.parent.joinpath(*module.split(".")).with_suffix(".py")
    if not path.exists():
        return []
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef) and node.name == wanted:
            return [ast.unparse(each) for each in (*node.args.args, *node.args.kwonlyargs)]
    return []


@rule(WEB)
def web_makes_up_no_request(path: Path) -> None:
    """Of the API it uses what reads fields and what renders answers: nothing that takes a request."""
    for node in nodes(path):
        if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("permille.api"):
            continue
        names = {each.name for each in node.names}
        assert node.module != "permille.api" or names == {"http"}, names
        assert "Call" not in names
        for each in names:
            taken = parameters_of(node.module or "", each)
            assert not any(one.endswith(": Call") or one.startswith(("_body", "body")) for one in taken), each


WRITING_SQL = re.compile(
    r"^\s*(?:with\b.*\b)?(?:insert into|update|delete from)\b", re.IGNORECASE | re.DOTALL
)


@cache
def writing_functions(path: Path) -> frozenset[str]:
    """The functions of a module of `store` that write: by SQL of their own, by a constant, or through another one."""
    body = ast.parse(path.read_text()).body
    written = {
        target.id
        for node in body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name) and any(map(is_writing_sql, ast.walk(node.value)))
    }
    functions = {node.name: node for node in body if isinstance(node, ast.FunctionDef)}
    found: set[str] = set()
    while True:
        more = {
            each
            for each, node in functions.items()
            if each not in found
            and any(
                is_writing_sql(part) or (isinstance(part, ast.Name) and part.id in written | found)
                for part in ast.walk(node)
            )
        }
        if not more:
            return frozenset(found)
        found |= more


def is_writing_sql(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and WRITING_SQL.match(node.value) is not None
    )


def test_what_writes_is_found() -> None:
    users = writing_functions(SOURCE / "store" / "users.py")
    assert {"add", "add_sign_in_link", "add_invitation"} <= users
    assert {"open_session", "session"} <= writing_functions(SOURCE / "store" / "sessions.py")
    assert not {"by_id", "members", "audit_log"} & users


def store_names(path: Path) -> dict[str, str]:
    """The modules of `store` that a module imports: name -> what it is called there."""
    return {
        each.asname or each.name: each.name
        for node in nodes(path)
        if isinstance(node, ast.ImportFrom) and node.module == "permille.store"
        for each in node.names
    }


@rule([path for path in MODULES if name(path).startswith(("api/", "web/"))])
def rows_are_written_by_use_cases_alone(path: Path) -> None:
    known = store_names(path)
    for node in nodes(path):
        owner, function = called(node) or ("", "")
        if owner in known:
            assert function not in writing_functions(SOURCE / "store" / f"{known[owner]}.py"), (
                owner,
                function,
            )


INSTEAD = {
    "tell|tells|told|telling": "notify, queue webhooks, say, name, distinguish",
    "stand|stands|stood|standing": "units are carried over, a field is in a row, a text is shown",
    "anew": "again",
    "whoever|whomever": "the caller, the process, the transaction",
    "he|him|his|himself": "the caller, the worker, it",
    "beyond[ _]all[ _]bounds": "out of range, does not fit into 64 bits",
    "least[ _]amounts?": "minimum charge",
    "the word of": "the webhook of",
    '(?-i:"""Of|(?:#|--) Of)': "a sentence about the thing",
}
"""Words that say something else to somebody who learned billing elsewhere (docs/glossary.md has the field's terms)."""
BARE = {
    *("Wish", "Asked", "Hypothesis", "Kept", "Reached", "Taken", "Settled", "Known", "Part", "Held"),
    *("Window", "Metering", "Terms", "Waiting", "Search"),
}
"""Names that leave out what the thing is."""
ONE_MEANING = {"Place", "Group", "Counted", "Page", "Bucket"}
DEFINED = re.compile(r"^(?:class (\w+)\b|([A-Z]\w*[a-z]\w*) = )", re.MULTILINE)
TEMPLATES = sorted(SOURCE.rglob("*.html"))
WRITTEN_ONCE = SOURCE / "database" / "migrations"
WORDED = [path for path in [*MODULES, *SQL, *TEMPLATES] if not path.is_relative_to(WRITTEN_ONCE)]


def unclear(line: str) -> list[str]:
    """The words of a line, or the parts of its names, that are to be others."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", line)
    return [
        f"{found.group()}: write {instead}"
        for words, instead in INSTEAD.items()
        for found in re.finditer(rf"(?<![a-z])(?:{words})(?![a-z])", apart, re.IGNORECASE)
    ]


def defined(path: Path) -> list[str]:
    return [first or second for first, second in DEFINED.findall(path.read_text())]


@rule(WORDED)
def words_are_the_fields_own(path: Path) -> None:
    text = path.read_text()
    if unclear(text):
        for number, line in enumerate(text.splitlines(), start=1):
            assert not unclear(line), f"{name(path)}:{number}"


def test_names_say_what_the_thing_is_and_have_one_meaning() -> None:
    names = Counter(each for path in MODULES for each in defined(path))
    assert not BARE & names.keys()
    assert not {each for each in ONE_MEANING if names[each] > 1}


@pytest.mark.parametrize(
    "line",
    [
        "def _tell(",
        "class ToldEvent:",
        "EVENTS_TOLD_MAX = 1",
        "-- Whoever writes it",
        '    """Of each fee."""',
        "    # Of each fee the taxes",
        "least_amount_steps",
    ],
)
def test_an_unclear_word_is_found(line: str) -> None:
    assert unclear(line)


def test_other_words_are_clear() -> None:
    assert not unclear("the standard rate of an understood hotel, at least one. Offers of it")


CHOICES = {"charge_model", "interval", "unlisted_values", "rounding"}
"""What the core has enums for. What requests and answers say of them are texts, as JSON is."""


@rule([each for each in MODULES if not name(each).startswith("api/objects/")])
def a_choice_is_its_enum_not_a_text(path: Path) -> None:
    texts = [
        f"{name(path)}:{node.lineno} {node.target.id}"
        for node in nodes(path)
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id in CHOICES
        and ast.unparse(node.annotation) in {"str", "str | None"}
    ]  # fmt: skip
    assert not texts


OF_DATACLASSES = {"config.py", "cli/demo.py", "cli/main.py"}
"""Modules that copy a Config, or look at it: it hides its secrets, as a record cannot."""


@rule([each for each in MODULES if name(each) not in OF_DATACLASSES and not name(each).startswith("client/")])
def values_are_records(path: Path) -> None:
    """mypy takes a record for a dataclass, so that it would let these by; they fail when they are called."""
    names = [
        each.name
        for node in nodes(path)
        if isinstance(node, ast.ImportFrom) and node.module == "dataclasses"
        for each in node.names
    ]
    assert not {"replace", "fields", "asdict", "astuple"} & set(names), "take it from core/record.py"


@pytest.mark.parametrize("path", sorted({each for _, paths in RULES for each in paths}), ids=name)
def test_a_file_keeps_the_rules(path: Path) -> None:
    for kept, paths in RULES:
        if path in paths:
            kept(path)
