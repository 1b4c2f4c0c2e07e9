"""The pages of docs/connect as the web admin shows them: the same text, with the server's own address."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from markupsafe import Markup

from permille.core.errors import NotFound
from permille.core.record import Record

if TYPE_CHECKING:
    from markdown_it.token import Token

EXAMPLE = "https://billing.example.com"
"""The server's address in the texts."""


class Guide(Record, kw_only=True):
    """How a client is connected."""

    name: str
    title: str
    text: str
    """Markdown, without the title."""


@cache
def guides() -> dict[str, Guide]:
    """All of them by name, in the order of their titles."""
    found = [
        _read(each.name.removesuffix(".md"), each.read_text())
        for each in (files("permille.web") / "guides").iterdir()
        if each.name.endswith(".md")
    ]
    return {guide.name: guide for guide in sorted(found, key=lambda guide: guide.title.lower())}


def _read(name: str, text: str) -> Guide:
    title, _, rest = text.partition("\n")
    return Guide(name=name, title=title.removeprefix("# "), text=rest)


def guide_of(name: str) -> Guide:
    """Raises NotFound."""
    found = guides().get(name)
    if found is None:
        raise NotFound("page")
    return found


def rendered(guide: Guide, base_url: str) -> Markup:
    """The page's HTML. Links to other guides lead to their pages; what is not served here is text."""
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = parser.parse(guide.text.replace(EXAMPLE, base_url))
    for token in tokens:
        _lead(token.children or [])
    return Markup(parser.renderer.render(tokens, parser.options, {}))  # noqa: S704 -- a file of ours, and HTML in it is escaped


def _lead(tokens: list[Token]) -> None:
    ends: list[bool] = []
    for token in tokens:
        if token.type == "link_open":
            name = str(token.attrs["href"]).partition("#")[0].removesuffix(".md")
            ends.append(name in guides())
            token.attrs["href"] = f"/app/connect/{name}"
            token.hidden = not ends[-1]
        elif token.type == "link_close":
            token.hidden = not ends.pop()
