"""See _usual.c."""

from typing import Any, Self

SOURCE: str
"""The digest of what it was built from."""

def shape_of(
    usage: dict[str, Any],
    counts: frozenset[str],
    nested: frozenset[str],
    ids: frozenset[str],
    names: frozenset[str],
    /,
) -> tuple[tuple[Any, ...], list[int], list[str]] | None:
    """As core/llm/shape.py, with the sets of names of core/llm/redact.py; None also where that is to decide."""

def spans_of(content: bytes, /) -> list[tuple[str, str, str, str, str, int, bool, dict[str, Any]]] | None:
    """The spans of an ExportTraceServiceRequest as ingest/decoders/trace_messages.py; None also where that is to decide."""

def alike_spans(
    content: bytes, uses: dict[str, int], prefixes: dict[str, int], /
) -> list[tuple[bytes, list[int], list[str], str, int]] | None:
    """The same spans, taken apart as core/llm/otlp/alike.py says; None where that is not possible."""

class Table:
    """The ids of series, in so many bytes: those that were not used lately are forgotten."""

    def __new__(cls, bytes_max: int) -> Self: ...
    @property
    def series(self) -> int: ...
    @property
    def bytes(self) -> int: ...

class Layout:
    """How events of a code are split under one version of its metering, and which of its series are known."""

    def __new__(
        cls,
        table: Table,
        organization: bytes,
        code: str,
        version: int,
        field: str | None,
        keys: tuple[str, ...],
    ) -> Self: ...
    def get(self, place: tuple[str | None, tuple[Any, ...]], /) -> int | None: ...
    def keep(self, place: tuple[str | None, tuple[Any, ...]], series_id: int, /) -> None: ...

class Organization:
    """The layouts of its codes, all of one version of its metering."""

    def __new__(cls, id: bytes) -> Self: ...  # noqa: A002
    def add(self, layout: Layout, /) -> None: ...
    def read(
        self,
        body: bytes,
        created_at: int,
        most: int,
        is_batch: bool,
        is_answered: bool,
        frees_interpreter: bool,
    ) -> (
        tuple[int, set[str], bytes, bytes, bytes, bytes | None, bytes, bytes | None, bytes | None, bytes]
        | None
    ): ...
