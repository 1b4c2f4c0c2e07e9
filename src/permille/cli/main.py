"""The command line. Options override the environment's settings (docs/configuration.md)."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Annotated, NoReturn
from uuid import UUID

from cyclopts import App, Parameter

from permille import __version__
from permille.config import Config, ConfigError, from_environment, overridden, settings
from permille.embedded import running

app = App(name="permille", help="The billing engine for LLM companies.", version=__version__)
database = App(name="db", help="The database: its schema, backups, upgrades.")
templates = App(name="templates", help="Price lists that come with Permille.")
mail = App(name="mail", help="Mail to customers (docs/mail.md).")
clock = App(name="clock", help="The clock that bills go by (docs/clock.md).")
app.command(database)
app.command(clock)
app.command(templates)
app.command(mail)
llm = App(name="llm", help="Usage of language models (docs/llm.md).")
app.command(llm)
prices = App(name="prices", help="The price catalogue (docs/catalogue.md).")
app.command(prices)
corrections = App(name="corrections", help="Final invoices that corrected prices change.")
prices.command(corrections)


def _setting(name: str) -> Parameter:
    """An option that overrides a setting of the environment; its help names both."""
    setting = settings()[name]
    return Parameter(help=f"{setting.description} [default: {setting.default}] [env: {setting.variable}]")


Host = Annotated[str | None, _setting("host")]
Port = Annotated[int | None, _setting("port")]
DataDir = Annotated[Path | None, _setting("data_dir")]
IncludeDeprecated = Annotated[
    bool, Parameter(help="Also models that their providers no longer offer to new users.", negative=())
]
OfOrganization = Annotated[str | None, Parameter(help="Name or id; needed when there are several.")]


def _config(host: str | None = None, port: int | None = None, data_dir: Path | None = None) -> Config:
    return overridden(from_environment(), {"host": host, "port": port, "data_dir": data_dir})


def _database_config(data_dir: Path | None = None) -> Config:
    """With the database of PERMILLE_DATABASE_URL, else the embedded one that `permille up` runs in data_dir.

    Raises UnusableError when there is none, or none that runs.
    """
    from permille.embedded.postgres import dsn_of

    config = _config(data_dir=data_dir)
    if config.database_url:
        return config
    dsn = dsn_of(config.data_dir)
    if dsn is None:
        raise running.no_database(config.data_dir)
    found = running.running(config.data_dir)
    if found is None:
        folder = config.data_dir.absolute()
        raise running.UnusableError(
            f"The database in {folder} does not run. Start it with: permille up --data-dir {folder}"
        )
    return replace(config, database_url=dsn, host=found.host, port=found.port)


def _given_database(command: str) -> Config:
    """For commands that work on a database of your own only. Raises UnusableError."""
    config = _config()
    if config.database_url is None:
        raise running.UnusableError(
            f"`permille {command}` needs PERMILLE_DATABASE_URL. (`permille up` brings its own database and does all by itself.)"
        )
    return config


@app.command
def up(
    *,
    host: Host = None,
    port: Port = None,
    data_dir: DataDir = None,
    detach: Annotated[
        bool, Parameter(negative=(), help="Go on in the background; return when it is ready.")
    ] = False,
    new: Annotated[
        bool,
        Parameter(negative=(), help="Make a database here although there is one in a folder next to it."),
    ] = False,
) -> int:
    """Run everything in one process tree: database, API and background work.

    Other settings come from the environment: docs/configuration.md.
    """
    config = _config(host, port, data_dir)
    if config.database_url is None:
        running.check_data_dir(config.data_dir, is_new=new)
    if detach:
        return _up_in_background(config)
    if os.geteuid() == 0:
        from permille.embedded.unprivileged import prepare

        prepare(config)
    from permille.embedded.supervisor import up as run

    return run(config)


def _up_in_background(config: Config) -> int:
    started = running.start_in_background(config)
    folder = config.data_dir.absolute()
    print(f"Permille is ready at {started.url} (process {started.pid}).")
    print(f"Log: {folder / running.LOG}. Stop it with: permille stop --data-dir {folder}")
    print(f"Web admin: permille sign-in-link EMAIL --data-dir {folder}")
    return 0


@app.command
def stop(*, data_dir: DataDir = None) -> int:
    """Stop the `permille up` of a data directory, and wait until it has ended."""
    config = _config(data_dir=data_dir)
    stopped = running.stop(config.data_dir)
    if stopped is None:
        return _not_running(config)
    print(f"Stopped Permille at {stopped.url} (process {stopped.pid}).")
    return 0


@app.command
def status(*, data_dir: DataDir = None) -> int:
    """Say where the `permille up` of a data directory answers, and whether it is ready; 0 when it is."""
    config = _config(data_dir=data_dir)
    found = running.running(config.data_dir)
    if found is None:
        return _not_running(config)
    said = running.health(found.url)
    print(f"Permille runs at {found.url} (process {found.pid}): {said or 'no answer yet'}.")
    return 0 if said == "ok" else 1


def _not_running(config: Config) -> int:
    folder = config.data_dir.absolute()
    if config.database_url is None and not running.is_data_dir(folder):
        raise running.no_database(folder)
    print(f"No Permille runs on {folder}. Start one with: permille up --data-dir {folder}", file=sys.stderr)
    return 1


@app.command
def serve(*, host: Host = None, port: Port = None) -> None:
    """Serve the API and the web admin on the database of PERMILLE_DATABASE_URL."""
    from permille.embedded.unprivileged import prepare

    config = overridden(_given_database("serve"), {"host": host, "port": port})
    prepare(config)
    from permille.server import serve as run

    run(config)


@app.command
def work(
    *,
    until_idle: Annotated[
        bool, Parameter(negative=(), help="End when there has been nothing to do for a minute.")
    ] = False,
) -> None:
    """Do the background work (roll-up, invoices, webhooks) on the database of PERMILLE_DATABASE_URL."""
    from permille.embedded.unprivileged import prepare

    config = _given_database("work")
    prepare(config)
    from permille.worker import run

    run(config, until_idle=until_idle)


@app.command(show=False)
def read(
    *,
    behind: Annotated[
        bool,
        Parameter(negative=(), help="Make documents, and read for those who take most, at low priority."),
    ] = False,
) -> None:
    """Do heavy reads for the server of the same `permille up`, which starts this by itself."""
    from permille.embedded.unprivileged import prepare

    config = _given_database("read")
    prepare(config)
    from permille.reader import run

    run(config, is_behind=behind)


@app.command
def doctor(
    *,
    data_dir: DataDir = None,
    audit: Annotated[
        bool,
        Parameter(
            negative=(), help="Check all that was ever billed and counted instead; it reads every event."
        ),
    ] = False,
) -> int:
    """Check this machine, the settings and the database, and say what to do about what is wrong."""
    from permille.cli.doctor import audit_report, report

    return audit_report(_database_config(data_dir)) if audit else report(_config(data_dir=data_dir))


@app.command
def demo(
    *,
    folder: Annotated[
        Path, Parameter(help="Where the demo keeps its data; what an earlier demo left there is removed.")
    ] = Path("demo-data"),
    port: Annotated[int, Parameter(help="First port to try.")] = 8080,
    events: Annotated[int, Parameter(help="About how many events the month has.")] = 200_000,
    seed: Annotated[int, Parameter(help="The same seed draws the same month.")] = 1_000,
    keep: Annotated[bool, Parameter(help="Leave the server running.")] = True,
) -> int:
    """Bill a realistic month of current models, GPT-4 and GPT-3.5 Turbo, from what was used to the PDF and the margin."""
    from permille.cli.demo import run

    return run(folder=folder.resolve(), port=port, events=events, seed=seed, keep=keep)


@app.command
def sign_in_link(
    email: Annotated[str, Parameter(help="Whose; a user is made if there is none with it.")],
    /,
    *,
    organization: Annotated[
        str | None,
        Parameter(help="Name or id; without it a new user is an owner: admin of all organizations."),
    ] = None,
    role: Annotated[str, Parameter(help="In the organization: admin, finance or read_only.")] = "admin",
    data_dir: DataDir = None,
) -> int:
    """Print a one-time link into the web admin, for the first user, a new one, or one who forgot the password."""
    from permille.web.sign_in import sign_in_link as make

    try:
        print(make(_database_config(data_dir), email=email, role=role, organization=organization))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


@app.command
def reset_second_factor(
    email: Annotated[str, Parameter(help="Whose: somebody who has lost the app and the recovery codes.")],
    /,
    *,
    data_dir: DataDir = None,
) -> int:
    """Turn off the second factor of a user, who then signs in by the password alone."""
    from permille.web.sign_in import reset_second_factor as reset

    if reset(_database_config(data_dir), email=email):
        print(f"{email} has no second factor any more.")
        return 0
    print(f"There is no user {email} with a second factor.", file=sys.stderr)
    return 1


@database.command
def migrate() -> int:
    """Bring the schema of PERMILLE_DATABASE_URL up to date."""
    from permille.database.migrate import migrate as run

    url = _given_database("db migrate").database_url
    assert url is not None
    applied = run(url)
    print("\n".join(f"applied {name}" for name in applied) or "The schema is up to date.")
    return 0


@clock.command
def confirm(*, data_dir: DataDir = None) -> int:
    """Say that this machine's clock is right, after background work has stopped because of it."""
    import psycopg

    from permille.store.activity import ActorKind
    from permille.usecases import activity, watch

    url = _database_config(data_dir).database_url
    assert url is not None
    with psycopg.connect(url, application_name="permille clock") as conn:
        conn.execute("set timezone to 'UTC'")
        now = watch.confirm(conn)
        change = activity.begin(conn, ActorKind.COMMAND_LINE, "permille clock confirm", now=now)
        activity.describe(conn, change, action="confirmed clock", subject="")
    print(
        f"Background work goes on from {now:%Y-%m-%d %H:%M:%S} UTC. `permille up` starts it by itself within 30 s."
    )
    return 0


@database.command
def backup(
    file: Annotated[Path, Parameter(help="A new file; nobody else may read it.")],
    /,
    *,
    data_dir: DataDir = None,
) -> int:
    """Write the whole database, as of one instant, to a file; also while Permille runs."""
    from permille.cli.databases import back_up

    return back_up(_config(data_dir=data_dir), file)


@database.command
def restore(
    file: Annotated[Path, Parameter(help="What `permille db backup` wrote.")],
    /,
    *,
    replace: Annotated[bool, Parameter(negative=(), help="Lose the data that the database has now.")] = False,
    data_dir: DataDir = None,
) -> int:
    """Fill a database from a backup, all or nothing; a database with data is refused without --replace."""
    from permille.cli.databases import restore as run

    return run(_config(data_dir=data_dir), file, replace=replace)


@database.command
def upgrade(
    *,
    old_bin: Annotated[
        Path | None,
        Parameter(help="Folder of the old version's programs. Found by itself where it is installed."),
    ] = None,
    data_dir: DataDir = None,
) -> int:
    """Bring the embedded database over a major version of PostgreSQL; the old one is kept beside it."""
    from permille.cli.databases import upgrade_major

    return upgrade_major(_config(data_dir=data_dir), old_bin=old_bin)


@templates.default
def list_templates() -> None:
    """List the price lists."""
    from permille.usecases.catalogue.price_lists import list_price_lists

    for price_list in list_price_lists():
        print(f"{price_list.slug:<28} {price_list.description}")
    print("Of current models, by the price catalogue: permille templates today")


@templates.command
def apply(
    slug: Annotated[str, Parameter(help="A name from `permille templates`.")],
    /,
    *,
    organization: Annotated[str | None, Parameter(help="Name or id; needed when there are several.")] = None,
    data_dir: DataDir = None,
) -> int:
    """Make the metrics and the plan of a price list in an organization."""
    from permille.usecases.catalogue.price_lists import apply_from_command_line

    return apply_from_command_line(_database_config(data_dir), slug=slug, organization=organization)


@templates.command
def today(
    provider: Annotated[str | None, Parameter(help="Print the models of this provider, with prices.")] = None,
    /,
    *,
    include_deprecated: IncludeDeprecated = False,
    organization: OfOrganization = None,
    data_dir: DataDir = None,
) -> int:
    """List what price lists of today can be made of with `permille llm setup`: providers, or models of one with prices."""
    from permille.cli.llm_setup import print_current_models

    return print_current_models(
        _database_config(data_dir),
        provider=provider,
        include_deprecated=include_deprecated,
        organization=organization,
    )


@mail.command(name="test")
def test_mail(address: Annotated[str, Parameter(help="Who gets it.")], /) -> int:
    """Send a mail with the settings of the mail server, and say what the mail server answers."""
    from permille.out.mail.trial import send_trial

    outcome = send_trial(from_environment(), address)
    print(outcome.text, file=sys.stdout if outcome.ok else sys.stderr)
    return 0 if outcome.ok else 1


@llm.command
def check(
    file: Annotated[Path, Parameter(help="A provider's answer, a line of a batch, or a stream.")],
    /,
    *,
    provider: Annotated[str, Parameter(help="Who served it.")] = "openai",
    api: Annotated[str | None, Parameter(help="How it is read, if it isn't recognized.")] = None,
    model: Annotated[str | None, Parameter(help="The model, if the answer doesn't name it.")] = None,
) -> int:
    """Print what a file with an answer of a language model becomes. Nothing is sent or stored."""
    from permille.cli.llm import check as check_file

    return check_file(file, provider=provider, api=api, model=model)


@llm.command(name="setup")
def set_up_models(
    models: Annotated[list[str], Parameter(help="Models of the catalogue, as PROVIDER/MODEL.")],
    /,
    *,
    plan: Annotated[str, Parameter(help="Code of the plan.")] = "models",
    markup: Annotated[str, Parameter(help="What the catalogue's prices are multiplied by.")] = "1",
    include_deprecated: IncludeDeprecated = False,
    organization: Annotated[str | None, Parameter(help="Name or id; needed when there are several.")] = None,
    data_dir: DataDir = None,
) -> int:
    """Make the metrics of language models and a plan that prices these models by the catalogue."""
    from permille.cli.llm_setup import set_up_from_command_line

    return set_up_from_command_line(
        _database_config(data_dir),
        models,
        plan=plan,
        markup=markup,
        include_deprecated=include_deprecated,
        organization=organization,
    )


PricesOn = Annotated[str | None, Parameter(help="The prices of which UTC date; today by default.")]


@prices.command(name="show")
def show_prices(
    model: Annotated[str, Parameter(help="PROVIDER/MODEL, such as openai/gpt-4.1.")],
    /,
    *,
    on: PricesOn = None,
) -> int:
    """Print what a provider asks for a model."""
    from permille.cli.prices import show

    return show(model, on=_date(on))


@prices.command(name="diff")
def diff_prices(
    file: Annotated[Path, Parameter(help="A data.json of genai-prices.")], /, *, on: PricesOn = None
) -> int:
    """Print what another price file would change. Nothing is stored."""
    from permille.cli.prices import diff

    return diff(file, on=_date(on))


@prices.command(name="versions")
def price_versions(*, organization: OfOrganization = None, data_dir: DataDir = None) -> int:
    """List the versions of an organization's price catalogue, and what those that wait would change."""
    from permille.cli.price_versions import versions

    return versions(_database_config(data_dir), organization=organization)


@prices.command(name="import")
def import_prices(
    file: Annotated[
        Path, Parameter(help="data.json of genai-prices, or model_prices_and_context_window.json of LiteLLM.")
    ],
    /,
    *,
    source: Annotated[str, Parameter(help="Whose file it is: genai-prices or litellm.")] = "genai-prices",
    label: Annotated[str | None, Parameter(help="What it is called; the file's name by default.")] = None,
    organization: OfOrganization = None,
    data_dir: DataDir = None,
) -> int:
    """Import a price file. It changes no price before it is approved."""
    from permille.cli.price_versions import import_file
    from permille.core.llm.catalogue.sources import SOURCES

    if source not in SOURCES:
        raise running.UnusableError(f"{source!r} is no source of prices: {' or '.join(SOURCES)}")
    return import_file(
        _database_config(data_dir), file, source=source, label=label, organization=organization
    )


@prices.command(name="approve")
def approve_prices(
    version: Annotated[UUID, Parameter(help="The id, as `permille prices versions` says it.")],
    /,
    *,
    valid_from: Annotated[
        str | None, Parameter(help="The UTC date from which on it holds; today by default.")
    ] = None,
    accept: Annotated[
        list[str] | None,
        Parameter(help="PROVIDER/MODEL of prices that are gone, become 0 or change tenfold; repeat it."),
    ] = None,
    organization: OfOrganization = None,
    data_dir: DataDir = None,
) -> int:
    """Charge by a version from a date on."""
    from permille.cli.price_versions import approve

    return approve(
        _database_config(data_dir),
        version,
        valid_from=None if valid_from is None else _date(valid_from),
        accept_outliers=accept or [],
        organization=organization,
    )


OfVersion = Annotated[
    UUID, Parameter(help="The version's id, as `permille prices corrections list` says it.")
]


@corrections.command(name="list")
def list_corrections(*, organization: OfOrganization = None, data_dir: DataDir = None) -> int:
    """List the versions that were approved from a past date on, and how many final invoices they correct."""
    from permille.cli.price_corrections import list_versions

    return list_versions(_database_config(data_dir), organization=organization)


@corrections.command(name="show")
def show_corrections(
    version: OfVersion, /, *, organization: OfOrganization = None, data_dir: DataDir = None
) -> int:
    """Print what each invoice has billed, and what it would come to by the prices of now."""
    from permille.cli.price_corrections import show

    return show(_database_config(data_dir), version, organization=organization)


@corrections.command(name="apply")
def apply_corrections(
    version: OfVersion,
    /,
    *,
    invoice: Annotated[UUID | None, Parameter(help="The id of the one to correct; all by default.")] = None,
    organization: OfOrganization = None,
    data_dir: DataDir = None,
) -> int:
    """Give back by credit notes what invoices have billed too much; what a customer owes is not billed."""
    from permille.cli.price_corrections import apply

    return apply(_database_config(data_dir), version, invoice_id=invoice, organization=organization)


def _date(text: str | None) -> date:
    from permille.clock import system_now

    if text is None:
        return system_now().date()
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise running.UnusableError(f"{text!r} is no date: write it like 2026-11-28") from None


def main() -> None:
    """The entry point: what the user can mend is one line and exit code 2, not a traceback."""
    try:
        code = app()
    except (ConfigError, running.UnusableError) as error:
        _fail(error)
    except Exception as error:
        if not _is_of_the_database(error):
            raise
        _fail(error)
    sys.exit(code if isinstance(code, int) else 0)


def _is_of_the_database(error: Exception) -> bool:
    import psycopg

    from permille.database.migrate import UnableToMigrateError

    return isinstance(error, psycopg.OperationalError | UnableToMigrateError)


def _fail(error: Exception) -> NoReturn:
    print(f"permille: {error}", file=sys.stderr)
    sys.exit(2)
