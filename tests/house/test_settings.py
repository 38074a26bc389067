"""Process settings from the environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from tonsurance.core.errors import UsageError
from tonsurance.settings import (
    DatabaseParts,
    Environment,
    api_port,
    database_url,
    home_dir,
    network_url,
    network_urls,
    quote_key,
)


def test_a_secret_comes_from_its_name_or_its_file(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("  ab" * 1 + "\n")
    assert Environment({"TON_API_KEY": "x"}).get("TON_API_KEY") == "x"
    assert Environment({"TON_API_KEY_FILE": str(file)}).get("TON_API_KEY") == "ab"
    assert Environment({"TON_API_KEY": ""}).get("TON_API_KEY") is None
    with pytest.raises(UsageError, match="both"):
        Environment({"TON_API_KEY": "x", "TON_API_KEY_FILE": str(file)}).get("TON_API_KEY")
    with pytest.raises(UsageError, match="TON_API_KEY_FILE"):
        Environment({"TON_API_KEY_FILE": str(tmp_path / "none")}).get("TON_API_KEY")


def test_database_address_from_parts_and_environment() -> None:
    env = Environment({"DB_HOST": "db", "DB_PASSWORD": "p@ss/word", "DB_NAME": "cover"})
    assert database_url(env) == "postgresql://postgres:p%40ss%2Fword@db:5432/cover"
    assert database_url(env, DatabaseParts(host="other", port=6432, user="me")) == (
        "postgresql://me:p%40ss%2Fword@other:6432/cover"
    )
    assert database_url(Environment({"DATABASE_URL": "postgresql://x/y"})) == "postgresql://x/y"
    assert database_url(Environment({"POSTGRES_PASSWORD": "unused"})) is None


@pytest.mark.parametrize("bad", ["mysql://x/y", "localhost:5432", "postgresql://h:port/x", "x", "postgresql://[::1"])
def test_an_unreadable_database_address_is_refused_and_not_repeated(bad: str) -> None:
    with pytest.raises(UsageError, match="not readable") as caught:
        database_url(Environment({"DATABASE_URL": bad}))
    assert f" {bad}" not in str(caught.value)


@pytest.mark.parametrize("bad", ["0", "65536", "8o80", "-1", "٨٠٨٠", "1e3"])
def test_a_bad_port_is_refused(bad: str) -> None:
    with pytest.raises(UsageError, match="TONSURANCE_PORT"):
        api_port(Environment({"TONSURANCE_PORT": bad}))


def test_defaults() -> None:
    assert api_port(Environment({})) == 8080
    assert home_dir(Environment({})).name == ".tonsurance"
    assert home_dir(Environment({"TONSURANCE_HOME": "/x/y"})) == Path("/x/y")


def test_networks_by_name_and_url() -> None:
    assert network_url("testnet") == "https://testnet.toncenter.com"
    assert network_url("http://127.0.0.1:9/") == "http://127.0.0.1:9"
    for bad in ("mainet", "", "ftp://x"):
        with pytest.raises(UsageError, match="mainnet, testnet or URLs"):
            network_url(bad)
    assert network_urls("https://a.example, http://127.0.0.1:9/api/v2") == ("https://a.example", "http://127.0.0.1:9")
    assert network_urls("mainnet") == ("https://toncenter.com",)
    with pytest.raises(UsageError, match="twice"):
        network_urls("https://a.example,https://a.example/")


@pytest.mark.parametrize("bad", ["", "00", "zz" * 32, "00" * 33])
def test_a_quote_key_is_32_bytes_of_hex(bad: str) -> None:
    if not bad:
        assert quote_key(Environment({"QUOTE_KEY": bad})) is None
        return
    with pytest.raises(UsageError, match="32 bytes"):
        quote_key(Environment({"QUOTE_KEY": bad}))


def test_a_quote_key_is_read() -> None:
    assert quote_key(Environment({"QUOTE_KEY": "07" * 32})) == b"\x07" * 32
