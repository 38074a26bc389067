"""Events folded into the read models: entries, history, the tranches' snapshot and policies."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from tonsurance.core.events import VAULT_KINDS, ChainEvent, PolicyCreated, PremiumsDistributed
from tonsurance.core.params import Params
from tonsurance.db.policies import open_policy_book
from tonsurance.db.pool import Connection
from tonsurance.db.postings import TrancheBook
from tonsurance.db.streams import advance_streams
from tonsurance.db.tranches import select_totals


class Posting(msgspec.Struct, frozen=True, kw_only=True):
    """An event of the log, the kind its contract is known as, the contract's vault, and the event's ledger version."""

    event: ChainEvent
    kind: str
    vault_id: str
    version: int


async def fold_events(conn: Connection, postings: Sequence[Posting], params: Params) -> None:
    """Vault events move the tranches of their vault, factory events move policies; all in the order given.

    Whoever posts or replays events does it here. Raises LedgerRefused; the transaction must be rolled back then.
    """
    vault_events = [posting for posting in postings if posting.kind in VAULT_KINDS]
    factory_events = [posting for posting in postings if posting.kind not in VAULT_KINDS]
    vault_ids = sorted({posting.vault_id for posting in vault_events})
    tranches = TrancheBook(await select_totals(conn, vault_ids) if vault_ids else {}, params)
    for posting in vault_events:
        tranches.post(posting.event, posting.vault_id, posting.version)
    policies = await open_policy_book(conn, [posting.event for posting in factory_events])
    for posting in factory_events:
        policies.post(posting.event, posting.vault_id, posting.version)
    await tranches.write(conn)
    await policies.write(conn)
    moved = {p.vault_id for p in postings if isinstance(p.event.body, PremiumsDistributed | PolicyCreated)}
    for vault_id in sorted(moved):
        await advance_streams(conn, vault_id)
