"""The daemon while it is the active one: its tasks under a supervisor, with the contracts it follows among them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from tonsurance import log
from tonsurance.chain.addresses import check_network
from tonsurance.chain.client import TonCenterClient
from tonsurance.chain.contracts import check_contract
from tonsurance.chain.layout import DEFAULT_LAYOUT, Layout
from tonsurance.core.errors import DatabaseUnavailable, UsageError, WriterFenced
from tonsurance.core.events import FACTORY_KIND, VAULT_KIND
from tonsurance.services.contract_set import LOOK_EVERY_S, ContractRecords, ContractSet, FollowedContract
from tonsurance.services.ingest import BatchSink, IngestStatus
from tonsurance.services.loop import pause
from tonsurance.services.task_supervision import STOP_GRACE_S, Patience, Task, TaskState, TaskSupervisor

__all__ = ["ContractRecords", "FollowedContract", "IntegrationDaemon", "check_contracts", "read_contracts"]

DEFAULT_POLL_INTERVAL_S = 10.0
RETRY_S = 0.5
_log = log.get(__name__)


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


async def check_contracts(client: TonCenterClient, contracts: Sequence[FollowedContract], layout: Layout) -> None:
    """Raises NotOurContract, or ChainUnavailable, before anything is written."""
    for contract in contracts:
        await check_contract(client, contract.address, contract.kind, layout)


class IntegrationDaemon:
    """Follows contracts on one network into one ledger, and keeps other tasks running beside it.

    `contracts` are registered when it begins; which ones are followed then is what the records say. `on_error` hears
    the code of every failed round of following.
    """

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
        look_every_s: float = LOOK_EVERY_S,
        tasks: Sequence[Task] = (),
        patience: Patience | None = None,
        retry_s: float = RETRY_S,
        on_error: Callable[[str], None] = lambda _code: None,
        on_change: Callable[[], None] = lambda: None,
        only_given: bool = False,
    ) -> None:
        """`on_change` is called when a task crashed or runs again. It must not block. With `only_given`, contracts that
        people added are not followed here."""
        self._client = client
        self._records = records
        self._contracts = tuple(contracts)
        self._layout = layout
        self._grace_s = grace_s
        self._tasks = tuple(tasks)
        self._retry_s = retry_s
        self._supervisor = TaskSupervisor(patience, on_change=on_change)
        self._followed = ContractSet(
            client,
            sink,
            records,
            self._supervisor,
            layouts={DEFAULT_LAYOUT: layout},
            poll_interval_s=poll_interval_s,
            look_every_s=look_every_s,
            grace_s=grace_s,
            on_error=on_error,
            only={contract.address for contract in contracts} if only_given else None,
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Check the given contracts, then follow until `stop` is set; the batch in flight is finished first."""
        await check_contracts(self._client, self._contracts, self._layout)
        await self.follow(stop)

    async def follow(
        self,
        stop: asyncio.Event,
        *,
        take: Callable[[], Awaitable[None]] | None = None,
        at_once: Callable[[], bool] = lambda: False,
    ) -> None:
        """The same without the check. `take` makes the sink ours before anything is followed; `at_once` says whether
        there is nothing to finish, as after the lock was lost.

        Raises InputError when a given contract is known otherwise.
        """
        if not await self._begin(stop, take):
            return
        _log.info("following", network=self._client.base_url, contracts=[item.address for item in self._contracts])
        for task in (Task("contracts", self._followed.run), *self._tasks):
            self._supervisor.start(task)
        try:
            await stop.wait()
        finally:
            await self._supervisor.end_all(grace_s=0.0 if at_once() else self._grace_s)

    async def _begin(self, stop: asyncio.Event, take: Callable[[], Awaitable[None]] | None) -> bool:
        """Take the sink and note the given contracts, as soon as both can be done; False when stopped before."""
        while not stop.is_set():
            try:
                if take is not None:
                    await take()
                for contract in self._contracts:
                    await self._records.register(contract)
                await self._followed.apply()
            except (DatabaseUnavailable, WriterFenced) as error:
                _log.warning("beginning_waits", code=error.code, reason=error.message)
                await pause(self._retry_s, stop)
            else:
                return True
        return False

    def wake(self, address: str | None = None) -> None:
        """A hint that something happened on chain: look now, at this contract (raw address) or at all."""
        self._followed.wake(address)

    @property
    def statuses(self) -> tuple[IngestStatus, ...]:
        """How each contract is doing."""
        return self._followed.statuses

    @property
    def tasks(self) -> tuple[TaskState, ...]:
        """How each task is doing."""
        return self._supervisor.states
