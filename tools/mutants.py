"""Mutation testing: small faults are put in one by one, and some test must notice each.

    python tools/mutants.py [--sample N] [module ...]
        # like core/rating/models/package.py, or core/rating/rate.py:120 for a line of it; or all of the core
        # --sample N: that many of each module, always the same ones

Prints each mutant that no test noticed, with its line. A fork for each mutant, as many at once as there are processors
(`taskset -c 0` makes it one); only the tests in TESTS run, and without a fault they have to pass. docs/testing.md says
which survivors change nothing.
"""

from __future__ import annotations

import ast
import copy
import io
import os
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from random import Random
from types import ModuleType
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "permille"
TESTS = {
    "core/rating/models/": ("pricing", "test_proration.py", "test_prorated_fee.py", "test_advance.py"),
    "core/money.py": ("test_money.py", "pricing", "test_fee.py"),
    "core/rating/filters.py": ("test_filters.py", "test_fee.py"),
    "core/metering/event.py": ("test_event.py", "test_usage.py"),
    "core/metering/rule.py": ("test_rule.py", "test_custom_aggregation.py", "test_expression.py"),
    "core/metering/expression.py": ("test_expression.py",),
    "core/metering/usage.py": ("test_usage.py", "test_fee.py"),
    "core/metering/aggregations/": (
        "test_aggregations.py",
        "test_usage.py",
        "test_fee.py",
        "test_advance.py",
        "test_plan.py",
    ),
    "core/metering/custom_aggregation.py": ("test_custom_aggregation.py", "test_advance.py"),
    "core/rating/proration.py": ("test_proration.py", "test_prorated_fee.py"),
    "core/tax.py": ("test_tax.py",),
    "core/invoice/draft.py": ("test_invoice_draft.py",),
    "core/contract/plan.py": ("test_plan.py", "test_subscription.py", "test_invoice.py"),
    "core/rating/charge.py": ("test_fee.py", "test_unlisted.py", "test_prorated_fee.py"),
    "core/rating/minimum_charge.py": ("test_prorated_fee.py", "test_rounding.py", "test_pricing_unit.py"),
    "core/rating/quantity.py": (
        "test_fee.py",
        "test_prorated_fee.py",
        "test_advance.py",
        "test_custom_aggregation.py",
        "test_pricing_unit.py",
    ),
    "core/rating/rate.py": (
        "test_fee.py",
        "test_prorated_fee.py",
        "test_advance.py",
        "test_custom_aggregation.py",
        "test_pricing_unit.py",
    ),
    "core/rating/explanation.py": ("test_explanation.py", "test_pricing_unit.py"),
    "core/rating/projection.py": ("test_projection.py", "test_custom_aggregation.py", "test_pricing_unit.py"),
    "core/rating/daily_usage.py": ("test_daily_usage.py", "test_custom_aggregation.py"),
    "core/rating/level.py": ("test_advance.py",),
    "core/rating/advance.py": ("test_advance.py", "test_pricing_unit.py"),
    "core/invoice/credit_note.py": ("test_credit_note.py",),
    "core/rating/pricing_unit.py": ("test_pricing_unit.py",),
    "core/period.py": ("test_period.py",),
    "core/contract/override.py": ("test_override.py",),
    "usecases/invoices/run.py": (
        "usecases/test_run.py",
        "usecases/test_holds.py",
        "usecases/test_batches.py",
    ),
    "usecases/invoices/save.py": (
        "usecases/test_run.py",
        "usecases/test_balances.py",
        "api/test_in_advance.py",
        "api/test_credit_notes.py",
    ),
    "usecases/invoices/drafts.py": (
        "usecases/test_drafts.py",
        "api/test_drafts.py",
        "usecases/test_holds.py",
    ),
    "store/fees.py": (
        "usecases/test_run.py",
        "api/test_fees.py",
        "api/test_in_advance.py",
        "api/test_late_usage.py",
        "usecases/test_drafts.py",
    ),
}
"""What tests a module: files of tests/core, or with their folder."""
SECONDS_MAX = 60
SECONDS_MAX_WITH_DATABASE = 400

_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
}


class Mutant(NamedTuple):
    """A fault: the module's tree with it, and how to tell it."""

    line: int
    told: str
    tree: ast.Module


def mutants_of(source: str) -> Iterator[Mutant]:
    """Every fault of a module, one at a time."""
    tree = ast.parse(source)
    beside = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef | ast.FunctionDef)
        for decorator in node.decorator_list
        for inner in ast.walk(decorator)
    }
    for place, node in enumerate(ast.walk(tree)):
        if node in beside:
            continue
        for number in range(_faults(node)):
            changed = copy.deepcopy(tree)
            found = next(each for at, each in enumerate(ast.walk(changed)) if at == place)
            before = ast.unparse(found)
            after = _break(found, number)
            if after != before:
                yield Mutant(
                    getattr(node, "lineno", 0), f"{before}  ->  {after}", ast.fix_missing_locations(changed)
                )


def _faults(node: ast.AST) -> int:
    match node:
        case ast.Compare(ops=ops):
            return len(ops)
        case ast.BinOp(op=op):
            return int(type(op) in _ARITHMETIC)
        case ast.BoolOp() | ast.IfExp() | ast.If():
            return 1
        case ast.Constant(value=bool() | int()):
            return 1
        case ast.Call(func=ast.Name(id="max" | "min")):
            return 1
        case ast.Return(value=ast.expr()):
            return 1
        case ast.AugAssign(op=op):
            return int(type(op) in _ARITHMETIC)
        case ast.UnaryOp(op=ast.Not()):
            return 1
        case _:
            return 0


def _break(node: ast.AST, number: int) -> str:
    """Put the fault in; the node's text afterwards."""
    match node:
        case ast.Compare():
            node.ops[number] = _COMPARISONS[type(node.ops[number])]()
        case ast.BinOp() | ast.AugAssign():
            node.op = _ARITHMETIC[type(node.op)]()
        case ast.BoolOp():
            node.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        case ast.IfExp():
            node.body, node.orelse = node.orelse, node.body
        case ast.If():
            node.test = ast.UnaryOp(op=ast.Not(), operand=node.test)
        case ast.Constant():
            node.value = (not node.value) if isinstance(node.value, bool) else int(str(node.value)) + 1
        case ast.Call(func=ast.Name(id=name)):
            node.func = ast.Name(id="min" if name == "max" else "max", ctx=ast.Load())
        case ast.Return():
            node.value = ast.Constant(value=None)
        case ast.UnaryOp():
            node.operand = ast.UnaryOp(op=ast.Not(), operand=node.operand)
    return ast.unparse(node)


class _Broken(MetaPathFinder, Loader):
    """Gives out the broken module in place of the sound one."""

    def __init__(self, path: Path, tree: ast.Module) -> None:
        self.path, self.tree = path, tree
        relative = path.relative_to(SOURCE.parent).with_suffix("")
        self.name = ".".join(part for part in relative.parts if part != "__init__")

    def find_spec(self, fullname: str, *_: object) -> ModuleSpec | None:
        if fullname != self.name:
            return None
        is_package = self.path.name == "__init__.py"
        search = [str(self.path.parent)] if is_package else None
        return spec_from_file_location(fullname, self.path, loader=self, submodule_search_locations=search)

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self.tree, str(self.path), "exec"), module.__dict__)


def is_noticed(path: Path, mutant: Mutant, tests: tuple[str, ...]) -> bool:
    """Whether a test fails with the fault, or never ends."""
    child = os.fork()
    if child == 0:
        os._exit(_run(path, mutant, tests))
    _, status = os.waitpid(child, 0)
    return status != 0


def _run(path: Path, mutant: Mutant, tests: tuple[str, ...]) -> int:
    import signal

    import hypothesis

    signal.signal(signal.SIGALRM, signal.default_int_handler)  # pytest then still stops what it started
    signal.alarm(SECONDS_MAX if _is_core(path) else SECONDS_MAX_WITH_DATABASE)
    quick = [hypothesis.Phase.explicit, hypothesis.Phase.generate]
    hypothesis.settings.register_profile(
        "mutants", phases=quick, database=None, deadline=None, max_examples=60, derandomize=True
    )
    hypothesis.settings.load_profile("mutants")
    sys.meta_path.insert(0, _Broken(path, mutant.tree))
    return _pytest("-x", *tests)


def _pytest(*arguments: str) -> int:
    import pytest

    without = [word for name in ("cacheprovider", "randomly", "xdist") for word in ("-p", f"no:{name}")]
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        return int(pytest.main(["-q", *without, *arguments]))


def _warm_up(tests: tuple[str, ...]) -> None:
    """Import what the tests need before the forks, but for our own modules, of which one will be broken."""
    _pytest("--collect-only", *tests)
    for name in [name for name in sys.modules if name.partition(".")[0] in {"permille", "tests"}]:
        del sys.modules[name]


def tests_for(relative: str) -> tuple[str, ...]:
    """The files of tests for a module, the one of its own name first."""
    chosen = next(tests for prefix, tests in TESTS.items() if relative.startswith(prefix))
    paths = [ROOT / "tests" / (name if "/" in name else f"core/{name}") for name in chosen]
    files = [file for path in paths for file in (sorted(path.glob("test_*.py")) if path.is_dir() else [path])]
    own = f"test_{Path(relative).stem}.py"
    return tuple(str(file) for file in sorted(files, key=lambda file: file.name != own))


def modules(names: list[str]) -> list[Path]:
    """The modules that are named, with a line or without, or all of the core."""
    every = [
        path
        for prefix in TESTS
        for path in sorted(SOURCE.glob(f"{prefix}*.py" if prefix.endswith("/") else prefix))
    ]
    named = {name.partition(":")[0] for name in names}
    return [path for path in every if (str(path.relative_to(SOURCE)) in named if names else _is_core(path))]


def _is_core(path: Path) -> bool:
    return path.is_relative_to(SOURCE / "core")


def lines(relative: str, names: list[str]) -> set[int]:
    """The lines of a module that are named; none when it is wanted whole."""
    named = [name.partition(":") for name in names]
    return {int(line) for module, _, line in named if module == relative and line}


def main() -> int | str:
    parser = ArgumentParser()
    parser.add_argument("--sample", type=int)
    parser.add_argument("modules", nargs="*")
    arguments = parser.parse_args()
    names: list[str] = arguments.modules
    os.chdir(ROOT)
    survivors = total = 0
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for path in modules(names):
            relative = str(path.relative_to(SOURCE))
            source, only = path.read_text(), lines(relative, names)
            _warm_up(tests_for(relative))
            if is_noticed(path, Mutant(0, "", ast.parse(source)), tests_for(relative)):
                return f"{relative}: its tests fail without any fault"
            found = [mutant for mutant in mutants_of(source) if not only or mutant.line in only]
            if arguments.sample is not None and arguments.sample < len(found):
                found = sorted(Random(relative).sample(found, arguments.sample), key=lambda each: each.line)
            check = partial(is_noticed, path, tests=tests_for(relative))
            noticed = list(pool.map(check, found))
            total += len(found)
            survivors += noticed.count(False)
            print(f"{relative}: {noticed.count(True)} of {len(found)} noticed", flush=True)
            for mutant, is_seen in zip(found, noticed, strict=True):
                if not is_seen:
                    print(f"  line {mutant.line}: {mutant.told}", flush=True)
    print(f"{total - survivors} of {total} noticed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
