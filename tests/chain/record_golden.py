"""Records tests/golden/transactions.json from the local chain: `python tests/chain/record_golden.py`.

One story with our contracts in the real TVM: every kind of event that can happen, failed transactions, bounces.
What is expected of each transaction is written from what the story did and what the TVM said, not by our decoder.
"""

from __future__ import annotations

import base64
import json
from contextlib import closing
from pathlib import Path
from typing import Any

from nacl.signing import SigningKey
from pytoniq_core.boc.cell import Cell
from pytoniq_core.tlb.transaction import Transaction

from tonsurance.chain import messages
from tonsurance.core.events import FACTORY_KIND, VAULT_KIND
from tonsurance.core.units import NANO_PER_TON as TON
from tonsurance.localnet.chain import LocalChain
from tonsurance.localnet.deploy import ADMIN, CLAIMS, LOCAL_TERMS, deploy_contracts
from tonsurance.localnet.engine import TonpyEngine
from tonsurance.localnet.store import ChainStore
from tonsurance.localnet.wallets import Transfer, Wallet

PATH = Path(__file__).parents[1] / "golden" / "transactions.json"
KEY = SigningKey(b"\x07" * 32)
DAY = 86_400


class Story:
    """What happens, in order."""

    def __init__(self, store: ChainStore) -> None:
        self.chain = LocalChain(TonpyEngine(), store)
        self.contracts = deploy_contracts(self.chain, bytes(KEY))
        self.admin, self.alice, self.claims = (Wallet(name, self.chain.seed) for name in (ADMIN, "alice", CLAIMS))
        self.chain.airdrop(self.alice.address, 1_000_000 * TON)
        self.chain.airdrop(self.claims.address, 100 * TON)
        self.chain.mine_until_idle()

    def send(self, who: Wallet, to: str, nano: int, body: Cell) -> None:
        who.send(self.chain, Transfer(destination=to, value=nano, body=body))
        self.chain.mine_until_idle()

    def quote(self, quote_id: int, coverage: int, premium: int) -> messages.Quote:
        return messages.Quote(
            network_id=self.chain.network_id, factory=self.contracts.factory, quote_id=quote_id, coverage_type=0,
            chain_id=1, stablecoin_id=2, coverage_amount=coverage, premium=premium, duration_days=30,
            buyer=self.alice.address, deadline=self.chain.now + 300,
        )  # fmt: skip

    def buy(self, quote: messages.Quote) -> None:
        body = messages.create_policy(quote, messages.sign_quote(quote, KEY))
        self.send(self.alice, self.contracts.factory, quote.premium + messages.REQUEST_GAS, body)

    def play(self) -> None:
        vault, factory = self.contracts.vault, self.contracts.factory
        for tranche_id in range(1, 7):
            amount = 1000 * (7 - tranche_id) * TON  # little in the most junior: one claim takes all of it
            self.send(self.alice, vault, amount + messages.DEPOSIT_GAS, messages.deposit(tranche_id))
        self.send(self.alice, vault, 5 * TON, messages.deposit(9))  # no such tranche: fails and bounces
        quote = self.quote(1, 100 * TON, 2 * TON)
        self.buy(quote)
        self.buy(quote)  # it is used: fails
        self.buy(self.quote(2, 10**6 * TON, 20_000 * TON))  # more than the vault takes: refused
        self.chain.advance_time(DAY)
        self.send(self.alice, vault, messages.SIMPLE_GAS, messages.request_withdraw(2, 500 * TON))
        self.chain.advance_time(2 * 3600)
        self.send(self.alice, vault, messages.SIMPLE_GAS, messages.withdraw(2))
        self.send(self.alice, vault, messages.SIMPLE_GAS, messages.pause())  # not the admin: fails
        for contract in (vault, factory):
            self.send(self.admin, contract, messages.SIMPLE_GAS, messages.pause())
            self.send(self.admin, contract, messages.SIMPLE_GAS, messages.unpause())
        self.chain.advance_time(31 * DAY)
        self.send(self.alice, factory, messages.REQUEST_GAS, messages.expire_policy(1))
        self.play_claims()
        self.send(self.admin, factory, messages.SIMPLE_GAS, messages.set_quote_key(b"\x01" + bytes(31)))

    def pay(self, policy_id: int, nano: int) -> None:
        self.send(self.claims, self.contracts.factory, messages.REQUEST_GAS, messages.execute_payout(policy_id, nano))

    def play_claims(self) -> None:
        vault = self.contracts.vault
        for policy_id, cover in ((3, 1000), (4, 900), (5, 900)):
            self.buy(self.quote(policy_id, cover * TON, 20 * TON))
        self.chain.advance_time(LOCAL_TERMS.waiting_period_s)
        self.send(self.admin, vault, messages.SIMPLE_GAS, messages.freeze(self.chain.now + 600))
        self.pay(3, 1000 * TON)  # frozen: refused
        self.send(self.admin, vault, messages.SIMPLE_GAS, messages.freeze(0))
        self.pay(3, 1000 * TON)  # all of the most junior tranche: its shares become void
        self.pay(4, 900 * TON)
        self.pay(5, 900 * TON)  # more than a tenth within the window: held back
        self.send(self.admin, vault, messages.REQUEST_GAS, messages.cancel_claim(5))
        self.pay(5, 800 * TON)
        self.send(self.alice, vault, messages.REQUEST_GAS, messages.execute_claim(5))  # not due yet: fails
        self.chain.advance_time(LOCAL_TERMS.claim_delay_s)
        self.send(self.alice, vault, messages.REQUEST_GAS, messages.execute_claim(5))
        self.send(self.alice, vault, 10 * TON + messages.DEPOSIT_GAS, messages.deposit(6))  # the new epoch's first

    def record(self) -> tuple[list[list[int]], list[dict[str, Any]]]:
        (tranches,) = self.chain.get_method(self.contracts.vault, "get_all_tranches").stack
        rows: list[dict[str, Any]] = []
        for address, kind in ((self.contracts.vault, VAULT_KIND), (self.contracts.factory, FACTORY_KIND)):
            history = reversed(self.chain.transactions(address, limit=1000))
            rows += [{"contract": address, "kind": kind, **witness(stored.boc)} for stored in history]
        return [list(tranche) for tranche in tranches], rows


def witness(boc: bytes) -> dict[str, Any]:
    """A transaction as pytoniq-core sees it: phases, and the bodies of its external messages by index."""
    cell = Cell.one_from_boc(boc)
    seen = Transaction.deserialize(cell.begin_parse())
    compute, action = seen.description.compute_ph, seen.description.action
    succeeded = compute.type_ == "vm" and compute.success and action is not None and action.success
    bodies = {
        str(index): message.body.hash.hex() for index, message in enumerate(seen.out_msgs) if message.is_external_out
    }
    return {
        "boc": base64.b64encode(boc).decode(),
        "lt": seen.lt,
        "hash": cell.hash.hex(),
        "previous_lt": seen.prev_trans_lt,
        "previous_hash": seen.prev_trans_hash.hex(),
        "succeeded": bool(succeeded and not seen.description.aborted),
        "bodies": bodies,
    }


def main() -> None:
    with closing(ChainStore()) as store:
        story = Story(store)
        story.play()
        tranches, rows = story.record()
    PATH.parent.mkdir(exist_ok=True)
    lines = ",\n".join(json.dumps(row) for row in rows)
    PATH.write_text(f'{{"tranches": {json.dumps(tranches)},\n"transactions": [\n{lines}\n]}}\n')
    print(f"{len(rows)} transactions")


if __name__ == "__main__":
    main()
