"""The contracts a daemon follows, each by a task of its own on its own cursor, begun and ended as people want it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol

import msgspec

from tonsurance import log
from tonsurance.chain.client import TonCenterClient
from tonsurance.chain.contracts import check_contract
from tonsurance.chain.decode import Decoder
from tonsurance.chain.follow import Follower
from tonsurance.chain.layout import DEFAULT_LAYOUT, Layout, load_layout
from tonsurance.core.errors import TonsuranceError
from tonsurance.services.ingest import BatchSink, ContractIngest, IngestStatus, SyncRecords
from tonsurance.services.loop import every
from tonsurance.services.task_supervision import STOP_GRACE_S, Task, TaskSupervisor

LOOK_EVERY_S = 1.0
"""How soon a change of what is wanted is noticed."""
_FOLLOWED = ("active", "backfill")
_SHORT = 8
_log = log.get(__name__)


class FollowedContract(msgspec.Struct, frozen=True, kw_only=True):
    """A contract to follow: its raw address, its kind, the vault it belongs to, and the layout of its messages."""

    address: str
    kind: str
    vault_id: str = "main"
    layout: str = DEFAULT_LAYOUT


class WantedContract(msgspec.Struct, frozen=True, kw_only=True):
    """What people want of a contract: `active`, `paused`, `removed`, or `backfill` (up to the head once, then paused).
    With another revision it is followed anew, also when it had stopped."""

    contract: FollowedContract
    wanted: str
    revision: int


class ContractRecords(SyncRecords, Protocol):
    """The records of following, and the list of what is followed."""

    async def register(self, contract: FollowedContract) -> None:
        """Note that this contract is followed; again is fine. Raises InputError when it is known otherwise."""
        ...

    async def read_wanted(self) -> Sequence[WantedContract]:
        """Everything that is or was followed."""
        ...

    async def end_backfill(self, address: str, revision: int) -> None:
        """The contract came up to its head: it is paused now, unless people want something else of it meanwhile."""
        ...


class _Running(msgspec.Struct, frozen=True):
    wanted: WantedContract
    ingest: ContractIngest
    wake: asyncio.Event

    @property
    def task_name(self) -> str:
        contract = self.wanted.contract
        return f"ingest:{contract.kind}:{contract.address.partition(':')[2][:_SHORT]}"


class ContractSet:
    """Follows what is wanted. A fault of one contract is that contract's alone.

    `layouts` by name are used before those of the package. `on_error` hears the code of every failed round.
    """

    def __init__(
        self,
        client: TonCenterClient,
        sink: BatchSink,
        records: ContractRecords,
        supervisor: TaskSupervisor,
        *,
        layouts: Mapping[str, Layout] | None = None,
        poll_interval_s: float,
        look_every_s: float = LOOK_EVERY_S,
        grace_s: float = STOP_GRACE_S,
        on_error: Callable[[str], None] = lambda _code: None,
        only: Collection[str] | None = None,
    ) -> None:
        """`only` these are followed, of all that are wanted."""
        self._client = client
        self._only = only
        self._sink = sink
        self._records = records
        self._supervisor = supervisor
        self._layouts = layouts or {}
        self._poll_interval_s = poll_interval_s
        self._look_every_s = look_every_s
        self._grace_s = grace_s
        self._on_error = on_error
        self._running: dict[str, _Running] = {}
        self._refused: dict[str, int] = {}
        self._look = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Keep to what is wanted until `stop`. The contracts' own tasks are the supervisor's."""
        await every(
            self._look_every_s, self.apply, stop=stop, wake=self._look, name="contracts", max_backoff_s=LOOK_EVERY_S
        )

    async def apply(self) -> None:
        """Start, stop and renew until what runs is what is wanted. Raises DatabaseUnavailable; then all stays."""
        listed = await self._records.read_wanted()
        wanted = {
            item.contract.address: item for item in listed if self._only is None or item.contract.address in self._only
        }
        for address, running in list(self._running.items()):
            if not _is_same(running.wanted, wanted.get(address)):
                await self._stop(running)
        for address, item in wanted.items():
            if item.wanted in _FOLLOWED and address not in self._running:
                self._start(item)

    def wake(self, address: str | None = None) -> None:
        """A hint that something happened on chain: look now, at this contract or at all."""
        for found in self._running.values() if address is None else filter(None, (self._running.get(address),)):
            found.wake.set()

    @property
    def statuses(self) -> tuple[IngestStatus, ...]:
        """How each followed contract is doing."""
        return tuple(running.ingest.status for running in self._running.values())

    def _start(self, item: WantedContract) -> None:
        contract = item.contract
        if self._refused.get(contract.address) == item.revision:
            return
        try:
            layout = self._layouts.get(contract.layout) or load_layout(contract.layout)
        except TonsuranceError as error:
            self._refused[contract.address] = item.revision
            self._on_error(error.code)
            _log.error("contract_refused", contract=contract.address, reason=error.message)
            return
        running = _Running(item, self._make_ingest(contract, layout), asyncio.Event())
        self._running[contract.address] = running
        self._supervisor.start(Task(running.task_name, lambda stop: self._follow(running, stop)))
        _log.info("contract_followed", contract=contract.address, kind=contract.kind, wanted=item.wanted)

    async def _stop(self, running: _Running) -> None:
        """The batch in flight is finished; it is one transaction, so nothing can be half done."""
        await self._supervisor.end(running.task_name, grace_s=self._grace_s)
        self._running.pop(running.wanted.contract.address, None)
        _log.info("contract_left", contract=running.wanted.contract.address, cursor_lt=running.ingest.status.cursor_lt)

    def _make_ingest(self, contract: FollowedContract, layout: Layout) -> ContractIngest:
        async def prepare() -> None:
            await check_contract(self._client, contract.address, contract.kind, layout)
            await self._records.register(contract)

        return ContractIngest(
            Follower(self._client, contract.address, contract.kind),
            Decoder(layout, contract=contract.address, kind=contract.kind),
            self._sink,
            self._records,
            prepare=prepare,
        )

    async def _follow(self, running: _Running, stop: asyncio.Event) -> None:
        async def run_round() -> None:
            with _counting(self._on_error):
                await running.ingest.run_once()
            if running.wanted.wanted == "backfill" and running.ingest.status.status == "active":
                await self._records.end_backfill(running.wanted.contract.address, running.wanted.revision)
                self._look.set()

        await every(
            self._poll_interval_s,
            run_round,
            stop=stop,
            wake=running.wake,
            name=running.task_name,
            max_backoff_s=min(60.0, max(2.0, 6 * self._poll_interval_s)),
        )


def _is_same(running: WantedContract, wanted: WantedContract | None) -> bool:
    return wanted is not None and wanted.wanted in _FOLLOWED and wanted.revision == running.revision


@contextmanager
def _counting(on_error: Callable[[str], None]) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        on_error(getattr(error, "code", "bug"))
        raise
