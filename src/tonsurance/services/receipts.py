"""Receipts of quotes with a buyer: kept before the quote is handed out, read, and computed again.

Many quotes at once share a transaction; alone, one is kept at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from functools import lru_cache
from typing import Literal

import msgspec

from tonsurance import __version__, metrics
from tonsurance.core.errors import TonsuranceError
from tonsurance.core.params import DEFAULT_PARAMS, Params
from tonsurance.core.sale_errors import QuoteIdTaken, UnknownQuote
from tonsurance.core.units import BIGINT_MAX
from tonsurance.db import config
from tonsurance.db.config import StoredVersion
from tonsurance.db.pool import acquire
from tonsurance.db.quotes import (
    ConversionRow,
    QuoteFate,
    QuoteRow,
    insert_quotes,
    select_conversion,
    select_quote,
    select_quote_fate,
)
from tonsurance.services.config_rows import ConfigDamaged, build_version
from tonsurance.services.group_commit import GroupCommit
from tonsurance.services.lazy_pool import LazyPool
from tonsurance.services.quote_values import Quote
from tonsurance.services.receipt_replay import Difference, replay
from tonsurance.services.receipt_rows import make_row, read_quote

Status = Literal["issued", "expired", "bought", "refused_by_vault"]
_VERSIONS_KEPT = 8


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """A kept quote and what became of it by now.

    `bought`: it is policy `policy_id`, whose own status is beside it. `refused_by_vault`: the buyer got the value back;
    `refusal_reason` is the op-code that bounced. `transaction` is the one that said so. `expired`: the deadline has
    passed by the chain's clock; a purchase in time that the ledger has not read yet still makes it `bought`.
    """

    quote: Quote
    trigger_bps: int
    floor_bps: int
    status: Status
    policy_id: int | None
    policy_status: str | None
    transaction: str | None
    refusal_reason: int | None


class Verification(msgspec.Struct, frozen=True, kw_only=True):
    """What came out when a receipt was computed again by this code (`verified_by`): `equal` to the nano and the byte,
    or every difference. Made by other code (`same_code` is False), differences may be that code's."""

    quote_id: int
    equal: bool
    differences: tuple[Difference, ...]
    params_version: int
    params_hash: str
    code_version: str
    verified_by: str
    same_code: bool


class Receipts:
    """The receipts of one database, over a pool of the role `api` or of one that may do as much."""

    def __init__(self, pool: LazyPool, *, code_version: str = __version__) -> None:
        self._pool = pool
        self._code_version = code_version
        self._group: GroupCommit[QuoteRow, None] = GroupCommit(self._insert, name="receipts")

    async def keep(self, quote: Quote) -> None:
        """Keep a quote with a buyer; it is durable when this returns, and must not be handed out before.

        Raises QuoteIdTaken: draw another id; InputError without a buyer; after DatabaseUnavailable it may be kept, and
        nobody has it.
        """
        try:
            await self._group.submit(make_row(quote))
        except TonsuranceError as error:
            metrics.QUOTES_KEPT.labels(error.code).inc()
            raise
        metrics.QUOTES_KEPT.labels("ok").inc()

    async def find(self, quote_id: int) -> Quote:
        """A kept quote. Raises UnknownQuote, ReceiptDamaged, DatabaseUnavailable."""
        check_quote_id(quote_id)
        async with acquire(await self._pool.open()) as conn:
            row = await select_quote(conn, quote_id)
        return read_quote(_known(row))

    async def read(self, quote_id: int) -> Receipt:
        """A kept quote, and what became of it. Raises UnknownQuote, ReceiptDamaged, DatabaseUnavailable."""
        check_quote_id(quote_id)
        async with acquire(await self._pool.open()) as conn:
            row = _known(await select_quote(conn, quote_id))
            fate = await select_quote_fate(conn, quote_id)
        if fate is None:  # it went between the two statements
            raise UnknownQuote
        return _make_receipt(row, fate)

    async def verify(self, quote_id: int) -> Verification:
        """Compute a receipt again from what it was made of. Raises UnknownQuote, DatabaseUnavailable."""
        check_quote_id(quote_id)
        async with acquire(await self._pool.open()) as conn:
            row = _known(await select_quote(conn, quote_id))
            stored = await config.select_version(conn, row.params_version)
        params, differences = _find_params(row, stored)
        differences += replay(row, params)
        metrics.QUOTES_VERIFIED.labels("different" if differences else "equal").inc()
        return Verification(
            quote_id=quote_id,
            equal=not differences,
            differences=differences,
            params_version=row.params_version,
            params_hash=row.params_hash,
            code_version=row.code_version,
            verified_by=self._code_version,
            same_code=row.code_version == self._code_version,
        )

    async def conversion(self, first: date, last: date) -> tuple[ConversionRow, ...]:
        """Of the quotes issued from `first` to `last` (UTC days, both included) how many became policies."""
        async with acquire(await self._pool.open()) as conn:
            return await select_conversion(conn, first, last)

    async def close(self) -> None:
        """Keep what was submitted, then stop. The pool is the caller's."""
        await self._group.close()

    async def _insert(self, rows: Sequence[QuoteRow]) -> Sequence[TonsuranceError | None]:
        first_of: dict[int, QuoteRow] = {}
        for row in rows:
            first_of.setdefault(row.quote_id, row)
        async with acquire(await self._pool.open()) as conn:
            stored = await insert_quotes(conn, tuple(first_of.values()))
        return [None if row.quote_id in stored and first_of[row.quote_id] is row else QuoteIdTaken() for row in rows]


def check_quote_id(quote_id: int) -> None:
    """Raises UnknownQuote for a number that no quote has."""
    if not 0 < quote_id <= BIGINT_MAX:
        raise UnknownQuote


def _known(row: QuoteRow | None) -> QuoteRow:
    if row is None:
        raise UnknownQuote
    return row


def _find_params(row: QuoteRow, stored: StoredVersion | None) -> tuple[Params | None, tuple[Difference, ...]]:
    """The parameters a receipt was made with; None, and why, when they are not there any more.

    A version may be read with more parameters than were declared when it was written: then the values that were
    stored, of which nothing has changed, are the ones that count.
    """
    if stored is None and row.params_version > DEFAULT_PARAMS.version:
        return None, (Difference("params_version", str(row.params_version), "there is no such version"),)
    try:
        params = _build(stored)
    except ConfigDamaged as error:
        return None, (Difference("params_hash", row.params_hash, error.message),)
    if row.params_hash in (params.hash, None if stored is None else stored.hash):
        return params, ()
    return None, (Difference("params_hash", row.params_hash, params.hash),)


@lru_cache(maxsize=_VERSIONS_KEPT)
def _build(stored: StoredVersion | None) -> Params:
    """The same values for each receipt of a version, so that what is made of them is made once."""
    return build_version(stored)


def _make_receipt(row: QuoteRow, fate: QuoteFate) -> Receipt:
    status: Status = "expired" if fate.late else "issued"
    transaction = None
    if fate.policy_id is not None:
        status, transaction = "bought", fate.policy_transaction
    elif fate.refusal_transaction is not None:
        status, transaction = "refused_by_vault", fate.refusal_transaction
    return Receipt(
        quote=read_quote(row),
        trigger_bps=row.trigger_bps,
        floor_bps=row.floor_bps,
        status=status,
        policy_id=fate.policy_id,
        policy_status=fate.policy_status,
        transaction=transaction,
        refusal_reason=fate.refusal_reason if status == "refused_by_vault" else None,
    )


__all__ = ["ConversionRow", "Difference", "Receipt", "Receipts", "Verification", "check_quote_id"]
