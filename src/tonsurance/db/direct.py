"""Updates of direct vaults: each posted once under its caller's key, as an event of the vault's pseudo-contract."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec

from tonsurance.core.catalog import TRANCHE_IDS
from tonsurance.core.errors import (
    IdempotencyConflict,
    InputError,
    LedgerRefused,
    TonsuranceError,
    UnknownVault,
    VaultFollowsChain,
)
from tonsurance.core.events import DIRECT_KIND, ChainEvent, ContractBatch, Cursor, DecodedTransaction, TrancheUpdated
from tonsurance.core.ledger import Totals, entries_of, post
from tonsurance.core.params import Params
from tonsurance.db.ledger import LOCK_HEAD, post_batches
from tonsurance.db.pool import Connection
from tonsurance.db.tranches import select_totals

DECODER = "direct/1"

INSERT_DIRECT_VAULT = "INSERT INTO vaults (vault_id, source) VALUES ($1, 'direct') ON CONFLICT (vault_id) DO NOTHING"
INSERT_DIRECT_CONTRACT = """
INSERT INTO blockchain_sync_state (contract_address, contract_type, vault_id)
VALUES ('direct:' || $1::text, 'DirectVault', $1) ON CONFLICT DO NOTHING
"""
SELECT_VAULTS = "SELECT vault_id, source FROM vaults ORDER BY created_at, vault_id"
SELECT_SOURCES = "SELECT vault_id, source FROM vaults WHERE vault_id = ANY($1)"
SELECT_DIRECT_CURSORS = """
SELECT vault_id, contract_address, last_synced_lt, last_synced_hash,
    extract(epoch FROM clock_timestamp())::bigint AS now
FROM blockchain_sync_state WHERE vault_id = ANY($1) AND contract_type = 'DirectVault'
"""
SELECT_DIRECT_UPDATES = """
SELECT principal, route, idempotency_key, request_hash, logical_time, ledger_version
FROM direct_updates JOIN unnest($1::text[], $2::text[], $3::text[]) AS asked (principal, route, idempotency_key)
    USING (principal, route, idempotency_key)
"""
INSERT_DIRECT_UPDATES = """
INSERT INTO direct_updates (principal, route, idempotency_key, vault_id, request_hash, logical_time, ledger_version)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bytea[], $6::bigint[], $7::bigint[])
"""

Key = tuple[str, str, str]
"""Who asked, by which route, and the caller's key."""


class Part(msgspec.Struct, frozen=True):
    """What an update does to one tranche, in nanoTON."""

    tranche_id: str
    capital: int = 0
    coverage: int = 0


class DirectUpdate(msgspec.Struct, frozen=True, kw_only=True):
    """A wanted change of tranches of a direct vault, all of it or nothing: by how much each moves, or, when `absolute`,
    what each shall have. The same (principal, route, key) is the same update however often it comes.
    """

    principal: str
    route: str
    key: str
    vault_id: str
    parts: tuple[Part, ...]
    absolute: bool = False

    @property
    def identity(self) -> Key:
        """What makes it the same update."""
        return (self.principal, self.route, self.key)

    @property
    def request_hash(self) -> bytes:
        """SHA-256 of what is asked for."""
        wanted = (self.vault_id, self.parts, self.absolute)
        return hashlib.sha256(msgspec.json.encode(wanted)).digest()


class Updated(msgspec.Struct, frozen=True, kw_only=True):
    """An update that is in the ledger: since which version, as which logical time of its vault, and whether it was
    there before this call."""

    ledger_version: int
    logical_time: int
    replayed: bool = False


Outcome = Updated | TonsuranceError


async def create_direct_vault(conn: Connection, vault_id: str) -> None:
    """Make a direct vault; the same again changes nothing. Raises VaultFollowsChain when it is there and follows a
    contract, LedgerRefused when this is no name for a vault."""
    async with conn.transaction():
        await conn.execute(INSERT_DIRECT_VAULT, vault_id)
        sources = await _select_sources(conn, {vault_id})
        if sources[vault_id] != "direct":
            raise VaultFollowsChain(vault_id)
        await conn.execute(INSERT_DIRECT_CONTRACT, vault_id)


async def select_vaults(conn: Connection) -> dict[str, str]:
    """All vaults in the order they were made, and the source of each: `chain` or `direct`."""
    return {row["vault_id"]: row["source"] for row in await conn.fetch(SELECT_VAULTS)}


async def check_direct(conn: Connection, vault_id: str) -> None:
    """Raises UnknownVault, and VaultFollowsChain when callers may not move it."""
    error = _source_error(vault_id, await _select_sources(conn, {vault_id}))
    if error is not None:
        raise error


async def lock_ledger(conn: Connection) -> None:
    """Be the only one who posts until the transaction ends: what is read from now on is what will be posted upon."""
    await conn.fetchrow(LOCK_HEAD)


async def post_direct(conn: Connection, updates: Sequence[DirectUpdate], params: Params) -> list[Outcome]:
    """Post updates in one transaction, in this order; each gives its result or why it was refused.

    Their tranches must be known ones. A refused one (unknown vault, a vault that follows a contract, a used key, an
    amount below zero) changes nothing and does not stop the others. Raises what makes the database unusable; nothing
    is posted then.
    """
    async with conn.transaction():
        await lock_ledger(conn)  # before anything is read: the answers are about the ledger as it then is
        group = await _open_group(conn, updates)
        outcomes = [group.take(update) for update in updates]
        batches = group.batches()
        version = (await post_batches(conn, batches, params, None))[0].version if batches else 0
        if group.taken:
            await _insert_updates(conn, group.taken, version)
    return [_at_version(outcome, version) for outcome in outcomes]


async def _insert_updates(conn: Connection, taken: dict[DirectUpdate, int], version: int) -> None:
    rows = [(*update.identity, update.vault_id, update.request_hash, lt, version) for update, lt in taken.items()]
    await conn.execute(INSERT_DIRECT_UPDATES, *(list(column) for column in zip(*rows, strict=True)))


def _at_version(outcome: Outcome, version: int) -> Outcome:
    """New updates learn the version they were posted with."""
    if isinstance(outcome, Updated) and outcome.ledger_version == 0:
        return msgspec.structs.replace(outcome, ledger_version=version)
    return outcome


class _Vault:
    """A direct vault while updates are folded into it. Its logical time counts its updates, its hashes chain them."""

    def __init__(self, contract: str, cursor: Cursor, now: int) -> None:
        self.contract = contract
        self.start = self.cursor = cursor
        self.now = now
        self.transactions: list[DecodedTransaction] = []

    def append(self, update: DirectUpdate, bodies: Sequence[TrancheUpdated]) -> None:
        """The update as the vault's next transaction, one event a part."""
        raw = msgspec.json.encode({"by": update.principal, "route": update.route, "key": update.key, "parts": bodies})
        cursor = Cursor(self.cursor.lt + 1, hashlib.sha256(self.cursor.hash + raw).digest())
        events = tuple(
            ChainEvent(
                contract=self.contract,
                contract_kind=DIRECT_KIND,
                lt=cursor.lt,
                message_index=index,
                transaction_hash=cursor.hash,
                block_time=self.now,
                decoder=DECODER,
                body=body,
                raw_body=raw,
            )
            for index, body in enumerate(bodies)
        )
        self.cursor = cursor
        self.transactions.append(DecodedTransaction(cursor=cursor, block_time=self.now, succeeded=True, events=events))


class _Group:
    """Updates being decided against the ledger as it is under the lock."""

    def __init__(
        self,
        sources: dict[str, str],
        vaults: dict[str, _Vault],
        totals: dict[tuple[str, str], Totals],
        known: dict[Key, tuple[bytes, Updated]],
    ) -> None:
        self._sources = sources
        self._vaults = vaults
        self._totals = totals
        self._known = known
        self.taken: dict[DirectUpdate, int] = {}

    def take(self, update: DirectUpdate) -> Outcome:
        """Fold one update in, or say why not. New ones get version 0 until the group is posted."""
        known = self._known.get(update.identity)
        if known is not None:
            request_hash, updated = known
            return updated if request_hash == update.request_hash else IdempotencyConflict()
        error = _source_error(update.vault_id, self._sources)
        if error is not None:
            return error
        try:
            updated = self._fold(update)
        except LedgerRefused as refused:
            return refused
        self._known[update.identity] = (
            update.request_hash,
            msgspec.structs.replace(updated, replayed=True),
        )
        return updated

    def _fold(self, update: DirectUpdate) -> Updated:
        vault = self._vaults[update.vault_id]
        totals = {part.tranche_id: self._totals_of(update, part) for part in update.parts}
        bodies = []
        for part in update.parts:
            before = totals[part.tranche_id]
            body = TrancheUpdated(
                tranche_id=TRANCHE_IDS.index(part.tranche_id) + 1,
                capital=part.capital - (before.capital if update.absolute else 0),
                coverage=part.coverage - (before.coverage if update.absolute else 0),
            )
            (entry,) = entries_of(body)
            totals[part.tranche_id] = post(before, entry)
            bodies.append(body)
        self._totals |= {(update.vault_id, tranche_id): after for tranche_id, after in totals.items()}
        vault.append(update, bodies)
        self.taken[update] = vault.cursor.lt
        return Updated(ledger_version=0, logical_time=vault.cursor.lt)

    def _totals_of(self, update: DirectUpdate, part: Part) -> Totals:
        return self._totals.get((update.vault_id, part.tranche_id), Totals())

    def batches(self) -> list[ContractBatch]:
        """What is to be posted, vault by vault."""
        return [
            ContractBatch(
                contract=vault.contract,
                contract_kind=DIRECT_KIND,
                after=vault.start,
                transactions=tuple(vault.transactions),
            )
            for vault in self._vaults.values()
            if vault.transactions
        ]


async def _open_group(conn: Connection, updates: Sequence[DirectUpdate]) -> _Group:
    vault_ids = {update.vault_id for update in updates}
    sources = await _select_sources(conn, vault_ids)
    direct = sorted(vault_id for vault_id, source in sources.items() if source == "direct")
    vaults = {}
    for row in await conn.fetch(SELECT_DIRECT_CURSORS, direct):
        cursor = Cursor(row["last_synced_lt"], row["last_synced_hash"])
        vaults[row["vault_id"]] = _Vault(row["contract_address"], cursor, row["now"])
    keys = [list(column) for column in zip(*(update.identity for update in updates), strict=True)]
    known = {
        (row["principal"], row["route"], row["idempotency_key"]): (
            row["request_hash"],
            Updated(ledger_version=row["ledger_version"], logical_time=row["logical_time"], replayed=True),
        )
        for row in await conn.fetch(SELECT_DIRECT_UPDATES, *keys)
    }
    return _Group(sources, vaults, await select_totals(conn, direct), known)


async def _select_sources(conn: Connection, vault_ids: set[str]) -> dict[str, str]:
    return {row["vault_id"]: row["source"] for row in await conn.fetch(SELECT_SOURCES, sorted(vault_ids))}


def _source_error(vault_id: str, sources: dict[str, str]) -> InputError | None:
    if vault_id not in sources:
        return UnknownVault(f"There is no vault {vault_id[:64]}.")
    return None if sources[vault_id] == "direct" else VaultFollowsChain(vault_id)
