"""The story as a chain would serve it: linked transactions of both contracts, with bodies by our layout."""

from __future__ import annotations

from chain.encoding import encode_event
from chain.making import Made, external_out, make_transaction
from proof.story import FACTORY, VAULT, Step
from tonsurance.chain.layout import Layout
from tonsurance.core.events import FACTORY_KIND, GENESIS, VAULT_KIND

KINDS = {VAULT: VAULT_KIND, FACTORY: FACTORY_KIND}


def make_accounts(steps: list[Step], layout: Layout) -> dict[str, list[Made]]:
    """Each contract's transactions, oldest first."""
    accounts: dict[str, list[Made]] = {VAULT: [], FACTORY: []}
    for step in steps:
        made = accounts[step.contract]
        messages = [
            external_out(step.contract, encode_event(body, layout, KINDS[step.contract])) for body in step.bodies
        ]
        previous = made[-1].cursor if made else GENESIS
        made.append(make_transaction(account=step.contract, lt=step.lt, previous=previous, messages=messages))
    return accounts
