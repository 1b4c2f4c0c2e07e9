"""The command line. Every command reads the environment for what it is not told (see `permille doctor`)."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, NoReturn

from cyclopts import App, Parameter

from permille import __version__
from permille.config import Config, ConfigError, from_environment

app = App(name="permille", help="The billing engine for LLM companies.", version=__version__)
database = App(name="db", help="The database's schema.")
templates = App(name="templates", help="Price lists that come with Permille.")
app.command(database)
app.command(templates)

Host = Annotated[str | None, Parameter(help="Address to listen on.")]
Port = Annotated[int | None, Parameter(help="Port to listen on.")]
DataDir = Annotated[Path | None, Parameter(help="Folder of the embedded database.")]


def _config(host: str | None = None, port: int | None = None, data_dir: Path | None = None) -> Config:
    given: dict[str, Any] = {"host": host, "port": port, "data_dir": data_dir}
    return replace(from_environment(), **{name: value for name, value in given.items() if value is not None})


def _database_config(data_dir: Path | None) -> Config:
    """With the database of PERMILLE_DATABASE_URL, else the embedded one that `permille up` runs in data_dir."""
    from permille.postgres import dsn_of

    config = _config(data_dir=data_dir)
    return config if config.database_url else replace(config, database_url=dsn_of(config.data_dir))


@app.command
def up(*, host: Host = None, port: Port = None, data_dir: DataDir = None) -> int:
    """Run everything in one process tree: database, API and background work."""
    from permille.supervisor import up as run

    return run(_config(host, port, data_dir))


@app.command
def serve(*, host: Host = None, port: Port = None) -> None:
    """Serve the API on the database of PERMILLE_DATABASE_URL."""
    from permille.server import serve as run

    run(_config(host, port))


@app.command
def work() -> None:
    """Do the background work (roll-up, invoices, webhooks) on the database of PERMILLE_DATABASE_URL."""
    from permille.worker import run

    run(_config())


@app.command
def doctor(*, data_dir: DataDir = None) -> int:
    """Check this machine, the settings and the database, and say what to do about what is wrong."""
    from permille.doctor import report

    return report(_config(data_dir=data_dir))


@app.command
def demo(
    *,
    folder: Annotated[Path, Parameter(help="Where the demo keeps its data; emptied first.")] = Path(
        "demo-data"
    ),
    port: Annotated[int, Parameter(help="First port to try.")] = 8080,
    events: Annotated[int, Parameter(help="How many events to send.")] = 300_000,
    seed: Annotated[int, Parameter(help="The same seed draws the same month.")] = 1_000,
    keep: Annotated[bool, Parameter(help="Leave the server running.")] = True,
) -> int:
    """Bill a realistic month of GPT-4 and GPT-3.5 Turbo usage, from the events to the PDF."""
    from permille.demo import run

    return run(folder=folder.resolve(), port=port, events=events, seed=seed, keep=keep)


@app.command
def sign_in_link(
    email: Annotated[str, Parameter(help="Whose; a user is made if there is none with it.")],
    /,
    *,
    role: Annotated[str, Parameter(help="Of a new user: admin, finance or read_only.")] = "admin",
    data_dir: DataDir = None,
) -> int:
    """Print a one-time link into the web admin, for the first user or for one who forgot the password."""
    from permille.web.sign_in import sign_in_link as make

    try:
        print(make(_database_config(data_dir), email=email, role=role))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


@database.command
def migrate() -> int:
    """Bring the schema of PERMILLE_DATABASE_URL up to date."""
    from permille.store.migrate import migrate as run

    url = _config().database_url
    if url is None:
        print(
            "Set PERMILLE_DATABASE_URL. (`permille up` migrates its own database by itself.)", file=sys.stderr
        )
        return 1
    applied = run(url)
    print("\n".join(f"applied {name}" for name in applied) or "The schema is up to date.")
    return 0


@templates.default
def list_templates() -> None:
    """List the price lists."""
    from permille.billing.price_lists import list_price_lists

    for price_list in list_price_lists():
        print(f"{price_list.slug:<28} {price_list.description}")


@templates.command
def apply(
    slug: Annotated[str, Parameter(help="A name from `permille templates`.")],
    /,
    *,
    organization: Annotated[str | None, Parameter(help="Name or id; needed when there are several.")] = None,
    data_dir: DataDir = None,
) -> int:
    """Make the metrics and the plan of a price list in an organization."""
    from permille.billing.price_lists import apply_from_command_line

    return apply_from_command_line(_database_config(data_dir), slug=slug, organization=organization)


def main() -> None:
    """The entry point: what the user can mend is one line and exit code 2, not a traceback."""
    try:
        code = app()
    except ConfigError as error:
        _fail(error)
    except Exception as error:
        if not _is_of_the_database(error):
            raise
        _fail(error)
    sys.exit(code if isinstance(code, int) else 0)


def _is_of_the_database(error: Exception) -> bool:
    import psycopg

    from permille.store.migrate import UnableToMigrateError

    return isinstance(error, psycopg.OperationalError | UnableToMigrateError)


def _fail(error: Exception) -> NoReturn:
    print(f"permille: {error}", file=sys.stderr)
    sys.exit(2)
