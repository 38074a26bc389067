"""Two public client libraries read the local chain: the shapes are not only what we think they are."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import pytest
from pytoniq_core.boc.cell import Cell
from ton_core import Address, NetworkGlobalID, PrivateKey, begin_cell
from toncenter.exceptions import ToncenterError
from toncenter.rest import ToncenterRestClient
from tonutils.clients import ToncenterClient
from tonutils.contracts.wallet import WalletV4R2, WalletV5R1
from tonutils.exceptions import RunGetMethodError

from localnet.probe import SOMEBODY, TON
from tonsurance.chain import messages
from tonsurance.localnet.actors import Actors
from tonsurance.localnet.cells import raw_address
from tonsurance.localnet.chain import LocalChain
from tonsurance.localnet.deploy import deploy_contracts
from tonsurance.localnet.render import b64
from tonsurance.localnet.server import Localnet, running
from tonsurance.localnet.wallets import Transfer, Wallet

KEY = bytes(range(32))
BLOCKS = 90


@pytest.fixture
async def market(chain: LocalChain) -> AsyncIterator[tuple[Localnet, str]]:
    """Our contracts after about a hundred transactions, and the address they are served at."""
    chain.block_seconds = 120
    contracts = deploy_contracts(chain, KEY)
    localnet = Localnet(chain, contracts, Actors(chain, contracts, KEY))
    for _ in range(BLOCKS):
        localnet.step()
    async with running(localnet) as url:
        yield localnet, url


@pytest.fixture
async def tonutils(market: tuple[Localnet, str]) -> AsyncIterator[ToncenterClient]:
    url = f"{market[1]}/api/v2"
    async with ToncenterClient(NetworkGlobalID.TESTNET, base_url=url, api_key="any", rps_limit=1000) as client:
        yield client


@pytest.fixture
async def toncenter(market: tuple[Localnet, str]) -> AsyncIterator[ToncenterRestClient]:
    async with ToncenterRestClient(base_url=market[1], api_key="any", retry_policy=None) as client:
        yield client


def vault_of(market: tuple[Localnet, str]) -> str:
    contracts = market[0].contracts
    assert contracts is not None
    return contracts.vault


async def test_tonutils_pages_through_an_unbroken_chain(
    market: tuple[Localnet, str], tonutils: ToncenterClient
) -> None:
    vault = vault_of(market)
    made = market[0].chain.transactions(vault, limit=100_000)
    assert len(made) > 90

    read = await tonutils.get_transactions(vault, limit=10_000)

    assert [(transaction.lt, transaction.cell.hash) for transaction in read] == [(one.lt, one.hash) for one in made]
    for newer, older in pairwise(read):
        assert (newer.prev_trans_lt, newer.prev_trans_hash) == (older.lt, older.cell.hash)
    assert read[-1].prev_trans_lt == 0


async def test_tonutils_reads_accounts_and_getters(market: tuple[Localnet, str], tonutils: ToncenterClient) -> None:
    vault, chain = vault_of(market), market[0].chain

    info = await tonutils.get_info(vault)
    (rows,) = await tonutils.run_get_method(vault, "get_all_tranches")

    assert info.balance == chain.balance(vault)
    assert info.state.value == "active"
    assert info.last_transaction_lt == chain.account(vault).last_lt
    assert rows == [list(row) for row in chain.get_method(vault, "get_all_tranches").stack[0]]
    assert await tonutils.run_get_method(vault, "get_shares", [Address(raw_address(SOMEBODY)), 1]) == [0, 0, 0, 0]
    with pytest.raises(RunGetMethodError, match="110"):
        await tonutils.run_get_method(vault, "get_tranche_state", [7])


@pytest.mark.parametrize("kind", [WalletV4R2, WalletV5R1])
async def test_a_public_wallet_deposits_into_our_vault(
    market: tuple[Localnet, str], tonutils: ToncenterClient, kind: Any
) -> None:
    (localnet, _), vault = market, vault_of(market)
    localnet.actors = None
    wallet = kind.from_private_key(tonutils, PrivateKey(bytes(range(32))))
    owner = wallet.address.to_str(is_user_friendly=False)
    localnet.chain.airdrop(owner, 100 * TON)
    localnet.chain.mine()

    deposit = begin_cell().store_uint(messages.Op.DEPOSIT, 32).store_uint(0, 64).store_uint(3, 8).end_cell()
    for _ in range(2):
        await wallet.transfer(destination=vault, amount=20 * TON, body=deposit)
        localnet.chain.mine_until_idle()

    assert localnet.chain.rejected == 0
    shares, *_ = await tonutils.run_get_method(vault, "get_shares", [wallet.address, 3])
    assert shares > 30 * TON
    await wallet.refresh()
    assert wallet.is_active
    assert 59 * TON < wallet.balance < 61 * TON


async def test_toncenter_reads_blocks_accounts_and_getters(
    market: tuple[Localnet, str], toncenter: ToncenterRestClient
) -> None:
    vault, chain = vault_of(market), market[0].chain
    then = chain.head.seqno - 30

    last = await toncenter.v2.blocks.get_masterchain_info()
    state = await toncenter.v2.accounts.get_address_information(vault, seqno=then)
    result = await toncenter.v2.runmethod.run_get_method(vault, "get_all_tranches", [], seqno=then)

    assert last.last.seqno == chain.head.seqno
    assert int(state.balance) == chain.balance(vault, then)
    assert (state.block_id.seqno, result.block_id.seqno) == (then, then)
    assert result.exit_code == 0
    assert result.last_transaction_id == state.last_transaction_id
    assert await toncenter.v2.accounts.get_address_balance(vault) == str(chain.balance(vault))
    assert (await toncenter.v2.configuration.get_config_all()).config.bytes == chain.engine.config_boc_b64


async def test_toncenter_pages_with_logical_time_and_hash(
    market: tuple[Localnet, str], toncenter: ToncenterRestClient
) -> None:
    vault = vault_of(market)
    made = market[0].chain.transactions(vault, limit=100_000)
    first = await toncenter.v2.transactions.get_transactions(vault, limit=20)
    last = first[-1].transaction_id

    second = await toncenter.v2.transactions.get_transactions(vault, limit=20, lt=int(last.lt), hash=last.hash)

    lts = [int(shown.transaction_id.lt) for shown in first + second[1:]]
    assert lts == [one.lt for one in made[:39]]
    assert first[-1] == second[0]
    events = [message for shown in first for message in shown.out_msgs if not message.destination]
    assert events


async def test_toncenter_is_told_what_is_wrong(market: tuple[Localnet, str], toncenter: ToncenterRestClient) -> None:
    for wrong in (
        toncenter.v2.accounts.get_address_information("nonsense"),
        toncenter.v2.accounts.get_address_information(vault_of(market), seqno=10**6),
        toncenter.v2.send.send_boc("nonsense"),
    ):
        with pytest.raises(ToncenterError):
            await wrong


async def test_toncenter_sends(market: tuple[Localnet, str], toncenter: ToncenterRestClient) -> None:
    chain = market[0].chain
    wallet = Wallet("me", chain.seed)
    chain.airdrop(wallet.address, TON)
    chain.mine()
    transfer = Transfer(destination=raw_address(SOMEBODY), value=5, bounce=False)
    orders = [wallet.order([transfer], seqno=seqno, valid_until=chain.now + 3600) for seqno in (0, 1)]

    await toncenter.v2.send.send_boc(b64(orders[0]))
    sent = await toncenter.v2.send.send_boc_return_hash(b64(orders[1]))
    chain.mine()

    assert wallet.seqno(chain) == 2
    assert sent.hash == sent.hash_norm == b64(bytes(Cell.one_from_boc(orders[1]).hash))
