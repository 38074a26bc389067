"""Tokens: what is signed comes back; every known way to forge one is refused."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time

import jwt
import msgspec
import pytest

from tonsurance.core.errors import UsageError
from tonsurance.services.admin_tokens import (
    CLOCK_SKEW_S,
    MAX_TTL_S,
    AuthenticationFailed,
    Role,
    TokenKeys,
    issue_token,
    parse_ttl,
    read_token,
)

SECRET, OLD_SECRET, OTHER_SECRET = "s" * 32, "o" * 32, "x" * 32
NOW = 1_790_000_000.0


def clock() -> float:
    """A clock that stands still."""
    return NOW


@pytest.fixture
def keys() -> TokenKeys:
    """The current secret and the one before."""
    return TokenKeys(SECRET, OLD_SECRET)


def kid_of(keys: TokenKeys) -> str:
    """The id that the current key has."""
    token, _ = issue_token(keys, sub="ada", role="viewer", ttl_s=60, clock=clock)
    return str(jwt.get_unverified_header(token)["kid"])


def encode(data: bytes) -> str:
    """Base64 as in a token."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def forge(keys: TokenKeys, *, header: dict[str, object] | None = None, secret: str = SECRET, **claims: object) -> str:
    """A token as ours, with some claims (None: left out) and header fields changed, signed with `secret`."""
    fields: dict[str, object] = {
        "sub": "ada",
        "role": "admin",
        "iat": int(NOW),
        "exp": int(NOW) + 60,
        "jti": "1",
        "iss": "tonsurance",
        "aud": "tonsurance-admin",
    }
    fields = {name: value for name, value in (fields | claims).items() if value is not None}
    head = {"alg": "HS256", "typ": "JWT", "kid": kid_of(keys)} | (header or {})
    signed = f"{encode(json.dumps(head).encode())}.{encode(json.dumps(fields).encode())}"
    digest = hmac.new(secret.encode(), signed.encode(), hashlib.sha256).digest()
    return f"{signed}.{encode(digest)}"


def test_a_token_names_the_person_and_the_role(keys: TokenKeys) -> None:
    token, principal = issue_token(keys, sub="ada@example.org", role="editor", ttl_s=3600, clock=clock)
    assert read_token(keys, token, clock=clock) == principal
    assert (principal.sub, principal.role, principal.expires_at) == ("ada@example.org", Role.EDITOR, NOW + 3600)


def test_what_this_file_forges_is_accepted_when_nothing_is_wrong_with_it(keys: TokenKeys) -> None:
    assert read_token(keys, forge(keys), clock=clock).role is Role.ADMIN


def test_tokens_of_the_previous_secret_are_read_while_rotating_and_not_after(keys: TokenKeys) -> None:
    old, _ = issue_token(TokenKeys(OLD_SECRET), sub="ada", role="viewer", ttl_s=60, clock=clock)
    assert read_token(keys, old, clock=clock).sub == "ada"
    with pytest.raises(AuthenticationFailed):
        read_token(TokenKeys(SECRET), old, clock=clock)


def test_new_tokens_are_signed_with_the_current_secret(keys: TokenKeys) -> None:
    token, _ = issue_token(keys, sub="ada", role="viewer", ttl_s=60, clock=clock)
    assert read_token(TokenKeys(SECRET), token, clock=clock).sub == "ada"


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": int(NOW)},
        {"exp": int(NOW) - 1},
        {"exp": None},
        {"exp": float("nan")},
        {"exp": float("inf")},
        {"exp": True},
        {"exp": str(int(NOW) + 60)},
        {"exp": int(NOW) + MAX_TTL_S + 1},
        {"exp": 10**30},
        {"iat": int(NOW) + CLOCK_SKEW_S + 1},
        {"iat": None},
        {"iat": -(10**9)},
        {"nbf": int(NOW) + 30},
        {"aud": "tonsurance"},
        {"aud": ["tonsurance-admin"]},
        {"aud": None},
        {"iss": "somebody"},
        {"iss": None},
        {"role": "root"},
        {"role": ["admin"]},
        {"role": "ADMIN"},
        {"role": None},
        {"sub": ""},
        {"sub": None},
        {"sub": 7},
        {"sub": "ada\n"},
        {"sub": "\u0430da"},
        {"sub": "a" * 101},
        {"jti": ""},
        {"jti": None},
        {"jti": "j" * 101},
    ],
    ids=lambda claims: ",".join(f"{k}={v!r}"[:40] for k, v in claims.items()),
)
def test_well_signed_tokens_with_bad_claims_are_refused(keys: TokenKeys, claims: dict[str, object]) -> None:
    token = forge(keys, **{"iat": int(NOW) - 1} | claims) if "iat" not in claims else forge(keys, **claims)
    if claims.get("iat", 0) is None:
        token = forge(keys, iat=None)
    with pytest.raises(AuthenticationFailed):
        read_token(keys, token, clock=clock)


@pytest.mark.parametrize(
    "algorithm", ["none", "None", "NONE", "HS384", "HS512", "RS256", "ES256", "EdDSA", "", None, 7]
)
def test_no_other_algorithm_is_accepted_even_with_our_secret(keys: TokenKeys, algorithm: object) -> None:
    with pytest.raises(AuthenticationFailed):
        read_token(keys, forge(keys, header={"alg": algorithm}), clock=clock)


@pytest.mark.parametrize("algorithm", ["HS384", "HS512"])
def test_a_token_really_signed_with_another_hash_is_refused(keys: TokenKeys, algorithm: str) -> None:
    claims = {"sub": "ada", "role": "admin", "iat": int(NOW), "exp": int(NOW) + 60, "jti": "1"}
    claims |= {"iss": "tonsurance", "aud": "tonsurance-admin"}
    secret = "s" * 64
    ours = TokenKeys(secret)
    token = jwt.encode(claims, secret, algorithm=algorithm, headers={"kid": kid_of(ours)})
    with pytest.raises(AuthenticationFailed):
        read_token(ours, token, clock=clock)


def test_an_unsigned_token_is_refused(keys: TokenKeys) -> None:
    head, body, _ = forge(keys, header={"alg": "none"}).split(".")
    for token in (f"{head}.{body}.", f"{head}.{body}", f"{head}..", f".{body}.", ".."):
        with pytest.raises(AuthenticationFailed):
            read_token(keys, token, clock=clock)


def test_a_signature_of_another_secret_is_refused_under_our_key_id(keys: TokenKeys) -> None:
    with pytest.raises(AuthenticationFailed):
        read_token(keys, forge(keys, secret=OTHER_SECRET), clock=clock)


@pytest.mark.parametrize("kid", ["", "unknown", None, 7, ["a"], "../../etc/passwd", "' OR 1=1"])
def test_key_ids_that_are_not_ours_are_refused(keys: TokenKeys, kid: object) -> None:
    with pytest.raises(AuthenticationFailed):
        read_token(keys, forge(keys, header={"kid": kid}), clock=clock)


@pytest.mark.parametrize(
    "header",
    [
        {"jwk": {"kty": "oct", "k": encode(OTHER_SECRET.encode())}},
        {"jku": "http://127.0.0.1:1/keys"},
        {"x5u": "http://127.0.0.1:1/keys"},
    ],
)
def test_keys_that_a_token_brings_along_are_not_used(keys: TokenKeys, header: dict[str, object]) -> None:
    with pytest.raises(AuthenticationFailed):
        read_token(keys, forge(keys, header=header, secret=OTHER_SECRET), clock=clock)


def test_critical_extensions_we_do_not_know_are_refused(keys: TokenKeys) -> None:
    with pytest.raises(AuthenticationFailed):
        read_token(keys, forge(keys, header={"crit": ["exp"], "exp": 1}), clock=clock)


def test_one_changed_character_is_refused_wherever_it_is(keys: TokenKeys) -> None:
    token = forge(keys)
    # The last character of base64 may hold bits that mean nothing; all others count.
    for place in range(0, len(token) - 1, 7):
        other = "A" if token[place] != "A" else "B"
        with pytest.raises(AuthenticationFailed):
            read_token(keys, token[:place] + other + token[place + 1 :], clock=clock)


@pytest.mark.parametrize("text", ["", ".", "a.b.c", "é.é.é", "a" * 100_000, "[" * 2000, "null", "\x00"])
def test_texts_that_are_no_tokens_are_refused(keys: TokenKeys, text: str) -> None:
    with pytest.raises(AuthenticationFailed):
        read_token(keys, text, clock=clock)


def test_a_payload_that_is_no_object_is_refused(keys: TokenKeys) -> None:
    deep = b"[" * 1000 + b"]" * 1000
    for payload in (b"[]", b"null", b"\xff", deep):
        head = encode(json.dumps({"alg": "HS256", "kid": kid_of(keys)}).encode())
        signed = f"{head}.{encode(payload)}"
        digest = hmac.new(SECRET.encode(), signed.encode(), hashlib.sha256).digest()
        with pytest.raises(AuthenticationFailed):
            read_token(keys, f"{signed}.{encode(digest)}", clock=clock)


def test_only_an_expired_token_of_ours_is_no_guess(keys: TokenKeys) -> None:
    with pytest.raises(AuthenticationFailed) as expired:
        read_token(keys, forge(keys, iat=int(NOW) - 60, exp=int(NOW) - 1), clock=clock)
    with pytest.raises(AuthenticationFailed) as forged:
        read_token(keys, forge(keys, secret=OTHER_SECRET), clock=clock)
    assert (expired.value.guess, forged.value.guess) == (False, True)


@pytest.mark.parametrize("secret", ["", "short", "s" * 31])
def test_short_secrets_are_refused_and_not_repeated(secret: str) -> None:
    for current, previous in ((secret, None), (SECRET, secret)):
        with pytest.raises(UsageError) as refused:
            TokenKeys(current, previous)
        assert "32" in str(refused.value)
        assert not secret or secret not in str(refused.value)


def test_keys_do_not_show_their_secrets() -> None:
    text = repr(TokenKeys(SECRET, OLD_SECRET))
    assert SECRET not in text
    assert OLD_SECRET not in text


@pytest.mark.parametrize(
    ("sub", "role", "ttl_s"),
    [("", "viewer", 60), ("a b", "viewer", 60), ("ada", "root", 60), ("ada", "viewer", 0), ("ada", "viewer", 43_201)],
)
def test_tokens_that_could_not_be_read_are_not_issued(keys: TokenKeys, sub: str, role: str, ttl_s: int) -> None:
    with pytest.raises(UsageError):
        issue_token(keys, sub=sub, role=role, ttl_s=ttl_s)


def test_a_token_issued_now_is_read_now(keys: TokenKeys) -> None:
    token, principal = issue_token(keys, sub="ada", role="viewer", ttl_s=MAX_TTL_S)
    assert read_token(keys, token) == principal
    assert principal.expires_at > time.time()


def test_every_token_has_an_id_of_its_own(keys: TokenKeys) -> None:
    ids = {issue_token(keys, sub="ada", role="viewer", ttl_s=60)[1].jti for _ in range(100)}
    assert len(ids) == 100


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("30m", 1800), ("12h", 43_200)])
def test_life_times_are_read(text: str, seconds: int) -> None:
    assert parse_ttl(text) == seconds


@pytest.mark.parametrize("text", ["", "1", "h", "-1h", "1.5h", "1d", "0s", "1h ", "\u0661h", "9999999s"])
def test_life_times_that_cannot_be_read_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_ttl(text)


def test_roles_include_those_below_them() -> None:
    order = list(Role)
    assert order == [Role.VIEWER, Role.EDITOR, Role.APPROVER, Role.ADMIN]
    assert [[high.includes(low) for low in order] for high in order] == [
        [True, False, False, False],
        [True, True, False, False],
        [True, True, True, False],
        [True, True, True, True],
    ]


def test_claims_are_what_the_documents_name(keys: TokenKeys) -> None:
    token, _ = issue_token(keys, sub="ada", role="admin", ttl_s=60, clock=clock)
    body = token.split(".")[1]
    claims = msgspec.json.decode(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    assert set(claims) == {"sub", "role", "iat", "exp", "jti", "iss", "aud"}
