"""Answers of another kind than the one asked for: a server's, a proxy's or a rate limiter's."""

from __future__ import annotations

from random import Random

import msgspec

from tonsurance.localnet.http import Send


async def send_refusal(name: str, dice: Random, send: Send) -> None:
    """Another answer than the one asked for."""
    status, headers, body = _make_refusal(name, dice)
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body})


def _make_refusal(name: str, dice: Random) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    json = (b"content-type", b"application/json")
    if name == "429":
        after = (b"retry-after", dice.choice((b"0", b"1")))
        return 429, [json, after], b'{"ok":false,"result":"Ratelimit exceed","code":429}'
    if name == "html":
        body = b"<html><head><title>502 Bad Gateway</title></head><body>502 Bad Gateway</body></html>"
        return dice.choice((200, 502)), [(b"content-type", b"text/html")], body
    reason = dice.choice(("NOTREADY: block is not applied", "NETWORK: timeout", "UNKNOWN: cannot load block"))
    text = f"LITE_SERVER_{reason}" if name == "500" else "Received malformed response from the lite server"
    return int(name), [json], msgspec.json.encode({"ok": False, "error": text, "code": int(name)})
