"""What a wallet has to send to act on our contracts: deposit, announce a withdrawal, take it, end a policy.

Made from the contracts' last reading alone. Nothing is sent and nothing is kept; whether it is done the contract
decides, and what it refuses comes back. What is known to be refused now is not made.
"""

from __future__ import annotations

import secrets
from datetime import UTC, datetime

import msgspec

from tonsurance.chain import messages
from tonsurance.chain.addresses import check_network
from tonsurance.chain.ton_connect import MAINNET_ID, Body, WalletRequest, request_message
from tonsurance.core.catalog import TRANCHES, parse_tranche_id
from tonsurance.core.errors import InputError
from tonsurance.core.policies import PolicyStatus
from tonsurance.core.sale_errors import RefusedNow, UnknownPolicy
from tonsurance.core.units import BIGINT_MAX, NANO_PER_TON
from tonsurance.db.factory_state import FactoryState
from tonsurance.services.chain_clock import ChainClock
from tonsurance.services.factory_state import FactoryStates, find_deposit_blocks, find_withdrawal_blocks

LEAST_DEPOSIT_NANO = NANO_PER_TON
"""What the vault takes at least."""
VALID_FOR_S = 600
"""A wallet sends it within this time, of our seconds, or not at all."""
MOST_AHEAD_S = 7 * 86_400
"""So many of the chain's seconds at most: a leap of a local chain's clock looks like a high speed for a while."""
MOST_SHARES = 2**128 - 1
_QUERY_BITS = 64
_NUMBER_ON_CHAIN = {tranche.tranche_id: tranche.on_chain_id for tranche in TRANCHES}


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """A request, the reading it was made from, and in words what it does and what comes back. `least_nano` is what
    its message must carry at least to be carried out."""

    request: WalletRequest
    state: FactoryState
    contract: str
    value_nano: int
    least_nano: int
    action: str
    returns: str


class WalletRequests:
    """Makes them for the contracts that are followed. `chain` tells the chain's time; each reading is noted there.

    Each message has a query id of its own, which comes back with what gas did not use: so no two bodies are alike, and
    a payload's hash is one message's.

    Every method raises UnknownVault, NotReady before the first reading, InvalidAddress and WrongNetwork for a sender
    that cannot be one, DatabaseUnavailable.
    """

    def __init__(self, states: FactoryStates, *, chain: ChainClock | None = None) -> None:
        self._states = states
        self._chain = ChainClock() if chain is None else chain

    async def deposit(self, vault_id: str, tranche_id: str, amount_nano: int, sender: str | None = None) -> Prepared:
        """Put so much into a tranche. Raises UnknownTranche, InputError, RefusedNow."""
        tranche = parse_tranche_id(tranche_id)
        if not LEAST_DEPOSIT_NANO <= amount_nano <= BIGINT_MAX - messages.DEPOSIT_GAS:
            raise InputError(f"A deposit is at least 1 TON ({LEAST_DEPOSIT_NANO} nanoTON) and at most all there is.")
        state = await self._read(vault_id)
        _refuse(find_deposit_blocks(state))
        return self._prepare(
            state,
            state.vault_address,
            messages.deposit(_NUMBER_ON_CHAIN[tranche], query_id=_choose_query()),
            sender,
            value_nano=amount_nano + messages.DEPOSIT_GAS,
            least_nano=LEAST_DEPOSIT_NANO + messages.DEPOSIT_GAS,
            action=f"Deposits {_show(amount_nano)} into {tranche} for shares at the price of the moment it arrives.",
            returns=f"What is not used of the {_show(messages.DEPOSIT_GAS)} for gas. A deposit that the vault refuses "
            "comes back, less gas.",
        )

    async def request_withdrawal(
        self, vault_id: str, tranche_id: str, shares: int, sender: str | None = None
    ) -> Prepared:
        """Announce that so many shares are to be withdrawn. Raises UnknownTranche, InputError."""
        tranche = parse_tranche_id(tranche_id)
        if not 0 < shares <= MOST_SHARES:
            raise InputError("shares is a whole number above 0.")
        state = await self._read(vault_id)
        return self._prepare(
            state,
            state.vault_address,
            messages.request_withdraw(_NUMBER_ON_CHAIN[tranche], shares, query_id=_choose_query()),
            sender,
            value_nano=messages.SIMPLE_GAS,
            least_nano=messages.SIMPLE_GAS,
            action=f"Announces the withdrawal of {shares} shares of {tranche}, which may be taken "
            f"{state.withdraw_delay_s} s later and for {state.withdraw_window_s} s. It replaces an earlier "
            "announcement in that tranche. Until then the shares earn and bear losses.",
            returns=f"What is not used of the {_show(messages.SIMPLE_GAS)} for gas. The vault refuses more shares than "
            "the sender has.",
        )

    async def withdraw(self, vault_id: str, tranche_id: str, sender: str | None = None) -> Prepared:
        """Take the announced withdrawal. Raises UnknownTranche, RefusedNow."""
        tranche = parse_tranche_id(tranche_id)
        state = await self._read(vault_id)
        _refuse(find_withdrawal_blocks(state, self._chain.now()))
        return self._prepare(
            state,
            state.vault_address,
            messages.withdraw(_NUMBER_ON_CHAIN[tranche], query_id=_choose_query()),
            sender,
            value_nano=messages.SIMPLE_GAS,
            least_nano=messages.SIMPLE_GAS,
            action=f"Takes the withdrawal that the sender announced in {tranche}, at the price of the moment it "
            "arrives.",
            returns=f"The shares' worth, and what is not used of the {_show(messages.SIMPLE_GAS)} for gas. The vault "
            "refuses before and after the announced time, and while too little would stay behind living policies.",
        )

    async def expire(self, vault_id: str, policy_id: int, sender: str | None = None) -> Prepared:
        """End a policy whose time to claim is over. Raises UnknownPolicy, RefusedNow."""
        state = await self._read(vault_id)
        end = await self._states.read_policy_end(state.factory_address, policy_id)
        if end is None:
            raise UnknownPolicy(f"No policy {policy_id} of vault {vault_id} is known.")
        if end.status != PolicyStatus.ACTIVE:
            raise RefusedNow(f"Policy {policy_id} has ended already: it is {end.status}.")
        _refuse(("the factory is paused",) if state.paused else ())
        ends_at = end.expiry + state.claim_grace_s
        if self._chain.now() < ends_at:
            raise RefusedNow(f"Policy {policy_id} can be ended from {datetime.fromtimestamp(ends_at, UTC):%FT%TZ} on.")
        return self._prepare(
            state,
            state.factory_address,
            messages.expire_policy(policy_id, query_id=_choose_query()),
            sender,
            value_nano=messages.REQUEST_GAS,
            least_nano=messages.REQUEST_GAS,
            action=f"Ends policy {policy_id}, whose cover and time to claim are over; the vault's cover becomes free. "
            "Anyone may do it.",
            returns=f"What is not used of the {_show(messages.REQUEST_GAS)} for gas.",
        )

    async def _read(self, vault_id: str) -> FactoryState:
        state = await self._states.read(vault_id)
        self._chain.note(state)
        return state

    def _choose_end(self) -> int:
        """Until when a wallet may send it, in the chain's time: where that runs fast, so much further off."""
        return int(self._chain.now() + min(VALID_FOR_S * self._chain.speed, MOST_AHEAD_S))

    def _prepare(
        self,
        state: FactoryState,
        contract: str,
        body: Body,
        sender: str | None,
        *,
        value_nano: int,
        least_nano: int,
        action: str,
        returns: str,
    ) -> Prepared:
        request = request_message(
            contract,
            value_nano,
            body,
            network_id=state.network_id,
            valid_until=self._choose_end(),
            sender=None if sender is None else check_network(sender, _name_network(state.network_id)),
        )
        return Prepared(
            request=request,
            state=state,
            contract=contract,
            value_nano=value_nano,
            least_nano=least_nano,
            action=action,
            returns=returns,
        )


def _choose_query() -> int:
    return secrets.randbits(_QUERY_BITS)


def _refuse(blocks: tuple[str, ...]) -> None:
    if blocks:
        raise RefusedNow(f"The contract would refuse this now: {'; '.join(blocks)}.")


def _name_network(network_id: int) -> str:
    return "mainnet" if network_id == MAINNET_ID else "testnet"


def _show(nano: int) -> str:
    """An amount in TON, exact."""
    whole, part = divmod(nano, NANO_PER_TON)
    digits = f"{part:09d}".rstrip("0")
    return f"{whole}.{digits} TON" if digits else f"{whole} TON"
