"""The factories of a vault in its reconciliation: all of them explained, and made what the chain and the log say."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from tonsurance.chain.client import TonCenterClient
from tonsurance.chain.layout import DEFAULT_LAYOUT, Layout
from tonsurance.core.drift import Fault, Finding
from tonsurance.core.errors import LedgerRefused
from tonsurance.db.policy_repairs import repair_policies, select_synced_factories
from tonsurance.db.pool import Connection, Pool, acquire
from tonsurance.db.reconciliation import lock_head, repair_events
from tonsurance.db.streams import advance_streams
from tonsurance.services.factory_explanation import FactoryExplainer, FactoryFound
from tonsurance.services.policy_comparison import examine_exposure, examine_policies

MOST_POLICY_REPAIRS = 50_000
"""More rows than this are not mended one by one: the read models are to be rebuilt by a replay."""


class FactoriesFound(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong with the factories of a vault, and with the exposure of its policies."""

    factories: tuple[FactoryFound, ...] = ()
    exposure: tuple[Finding, ...] = ()

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All that differs."""
        return (*(finding for one in self.factories for finding in one.findings), *self.exposure)

    @property
    def unreadable(self) -> tuple[Finding, ...]:
        """Messages that may be events nobody knows."""
        return tuple(finding for one in self.factories for finding in one.unreadable)


async def explain_factories(
    client: TonCenterClient, pool: Pool, vault_id: str, layout: Layout, seqno: int, digest: str | None
) -> FactoriesFound:
    """Explain every followed factory of a vault up to a masterchain block. `digest` is what the last run left."""
    async with acquire(pool) as conn:
        contracts = await select_synced_factories(conn, DEFAULT_LAYOUT, vault_id)
    marks = {mark.partition(" ")[0]: mark for mark in _read_marks(digest)}
    found = [
        await FactoryExplainer(client, pool, contract, vault_id, layout).explain(seqno, marks.get(contract))
        for contract in contracts
    ]
    async with acquire(pool) as conn:
        exposure = await examine_exposure(conn, vault_id, max((one.until.lt for one in found), default=0))
    return FactoriesFound(factories=tuple(found), exposure=exposure)


async def mend_factories(conn: Connection, run_id: int, vault_id: str, found: FactoriesFound) -> tuple[str, ...]:
    """Make the log, the policies and the exposure what they must be, inside the caller's transaction. The policies are
    folded once more under the ledger's write lock. Returns what is left, in words.

    Raises LedgerRefused when that cannot be done; then nothing of it may stay.
    """
    if not found.findings:
        return ()
    await lock_head(conn)
    left: list[Finding] = []
    for one in found.factories:
        await repair_events(conn, run_id, one.contract, one.events)
        verdict = await examine_policies(conn, one.contract, vault_id)
        if len(verdict.repairs) > MOST_POLICY_REPAIRS:
            raise LedgerRefused(
                f"{len(verdict.repairs):,} policies differ: rebuild them with `tonsurance replay --swap`."
            )
        await repair_policies(conn, run_id, vault_id, one.contract, one.until.lt, verdict.repairs)
        left += (finding for finding in verdict.findings if finding.fault is Fault.UNREADABLE)
    await advance_streams(conn, vault_id)
    left += await examine_exposure(conn, vault_id, 0)
    return tuple(finding.said for finding in left)


def join_digest(vault: str, found: FactoriesFound) -> str:
    """The vault's digest and the marks of its factories, as one text."""
    return "\n".join([vault, *(one.mark for one in found.factories)])


def _read_marks(digest: str | None) -> Iterable[str]:
    return () if digest is None else digest.split("\n")[1:]
