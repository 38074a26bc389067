"""`tonsurance signer`: the process that holds the quote keys, apart from the API."""

from __future__ import annotations

from pathlib import Path

from tonsurance import log, settings
from tonsurance.chain.addresses import parse_address
from tonsurance.core.errors import UsageError
from tonsurance.running import run_async, stop_on_signals
from tonsurance.services.quote_signer import Addressee, LocalSigner
from tonsurance.services.signer_server import SignerServer
from tonsurance.services.signing_key import forbid_dumps


def signer(*, socket: Path, factory: list[str], network_id: int) -> None:
    """Sign quotes for processes of this user that ask over a Unix socket. The keys are QUOTE_KEY and QUOTE_KEY_NEXT.

    Parameters
    ----------
    socket
        Where to listen; name it to the API as QUOTE_SIGNER=unix:PATH.
    factory
        Address of a policy factory to sign for, in any form; again for another one. No other is signed for.
    network_id
        The network the factories are on: -239 for mainnet, -3 for testnet and the local chain.
    """
    forbid_dumps()
    env = settings.Environment()
    log.configure(env.get("LOG_LEVEL") or "info", process="signer")
    keys = settings.quote_keys(env)
    if not keys:
        raise UsageError("QUOTE_KEY is not set.", advice="It signs quotes: 32 random bytes in hex, or QUOTE_KEY_FILE.")
    addressees = [Addressee(network_id, parse_address(one)) for one in factory]
    server = SignerServer(LocalSigner(keys, addressees))

    async def work() -> None:
        await server.serve(socket, stop_on_signals())

    run_async(work())
