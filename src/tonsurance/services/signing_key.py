"""An Ed25519 key that signs and is not seen: in no repr, log or pickle, nor where a frame's variables are shown."""

from __future__ import annotations

import ctypes
import resource
import sys
from collections.abc import Callable
from typing import NoReturn

from nacl.signing import SigningKey

from tonsurance.core.errors import InputError

SEED_BYTES = 32
DIGEST_BYTES = 32
_PR_SET_DUMPABLE = 4


class SecretKey:
    """Signs digests. The seed lives in a closure alone; what shows this object shows the public key."""

    __slots__ = ("_sign", "public_key")

    public_key: bytes
    """32 bytes, as the factory holds it."""

    def __init__(self, seed: bytes) -> None:
        """Raises InputError, which does not repeat the seed, unless it has 32 bytes."""
        if not isinstance(seed, bytes) or len(seed) != SEED_BYTES:
            del seed  # who shows this frame's variables shall not see it
            raise InputError(f"The seed of a quote key has {SEED_BYTES} bytes.")
        self.public_key, self._sign = _lock_up(seed)

    def sign(self, digest: bytes) -> bytes:
        """The 64 bytes of signature over a hash of 32 bytes."""
        if not isinstance(digest, bytes) or len(digest) != DIGEST_BYTES:
            raise InputError(f"A hash of {DIGEST_BYTES} bytes is signed.")
        return self._sign(digest)

    def __repr__(self) -> str:
        """The public key's beginning."""
        return f"<SecretKey of {self.public_key.hex()[:16]}...>"

    def __reduce_ex__(self, _protocol: object) -> NoReturn:
        """A key is not copied, pickled or sent anywhere."""
        raise TypeError("A signing key cannot be copied or pickled.")


def _lock_up(seed: bytes) -> tuple[bytes, Callable[[bytes], bytes]]:
    key = SigningKey(seed)

    def sign(digest: bytes) -> bytes:
        return bytes(key.sign(digest).signature)

    return bytes(key.verify_key), sign


def forbid_dumps() -> None:
    """No core file of this process from now on, and no other process of the same user may look into its memory.

    The second holds on Linux alone.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
