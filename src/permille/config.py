"""The settings of a process: frozen, read once from PERMILLE_* environment variables."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

PREFIX = "PERMILLE_"


class ConfigError(Exception):
    """A setting has a value that it can't have; the message names the variable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The settings. The field `port` is the variable PERMILLE_PORT, and so on; secrets stay out of its repr."""

    database_url: str | None = field(default=None, repr=False)
    """A libpq URI or connection string of a PostgreSQL 15 or newer; without one the embedded database is used."""
    data_dir: Path = Path("permille-data")
    """Where the embedded database lies."""
    pg_bin: Path | None = None
    """The directory of PostgreSQL's programs for the embedded database."""
    pg_user: str | None = None
    """The system user of the embedded database when Permille is started by root."""
    admin_key: str | None = field(default=None, repr=False)
    """The key of the admin API, which is off without one."""
    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535)] = 8080
    """0 lets the system choose."""
    public_url: Annotated[str, Meta(pattern=r"^https?://\S+$")] | None = None
    """Where customers reach us, for links in webhooks and mail; made from host and port if it is not set."""
    workers: Annotated[int, Meta(ge=1, le=64)] = 2
    """How many processes of background work `permille up` runs. A large invoice run uses them all."""
    events_batch_max: Annotated[int, Meta(ge=1, le=100_000)] = 1_000
    """The most events in one request to /events/batch. Lago's limit is 100."""
    max_body_bytes: Annotated[int, Meta(ge=1_024)] = 10 * 1024 * 1024
    """The largest request body."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    webhook_allow_private: bool = False
    """Whether webhook endpoints of live organizations may lie in private and loopback networks."""
    webhook_timeout_seconds: Annotated[int, Meta(ge=1, le=120)] = 30

    @property
    def base_url(self) -> str:
        """The address for links, without a slash at its end."""
        if self.public_url is not None:
            return self.public_url.rstrip("/")
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


_FIELDS = tuple(known.name for known in fields(Config))
_SECRET = frozenset({"admin_key", "database_url"})


def _variable(name: str) -> str:
    return PREFIX + name.upper()


def _decode(kind: type, value: Any) -> Any:
    if kind is Path:
        return Path(value).expanduser()
    raise NotImplementedError(kind)


def _message(error: msgspec.ValidationError, values: Mapping[str, str]) -> str:
    """The error in terms of the variable, without its value where that may be a secret."""
    text, _, path = str(error).partition(" - at `$.")
    name = re.split(r"\W", path)[0]
    if name not in values:
        return str(error)
    shown = "" if name in _SECRET else f"={values[name]}"
    return f"{_variable(name)}{shown}: {text}"


def from_environment(environ: Mapping[str, str] | None = None) -> Config:
    """The settings of the process's environment (or the given one); an empty value counts as none. Raises ConfigError."""
    found = os.environ if environ is None else environ
    given = {name: found.get(_variable(name), "").strip() for name in _FIELDS}
    values = {name: value.lower() if name == "log_level" else value for name, value in given.items() if value}
    try:
        return msgspec.convert(values, Config, strict=False, dec_hook=_decode)
    except msgspec.ValidationError as error:
        raise ConfigError(_message(error, values)) from error


def unknown_variables(environ: Mapping[str, str]) -> list[str]:
    """PERMILLE_* variables that mean nothing, probably mistyped."""
    known = {_variable(name) for name in _FIELDS}
    return sorted(name for name in environ if name.startswith(PREFIX) and name not in known)
