"""The ledger against the chain: all tranches of a vault at one masterchain block, and nothing is tolerated."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import msgspec

from tonsurance.chain.client import TonCenterClient
from tonsurance.chain.contracts import TranchesReading, TrancheState, VaultReader, check_contract
from tonsurance.chain.layout import Layout
from tonsurance.core.catalog import tranche_id_on_chain
from tonsurance.core.errors import LedgerRefused, NotReady
from tonsurance.core.events import VAULT_KIND, Cursor
from tonsurance.core.ledger import Totals
from tonsurance.db.audits import Followed, Standing, select_followed, select_standing, select_vault_addresses
from tonsurance.db.policy_repairs import select_known_factories
from tonsurance.db.pool import Pool, acquire
from tonsurance.services.policy_comparison import examine_exposure, examine_policies

DEFAULT_WAIT_S = 120.0
_POLL_S = 0.2
_SAY_EVERY_S = 2.0
LAG_PATIENCE_S = 10.0
"""So long a server that shows an older head than the ledger may be a replica that lags."""

Progress = Callable[[str], None]

_COMPARED = ("capital", "coverage", "unearned", "shares")


class TrancheVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """One tranche on both sides. Amounts in nanoTON; shares as text, because they pass 64 bits."""

    tranche_id: str
    chain_capital: int
    ledger_capital: int
    chain_coverage: int
    ledger_coverage: int
    chain_unearned: int
    ledger_unearned: int
    chain_shares: str
    ledger_shares: str


class VaultVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """A vault at a masterchain block, after its transaction (lt, hash), on both sides; policies are those it backs.
    `differences` says every one of them in a sentence."""

    vault_id: str
    contract: str
    seqno: int
    lt: int
    transaction_hash: str
    tranches: tuple[TrancheVerdict, ...]
    chain_policies: int
    ledger_policies: int
    differences: tuple[str, ...]


class Verification(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict on all vaults."""

    equal: bool
    vaults: tuple[VaultVerdict, ...]


class Examination(msgspec.Struct, frozen=True, kw_only=True):
    """A verdict, and what it was made from: the chain at a block, and the ledger as of its transaction there."""

    verdict: VaultVerdict
    reading: TranchesReading
    followed: Followed
    standing: Standing


class VaultVerifier:
    """Verifies one vault. It waits at most `wait_s` for the ledger to get as far as the block that was read."""

    def __init__(
        self,
        client: TonCenterClient,
        pool: Pool,
        contract: str,
        layout: Layout,
        progress: Progress,
        *,
        wait_s: float = DEFAULT_WAIT_S,
        lag_patience_s: float = LAG_PATIENCE_S,
        say_every_s: float = _SAY_EVERY_S,
    ) -> None:
        self._client = client
        self._pool = pool
        self._contract = contract
        self._layout = layout
        self._progress = progress
        self._wait_s = wait_s
        self._lag_patience_s = lag_patience_s
        self._say_every_s = say_every_s

    async def verify(self) -> Verification:
        """Read the chain at its newest block, wait for the ledger, and compare it as of that block.

        Raises ChainUnavailable, DatabaseUnavailable, NotReady when the ledger does not get there in time, and
        NotOurContract or another ChainDataError when the chain's answers cannot be used.
        """
        found = (await self.examine()).verdict
        differences = (*found.differences, *await self._compare_factories(found.vault_id))
        verdict = msgspec.structs.replace(found, differences=differences)
        return Verification(equal=not differences, vaults=(verdict,))

    async def _compare_factories(self, vault_id: str) -> list[str]:
        """The policies against the log of their factories, and the exposure against the policies, of one moment."""
        async with acquire(self._pool) as conn, conn.transaction(isolation="repeatable_read", readonly=True):
            said = [finding.said for finding in await examine_exposure(conn, vault_id, 0)]
            for contract in await select_known_factories(conn, vault_id):
                try:
                    said += (finding.said for finding in (await examine_policies(conn, contract, vault_id)).findings)
                except LedgerRefused as refusal:
                    said.append(refusal.message)
        return said

    async def examine(self) -> Examination:
        """The same with all that was read."""
        await check_contract(self._client, self._contract, VAULT_KIND, self._layout)
        seqno = (await self._client.get_masterchain_info()).last.seqno
        reader = VaultReader(self._client, self._contract)
        reading = await reader.all_tranches(seqno)
        policies = (await reader.vault_state(seqno)).policy_count
        followed = await self._wait_for(reading.last_transaction.lt)
        async with acquire(self._pool) as conn:
            standing = await select_standing(conn, self._contract, followed.vault_id, reading.last_transaction.lt)
        differences = [
            *_compare_cursors(reading, followed, standing),
            *await self._compare_head(reading, followed),
            *compare_standing(reading, policies, standing),
        ]
        verdict = VaultVerdict(
            vault_id=followed.vault_id,
            contract=self._contract,
            seqno=seqno,
            lt=reading.last_transaction.lt,
            transaction_hash=reading.last_transaction.hash.hex(),
            tranches=tuple(_judge(state, standing) for state in reading.tranches),
            chain_policies=policies,
            ledger_policies=standing.backed,
            differences=tuple(differences),
        )
        return Examination(verdict=verdict, reading=reading, followed=followed, standing=standing)

    async def _wait_for(self, lt: int) -> Followed:
        """The vault's place in the ledger once it has come to `lt`, or where an error stopped it."""
        clock = asyncio.get_running_loop().time
        deadline, say_at = clock() + self._wait_s, clock() + self._say_every_s
        while True:
            async with acquire(self._pool) as conn:
                followed = await select_followed(conn, self._contract)
            if followed is not None and followed.cursor.lt >= lt:
                return followed
            if clock() >= deadline:
                return await self._give_up(followed, lt)
            if clock() >= say_at:
                reached = followed.cursor.lt if followed else 0
                self._progress(f"Waiting for the ledger: it stands at logical time {reached}, the vault at {lt}.")
                say_at = clock() + self._say_every_s
            await asyncio.sleep(min(_POLL_S, max(0.0, deadline - clock()), self._say_every_s))

    async def _give_up(self, followed: Followed | None, lt: int) -> Followed:
        if followed is not None and followed.error is not None:
            return followed  # it will not come: that is a finding, not an outage
        if followed is not None:
            raise NotReady(
                f"The ledger stands at logical time {followed.cursor.lt} after {self._wait_s:g} s, the vault at {lt}.",
                advice="Does the daemon run? A long history takes longer: see --wait.",
            )
        async with acquire(self._pool) as conn:
            others = await select_vault_addresses(conn)
        what = f"it follows {', '.join(others)}" if others else "it follows none yet"
        raise NotReady(f"This database does not follow the vault {self._contract}; {what}.")

    async def _compare_head(self, reading: TranchesReading, followed: Followed) -> list[str]:
        """A ledger further than the block that was read must still be within the chain."""
        if followed.cursor.lt <= reading.last_transaction.lt:
            return []
        clock = asyncio.get_running_loop().time
        deadline = clock() + self._lag_patience_s
        while True:
            head = (await self._client.get_address_information(self._contract)).last_transaction
            if head.lt >= followed.cursor.lt or clock() >= deadline:
                return _judge_head(head, followed.cursor)
            await asyncio.sleep(_POLL_S)


def _judge_head(head: Cursor, cursor: Cursor) -> list[str]:
    if cursor.lt > head.lt:
        return [f"The ledger stands at logical time {cursor.lt}, beyond the chain's head: the vault's is {head.lt}."]
    if cursor.lt == head.lt and cursor.hash != head.hash:
        return [_two_hashes(cursor.lt, head.hash.hex(), cursor.hash.hex())]
    return []


def _compare_cursors(reading: TranchesReading, followed: Followed, standing: Standing) -> Iterator[str]:
    last, cursor = reading.last_transaction, followed.cursor
    if cursor.lt < last.lt:
        yield f"The ledger stopped at logical time {cursor.lt}, before the vault's {last.lt}: {followed.error}"
    if cursor.lt == last.lt and cursor.hash != last.hash:
        yield _two_hashes(last.lt, last.hash.hex(), cursor.hash.hex())
    elif standing.transaction_hash not in (None, last.hash.hex()):
        yield _two_hashes(last.lt, last.hash.hex(), str(standing.transaction_hash))


def _two_hashes(lt: int, chain: str, ledger: str) -> str:
    return f"The vault's transaction at logical time {lt} is {chain} on chain and {ledger} in the ledger."


def compare_standing(reading: TranchesReading, policies: int, standing: Standing) -> list[str]:
    """Every difference between the vault at a block, which backs so many policies, and the ledger as of there."""
    return [
        *_compare_totals(reading, standing),
        *_compare_read_models(standing),
        *_compare_policies(policies, standing),
    ]


def _compare_totals(reading: TranchesReading, standing: Standing) -> Iterator[str]:
    for state in reading.tranches:
        tranche_id = tranche_id_on_chain(state.tranche_id)
        totals = standing.history.get(tranche_id, Totals())
        for name in _COMPARED:
            chain, ledger = getattr(state, name), getattr(totals, name)
            if chain != ledger:
                unit = "shares" if name == "shares" else "nanoTON"
                by = f"{ledger - chain:+d} {unit}"
                yield f"{tranche_id}: {name} is {chain} on chain and {ledger} in the ledger, {by}."


def _compare_read_models(standing: Standing) -> Iterator[str]:
    """The ledger must agree with itself, or a figure that is shown is not the one that was compared."""
    for tranche_id in sorted(standing.history.keys() | standing.entries.keys()):
        history, entries = (side.get(tranche_id, Totals()) for side in (standing.history, standing.entries))
        for name in Totals.__struct_fields__:
            told, summed = getattr(history, name), getattr(entries, name)
            if told != summed:
                yield f"{tranche_id}: {name} is {told} in the history and {summed} as the sum of the ledger's entries."
    for tranche_id in standing.strayed:
        yield f"{tranche_id}: its row in tranche_utilization is not the last one of its history."


def _compare_policies(chain: int, standing: Standing) -> Iterator[str]:
    if chain != standing.backed:
        yield f"The vault backs {chain} policies on chain and {standing.backed} in the ledger."


def _judge(state: TrancheState, standing: Standing) -> TrancheVerdict:
    tranche_id = tranche_id_on_chain(state.tranche_id)
    totals = standing.history.get(tranche_id, Totals())
    return TrancheVerdict(
        tranche_id=tranche_id,
        chain_capital=state.capital,
        ledger_capital=totals.capital,
        chain_coverage=state.coverage,
        ledger_coverage=totals.coverage,
        chain_unearned=state.unearned,
        ledger_unearned=totals.unearned,
        chain_shares=str(state.shares),
        ledger_shares=str(totals.shares),
    )
