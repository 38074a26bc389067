"""REST, version 2: which wallet the live page may buy with."""

from __future__ import annotations

import msgspec
from litestar import get

from tonsurance.api.injected import Injected


class WalletAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Where test wallets are: null on every network but a local chain, where people bring their own."""

    test_wallet_url: str | None
    network: str


@get(
    "/api/v2/wallet",
    summary="The test wallet of a local chain",
    description="A local chain has wallets that anybody on this machine may use by a name: POST `{name}` to "
    "`test_wallet_url` makes one. On a public network there is none, and `network` is `public`.",
    tags=["page"],
)
async def get_wallet(services: Injected) -> WalletAnswer:
    """What the settings say."""
    url = services.settings.test_wallet_url
    return WalletAnswer(test_wallet_url=url, network="public" if url is None else "local")
