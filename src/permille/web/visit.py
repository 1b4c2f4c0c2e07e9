"""One look at the web admin: who looks, at which organization, and what was sent; and what a page answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import Any

from psycopg import Connection
from starlette.datastructures import QueryParams

from permille.api import http
from permille.api.http import Engine, Raw
from permille.core.organization import Organization
from permille.core.record import Record, field
from permille.store.sessions import Session
from permille.web.multipart import UploadedFile

PER_PAGE = 25

Pairs = Sequence[tuple[str, str]]
Problems = Mapping[str, Sequence[str]]


class NoOrganizationError(Exception):
    """The page is about an organization, and there is none yet."""


class Form(Record, kw_only=True, dict=True):
    """The fields of a form that was sent; of a name that came several times, `get` takes the last."""

    pairs: Pairs = ()
    files: Mapping[str, UploadedFile] = field(default_factory=dict)
    token: str = ""
    """Which form of which page it was; empty if no page of ours made it."""

    @cached_property
    def _last(self) -> Mapping[str, str]:
        return dict(self.pairs)

    def get(self, name: str, default: str = "") -> str:
        return self._last.get(name, default).strip()

    def all(self, name: str) -> list[str]:
        return [value.strip() for key, value in self.pairs if key == name]

    def has(self, name: str) -> bool:
        return name in self._last

    def filled(self, *names: str) -> dict[str, str]:
        """Those of the fields that are not empty."""
        return {name: self.get(name) for name in names if self.get(name)}


class Visit(Record, kw_only=True):
    """A request of somebody who is signed in. `now` is the organization's clock."""

    engine: Engine
    conn: Connection[Any]
    session: Session
    organization: Organization | None
    organizations: Sequence[Organization]
    roles: Sequence[str]
    """What the user is here; OWNERS are so everywhere."""
    now: datetime
    system_now: datetime
    url: str
    path: Mapping[str, str]
    query: QueryParams
    form: Form = field(default_factory=Form)
    problems: Problems = field(default_factory=dict)

    @property
    def here(self) -> Organization:
        """The organization that is looked at. Raises NoOrganizationError."""
        if self.organization is None:
            raise NoOrganizationError
        return self.organization

    def may(self, roles: Sequence[str]) -> bool:
        """Whether the user has one of the roles, here or in the installation."""
        return any(role in roles for role in self.roles)

    def page(self, per_page: int = PER_PAGE) -> http.Page:
        """Which page of a list the address names."""
        return http.page_of(self.query, per_page)


class HtmlPage(Record, kw_only=True):
    """A template and what it shows."""

    template: str
    context: Mapping[str, Any]


class Done(Record, kw_only=True):
    """A change was made: it goes into the audit log, and the browser to `to`, or straight to `page`."""

    action: str
    subject: str
    to: str = "/app"
    details: Mapping[str, Any] = field(default_factory=dict)
    page: HtmlPage | None = None
    """What is shown instead: a secret that is shown only once, or what is still to be confirmed."""
    status: int = 200
    is_done: bool = True
    """False while `page` asks for a confirmation: the same form may be sent again."""


Show = Callable[[Visit], HtmlPage | Raw]
Submit = Callable[[Visit], Done]

OWNERS = ("owner",)
ANYBODY = ("anybody",)
"""Everybody who is signed in, in an organization or not."""
EVERYBODY = ("admin", "finance", "read_only")
WRITERS = ("admin", "finance")
ADMINS = ("admin",)
