"""The same history from a second source: every few minutes an index of its own has to confirm what was followed.

The first source cannot hide a transaction between two others, but it could tell another history altogether. Two that
agree would have to lie alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tonsurance import log, metrics
from tonsurance.chain.client import MAX_PAGE, TonCenterClient
from tonsurance.chain.v3 import V3Source
from tonsurance.core.errors import ChainDataError, DependencyError, SourcesDisagree

CONFIRM_EVERY_S = 300.0
logger = log.get("second_source")


class SecondSource:
    """Confirms the newest transactions of contracts. `contracts` names them, raw, at each look."""

    def __init__(self, client: TonCenterClient, source: V3Source, contracts: Callable[[], Sequence[str]]) -> None:
        self._client = client
        self._source = source
        self._contracts = contracts
        self.unavailable: str | None = None
        """Why nothing could be confirmed at the last look; None when it could."""

    async def confirm_all(self) -> int:
        """Confirm every contract; returns how many agree. A source that is away or does not exist is `unavailable`.

        Raises SourcesDisagree, after all contracts were looked at, and ChainUnavailable for the first source.
        """
        agreed, quarrel = 0, None
        for contract in self._contracts():
            try:
                agreed += await self._confirm(contract)
            except SourcesDisagree as error:
                metrics.SECOND_SOURCE.labels("disagrees").inc()
                logger.error("sources_disagree", contract=contract, lt=error.lt, reason=error.message)
                quarrel = quarrel or error
        if quarrel is not None:
            raise quarrel
        return agreed

    async def _confirm(self, contract: str) -> int:
        newest_first = await self._client.get_transactions(contract, limit=MAX_PAGE)
        try:
            told = await self._source.confirm(contract, tuple(reversed(newest_first)))
        except SourcesDisagree:
            raise
        except (DependencyError, ChainDataError) as error:
            if self.unavailable is None:
                logger.info("second_source_unavailable", source=self._source.base_url, reason=error.message)
            self.unavailable = error.message
            metrics.SECOND_SOURCE.labels("unavailable").inc()
            return 0
        self.unavailable = None
        metrics.SECOND_SOURCE.labels(told.verdict).inc()
        return int(told.verdict == "agrees")
