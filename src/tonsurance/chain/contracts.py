"""Our contracts' get-methods as typed reads at one block, and the check that an account is such a contract."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import msgspec

from tonsurance.chain.answers import AccountState, MethodResult
from tonsurance.chain.cells import Cell, parse_boc
from tonsurance.chain.client import TonCenterClient
from tonsurance.chain.layout import Layout
from tonsurance.chain.messages import boc_of, build_cell
from tonsurance.core.errors import ChainDataError, NotOurContract
from tonsurance.core.events import Cursor

WALLET_CODE = {
    "84dafa449f98a6987789ba232358072bc0f76dc4524002a5d0918b9a75d2d599": "a wallet v3r2",
    "feb5ff6820e2ff0d9483e7e0d62c817d846789fb4ae580c878866d959dabd5c0": "a wallet v4r2",
    "20834b7b72b112147e1b2fb457b84e74d1a30f04f737d4f62a668e9552d2b72f": "a wallet v5r1",
}
TRANCHE_COUNT = 6
_Row = TypeVar("_Row", bound=msgspec.Struct)


class TrancheState(msgspec.Struct, frozen=True, kw_only=True):
    """One tranche as the vault holds it, in nanoTON; premiums stream from `last` to `end` (unix seconds)."""

    tranche_id: int
    capital: int
    coverage: int
    unearned: int
    end: int
    last: int
    shares: int


class TranchesReading(msgspec.Struct, frozen=True, kw_only=True):
    """All tranches at one masterchain block, and the vault's last transaction there."""

    seqno: int
    last_transaction: Cursor
    tranches: tuple[TrancheState, ...]


class VaultState(msgspec.Struct, frozen=True, kw_only=True):
    """The vault's own figures; amounts in nanoTON, delays in seconds."""

    paused: bool
    total_capital: int
    total_coverage: int
    total_unearned: int
    policy_count: int
    holder_count: int
    withdraw_delay: int
    withdraw_window: int
    frozen_until: int
    claims_due: int


class FactoryConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The factory's configuration and counters. Keys as numbers, addresses raw, times in seconds."""

    paused: bool
    network: int
    vault: str | None
    admin: str | None
    claims: str | None
    key: int
    previous_key: int
    previous_until: int
    waiting_period: int
    claim_grace: int
    key_overlap: int
    policy_count: int
    max_policies: int
    quote_count: int
    max_quotes: int


class Shares(msgspec.Struct, frozen=True, kw_only=True):
    """An owner's shares of a tranche, and the withdrawal he announced: zeros when there is none."""

    shares: int
    requested: int
    available_at: int
    expires_at: int


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """A claim the circuit breaker holds back, in nanoTON, and when it may be paid: zeros when there is none."""

    amount: int
    due_at: int


class CircuitBreaker(msgspec.Struct, frozen=True, kw_only=True):
    """The vault's window of losses, in nanoTON and unix seconds: zeros when none is open."""

    opened_at: int
    closes_at: int
    capital: int
    losses: int
    most_losses: int


class PolicyData(msgspec.Struct, frozen=True, kw_only=True):
    """A living policy as the factory holds it. `state`: 1 pending, 2 active, 3 closing, 4 paying, 5 due.

    Prices are basis points of the peg; the last four are of the last operation: its sender, its flight number, when the
    vault was asked, and the payout that was approved.
    """

    state: int
    quote_id: int
    buyer: str
    coverage_type: int
    chain_id: int
    stablecoin_id: int
    coverage_amount: int
    premium: int
    start: int
    end: int
    trigger_bps: int
    floor_bps: int
    sender: str | None
    flight: int
    tried_at: int
    payout: int


class VaultReader:
    """Reads one MultiTrancheVault."""

    def __init__(self, client: TonCenterClient, address: str) -> None:
        self._client = client
        self._address = address

    async def all_tranches(self, seqno: int) -> TranchesReading:
        """The six tranches at this masterchain block. Raises ChainDataError when the answer is not six of them."""
        result = await self._client.run_get_method(self._address, "get_all_tranches", seqno=seqno)
        rows = result.stack[0] if len(result.stack) == 1 else None
        if not isinstance(rows, tuple | list) or len(rows) != TRANCHE_COUNT:
            raise ChainDataError(f"get_all_tranches of {self._address} did not return {TRANCHE_COUNT} rows.")
        tranches = tuple(read_struct(TrancheState, row, "get_all_tranches") for row in rows)
        return TranchesReading(seqno=seqno, last_transaction=await self._last_at(result, seqno), tranches=tranches)

    async def vault_state(self, seqno: int | None = None) -> VaultState:
        """The vault's figures at a block, or now."""
        result = await self._client.run_get_method(self._address, "get_vault_state", seqno=seqno)
        return read_struct(VaultState, result.stack, "get_vault_state")

    async def tranche_state(self, tranche_id: int, seqno: int | None = None) -> TrancheState:
        """One tranche at a block, or now. Raises GetMethodFailed for an unknown id."""
        return await self._read(TrancheState, "get_tranche_state", (tranche_id,), seqno)

    async def shares(self, owner: str, tranche_id: int, seqno: int | None = None) -> Shares:
        """What an owner has in a tranche."""
        return await self._read(Shares, "get_shares", (_address_cell(owner), tranche_id), seqno)

    async def claim(self, policy_id: int, seqno: int | None = None) -> Claim:
        """The claim of a policy that is held back."""
        return await self._read(Claim, "get_claim", (policy_id,), seqno)

    async def circuit_breaker(self, seqno: int | None = None) -> CircuitBreaker:
        """The window of losses."""
        return await self._read(CircuitBreaker, "get_circuit_breaker", (), seqno)

    async def policy_coverage(self, policy_id: int, seqno: int | None = None) -> int:
        """The coverage of a policy the vault backs, in nanoTON; 0 for one it does not back."""
        return await _read_number(self._client, self._address, "get_policy_coverage", (policy_id,), seqno)

    async def _read(self, kind: type[_Row], method: str, arguments: Sequence[int | Cell], seqno: int | None) -> _Row:
        result = await self._client.run_get_method(self._address, method, arguments, seqno)
        return read_struct(kind, result.stack, method)

    async def _last_at(self, result: MethodResult, seqno: int) -> Cursor:
        if result.last_transaction is not None:
            return result.last_transaction
        return (await self._client.get_address_information(self._address, seqno)).last_transaction


class FactoryReader:
    """Reads one PolicyFactory."""

    def __init__(self, client: TonCenterClient, address: str) -> None:
        self._client = client
        self._address = address

    async def next_policy_id(self, seqno: int | None = None) -> int:
        """The id the next policy gets; lower ids were used or burned."""
        return await _read_number(self._client, self._address, "get_next_policy_id", (), seqno)

    async def policy(self, policy_id: int, seqno: int | None = None) -> PolicyData:
        """A living policy. Raises GetMethodFailed when the factory has none of this id: unknown, refused or ended."""
        result = await self._client.run_get_method(self._address, "get_policy", (policy_id,), seqno)
        return read_struct(PolicyData, result.stack, "get_policy")

    async def is_quote_used(self, deadline: int, quote_id: int, seqno: int | None = None) -> bool:
        """Whether a quote was bought; the factory forgets it some time after its deadline."""
        return await _read_number(self._client, self._address, "is_quote_used", (deadline, quote_id), seqno) != 0

    async def config(self, seqno: int | None = None) -> FactoryConfig:
        """The configuration at a block, or now."""
        result = await self._client.run_get_method(self._address, "get_factory_config", seqno=seqno)
        return read_struct(FactoryConfig, result.stack, "get_factory_config")


async def _read_number(
    client: TonCenterClient, address: str, method: str, arguments: Sequence[int | Cell], seqno: int | None
) -> int:
    result = await client.run_get_method(address, method, arguments, seqno)
    if len(result.stack) != 1 or not isinstance(result.stack[0], int):
        raise ChainDataError(f"{method} of {address} did not return one number.")
    return result.stack[0]


def _address_cell(address: str) -> Cell:
    """An address as a get-method takes it."""
    return parse_boc(boc_of(build_cell(("address", address))))


def read_struct(row_type: type[_Row], values: object, method: str) -> _Row:
    """Values in the order of the fields. Raises ChainDataError when they are not of the fields' types."""
    fields = msgspec.structs.fields(row_type)
    if not isinstance(values, tuple | list) or len(values) != len(fields):
        raise ChainDataError(f"{method} did not return {len(fields)} values.")
    return row_type(
        **{
            field.name: _read_value(value, field.type, f"{method}, {field.name}")
            for field, value in zip(fields, values, strict=True)
        }
    )


def _read_value(value: object, wanted: object, where: str) -> int | bool | str | None:
    """A number; a flag, -1 or 0 on the stack; or an address, a slice on the stack."""
    if wanted not in (int, bool):
        if not isinstance(value, Cell):
            raise ChainDataError(f"{where} is not an address.")
        address = value.begin_parse().load_address()
        if address is None and wanted is str:
            raise ChainDataError(f"{where} is no address.")
        return address
    if not isinstance(value, int):
        raise ChainDataError(f"{where} is not a number.")
    return value != 0 if wanted is bool else value


async def check_contract(client: TonCenterClient, address: str, kind: str, layout: Layout) -> AccountState:
    """The account's state when it holds a contract of this kind. Raises NotOurContract saying what it holds instead."""
    account = await client.get_address_information(address)
    if account.status != "active":
        what = "is frozen" if account.status == "frozen" else "is not deployed"
        raise NotOurContract(f"{kind} {address} {what} on {client.base_url}.")
    expected = layout.code.get(kind)
    if expected is None:
        raise NotOurContract(f"The layout {layout.name} knows no code of a {kind}.")
    found = parse_boc(account.code).hash
    if found != expected:
        raise NotOurContract(f"{address} is not a {kind} of {layout.name}: it holds {_name_code(found, layout)}.")
    return account


def _name_code(found: bytes, layout: Layout) -> str:
    for kind, code in layout.code.items():
        if code == found:
            return f"a {kind}; are two addresses exchanged?"
    return WALLET_CODE.get(found.hex(), f"a contract with code {found.hex()}")
