"""Puts our contracts on a local chain, once: a chain that has them keeps them."""

from __future__ import annotations

import msgspec
from nacl.signing import SigningKey

from tonsurance.chain import messages
from tonsurance.chain.deployment import (
    Deployment,
    FactoryTerms,
    FloatTerms,
    VaultTerms,
    factory_deployment,
    float_deployment,
    vault_deployment,
)
from tonsurance.core.errors import TonsuranceError
from tonsurance.core.units import NANO_PER_TON
from tonsurance.localnet.cells import raw_address
from tonsurance.localnet.chain import LocalChain
from tonsurance.localnet.wallets import Transfer, Wallet

ADMIN, CLAIMS, OPERATOR = "admin", "claims", "float operator"
"""Names of the wallets with a role."""
_FACT = "contracts"
_ADMIN_NANO = 1_000 * NANO_PER_TON
_DEPLOY_NANO = 5 * NANO_PER_TON
"""What a contract starts with: its rent reserve and years of storage fees."""
_PATIENCE_BLOCKS = 10
_FLOAT_SATS, _FLOAT_COST_CENTS, _FLOAT_USD_CENTS = 100 * 100_000_000, 600_000_000, 400_000_000
"""A float at its target at 60,000 dollars for one bitcoin."""


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What the local contracts are deployed with, in seconds of chain time. Shorter than real ones, to be seen."""

    withdraw_delay_s: int = 3_600
    withdraw_window_s: int = 86_400
    waiting_period_s: int = 60
    claim_grace_s: int = 600
    breaker_window_s: int = 3_600
    claim_delay_s: int = 1_800
    max_freeze_s: int = 1_200


LOCAL_TERMS = Terms()


class Contracts(msgspec.Struct, frozen=True, kw_only=True):
    """Raw addresses of the deployed contracts and of their admin."""

    vault: str
    factory: str
    admin: str
    float_manager: str = ""


def deploy_contracts(chain: LocalChain, quote_key: bytes, terms: Terms = LOCAL_TERMS) -> Contracts:
    """Deploy vault and factory, join them, and remember them in the chain's store; makes the blocks this takes.

    `quote_key` is the Ed25519 seed that signs quotes. On a chain that has the contracts only a changed key is set
    anew. Raises TonsuranceError when the contracts do not come up.
    """
    admin = Wallet(ADMIN, chain.seed)
    stored = chain.load_fact(_FACT)
    if stored is not None:
        contracts = msgspec.json.decode(stored, type=Contracts)
    else:
        contracts = _deploy_all(chain, admin, bytes(SigningKey(quote_key).verify_key), terms)
    if not contracts.float_manager:
        contracts = msgspec.structs.replace(contracts, float_manager=_deploy_float(chain, admin))
        chain.save_fact(_FACT, msgspec.json.encode(contracts).decode())
    _set_quote_key(chain, admin, contracts.factory, bytes(SigningKey(quote_key).verify_key))
    return contracts


def _deploy_all(chain: LocalChain, admin: Wallet, public_key: bytes, terms: Terms) -> Contracts:
    vault = vault_deployment(
        VaultTerms(
            admin=admin.address,
            withdraw_delay_s=terms.withdraw_delay_s,
            withdraw_window_s=terms.withdraw_window_s,
            breaker_window_s=terms.breaker_window_s,
            claim_delay_s=terms.claim_delay_s,
            max_freeze_s=terms.max_freeze_s,
        )
    )
    factory = factory_deployment(
        FactoryTerms(
            network_id=chain.network_id,
            vault=vault.address,
            admin=admin.address,
            claims=Wallet(CLAIMS, chain.seed).address,
            public_key=public_key,
            waiting_period_s=terms.waiting_period_s,
            claim_grace_s=terms.claim_grace_s,
        )
    )
    _fund(chain, admin)
    for deployment in (vault, factory):
        _deploy(chain, admin, deployment)
    _join(chain, admin, vault.address, factory.address)
    return Contracts(vault=vault.address, factory=factory.address, admin=admin.address)


def _deploy_float(chain: LocalChain, admin: Wallet) -> str:
    deployment = float_deployment(
        FloatTerms(
            admin=admin.address,
            operator=Wallet(OPERATOR, chain.seed).address,
            btc_float_sats=_FLOAT_SATS,
            btc_cost_basis=_FLOAT_COST_CENTS,
            usd_reserves=_FLOAT_USD_CENTS,
        )
    )
    _fund(chain, admin)
    _deploy(chain, admin, deployment)
    return deployment.address


def _fund(chain: LocalChain, admin: Wallet) -> None:
    if chain.balance(admin.address) < _ADMIN_NANO // 2:
        chain.airdrop(admin.address, _ADMIN_NANO)
        chain.mine_until_idle(_PATIENCE_BLOCKS)


def _deploy(chain: LocalChain, admin: Wallet, deployment: Deployment) -> None:
    if chain.account(deployment.address).status != "active":
        order = Transfer(
            destination=deployment.address,
            value=_DEPLOY_NANO,
            body=messages.top_up(),
            state_init=deployment.state_init,
            bounce=False,
        )
        admin.send(chain, order)
        chain.mine_until_idle(_PATIENCE_BLOCKS)
    if chain.account(deployment.address).status != "active":
        raise TonsuranceError(f"The contract {deployment.address} did not come up.")


def _join(chain: LocalChain, admin: Wallet, vault: str, factory: str) -> None:
    if _vault_factory(chain, vault) != factory:
        body = messages.set_factory(factory)
        admin.send(chain, Transfer(destination=vault, value=messages.SIMPLE_GAS, body=body))
        chain.mine_until_idle(_PATIENCE_BLOCKS)
    if _vault_factory(chain, vault) != factory:
        raise TonsuranceError(f"The vault {vault} did not take the factory {factory}.")


def _vault_factory(chain: LocalChain, vault: str) -> str:
    _, factory = chain.get_method(vault, "get_vault_roles").stack
    return raw_address(factory.load_address())


def _set_quote_key(chain: LocalChain, admin: Wallet, factory: str, public_key: bytes) -> None:
    current = chain.get_method(factory, "get_factory_config").stack[5]
    if current != int.from_bytes(public_key, "big"):
        _fund(chain, admin)
        body = messages.set_quote_key(public_key)
        admin.send(chain, Transfer(destination=factory, value=messages.SIMPLE_GAS, body=body))
        chain.mine_until_idle(_PATIENCE_BLOCKS)
