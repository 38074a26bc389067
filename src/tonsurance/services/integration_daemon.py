"""The daemon: checks the contracts, then follows each of them in a loop of its own until told to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Protocol

import msgspec

from tonsurance import log
from tonsurance.chain.addresses import check_network
from tonsurance.chain.client import TonCenterClient
from tonsurance.chain.contracts import check_contract
from tonsurance.chain.decode import Decoder
from tonsurance.chain.follow import Follower
from tonsurance.chain.layout import Layout
from tonsurance.core.errors import UsageError
from tonsurance.core.events import FACTORY_KIND, VAULT_KIND
from tonsurance.services.ingest import BatchSink, ContractIngest, IngestStatus, SyncRecords
from tonsurance.services.loop import every

DEFAULT_POLL_INTERVAL_S = 10.0
STOP_GRACE_S = 5.0
_log = log.get(__name__)


class FollowedContract(msgspec.Struct, frozen=True, kw_only=True):
    """A contract to follow: its raw address, its kind, and the vault it belongs to."""

    address: str
    kind: str
    vault_id: str = "main"


class ContractRecords(SyncRecords, Protocol):
    """The records of following, and the list of what is followed."""

    async def register(self, contract: FollowedContract) -> None:
        """Note that this contract is followed; again is fine."""
        ...


def read_contracts(vault: str, factory: str, network: str, *, vault_id: str = "main") -> tuple[FollowedContract, ...]:
    """The two contracts from addresses in any form.

    Raises InvalidAddress or WrongNetwork naming the address, UsageError when both are the same.
    """
    contracts = (
        FollowedContract(address=check_network(vault, network), kind=VAULT_KIND, vault_id=vault_id),
        FollowedContract(address=check_network(factory, network), kind=FACTORY_KIND, vault_id=vault_id),
    )
    if contracts[0].address == contracts[1].address:
        raise UsageError("The vault and the factory have the same address.")
    return contracts


class IntegrationDaemon:
    """Follows contracts on one network into one ledger."""

    def __init__(
        self,
        client: TonCenterClient,
        sink: BatchSink,
        records: ContractRecords,
        contracts: Sequence[FollowedContract],
        layout: Layout,
        *,
        poll_interval_s: float = DEFAULT_POLL_INTERVAL_S,
        grace_s: float = STOP_GRACE_S,
    ) -> None:
        self._client = client
        self._records = records
        self._contracts = tuple(contracts)
        self._layout = layout
        self._poll_interval_s = poll_interval_s
        self._grace_s = grace_s
        self._ingests = tuple(self._make_ingest(contract, sink) for contract in self._contracts)
        self._wakes = tuple(asyncio.Event() for _ in self._ingests)

    def _make_ingest(self, contract: FollowedContract, sink: BatchSink) -> ContractIngest:
        return ContractIngest(
            Follower(self._client, contract.address, contract.kind),
            Decoder(self._layout, contract=contract.address, kind=contract.kind),
            sink,
            self._records,
        )

    async def check(self) -> None:
        """Raises NotOurContract, or ChainUnavailable, before anything is written."""
        for contract in self._contracts:
            await check_contract(self._client, contract.address, contract.kind, self._layout)

    async def run(self, stop: asyncio.Event) -> None:
        """Check, register and follow until `stop` is set; the batch in flight is finished first."""
        await self.check()
        for contract in self._contracts:
            await self._records.register(contract)
        _log.info("following", network=self._client.base_url, contracts=[item.address for item in self._contracts])
        async with asyncio.TaskGroup() as group:
            loops = [
                group.create_task(
                    every(
                        self._poll_interval_s,
                        ingest.run_once,
                        stop=stop,
                        wake=wake,
                        name=name,
                        max_backoff_s=min(60.0, max(2.0, 6 * self._poll_interval_s)),
                    )
                )
                for name, ingest, wake in self._loops()
            ]
            await stop.wait()
            _, late = await asyncio.wait(loops, timeout=self._grace_s)
            for loop in late:  # waiting for the chain; a batch is one transaction, so nothing can be half done
                loop.cancel()

    def _loops(self) -> Iterable[tuple[str, ContractIngest, asyncio.Event]]:
        names = (f"ingest:{contract.kind}" for contract in self._contracts)
        return zip(names, self._ingests, self._wakes, strict=True)

    def wake(self) -> None:
        """A hint that something happened on chain: look now."""
        for wake in self._wakes:
            wake.set()

    @property
    def statuses(self) -> tuple[IngestStatus, ...]:
        """How each contract is doing."""
        return tuple(ingest.status for ingest in self._ingests)
