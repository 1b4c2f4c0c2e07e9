"""The settings of a process: frozen, read once from PERMILLE_* environment variables."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_type_hints

import msgspec
from msgspec import Meta

PREFIX = "PERMILLE_"
READER_SOCKET = "PERMILLE_READER_SOCKET"
"""The variable by which `permille up` says its programs where heavy reads are done: the name of a Unix socket without a file."""
CALLS_SOCKET = "PERMILLE_CALLS_SOCKET"
"""The same for the socket at which they ask for a program that is started only when it is needed."""


class ConfigError(Exception):
    """A setting has a value that it can't have; the message names the variable."""


class Networks:
    """IP networks and addresses from a text with commas between them. Raises ValueError."""

    def __init__(self, text: str = "") -> None:
        self._text = text
        self._networks = frozenset(ip_network(each.strip()) for each in text.split(",") if each.strip())

    def __contains__(self, address: object) -> bool:
        """Whether the text is an IP address in one of the networks."""
        try:
            ip = ip_address(str(address))
        except ValueError:
            return False
        return any(ip in network for network in self._networks)

    def __bool__(self) -> bool:
        return bool(self._networks)

    def each(self) -> list[str]:
        """The networks as texts."""
        return [str(network) for network in self._networks]

    def __str__(self) -> str:
        return self._text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Networks) and self._networks == other._networks

    def __hash__(self) -> int:
        return hash(self._networks)


NO_NETWORKS = Networks()


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The settings. The field `port` is the variable PERMILLE_PORT, and so on; secrets stay out of its repr."""

    database_url: Annotated[
        str | None,
        Meta(
            description="URI or libpq connection string of a PostgreSQL 15 or newer. Without it, `permille up` runs "
            "its own database in the data directory."
        ),
    ] = field(default=None, repr=False)
    data_dir: Annotated[Path, Meta(description="Folder of the embedded database.")] = Path("permille-data")
    pg_bin: Annotated[
        Path | None,
        Meta(description="Folder of PostgreSQL's programs, for the embedded database. Found by itself."),
    ] = None
    pg_user: Annotated[
        str | None,
        Meta(
            description="System user of the embedded database, and of all that listens or works, when Permille is started "
            "by root. Without it, the user permille, who is made if need be."
        ),
    ] = None
    allow_root: Annotated[
        bool,
        Meta(
            description="Whether Permille, started by root, stays root where that user can't read its installation. "
            "Without it, it refuses to start there."
        ),
    ] = False
    admin_key: (
        Annotated[
            str,
            Meta(
                min_length=8,
                description="Bearer key of the admin API (`/admin/v1`), which is off without it. At least 8 characters; better 32 "
                "drawn at random.",
            ),
        ]
        | None
    ) = field(default=None, repr=False)
    host: Annotated[str, Meta(description="Address to listen on.")] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535, description="Port to listen on; 0 lets the system choose.")] = (
        8080
    )
    public_url: (
        Annotated[
            str,
            Meta(
                pattern=r"^https?://\S+$",
                description="Where customers reach Permille: the address in links of webhooks and mail. "
                "Without it, host and port.",
            ),
        ]
        | None
    ) = None
    trusted_proxies: Annotated[
        Networks,
        Meta(
            description="Addresses or networks of the reverse proxies in front of Permille, with commas between them: "
            "`10.0.0.0/8, ::1`. Of them alone `X-Forwarded-For` and `X-Forwarded-Proto` are believed."
        ),
    ] = NO_NETWORKS
    allowed_hosts: (
        Annotated[
            str,
            Meta(
                pattern=r"^[^\s/:]+(,\s*[^\s/:]+)*$",
                description="The names in a Host header that are answered, with commas between them: `billing.example.com`. "
                "Without it, any.",
            ),
        ]
        | None
    ) = None
    request_seconds: Annotated[
        int,
        Meta(
            ge=1,
            le=3_600,
            description="How long a request may take to arrive, its body included; above it, 408.",
        ),
    ] = 30
    connections_max: Annotated[
        int,
        Meta(
            ge=10,
            le=1_000_000,
            description="Connections at once. When there are more, those that have owed their headers longest are closed.",
        ),
    ] = 10_000
    connections_per_address: Annotated[
        int,
        Meta(
            ge=1,
            le=1_000_000,
            description="Connections at once from one address that is no trusted proxy's.",
        ),
    ] = 2_000
    bodies_mb: Annotated[
        int,
        Meta(
            ge=16,
            le=65_536,
            description="Memory for the bodies of requests that are being read or answered, in MiB; above it, 503. "
            "An organization has half of it, and what comes without a key a sixteenth.",
        ),
    ] = 512
    workers: Annotated[
        int,
        Meta(
            ge=1,
            le=64,
            description="Processes of background work that `permille up` runs at most: one always, the others while there is much to do.",
        ),
    ] = 2
    events_batch_max: Annotated[
        int,
        Meta(
            ge=1,
            le=100_000,
            description="Most events in one request to `/events/batch`. Lago's limit is 100.",
        ),
    ] = 1_000
    max_body_bytes: Annotated[int, Meta(ge=1_024, description="Largest request body, in bytes.")] = (
        10 * 1024 * 1024
    )
    requests_at_once: Annotated[
        int,
        Meta(
            ge=1,
            le=1_000,
            description="Requests of one organization that a server works on at once; others of it wait. "
            "Events don't count among them.",
        ),
    ] = 4
    requests_waiting: Annotated[
        int,
        Meta(
            ge=0,
            le=100_000,
            description="Requests of one organization that may wait for their turn; above it, 429.",
        ),
    ] = 36
    documents_at_once: Annotated[
        int,
        Meta(
            ge=1,
            le=64,
            description="PDFs that a server makes at once, one of each organization; above a short queue, 503.",
        ),
    ] = 2
    statement_timeout_seconds: Annotated[
        int,
        Meta(ge=0, le=86_400, description="How long a request's statement may take; 0 is without end."),
    ] = 30
    lock_timeout_seconds: Annotated[
        int,
        Meta(ge=0, le=86_400, description="How long a request's statement may wait for a lock."),
    ] = 10
    idle_timeout_seconds: Annotated[
        int,
        Meta(
            ge=0,
            le=86_400,
            description="How long a transaction may do nothing in the database before it is ended, also a worker's.",
        ),
    ] = 120
    worker_statement_timeout_seconds: Annotated[
        int,
        Meta(
            ge=0,
            le=86_400,
            description="How long a worker's statement may take, its wait for locks included; 0 is without end.",
        ),
    ] = 900
    series_memory_mb: Annotated[
        int,
        Meta(
            ge=1,
            le=65_536,
            description="Memory for the ids of series that a server has met, in MiB. "
            "Events of series that are not remembered cost a look-up.",
        ),
    ] = 256
    accelerator: Annotated[
        Literal["on", "off"],
        Meta(
            description="Whether usual events are read by the accelerator in C, where it was built; "
            "`off` reads all of them by Python."
        ),
    ] = "on"
    reader: Annotated[
        Literal["on", "off"],
        Meta(
            description="Whether heavy reads (usage, analytics, margin, lists of invoices, fees and events) have a process of their own in "
            "`permille up`, and documents another one, so that events don't wait for them; `off` saves their memory."
        ),
    ] = "on"
    audit_days: Annotated[
        int,
        Meta(ge=0, le=36_500, description="How many days the audit log is kept; 0 is for ever."),
    ] = 0
    api_log_days: Annotated[
        int,
        Meta(
            ge=0,
            le=36_500,
            description="How many days the log of requests that write is kept; 0 is for ever.",
        ),
    ] = 30
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Meta(description="Least level of what is logged: debug, info, warning or error."),
    ] = "info"
    log_format: Annotated[
        Literal["text", "json"],
        Meta(description="How lines of the log are written: text, or json with a line for each request."),
    ] = "text"
    metrics_key: Annotated[
        str | None,
        Meta(description="Bearer key of `/metrics` for Prometheus, which is off without it."),
    ] = field(default=None, repr=False)
    webhook_allow_private: Annotated[
        bool,
        Meta(
            description="Whether webhook endpoints, logos, mail servers and VIES of live organizations may be in private and loopback networks."
        ),
    ] = False
    webhook_timeout_seconds: Annotated[
        int, Meta(ge=1, le=120, description="How long an attempt to deliver a webhook may take, in seconds.")
    ] = 30

    vies_url: (
        Annotated[
            str,
            Meta(
                pattern=r"^https?://\S+$",
                description="VIES, where VAT numbers of customers are looked up: "
                "`https://ec.europa.eu/taxation_customs/vies/rest-api`. Without it, none is: docs/eu-taxes.md.",
            ),
        ]
        | None
    ) = None

    smtp_host: Annotated[
        str | None,
        Meta(
            description="Mail server that mail to customers goes through. Without it, none is sent: docs/mail.md."
        ),
    ] = None
    smtp_port: Annotated[int, Meta(ge=1, le=65535, description="Its port.")] = 587
    smtp_security: Annotated[
        Literal["starttls", "tls", "none"],
        Meta(
            description="How the connection to it is encrypted: starttls, tls from the first byte, or none."
        ),
    ] = "starttls"
    smtp_user: Annotated[str | None, Meta(description="Who signs in to it. Without it, nobody does.")] = None
    smtp_password: Annotated[str | None, Meta(description="The password.")] = field(default=None, repr=False)
    smtp_timeout_seconds: Annotated[
        int, Meta(ge=2, le=600, description="How long an attempt to send a mail may take, in seconds.")
    ] = 30
    mail_from: (
        Annotated[
            str,
            Meta(
                pattern=r"^[^@\s]+@[^@\s]+$",
                description="Address that mail to customers comes from. Answers go to the email of the billing entity.",
            ),
        ]
        | None
    ) = None
    mail_test_recipients: Annotated[
        str,
        Meta(
            description="Addresses and domains, with commas between them, that get mail of organizations in test mode: "
            "`@example.com`. Without any, nobody does."
        ),
    ] = ""

    oidc_issuer: (
        Annotated[
            str,
            Meta(
                pattern=r"^https?://\S+$",
                description="Provider of single sign-on (OpenID Connect), which is off without it: docs/sign-in.md.",
            ),
        ]
        | None
    ) = None
    oidc_client_id: Annotated[str | None, Meta(description="What the provider calls Permille.")] = None
    oidc_client_secret: Annotated[
        str | None, Meta(description="Permille's secret at the provider. None for a public client.")
    ] = field(default=None, repr=False)
    oidc_domains: Annotated[
        str,
        Meta(
            description="Domains of emails, with commas between them, whose owners become users by their first single "
            "sign-on. Without any, only users who are there already sign in."
        ),
    ] = ""
    oidc_organization: Annotated[
        str | None, Meta(description="Name or id of the organization that these users join.")
    ] = None
    oidc_role: Annotated[Literal["admin", "finance", "read_only"], Meta(description="Their role in it.")] = (
        "read_only"
    )

    @property
    def base_url(self) -> str:
        """The address for links, without a slash at its end."""
        if self.public_url is not None:
            return self.public_url.rstrip("/")
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What a setting is, for people."""

    variable: str
    default: str
    """Empty where there is none."""
    description: str


def settings() -> dict[str, Setting]:
    """Every setting by its field, in the order of the class."""
    hints = get_type_hints(Config, include_extras=True)
    return {
        known.name: Setting(
            variable=_variable(known.name),
            default="" if known.default is None else str(known.default).lower(),
            description=_description(hints[known.name]),
        )
        for known in fields(Config)
    }


def _description(hint: Any) -> str:
    for part in (hint, *get_args(hint)):
        for meta in getattr(part, "__metadata__", ()):
            if meta.description:
                return str(meta.description)
    raise TypeError(f"{hint} has no description")


_NEEDS = {
    "oidc_issuer": "oidc_client_id",
    "oidc_domains": "oidc_organization",
    "smtp_host": "mail_from",
    "smtp_password": "smtp_user",
}
_FIELDS = tuple(known.name for known in fields(Config))
_SECRET = frozenset({"admin_key", "metrics_key", "database_url", "oidc_client_secret", "smtp_password"})


def _variable(name: str) -> str:
    return PREFIX + name.upper()


def _decode(kind: type, value: Any) -> Any:
    if kind is Path:
        return Path(value).expanduser()
    if kind is Networks:
        return Networks(value)
    raise NotImplementedError(kind)


def _read(values: Mapping[str, str], called: Callable[[str], str]) -> Config:
    """Settings from their texts. Raises ConfigError, which names a setting as `called` does."""
    try:
        return msgspec.convert(values, Config, strict=False, dec_hook=_decode)
    except msgspec.ValidationError as error:
        raise ConfigError(_message(error, values, called)) from error


def _message(error: msgspec.ValidationError, values: Mapping[str, str], called: Callable[[str], str]) -> str:
    """What is wrong, without the value where that may be a secret."""
    text, _, path = str(error).partition(" - at `$.")
    name = re.split(r"\W", path)[0]
    if name not in values:
        return str(error)
    shown = "" if name in _SECRET else f"={values[name]}"
    return f"{called(name)}{shown}: {text}"


def from_environment(environ: Mapping[str, str] | None = None) -> Config:
    """The settings of the process's environment (or the given one); an empty value counts as none. Raises ConfigError."""
    found = os.environ if environ is None else environ
    given = {name: found.get(_variable(name), "").strip() for name in _FIELDS}
    values = {
        name: value.lower() if name in {"log_level", "log_format"} else value
        for name, value in given.items()
        if value
    }
    config = _read(values, _variable)
    for name, needed in _NEEDS.items():
        if getattr(config, name) and not getattr(config, needed):
            raise ConfigError(f"{_variable(name)} needs {_variable(needed)}, too.")
    return config


def overridden(config: Config, options: Mapping[str, object | None]) -> Config:
    """The settings with the options of a command line that were given. Raises ConfigError, which names the option."""
    given = {name: str(value) for name, value in options.items() if value is not None}
    read = _read(given, lambda name: f"--{name.replace('_', '-')}")
    return replace(config, **{name: getattr(read, name) for name in given})


def unknown_variables(environ: Mapping[str, str]) -> list[str]:
    """PERMILLE_* variables that mean nothing, probably mistyped."""
    known = {_variable(name) for name in _FIELDS}
    return sorted(name for name in environ if name.startswith(PREFIX) and name not in known)
