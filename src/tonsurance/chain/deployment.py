"""Code, first data and address of our contracts. Two deployments with the same terms are the same address.

Order: the vault first (its address depends on its terms alone, its factory is the admin), then the factory, which
names the vault, then `set_factory` to the vault. Both need a balance of 1 TON and a margin that nobody owns, for rent.
"""

from __future__ import annotations

from importlib import resources

import msgspec
from pytoniq_core.boc.builder import Builder
from pytoniq_core.boc.cell import Cell

from tonsurance.chain.messages import build_cell, key_number
from tonsurance.core.errors import InputError
from tonsurance.core.events import FACTORY_KIND, FLOAT_KIND, VAULT_KIND
from tonsurance.core.float_manager import ALL_BPS, SATS_PER_BTC
from tonsurance.core.units import NANO_PER_TON

RENT_RESERVE_NANO = NANO_PER_TON
"""What a contract keeps beside everyone's money; storage fees come out of it."""
MAX_ENTRIES = 10_000
"""Most policies, and most holders: with both full, a contract stays under the 65,536 cells an account may have."""
DAY_S = 86_400
_CODE_FILES = {
    VAULT_KIND: "multi_tranche_vault.boc",
    FACTORY_KIND: "policy_factory.boc",
    FLOAT_KIND: "float_manager.boc",
}


class VaultTerms(msgspec.Struct, frozen=True, kw_only=True):
    """What a vault is deployed with, for good. A withdrawal opens after the delay and stays open for the window.

    The circuit breaker counts losses within its window; what it holds back is due after the claim delay.
    """

    admin: str
    withdraw_delay_s: int = 7 * DAY_S
    withdraw_window_s: int = 2 * DAY_S
    breaker_window_s: int = DAY_S
    claim_delay_s: int = DAY_S
    max_freeze_s: int = 3 * DAY_S
    max_policies: int = MAX_ENTRIES
    max_owners: int = MAX_ENTRIES


class FactoryTerms(msgspec.Struct, frozen=True, kw_only=True):
    """What a factory is deployed with; only the quote key changes later. `claims` may execute payouts."""

    network_id: int
    vault: str
    admin: str
    claims: str
    public_key: bytes
    waiting_period_s: int = DAY_S
    claim_grace_s: int = 7 * DAY_S
    key_overlap_s: int = 300
    max_policies: int = MAX_ENTRIES
    max_quotes: int = 2_000


class FloatTerms(msgspec.Struct, frozen=True, kw_only=True):
    """What a float manager is deployed with. Dollars in cents, bitcoin in satoshi; shares in basis points of the whole
    float. Trades are what `operator` books; nothing else moves the float."""

    admin: str
    operator: str
    btc_float_sats: int
    btc_cost_basis: int
    usd_reserves: int
    target_usd_bps: int = 4_000
    threshold_bps: int = 1_000
    min_float_sats: int = 50 * SATS_PER_BTC


class Deployment(msgspec.Struct, frozen=True, kw_only=True):
    """A contract before it exists: raw address and the cells of its first state."""

    address: str
    code: Cell
    data: Cell

    @property
    def state_init(self) -> Cell:
        """The StateInit cell; its hash is the address."""
        return _state_init(self.code, self.data)


def code_cell(kind: str) -> Cell:
    """The compiled code of a contract kind, as shipped."""
    return Cell.one_from_boc(resources.files(__package__).joinpath("code", _CODE_FILES[kind]).read_bytes())


def vault_deployment(terms: VaultTerms) -> Deployment:
    """A vault with these terms. Raises InputError for terms a vault cannot hold."""
    _check_limits(terms.max_policies, terms.max_owners)
    config = build_cell(
        ("address", terms.admin),
        ("address", terms.admin),
        ("uint32", terms.withdraw_delay_s),
        ("uint32", terms.withdraw_window_s),
        ("uint32", terms.breaker_window_s),
        ("uint32", terms.claim_delay_s),
        ("uint32", terms.max_freeze_s),
        ("uint16", terms.max_policies),
        ("uint16", terms.max_owners),
    )
    # running, not frozen; no policies, holders and claims due; no breaker window; three empty dictionaries
    counters = ("uint1", 0), ("uint32", 0), ("uint16", 0), ("uint16", 0), ("uint16", 0)
    window = ("uint32", 0), ("coins", 0), ("coins", 0)
    data = build_cell(*counters, *window, ("uint3", 0), refs=(config,))
    return _deploy(VAULT_KIND, data)


def factory_deployment(terms: FactoryTerms) -> Deployment:
    """A factory with these terms. Raises InputError for terms a factory cannot hold."""
    _check_limits(terms.max_policies, terms.max_quotes)
    config = build_cell(
        ("int32", terms.network_id),
        ("address", terms.vault),
        ("address", terms.admin),
        ("address", terms.claims),
        ("uint32", terms.waiting_period_s),
        ("uint32", terms.claim_grace_s),
        ("uint32", terms.key_overlap_s),
        ("uint16", terms.max_policies),
        ("uint16", terms.max_quotes),
    )
    keys = build_cell(("uint256", key_number(terms.public_key)), ("uint256", 0), ("uint32", 0))
    # running, first policy 1, first request 1, no policies, no used quotes; two empty dictionaries
    counters = ("uint1", 0), ("uint64", 1), ("uint64", 1), ("uint16", 0), ("uint16", 0), ("uint2", 0)
    return _deploy(FACTORY_KIND, build_cell(*counters, refs=(config, keys)))


def float_deployment(terms: FloatTerms) -> Deployment:
    """A float manager with these terms. Raises InputError for terms it cannot hold."""
    if not (0 <= terms.target_usd_bps <= ALL_BPS and 0 <= terms.threshold_bps <= ALL_BPS):
        raise InputError(f"Target and threshold are 0 to {ALL_BPS} basis points.")
    config = build_cell(
        ("address", terms.admin),
        ("address", terms.operator),
        ("uint16", terms.target_usd_bps),
        ("uint16", terms.threshold_bps),
        ("uint64", terms.min_float_sats),
    )
    amounts = (("uint64", terms.btc_float_sats), ("uint128", terms.btc_cost_basis), ("uint128", terms.usd_reserves))
    return _deploy(FLOAT_KIND, build_cell(("uint1", 0), *amounts, ("int128", 0), refs=(config,)))


def _check_limits(*limits: int) -> None:
    for limit in limits:
        if not 1 <= limit <= MAX_ENTRIES:
            raise InputError(f"A limit of entries must be 1 to {MAX_ENTRIES}, not {limit}.")


def _deploy(kind: str, data: Cell) -> Deployment:
    code = code_cell(kind)
    return Deployment(address=f"0:{bytes(_state_init(code, data).hash).hex()}", code=code, data=data)


def _state_init(code: Cell, data: Cell) -> Cell:
    # no split depth, not special, code, data, no libraries
    return Builder().store_uint(0b00110, 5).store_ref(code).store_ref(data).end_cell()
