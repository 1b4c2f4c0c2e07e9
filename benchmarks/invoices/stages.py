"""Where the time of a run goes: its functions timed from outside, each without what it calls."""

from __future__ import annotations

import functools
import time
from collections import defaultdict
from collections.abc import Callable
from types import ModuleType
from typing import Any, Self

from permille.events.postgres import usage
from permille.store import credit_notes, customers, invoices, plans, subscriptions, webhooks
from permille.usecases.invoices import facts, run

_STAGES: tuple[tuple[str, ModuleType, str], ...] = (
    ("claim customers", invoices, "claim_payers"),
    ("claim subscriptions", invoices, "claim_due"),
    ("load subscriptions", subscriptions, "by_ids"),
    ("load customers", customers, "by_ids"),
    ("load plans", plans, "plans_by_ids"),
    ("load contracts", run, "load_contracts"),
    ("group", run, "grouped"),
    ("load facts", run, "load_facts"),
    ("windows of usage", facts, "usage_windows"),
    ("read usage", usage, "usage_of_many"),
    ("read credit", credit_notes, "available"),
    ("run the steps", run, "make"),
    ("take numbers", invoices, "take_customer_numbers"),
    ("regroup", run, "regroup"),
    ("write invoices and fees", invoices, "add"),
    ("queue webhooks", webhooks, "enqueue"),
    ("settle subscriptions", invoices, "settle"),
    ("the rest of the run", run, "bill_due"),
)


class Stages:
    """Seconds by stage, while it is entered."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._inner: list[float] = []
        self._originals: list[tuple[ModuleType, str, Callable[..., Any]]] = []

    def __enter__(self) -> Self:
        for name, module, function in _STAGES:
            original = getattr(module, function)
            self._originals.append((module, function, original))
            setattr(module, function, self._timed(name, original))
        return self

    def __exit__(self, *_error: object) -> None:
        for module, function, original in self._originals:
            setattr(module, function, original)

    def _timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def timed(*given: Any, **named: Any) -> Any:
            self._inner.append(0.0)
            began = time.perf_counter()
            try:
                return function(*given, **named)
            finally:
                took = time.perf_counter() - began
                self.seconds[name] += took - self._inner.pop()
                if self._inner:
                    self._inner[-1] += took

        return timed
