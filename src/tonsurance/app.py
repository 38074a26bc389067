"""Composition root: the only place where concrete things are built and joined.

Each process imports its own parts inside its function, so that none pays for the others in memory or start time.
"""

from __future__ import annotations

import base64
import binascii
import os
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit, urlunsplit

from tonsurance import settings
from tonsurance.core.errors import DependencyError, InputError, UsageError
from tonsurance.running import last_good_path, run_async

if TYPE_CHECKING:
    from tonsurance.db.migrate import MigrationReport
    from tonsurance.db.postgres import Cluster
    from tonsurance.services.quote_signer import Signer
    from tonsurance.services.shared_redis import SharedRedis

network_url = settings.network_url
_LEAST_POLL_S, _MOST_POLL_S = 0.01, 3600.0
_MOST_WAIT_S = 86_400.0
_VERIFY_STATEMENT_MS = 30_000
_MAX_BOC_TEXT = 4_000_000


def embedded_database(home: Path) -> Cluster:
    """The PostgreSQL of a home, not started."""
    from tonsurance.db.postgres import Cluster

    return Cluster(home)


def migrate_database(dsn: str, *, dry_run: bool = False) -> MigrationReport:
    """Bring a database to this program's schema, or say what would be applied."""
    from tonsurance.db.migrate import migrate
    from tonsurance.db.pool import connect

    async def work() -> MigrationReport:
        conn = await connect(dsn, application_name="tonsurance migrate")
        try:
            return await migrate(conn, dry_run=dry_run)
        finally:
            await conn.close()

    return run_async(work())


def seed_datasets(dsn: str) -> None:
    """Bring the depegs and scenarios this program starts with into a database that never had them."""
    from tonsurance.db.roles import ROLE_OF
    from tonsurance.services.datasets import Datasets
    from tonsurance.services.lazy_pool import LazyPool

    async def work() -> None:
        pool = LazyPool(dsn, max_size=1, application_name="tonsurance data sets", role=ROLE_OF["config"])
        try:
            await Datasets(pool, approvals=True).seed()
        finally:
            await pool.close()

    run_async(work())


def check_addresses(network: str, vault: str | None, factory: str | None) -> tuple[str, str]:
    """The raw addresses of the two contracts. Raises UsageError, InvalidAddress or WrongNetwork."""
    from tonsurance.services.integration_daemon import read_contracts

    network_url(network)
    for flag, given in (("--vault", vault), ("--factory", factory)):
        if not given:
            raise UsageError(
                f"{flag} is missing.", advice=f"Give the contract's address, or set {flag[2:].upper()}_ADDRESS."
            )
    found = read_contracts(vault or "", factory or "", network)
    return found[0].address, found[1].address


def check_vault(network: str, vault: str | None) -> str:
    """The raw address of the vault. Raises UsageError, InvalidAddress or WrongNetwork."""
    from tonsurance.chain.addresses import check_network

    network_url(network)
    if not vault:
        raise UsageError("--vault is missing.", advice="Give the contract's address, or set VAULT_ADDRESS.")
    return check_network(vault, network)


def check_wait(seconds: float) -> float:
    """The time itself. Raises UsageError when it is none to wait."""
    if not 0 <= seconds <= _MOST_WAIT_S:
        raise UsageError(f"--wait is between 0 and {_MOST_WAIT_S:g} seconds, not {seconds}.")
    return seconds


def check_poll_interval(seconds: float) -> float:
    """The interval itself. Raises UsageError when it is too short for any server or too long to be live."""
    if not _LEAST_POLL_S <= seconds <= _MOST_POLL_S:
        raise UsageError(f"--poll-interval is between {_LEAST_POLL_S} and {_MOST_POLL_S} seconds, not {seconds}.")
    return seconds


def verify_vaults(
    dsn: str,
    network: str,
    vault: str,
    *,
    all_followed: bool,
    api_key: str | None,
    wait_s: float,
    as_json: bool,
    progress: Callable[[str], None],
) -> tuple[bool, str]:
    """Compare the ledger with the chain at its newest block: whether they are equal, and what to show.

    With `all_followed` every vault that is followed is compared, and the one named only when none is yet.
    """
    import msgspec

    from tonsurance.chain.client import TonCenterClient
    from tonsurance.chain.layout import DEFAULT_LAYOUT, load_layout
    from tonsurance.db.pool import acquire, open_pool
    from tonsurance.db.roles import ROLE_OF
    from tonsurance.db.sync_results import select_synced_vaults
    from tonsurance.services.verdicts import describe_verification
    from tonsurance.services.verification import VaultVerifier, Verification

    async def work() -> Verification:
        pool = await open_pool(
            dsn,
            max_size=1,
            application_name="tonsurance verify",
            role=ROLE_OF["verify"],
            statement_timeout_ms=_VERIFY_STATEMENT_MS,
        )
        try:
            async with TonCenterClient(settings.network_urls(network), api_key) as client:
                async with acquire(pool) as conn:
                    followed = await select_synced_vaults(conn, DEFAULT_LAYOUT) if all_followed else ()
                found = [
                    await VaultVerifier(client, pool, one, load_layout(), progress, wait_s=wait_s).verify()
                    for one in followed or (vault,)
                ]
            return Verification(
                equal=all(one.equal for one in found), vaults=tuple(verdict for one in found for verdict in one.vaults)
            )
        finally:
            await pool.close()

    found = run_async(work())
    return found.equal, msgspec.json.encode(found).decode() if as_json else "\n".join(describe_verification(found))


def replay_ledger(
    dsn: str, *, as_json: bool, progress: Callable[[str], None], swap: bool = False, from_lt: int | None = None
) -> tuple[bool, str]:
    """Rebuild the read models from the event log and compare them with the live ones, which `swap` then makes equal:
    whether they are, and what to show."""
    import msgspec

    from tonsurance.core.params import DEFAULT_PARAMS
    from tonsurance.services.replay import replay_ledger as replay
    from tonsurance.services.verdicts import describe_replay

    found = run_async(replay(dsn, DEFAULT_PARAMS, progress, swap=swap, from_lt=from_lt))
    equal = found.equal or bool(found.swapped)
    return equal, msgspec.json.encode(found).decode() if as_json else "\n".join(describe_replay(found))


def examine_system(
    dsn: str,
    *,
    api_url: str | None,
    chain_url: str | None,
    home: Path | None,
    pids: dict[str, int],
    as_json: bool,
) -> tuple[bool, bool, str]:
    """Make every check of `doctor`: whether the database can be reached, whether all is well, and what to show."""
    from tonsurance.services.doctor import Patient, examine
    from tonsurance.services.doctor_checks import CHECKS, describe, encode
    from tonsurance.services.doctor_daemon import DAEMON_CHECKS

    patient = Patient(dsn=dsn, api_url=api_url, chain_url=chain_url, home=home, pids=pids)
    found = run_async(examine(patient, (*CHECKS, *DAEMON_CHECKS)))
    text = encode(found) if as_json else "\n".join(describe(found))
    return found[0].ok, all(diagnosis.ok for diagnosis in found), text


def serve_api(dsn: str, *, host: str, port: int) -> None:
    """Serve REST, WebSocket and the live page until SIGINT or SIGTERM."""
    from tonsurance.api.admin_parts import AdminWiring
    from tonsurance.api.server import serve_api as serve
    from tonsurance.api.settings import ApiSettings
    from tonsurance.api.shop_parts import ShopWiring
    from tonsurance.api.write_parts import WriteWiring
    from tonsurance.db.roles import ROLE_OF
    from tonsurance.services.config_loader import ConfigLoader

    env = settings.Environment()
    loader = ConfigLoader(dsn, last_good=last_good_path(), process="api", role=ROLE_OF["api"])
    secret, previous = settings.jwt_secrets(env)
    wiring = None
    if secret is not None:
        wiring = AdminWiring(
            dsn,
            loader,
            secret,
            previous,
            allow=settings.read_list(env, "ADMIN_ALLOW"),
            proxies=settings.trusted_proxies(env),
            approvals=settings.read_switch(env, "APPROVALS", default=True),
        )
    writes = WriteWiring(
        dsn,
        loader,
        secret,
        previous,
        proxies=settings.trusted_proxies(env),
        open_to_all=settings.open_writes(env),
    )
    signer = _remote_signer(env)
    shop = ShopWiring(dsn, keys=settings.quote_keys(env) if signer is None else (), signer=signer)
    chosen = ApiSettings(
        host=host, port=port, pool_size=settings.pool_size(env), test_wallet_url=settings.local_wallet_url(env)
    )
    run_async(serve(dsn, chosen, loader, wiring, writes, _shared_redis(env), shop))


def _remote_signer(env: settings.Environment) -> Signer | None:
    """The process that signs quotes, when it is another one."""
    path = settings.quote_signer(env)
    if path is None:
        return None
    from tonsurance.services.signer_client import SocketSigner

    return SocketSigner(path)


def _shared_redis(env: settings.Environment) -> SharedRedis | None:
    """What is shared through Redis, when there is one."""
    url = settings.redis_url(env)
    if url is None:
        return None
    from tonsurance.services.shared_redis import SharedRedis

    return SharedRedis(url)


def require_localnet() -> None:
    """Raises DependencyError where the local chain's TVM does not run."""
    if find_spec("tonpy") is not None:
        return
    here = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    raise DependencyError(
        f"The local chain needs x86-64 Linux and Python 3.10 to 3.12, and the packages of requirements/localnet.txt; "
        f"this is {here}.",
        advice="Follow a network instead: tonsurance run --network testnet --vault ADDRESS --factory ADDRESS",
    )


def serve_localnet(
    home: Path,
    env: settings.Environment,
    *,
    port: int,
    speed: float,
    seed: int,
    actors: bool,
    say: Callable[[str], None],
) -> None:
    """Serve a local chain from its data in the home until SIGINT or SIGTERM."""
    require_localnet()
    from tonsurance.localnet.server import LocalnetSettings, serve

    key = settings.quote_key(env)
    if key is None:
        raise UsageError("QUOTE_KEY is not set.", advice="It signs quotes: 32 random bytes in hex, or QUOTE_KEY_FILE.")
    chosen = LocalnetSettings(data_dir=home / "chain", port=port, seed=seed, speed=speed, actors=actors, quote_key=key)
    say(f"Local TON chain on http://127.0.0.1:{port}/api/v2/")
    run_async(serve(chosen))


def exec_psql(dsn: str, arguments: Sequence[str]) -> None:
    """Replace this process by psql; the password goes by the environment, where other users cannot read it."""
    from tonsurance.db.binaries import psql_binary

    parts = urlsplit(dsn)
    env = dict(os.environ)
    if parts.password is not None:
        env["PGPASSWORD"] = unquote(parts.password)
        parts = parts._replace(netloc=parts.netloc.replace(f":{parts.password}@", "@", 1))
    program = psql_binary(tls="sslmode=" in parts.query)
    sys.stdout.flush()
    os.execve(program, [str(program), urlunsplit(parts), *arguments], env)


def read_text(path: Path) -> str:
    """A file's text. Raises UsageError when it cannot be read."""
    try:
        return path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from error


def decode_events(text: str, *, contract_kind: str, layouts: str) -> Iterator[str]:
    """The events of a transaction given as a base64 BOC, one JSON object each."""
    import msgspec

    from tonsurance.chain.decode import decode_transaction_json
    from tonsurance.chain.layout import load_layout

    layout = load_layout(Path(layouts) if layouts.endswith(".toml") else layouts)
    if len(text) > _MAX_BOC_TEXT:
        raise InputError("The transaction is too large.")
    try:
        boc = base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputError("The transaction must be a base64 BOC.") from error
    for event in decode_transaction_json(boc, layout, contract_kind):
        yield msgspec.json.encode(event).decode()
