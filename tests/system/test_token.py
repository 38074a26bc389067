"""`tonsurance token`: where it takes its secret from, and what it prints."""

from __future__ import annotations

from pathlib import Path

import pytest

from tonsurance.cli_token import token
from tonsurance.core.errors import UsageError
from tonsurance.services.admin_tokens import TokenKeys, read_token
from tonsurance.stack import find_jwt_secret, jwt_secret_file

SECRET = "a secret of at least 32 bytes, here"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of this test's own, and an environment without secrets."""
    for name in ("JWT_SECRET", "JWT_SECRET_FILE", "JWT_SECRET_PREVIOUS", "JWT_SECRET_PREVIOUS_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TONSURANCE_HOME", str(tmp_path))
    return tmp_path


def test_the_token_is_printed_alone(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("JWT_SECRET", SECRET)
    token(role="editor", sub="ada", ttl="30m")
    out, err = capsys.readouterr()
    assert (out.count("\n"), err) == (1, "")
    principal = read_token(TokenKeys(SECRET), out.strip())
    assert (principal.sub, principal.role) == ("ada", "editor")


def test_the_secret_may_come_from_a_file(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "secret").write_text(SECRET + "\n")
    monkeypatch.setenv("JWT_SECRET_FILE", str(home / "secret"))
    token(role="viewer", sub="ada")
    assert read_token(TokenKeys(SECRET), capsys.readouterr().out.strip()).sub == "ada"


def test_a_local_run_makes_its_secret_once_and_keeps_it_to_itself(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = jwt_secret_file(home)
    secret = path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    assert jwt_secret_file(home).read_text() == secret == find_jwt_secret(home)
    token(role="admin", sub="ada")
    assert read_token(TokenKeys(secret), capsys.readouterr().out.strip()).role == "admin"


def test_without_a_secret_it_says_where_to_get_one() -> None:
    with pytest.raises(UsageError, match="tonsurance run"):
        token(role="admin", sub="ada")


@pytest.mark.parametrize(("name", "value"), [("JWT_SECRET", "short"), ("JWT_SECRET_PREVIOUS", SECRET)])
def test_secrets_that_cannot_be_used_are_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match="JWT_SECRET") as refused:
        token(role="admin", sub="ada")
    assert value not in str(refused.value)


def test_the_previous_secret_checks_and_does_not_sign(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JWT_SECRET", SECRET)
    monkeypatch.setenv("JWT_SECRET_PREVIOUS", "the secret that was there before it")
    token(role="admin", sub="ada")
    assert read_token(TokenKeys(SECRET), capsys.readouterr().out.strip()).sub == "ada"


@pytest.mark.parametrize(
    "wish", [{"role": "root"}, {"sub": "a b"}, {"ttl": "13h"}, {"ttl": "1"}], ids=lambda wish: next(iter(wish.values()))
)
def test_wishes_that_cannot_be_are_refused(monkeypatch: pytest.MonkeyPatch, wish: dict[str, str]) -> None:
    monkeypatch.setenv("JWT_SECRET", SECRET)
    with pytest.raises(UsageError):
        token(**{"role": "admin", "sub": "ada", "ttl": "1h"} | wish)
