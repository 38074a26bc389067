"""HTTP connections that an application may cut in the middle, which ASGI has no word for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_EXTENSION = "tonsurance.cut"


class CuttableProtocol(HttpToolsProtocol):
    """uvicorn's protocol; each request's scope can end its connection."""

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self.scope["extensions"] = {_EXTENSION: {"now": self.transport.abort, "after": self.transport.close}}


def cut_now(scope: dict[str, Any]) -> None:
    """End the connection of a request; nothing more is sent, not even what waits to be."""
    _find(scope, "now")()


def cut_after_sending(scope: dict[str, Any]) -> None:
    """End the connection when what was written to it is sent."""
    _find(scope, "after")()


def _find(scope: dict[str, Any], name: str) -> Callable[[], None]:
    cut: Callable[[], None] = scope["extensions"][_EXTENSION][name]
    return cut
