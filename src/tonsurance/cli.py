"""The command line. Exit codes: 0 done, 1 a fault or difference was found, 2 usage, 3 a dependency is out of reach."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import cyclopts
from cyclopts import Parameter
from rich.console import Console

from tonsurance import __version__, app, chain_control, log, stack
from tonsurance.cli_config import config_cli
from tonsurance.cli_contracts import contracts_cli
from tonsurance.cli_doctor import doctor
from tonsurance.cli_events import events_cli
from tonsurance.cli_health import health
from tonsurance.cli_ledger import replay, rescan, verify
from tonsurance.cli_localnet import DEFAULT_SPEED, localnet_cli
from tonsurance.cli_signer import signer
from tonsurance.cli_sync import sync
from tonsurance.cli_targets import resolve_database, resolve_stack
from tonsurance.cli_token import token
from tonsurance.core.errors import DependencyError, InputError, TonsuranceError, UsageError
from tonsurance.daemon_process import run_daemon
from tonsurance.settings import DatabaseParts, Environment, api_port, database_url, home_dir

EXIT_OK, EXIT_FAULT, EXIT_USAGE, EXIT_DEPENDENCY = 0, 1, 2, 3
_INTERRUPTED = 130
_SECRET_FLAGS = {"--db-password": "DB_PASSWORD", "--quote-key": "QUOTE_KEY", "--api-key": "TON_API_KEY"}

cli = cyclopts.App(
    name="tonsurance",
    version=__version__,
    help="Parametric cover on TON: follow the contracts, keep the ledger, serve utilisation and APY.",
)
cli.command(localnet_cli)
cli.command(events_cli)
for command in (config_cli, contracts_cli, token, verify, replay, rescan, sync, doctor, health, signer):
    cli.command(command)

Env = Environment


def run_cli(argv: Sequence[str]) -> int:
    """Parse and run one command; every deliberate error becomes one line on stderr and an exit code."""
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        refuse_secrets(argv)
        result = cli(list(argv), exit_on_error=False, print_error=False, result_action="return_value")
        return result if isinstance(result, int) else EXIT_OK
    except cyclopts.CycloptsError as error:
        errors.print(f"tonsurance: {error}\nTry: tonsurance --help", markup=False)
        return EXIT_USAGE
    except TonsuranceError as error:
        errors.print(f"tonsurance: {error}", markup=False)
        return exit_code(error)
    except KeyboardInterrupt:
        return _INTERRUPTED


def exit_code(error: TonsuranceError) -> int:
    """The exit code of an error that ended a command."""
    if isinstance(error, InputError):
        return EXIT_USAGE
    return EXIT_DEPENDENCY if isinstance(error, DependencyError) else EXIT_FAULT


def refuse_secrets(argv: Sequence[str]) -> None:
    """Secrets in arguments are seen by everybody on the machine and kept in shell histories."""
    for argument in argv:
        name = _SECRET_FLAGS.get(argument.split("=", 1)[0])
        if name is not None:
            raise UsageError(
                f"{argument.split('=', 1)[0]} is not taken: arguments can be read by others.",
                advice=f"Set {name}, or {name}_FILE to a file that holds it.",
            )


def say(line: str) -> None:
    """One line for the person who started the command."""
    Console(highlight=False, soft_wrap=True).print(line, markup=False)


@cli.command
def run(
    *,
    network: str | None = None,
    vault: str | None = None,
    factory: str | None = None,
    speed: float = DEFAULT_SPEED,
    seed: int = 1,
    poll_interval: float | None = None,
) -> None:
    """Start everything: PostgreSQL, a local chain with simulated users, the daemon and the API.

    Parameters
    ----------
    network
        Follow this network (mainnet, testnet or a URL) instead of a local chain; needs --vault and --factory.
    vault
        Address of the vault contract on that network.
    factory
        Address of the factory contract on that network.
    speed
        How many times faster than real time the local chain's clock runs.
    seed
        Seed of the local chain; the same seed makes the same chain.
    poll_interval
        Seconds between looks at the chain (0.1 locally, else 10).
    """
    env = Env()
    log.configure(env.get("LOG_LEVEL") or "warning", process="run")
    vault, factory = vault or env.get("VAULT_ADDRESS"), factory or env.get("FACTORY_ADDRESS")
    if network is not None:
        app.check_addresses(network, vault, factory)
    options = stack.RunOptions(
        home=home_dir(env),
        port=api_port(env),
        database_url=database_url(env),
        network=network,
        vault=vault if network else None,
        factory=factory if network else None,
        speed=chain_control.check_speed(speed),
        seed=seed,
        poll_interval_s=None if poll_interval is None else app.check_poll_interval(poll_interval),
    )
    stack.Stack(options, say=say).run()


@cli.command
def api(*, port: int | None = None, host: str = "127.0.0.1", database_url: str | None = None) -> None:
    """Serve REST, WebSocket and the live page from a database.

    Parameters
    ----------
    port
        Port to listen on (TONSURANCE_PORT, else 8080).
    host
        Address to listen on.
    database_url
        The database; else DATABASE_URL, DB_HOST and so on.
    """
    env = Env()
    log.configure(env.get("LOG_LEVEL") or "info", process="api")
    app.serve_api(resolve_database(DatabaseParts(), explicit=database_url), host=host, port=port or api_port(env))


@cli.command
def daemon(
    *,
    network: str | None = None,
    vault: str | None = None,
    factory: str | None = None,
    db_host: str | None = None,
    db_port: int | None = None,
    db_name: str | None = None,
    db_user: str | None = None,
    database_url: str | None = None,
    poll_interval: float = 10.0,
) -> None:
    """Follow the contracts on a network and keep the ledger.

    Parameters
    ----------
    network
        mainnet, testnet, or base URLs of TonCenter APIs with commas between; else the running stack's chain.
    vault
        Address of the vault contract (else VAULT_ADDRESS).
    factory
        Address of the factory contract (else FACTORY_ADDRESS).
    db_host
        Database host; the password comes from DB_PASSWORD or DB_PASSWORD_FILE.
    db_port
        Database port.
    db_name
        Database name.
    db_user
        Database user.
    database_url
        The whole database address in one.
    poll_interval
        Seconds between looks at the chain.
    """
    env = Env()
    log.configure(env.get("LOG_LEVEL") or "info", process="daemon")
    vault, factory = vault or env.get("VAULT_ADDRESS"), factory or env.get("FACTORY_ADDRESS")
    if network is None:
        status = resolve_stack()
        network, vault, factory = status.chain_url, vault or status.vault, factory or status.factory
    vault, factory = app.check_addresses(network, vault, factory)
    parts = DatabaseParts(host=db_host, port=db_port, name=db_name, user=db_user)
    run_daemon(
        resolve_database(parts, explicit=database_url),
        network=network,
        vault=vault,
        factory=factory,
        api_key=env.get("TON_API_KEY"),
        poll_interval_s=app.check_poll_interval(poll_interval),
    )


@cli.command
def migrate(*, database_url: str | None = None, dry_run: bool = False) -> None:
    """Bring the database schema to this version.

    Parameters
    ----------
    database_url
        The database; else DATABASE_URL, DB_HOST and so on, else the running stack's.
    dry_run
        Only say what would be applied.
    """
    report = app.migrate_database(resolve_database(DatabaseParts(), explicit=database_url), dry_run=dry_run)
    verb = "would be applied" if dry_run else "applied"
    for name in report.applied:
        say(f"{name} {verb}")
    say(f"Schema version {report.version}." if report.applied else f"Schema version {report.version}, nothing to do.")


@cli.command
def psql(*arguments: Annotated[str, Parameter(allow_leading_hyphen=True)]) -> None:
    """Open psql on the database of the running stack (or DATABASE_URL); arguments go to psql."""
    app.exec_psql(resolve_database(DatabaseParts()), arguments)
