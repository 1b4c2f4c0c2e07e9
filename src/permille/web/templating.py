"""Where templates come from, and what they may use. Loaded with the first page: nobody may ever look at one."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import cache

from jinja2 import (
    ChainableUndefined,
    Environment,
    FileSystemBytecodeCache,
    PackageLoader,
    StrictUndefined,
    select_autoescape,
)
from jinja2.bccache import Bucket

from permille.http.words import in_words
from permille.web.shown import FILTERS, with_query


class _CompiledTemplates(FileSystemBytecodeCache):
    """Compiled templates of earlier looks, up to 0.1 s for a page; in a temporary folder of this user's own.

    A page's are loaded when it is first looked at: all of them take 10 MiB.
    """

    def dump_bytecode(self, bucket: Bucket) -> None:
        with suppress(OSError):  # a full disk is no reason to show no page
            super().dump_bytecode(bucket)


def _compiled() -> _CompiledTemplates | None:
    try:
        return _CompiledTemplates()
    except (OSError, RuntimeError):  # there can be no such folder
        return None


NOTHING = ChainableUndefined(name="nothing")
"""What a form for something new has in place of what it was before: false and undefined, as all of its fields are."""


@cache
def environment(static_url: Callable[[str], str]) -> Environment:
    """The templates of the web admin. `static_url` is the address of a file of ours by its name."""
    found = Environment(
        loader=PackageLoader("permille.web"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        bytecode_cache=_compiled(),
    )
    found.filters |= FILTERS | {"in_words": in_words}
    found.globals |= {"static_url": static_url, "with_query": with_query, "nothing": NOTHING}
    return found
