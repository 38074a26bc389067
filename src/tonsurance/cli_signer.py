"""`tonsurance signer`: the process that holds the quote keys, apart from the API."""

from __future__ import annotations

import time
from pathlib import Path

from tonsurance import log, settings
from tonsurance.chain.addresses import parse_address
from tonsurance.chain.ton_connect import MAINNET_ID
from tonsurance.core.errors import UsageError
from tonsurance.running import run_async, stop_on_signals
from tonsurance.services.quote_signer import Addressee, LocalSigner
from tonsurance.services.signer_server import SignerServer
from tonsurance.services.signing_key import forbid_dumps


def signer(*, socket: Path, factory: list[str], network_id: int, any_clock: bool = False) -> None:
    """Sign quotes for processes of this user that ask over a Unix socket. The keys are QUOTE_KEY and QUOTE_KEY_NEXT.

    Parameters
    ----------
    socket
        Where to listen; name it to the API as QUOTE_SIGNER=unix:PATH.
    factory
        Address of a policy factory to sign for, in any form; again for another one. No other is signed for.
    network_id
        The network the factories are on: -239 for mainnet, -3 for testnet and the local chain.
    any_clock
        For a local chain, whose clock may run ahead of ours (`--speed`): deadlines are not held against this machine's
        clock. Without it a quote is signed only when it ends within 600 s, and the 30 s by which two machines' clocks
        may differ. Refused for mainnet.
    """
    forbid_dumps()
    if any_clock and network_id == MAINNET_ID:
        raise UsageError("--any-clock is for local chains only, not for mainnet.")
    env = settings.Environment()
    log.configure(env.get("LOG_LEVEL") or "info", process="signer")
    keys = settings.quote_keys(env)
    if not keys:
        raise UsageError("QUOTE_KEY is not set.", advice="It signs quotes: 32 random bytes in hex, or QUOTE_KEY_FILE.")
    addressees = [Addressee(network_id, parse_address(one)) for one in factory]
    server = SignerServer(LocalSigner(keys, addressees, clock=None if any_clock else time.time))

    async def work() -> None:
        await server.serve(socket, stop_on_signals())

    run_async(work())
