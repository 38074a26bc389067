"""Holds what the contracts enforce against what the configuration says of it.

A configuration that was never stored takes it over once; from then on a difference is told and never adopted.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from tonsurance import log
from tonsurance.chain.client import TonCenterClient
from tonsurance.chain.contracts import FactoryConfig, FactoryReader, VaultReader, VaultState
from tonsurance.core.params import Params
from tonsurance.services.config_store import Actor, Applied, ConfigStore, Edit

INTERVAL_S = 60.0

_VAULT = {"withdraw_delay_s": "withdraw_delay", "withdraw_window_s": "withdraw_window"}
_FACTORY = {"waiting_period_s": "waiting_period", "claim_grace_s": "claim_grace"}

_CONTRACTS = Actor("contracts", "system")

logger = log.get("chain_params")


class ChainDifference(msgspec.Struct, frozen=True):
    """A parameter a contract enforces otherwise than the configuration says."""

    category: str
    key: str
    configured: object
    on_chain: int

    def __str__(self) -> str:
        return f"{self.category}/{self.key} is {self.configured}; the contract enforces {self.on_chain}"


def compare_with_chain(
    params: Params, vault: VaultState | None, factory: FactoryConfig | None
) -> tuple[ChainDifference, ...]:
    """Every difference between the parameters and what the contracts' getters say; None: that one was not read."""
    said: dict[str, int] = {}
    if vault is not None:
        said |= {key: getattr(vault, field) for key, field in _VAULT.items()}
    if factory is not None:
        said |= {key: getattr(factory, field) for key, field in _FACTORY.items()}
    return tuple(
        ChainDifference("risk", key, configured, on_chain)
        for key, on_chain in said.items()
        if (configured := params.value("risk", key)) != on_chain
    )


async def check_chain(client: TonCenterClient, vault: str, factory: str, params: Params) -> tuple[ChainDifference, ...]:
    """Ask the two contracts (raw addresses) now. Raises ChainUnavailable, ChainDataError."""
    state = await VaultReader(client, vault).vault_state()
    settings = await FactoryReader(client, factory).config()
    return compare_with_chain(params, state, settings)


class ChainWatch:
    """The last comparison; `differences` is None until the first. What differs is logged as an error once."""

    def __init__(
        self, client: TonCenterClient, vault: str, factory: str, params: Callable[[], Params], store: ConfigStore
    ) -> None:
        self._client = client
        self._vault = vault
        self._factory = factory
        self._params = params
        self._store = store
        self.differences: tuple[ChainDifference, ...] | None = None

    async def check(self) -> None:
        """Compare now. Raises ChainUnavailable, ChainDataError, DatabaseUnavailable; the last comparison stays then."""
        found = await check_chain(self._client, self._vault, self._factory, self._params())
        if found and self.differences is None and not await self._store.versions(limit=1):
            await follow_chain(self._store, found, actor=_CONTRACTS, reason="what the contracts were deployed with")
            found = ()
        if found and found != self.differences:
            logger.error("config_differs_from_chain", differences=[str(difference) for difference in found])
        self.differences = found


async def follow_chain(
    store: ConfigStore, differences: tuple[ChainDifference, ...], *, actor: Actor, reason: str
) -> Applied:
    """Write down what the contracts enforce, as a version of kind `chain`, because somebody decided so."""
    edits = [Edit(found.category, found.key, "set", found.on_chain) for found in differences]
    return await store.apply(edits, actor=actor, reason=reason, kind="chain")
