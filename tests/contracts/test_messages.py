"""Builders refuse what a contract could not hold, before anything is sent."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from nacl.signing import SigningKey

from contracts.world import ADMIN, ALICE, CLAIMS, address
from tonsurance.chain import messages
from tonsurance.chain.deployment import (
    FactoryTerms,
    VaultTerms,
    factory_deployment,
    vault_deployment,
)
from tonsurance.chain.messages import Quote
from tonsurance.core.errors import InputError, InvalidAddress

KEY = SigningKey(bytes(32))
QUOTE = Quote(
    network_id=-239, factory=address(1), quote_id=2**64 - 1, coverage_type=255, chain_id=255, stablecoin_id=255,
    coverage_amount=2**120 - 1, premium=2**120 - 1, duration_days=65_535, buyer=address(2, -1), deadline=2**32 - 1,
)  # fmt: skip
FACTORY = FactoryTerms(network_id=-3, vault=address(1), admin=ADMIN, claims=CLAIMS, public_key=bytes(32))


def test_the_largest_quote_is_one_cell_and_its_hash_is_what_is_signed() -> None:
    cell = messages.quote_cell(QUOTE)
    assert (len(cell.bits), cell.refs) == (1014, [])
    KEY.verify_key.verify(cell.hash, messages.sign_quote(QUOTE, KEY))
    assert messages.quote_hash(QUOTE) == cell.hash


@pytest.mark.parametrize(
    "build",
    [
        lambda: messages.deposit(256),
        lambda: messages.deposit(-1),
        lambda: messages.deposit(1, query_id=2**64),
        lambda: messages.request_withdraw(1, 2**128),
        lambda: messages.back_policy(1, 2**120, 1, 1),
        lambda: messages.back_policy(1, -1, 1, 1),
        lambda: messages.pay_claim(1, 2**120, ALICE),
        lambda: messages.pay_claim(1, 1, "nobody"),
        lambda: messages.execute_claim(2**64),
        lambda: messages.override_claim(-1),
        lambda: messages.cancel_claim(2**64),
        lambda: messages.freeze(2**32),
        lambda: messages.execute_payout(1, -1),
        lambda: messages.create_policy(QUOTE, bytes(63)),
        lambda: messages.set_quote_key(bytes(33)),
        lambda: vault_deployment(VaultTerms(admin=ADMIN, max_owners=10_001)),
        lambda: vault_deployment(VaultTerms(admin=ADMIN, max_policies=0)),
        lambda: vault_deployment(VaultTerms(admin=ADMIN, withdraw_delay_s=2**32)),
        lambda: vault_deployment(VaultTerms(admin=ADMIN, breaker_window_s=2**32)),
        lambda: vault_deployment(VaultTerms(admin=ADMIN, claim_delay_s=-1)),
        lambda: vault_deployment(VaultTerms(admin=ADMIN, max_freeze_s=2**32)),
        lambda: factory_deployment(
            FactoryTerms(network_id=2**31, vault=ALICE, admin=ADMIN, claims=CLAIMS, public_key=bytes(32))
        ),
        lambda: factory_deployment(
            FactoryTerms(network_id=-3, vault=ALICE, admin=ADMIN, claims=CLAIMS, public_key=bytes(31))
        ),
    ],
)
def test_what_does_not_fit_is_a_typed_error(build: Callable[[], object]) -> None:
    with pytest.raises(InputError):
        build()


def test_an_address_is_taken_in_any_form_and_checked() -> None:
    friendly = "EQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAM9c"
    assert messages.set_factory(friendly).hash == messages.set_factory(address(0)).hash
    with pytest.raises(InvalidAddress):
        messages.set_factory(friendly[:-1] + "d")


def test_a_factory_is_where_its_terms_say() -> None:
    here = factory_deployment(FACTORY)
    assert here.address == f"0:{here.state_init.hash.hex()}"
    elsewhere = FactoryTerms(network_id=-3, vault=address(1), admin=ADMIN, claims=CLAIMS, public_key=b"\x01" * 32)
    assert factory_deployment(elsewhere).address != here.address
