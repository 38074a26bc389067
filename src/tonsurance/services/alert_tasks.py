"""Alerting as the daemon runs it: evaluations after every commit and every minute, and the webhook beside them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from tonsurance.bus.notify import Listener
from tonsurance.core.params import Params
from tonsurance.db.roles import ROLE_OF
from tonsurance.services.alerting import EVALUATE_EVERY_S, TRANCHES, AlertService, Evaluator
from tonsurance.services.lazy_pool import LazyPool
from tonsurance.services.loop import every
from tonsurance.services.webhooks import WebhookPolicy, WebhookSender, WebhookTarget

SEND_EVERY_S = 1.0
FORGET_EVERY_S = 3_600.0
MAX_BACKOFF_S = 5.0


class AlertTasks:
    """The tasks over a pool of their own; `run` ends at `stop`, with the evaluation or message in flight finished."""

    def __init__(
        self,
        dsn: str,
        params: Callable[[], Params],
        webhook: WebhookTarget | None = None,
        *,
        evaluators: Sequence[Evaluator] = (TRANCHES,),
        policy: WebhookPolicy | None = None,
    ) -> None:
        self._pool = LazyPool(dsn, max_size=2, application_name="tonsurance alerts", role=ROLE_OF["daemon"])
        self._wake, self._send_wake = asyncio.Event(), asyncio.Event()
        self._commits = Listener(dsn, lambda _version: self.wake(), role=ROLE_OF["daemon"])
        self._sender = None if webhook is None else WebhookSender(self._pool, webhook, policy)
        self.service = AlertService(
            self._pool, params, evaluators, with_webhook=webhook is not None, on_told=self._send_wake.set
        )

    def wake(self) -> None:
        """Figures or parameters may have changed: evaluate now."""
        self._wake.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Evaluate and send until `stop` is set."""
        try:
            async with asyncio.TaskGroup() as group:
                for task in self._tasks(stop):
                    group.create_task(task)
        finally:
            if self._sender is not None:
                await self._sender.close()
            await self._pool.close()

    def _tasks(self, stop: asyncio.Event) -> list[Coroutine[Any, Any, None]]:
        evaluating = every(
            EVALUATE_EVERY_S,
            self.service.evaluate_all,
            stop=stop,
            wake=self._wake,
            name="alerts",
            max_backoff_s=MAX_BACKOFF_S,
        )
        tasks = [self._commits.run(stop), evaluating]
        if self._sender is not None:
            sending = every(
                SEND_EVERY_S,
                self._sender.deliver_due,
                stop=stop,
                wake=self._send_wake,
                name="webhook",
                max_backoff_s=MAX_BACKOFF_S,
            )
            forgetting = every(FORGET_EVERY_S, self._sender.forget_done, stop=stop, name="webhook upkeep")
            tasks += [sending, forgetting]
        return tasks
