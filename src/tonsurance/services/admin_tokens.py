"""Tokens of people who may use the admin API: signed, short-lived, and of one of four roles.

HS256 alone is accepted, whatever a token's header asks for. Two secrets are valid while rotating; `kid` says which.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable
from enum import StrEnum
from typing import Final, Literal

import jwt
import msgspec
from jwt.api_jws import PyJWS

from tonsurance.core.errors import TonsuranceError, UsageError

ISSUER: Final = "tonsurance"
AUDIENCE: Final = "tonsurance-admin"
ALGORITHM = "HS256"
MAX_TTL_S = 12 * 3600
MIN_SECRET_BYTES = 32
CLOCK_SKEW_S = 5
"""How far ahead the clock that issued a token may be. Expiry gets no grace."""

MAX_TOKEN_CHARS = 4_096
SUBJECT_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._@+-]{0,99}$"
_SUBJECT = re.compile(SUBJECT_PATTERN)
_TTL = re.compile(r"([1-9][0-9]{0,5})([smh])", re.ASCII)
_SECONDS = {"s": 1, "m": 60, "h": 3600}
_jws = PyJWS(algorithms=[ALGORITHM])


class AuthenticationFailed(TonsuranceError):
    """The token is missing or not valid."""

    code = "unauthorized"

    def __init__(self, message: str | None = None, *, guess: bool = True) -> None:
        self.guess = guess
        """Whether this may be an attempt to guess a token: one of ours that has merely expired is not."""
        super().__init__(message)


class Role(StrEnum):
    """What a person may do; each role may do all that those before it may."""

    VIEWER = "viewer"
    EDITOR = "editor"
    APPROVER = "approver"
    ADMIN = "admin"

    def includes(self, other: Role) -> bool:
        """Whether this role may do what the other may."""
        return _RANKS[self] >= _RANKS[other]


_RANKS = {role: rank for rank, role in enumerate(Role)}


class Claims(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The content of a token. Types are strict: 1.0, true or "1" are no times."""

    sub: str
    role: Role
    iat: int
    exp: int
    jti: str
    iss: Literal["tonsurance"]
    aud: Literal["tonsurance-admin"]
    nbf: int | None = None


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks, as the token says. `expires_at` in unix seconds."""

    sub: str
    role: Role
    jti: str
    expires_at: int


class TokenKeys:
    """The secrets tokens are signed and checked with. `previous` only checks, so that it can be taken away later."""

    def __init__(self, current: str, previous: str | None = None) -> None:
        """Raises UsageError when a secret is too short to be one."""
        self._current_kid, secret = _read_secret("JWT_SECRET", current)
        self._secrets = {self._current_kid: secret}
        if previous is not None:
            kid, old = _read_secret("JWT_SECRET_PREVIOUS", previous)
            self._secrets[kid] = old

    def sign(self, claims: Claims) -> str:
        """The token with these claims, signed with the current secret."""
        return _jws.encode(
            msgspec.json.encode(claims),
            self._secrets[self._current_kid],
            algorithm=ALGORITHM,
            headers={"kid": self._current_kid},
        )

    def open(self, token: str) -> bytes:
        """The payload of a token that one of the secrets signed. Raises AuthenticationFailed."""
        if len(token) > MAX_TOKEN_CHARS or not token.isascii():
            raise AuthenticationFailed
        try:
            kid = _jws.get_unverified_header(token).get("kid")
            secret = self._secrets.get(kid) if isinstance(kid, str) else None
            if secret is None:
                raise AuthenticationFailed("The token is signed with a key that is not known here.")
            payload: bytes = _jws.decode(token, secret, algorithms=[ALGORITHM])
        except (jwt.InvalidTokenError, RecursionError) as error:
            raise AuthenticationFailed from error
        return payload

    def __repr__(self) -> str:
        return f"TokenKeys({', '.join(self._secrets)})"


def issue_token(
    keys: TokenKeys, *, sub: str, role: str, ttl_s: int, clock: Callable[[], float] = time.time
) -> tuple[str, Principal]:
    """A new token for a person, and what it says. Raises UsageError for an unknown role, a bad name or a long life."""
    check_subject(sub)
    if role not in _RANKS:
        raise UsageError(f"The role is one of {', '.join(Role)}, not {role[:40]}.")
    if not 1 <= ttl_s <= MAX_TTL_S:
        raise UsageError(f"A token lives 1 second to {MAX_TTL_S // 3600} hours, not {ttl_s} s.")
    now = int(clock())
    claims = Claims(
        sub=sub, role=Role(role), iat=now, exp=now + ttl_s, jti=secrets.token_urlsafe(16), iss=ISSUER, aud=AUDIENCE
    )
    return keys.sign(claims), _principal_of(claims)


def read_token(keys: TokenKeys, token: str, *, clock: Callable[[], float] = time.time) -> Principal:
    """Who a token is for. Raises AuthenticationFailed; why, it only says of tokens we signed ourselves."""
    payload = keys.open(token)
    try:
        claims = msgspec.json.decode(payload, type=Claims)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise AuthenticationFailed from error
    _check_claims(claims, clock())
    return _principal_of(claims)


def check_subject(sub: str) -> str:
    """The name itself. Raises UsageError: names are compared to tell an author from an approver, so they are plain."""
    if _SUBJECT.fullmatch(sub) is None:
        raise UsageError("A name has 1 to 100 letters, digits and . _ @ + - and begins with a letter or digit.")
    return sub


def parse_ttl(text: str) -> int:
    """Seconds of a life time such as 90s, 30m or 12h. Raises UsageError."""
    found = _TTL.fullmatch(text)
    if found is None:
        raise UsageError(f"A life time looks like 90s, 30m or 12h, not {text[:40]}.")
    return int(found[1]) * _SECONDS[found[2]]


def _check_claims(claims: Claims, now: float) -> None:
    begins = max(claims.iat, claims.nbf or 0)
    if begins > now + CLOCK_SKEW_S:
        raise AuthenticationFailed("The token is not valid yet.")
    if not 0 < claims.exp - claims.iat <= MAX_TTL_S:
        raise AuthenticationFailed("The token lives longer than allowed.")
    if not claims.jti or len(claims.jti) > 100 or _SUBJECT.fullmatch(claims.sub) is None:
        raise AuthenticationFailed
    if claims.exp <= now:
        raise AuthenticationFailed("The token has expired.", guess=False)


def _principal_of(claims: Claims) -> Principal:
    return Principal(sub=claims.sub, role=claims.role, jti=claims.jti, expires_at=claims.exp)


def _read_secret(name: str, text: str) -> tuple[str, bytes]:
    secret = text.encode()
    if len(secret) < MIN_SECRET_BYTES:
        raise UsageError(
            f"{name} has {len(secret)} bytes; it must have at least {MIN_SECRET_BYTES}.",
            advice="Make one with: openssl rand -hex 32",
        )
    return hmac.new(secret, b"tonsurance kid", hashlib.sha256).hexdigest()[:16], secret
