"""Reconciliation: each vault against the ledger at one block, with zero tolerance; explained, repaired, written down.

A run reads the vault pinned to a masterchain block, waits until the ledger has come as far, and holds it against the
vault as of that transaction. Everything the vault did since the last run that found all equal is read again and held
against the rows it must have left; with any difference, everything from its beginning is. What differs is named before
anything is changed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime

import msgspec

from tonsurance import log, metrics
from tonsurance.chain.client import TonCenterClient
from tonsurance.chain.contracts import TrancheState
from tonsurance.chain.layout import DEFAULT_LAYOUT, Layout
from tonsurance.core.catalog import tranche_id_on_chain
from tonsurance.core.drift import FindingGroup, TrancheDrift, choose_worst, group_findings
from tonsurance.core.errors import DatabaseUnavailable, LedgerRefused, NotReady, TonsuranceError
from tonsurance.core.events import GENESIS, Cursor
from tonsurance.core.ledger import Totals
from tonsurance.core.params import Params
from tonsurance.db.audits import Standing
from tonsurance.db.pool import Connection, acquire, connect, driver_errors
from tonsurance.db.reconciliation import select_digests, try_sync_lock
from tonsurance.db.roles import ROLE_OF
from tonsurance.db.sync_results import (
    ResultRow,
    count_journalled,
    insert_result,
    next_run,
    select_last_run,
    select_synced_vaults,
)
from tonsurance.services.comparison import Explanation, describe_strays
from tonsurance.services.explanation import Explainer
from tonsurance.services.factory_repair import FactoriesFound, explain_factories, join_digest, mend_factories
from tonsurance.services.lazy_pool import LazyPool
from tonsurance.services.loop import every
from tonsurance.services.repair import LedgerRepair, Repaired
from tonsurance.services.verification import DEFAULT_WAIT_S, LAG_PATIENCE_S, Examination, VaultVerifier

MOST_ATTEMPTS = 3
"""So often a run begins again because the vault moved while it was explained."""

_POLL_S = 0.2
_CLOSE_TIMEOUT_S = 2.0
_MOST_WORDS = 500
_MOST_TOLD = 50
_EXAMPLES = 5

logger = log.get("vault_sync")


class SyncResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a run found and did. `status`: equal; repaired (by the cause); adjusted (what was left was posted as an
    adjustment); drifted (there is a difference and it is still there). `remaining` says what is still different."""

    run_id: int
    vault_id: str
    contract: str
    status: str
    seqno: int
    lt: int
    transaction_hash: str
    tranches: tuple[TrancheDrift, ...]
    differences: tuple[str, ...]
    findings: tuple[FindingGroup, ...]
    unreadable: tuple[FindingGroup, ...]
    adjusted: tuple[str, ...]
    remaining: tuple[str, ...]
    audited_from_lt: int
    adjustment_id: int | None
    adjustments: int
    duration_s: float


class _Told(msgspec.Struct, frozen=True, kw_only=True):
    """The explanation as it is kept with the results."""

    differences: tuple[str, ...]
    findings: tuple[FindingGroup, ...]
    unreadable: tuple[FindingGroup, ...]
    adjusted: tuple[str, ...] = ()
    remaining: tuple[str, ...] = ()


class _Run(msgspec.Struct, frozen=True, kw_only=True):
    """A run after all was read and before anything is written."""

    started_at: datetime
    examined: Examination
    found: Explanation
    factories: FactoriesFound
    digest: str
    told: _Told
    tranches: tuple[TrancheDrift, ...]

    @property
    def equal(self) -> bool:
        """Whether nothing at all differs."""
        return not self.told.differences and not self.told.findings


class VaultSync:
    """Reconciles vaults with the ledger. `repair`: what is explained is repaired, what is left is adjusted."""

    def __init__(
        self,
        dsn: str,
        client: TonCenterClient,
        contracts: Sequence[str] | None,
        layout: Layout,
        params: Callable[[], Params],
        *,
        repair: bool = True,
        wait_s: float = DEFAULT_WAIT_S,
        progress: Callable[[str], None] = lambda _line: None,
        lag_patience_s: float = LAG_PATIENCE_S,
        on_result: Callable[[SyncResult | TonsuranceError], None] = lambda _result: None,
    ) -> None:
        """`contracts` are the vaults' raw addresses (None: every vault of this layout that is followed); `wait_s` is
        for the ledger to come up to the block, and for another run to end; `on_result` is told of every run."""
        self._dsn = dsn
        self._client = client
        self._contracts = contracts
        self._layout = layout
        self._params = params
        self._repair = repair
        self._wait_s = wait_s
        self._progress = progress
        self._lag_patience_s = lag_patience_s
        self._on_result = on_result
        self._pool = LazyPool(dsn, max_size=1, application_name="tonsurance sync", role=ROLE_OF["sync"])

    async def close(self) -> None:
        """Give the connections back."""
        await self._pool.close()

    async def sync_now(self) -> tuple[SyncResult, ...]:
        """One run for each vault. One that fails keeps none of the others from its turn; the first failure is raised
        at the end, and written down where the database can be reached.

        Raises ChainUnavailable or another ChainDataError, DatabaseUnavailable, NotReady while the ledger is behind or
        another run goes on.
        """
        results: list[SyncResult] = []
        failures: list[TonsuranceError] = []
        for contract in await self._list_vaults():
            try:
                results.append(await self._sync(contract))
            except TonsuranceError as error:
                failures.append(error)
        if failures:
            raise failures[0]
        return tuple(results)

    async def start_sync_loop(self, interval_s: float, stop: asyncio.Event, wake: asyncio.Event | None = None) -> None:
        """Run every so many seconds, and when `wake` is set, until `stop` is."""
        await every(interval_s, self.sync_now, stop=stop, wake=wake, name="vault sync", max_backoff_s=interval_s)

    async def _list_vaults(self) -> Sequence[str]:
        if self._contracts is not None:
            return self._contracts
        async with acquire(await self._pool.open()) as conn:
            return await select_synced_vaults(conn, DEFAULT_LAYOUT)

    async def _sync(self, contract: str) -> SyncResult:
        started_at = datetime.now(UTC)
        try:
            result = await self._attempt(contract)
        except TonsuranceError as error:
            self._on_result(error)
            metrics.VAULT_SYNCS.labels("failed").inc()
            with suppress(TonsuranceError):  # the failure itself is what is raised
                await self._record_failure(contract, started_at, error)
            raise
        self._on_result(result)
        metrics.VAULT_SYNCS.labels(result.status).inc()
        _report(result)
        return result

    async def _attempt(self, contract: str) -> SyncResult:
        conn = await connect(self._dsn, application_name="tonsurance sync", role=ROLE_OF["sync"])
        try:
            await self._lock(conn, contract)
            for _ in range(MOST_ATTEMPTS - 1):
                result, again = await self._run(conn, contract)
                if not again:
                    return result
            return (await self._run(conn, contract))[0]
        finally:
            with suppress(DatabaseUnavailable), driver_errors():
                await conn.close(timeout=_CLOSE_TIMEOUT_S)

    async def _lock(self, conn: Connection, contract: str) -> None:
        clock = asyncio.get_running_loop().time
        deadline = clock() + self._wait_s
        while True:
            with driver_errors():
                if await try_sync_lock(conn, contract):
                    return
            if clock() >= deadline:
                raise NotReady("Another reconciliation of this vault is running.")
            await asyncio.sleep(_POLL_S)

    async def _run(self, conn: Connection, contract: str) -> tuple[SyncResult, bool]:
        """One run, and whether it should be made again at once."""
        run = await self._look(contract)
        if run.equal or not self._repair:
            with driver_errors():
                async with conn.transaction():
                    run_id = await next_run(conn)
                    return await self._write(conn, run_id, run, None), False
        try:
            with driver_errors():
                async with conn.transaction():
                    return await self._mend(conn, run)
        except LedgerRefused as refusal:
            with driver_errors():
                async with conn.transaction():
                    return await self._write(conn, await next_run(conn), run, refusal), False

    async def _look(self, contract: str) -> _Run:
        """Read both sides and explain what differs. Changes nothing."""
        started_at = datetime.now(UTC)
        pool = await self._pool.open()
        verifier = VaultVerifier(
            self._client,
            pool,
            contract,
            self._layout,
            self._progress,
            wait_s=self._wait_s,
            lag_patience_s=self._lag_patience_s,
        )
        examined = await verifier.examine()
        last, vault_id = examined.reading.last_transaction, examined.followed.vault_id
        until = min(last, examined.followed.cursor, key=lambda cursor: cursor.lt)
        async with acquire(pool) as conn:
            before = await select_last_run(conn, contract)
            earlier = 0 if before is None else before.lt
            digests = await select_digests(conn, contract, vault_id, earlier, until.lt)
        after = GENESIS
        if before is not None and before.vault_digest == digests.earlier and before.lt <= until.lt:
            after = Cursor(before.lt, bytes.fromhex(before.transaction_hash))
        explainer = Explainer(self._client, pool, contract, vault_id, self._layout)
        found = await explainer.explain(after, until)
        if after != GENESIS and (examined.verdict.differences or found.findings or found.refused):
            self._progress("The ledger is not the chain: reading all of the vault's transactions again.")
            found = await explainer.explain(GENESIS, until)
        factories = await explain_factories(
            self._client,
            pool,
            vault_id,
            self._layout,
            examined.verdict.seqno,
            None if before is None else before.digest,
        )
        strays = describe_strays(examined.standing.strayed, until.lt)
        findings = [*found.findings, *strays, *factories.findings]
        differences = examined.verdict.differences
        if found.refused is not None:
            differences = (*differences, f"The chain's events make no ledger: {found.refused}")
        return _Run(
            started_at=started_at,
            examined=examined,
            found=found,
            factories=factories,
            digest=join_digest(digests.later, factories),
            told=_Told(
                differences=differences,
                findings=group_findings(findings, _EXAMPLES),
                unreadable=group_findings([*found.unreadable, *factories.unreadable], _EXAMPLES),
            ),
            tranches=tuple(measure(state, examined.standing) for state in examined.reading.tranches),
        )

    async def _mend(self, conn: Connection, run: _Run) -> tuple[SyncResult, bool]:
        run_id, verdict = await next_run(conn), run.examined.verdict
        repair = LedgerRepair(conn, run_id, verdict.contract, verdict.vault_id, self._params)
        left = await mend_factories(conn, run_id, verdict.vault_id, run.factories)
        repaired = await repair.apply(run.examined, run.found)
        repaired = msgspec.structs.replace(repaired, remaining=(*repaired.remaining, *left))
        # What was found in the tail since is part of the explanation.
        strays = describe_strays(run.examined.standing.strayed, run.found.until.lt)
        findings = group_findings([*run.found.findings, *strays, *run.factories.findings], _EXAMPLES)
        told = msgspec.structs.replace(run.told, findings=findings)
        return await self._write(conn, run_id, msgspec.structs.replace(run, told=told), repaired), repaired.moved

    async def _write(
        self, conn: Connection, run_id: int, run: _Run, outcome: Repaired | LedgerRefused | None
    ) -> SyncResult:
        """Write the run down; returns its result."""
        verdict = run.examined.verdict
        told, status = _conclude(run, outcome)
        row = ResultRow(
            vault_id=verdict.vault_id,
            contract=verdict.contract,
            status=status,
            seqno=verdict.seqno,
            lt=verdict.lt,
            transaction_hash=verdict.transaction_hash,
            differences=len(told.differences) + sum(group.count for group in told.findings),
            explanation=msgspec.json.encode(_shorten(told)).decode(),
            audited_from_lt=run.found.after.lt,
            digest=run.digest if status == "equal" else None,
            started_at=run.started_at,
        )
        await insert_result(conn, run_id, row, run.tranches)
        first, many = await count_journalled(conn, run_id)
        return SyncResult(
            run_id=run_id,
            vault_id=verdict.vault_id,
            contract=verdict.contract,
            status=status,
            seqno=verdict.seqno,
            lt=verdict.lt,
            transaction_hash=verdict.transaction_hash,
            tranches=run.tranches,
            differences=told.differences,
            findings=told.findings,
            unreadable=told.unreadable,
            adjusted=told.adjusted,
            remaining=told.remaining,
            audited_from_lt=run.found.after.lt,
            adjustment_id=first,
            adjustments=many,
            duration_s=(datetime.now(UTC) - run.started_at).total_seconds(),
        )

    async def _record_failure(self, contract: str, started_at: datetime, error: TonsuranceError) -> None:
        row = ResultRow(
            vault_id=None,
            contract=contract,
            status="failed",
            error_code=error.code,
            error_message=error.message[:_MOST_WORDS],
            started_at=started_at,
        )
        async with acquire(await self._pool.open()) as conn, conn.transaction():
            await insert_result(conn, await next_run(conn), row, ())


def measure(state: TrancheState, standing: Standing) -> TrancheDrift:
    """A tranche on both sides. Where the ledger's own tables differ, the one that is furthest from the chain counts."""
    tranche_id = tranche_id_on_chain(state.tranche_id)
    chain = Totals(capital=state.capital, coverage=state.coverage, unearned=state.unearned, shares=state.shares)
    history = standing.history.get(tranche_id, Totals())
    stray = standing.strayed.get(tranche_id, Totals())
    shown = Totals(**{name: getattr(history, name) + getattr(stray, name) for name in Totals.__struct_fields__})
    told = (history, standing.entries.get(tranche_id, Totals()), shown)
    return TrancheDrift(tranche_id=tranche_id, chain=chain, ledger=choose_worst(chain, told))


def _conclude(run: _Run, outcome: Repaired | LedgerRefused | None) -> tuple[_Told, str]:
    """What is told in the end, and the status."""
    if outcome is None:
        left = () if run.equal else (*run.told.differences, *_name(run.told.findings))
        return msgspec.structs.replace(run.told, remaining=left), "equal" if run.equal else "drifted"
    if isinstance(outcome, LedgerRefused):
        left = (f"Nothing was repaired: {outcome.message}", *run.told.differences, *_name(run.told.findings))
        return msgspec.structs.replace(run.told, remaining=left), "drifted"
    told = msgspec.structs.replace(run.told, adjusted=outcome.adjusted, remaining=outcome.remaining)
    if outcome.remaining:
        return told, "drifted"
    return told, "adjusted" if outcome.adjusted else "repaired"


def _name(groups: Sequence[FindingGroup]) -> tuple[str, ...]:
    return tuple(example for group in groups for example in group.examples)


def _shorten(told: _Told) -> _Told:
    return msgspec.structs.replace(
        told,
        differences=told.differences[:_MOST_TOLD],
        findings=told.findings[:_MOST_TOLD],
        unreadable=told.unreadable[:_MOST_TOLD],
        remaining=told.remaining[:_MOST_TOLD],
    )


def _report(result: SyncResult) -> None:
    fields = {
        "vault_id": result.vault_id,
        "status": result.status,
        "seqno": result.seqno,
        "lt": result.lt,
        "adjustments": result.adjustments,
        "duration_s": round(result.duration_s, 3),
    }
    say = logger.info if result.status == "equal" else logger.error
    say("vault_synced", **fields, findings=list(_name(result.findings))[:_MOST_TOLD])
