"""The caller's address: from X-Forwarded-For only where a configured proxy wrote it."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from litestar.connection import ASGIConnection

from tonsurance.api.client_address import client_address, is_within, locking_key, parse_networks
from tonsurance.core.errors import UsageError

PROXIES = ("10.0.0.0/8", "::1")


def connection(peer: str | None, *forwarded: str) -> ASGIConnection:
    """A request from a peer with these X-Forwarded-For headers."""
    headers = [(b"x-forwarded-for", value.encode()) for value in forwarded]
    client = None if peer is None else (peer, 5000)
    return ASGIConnection({"type": "http", "headers": headers, "client": client})


@pytest.mark.parametrize(
    ("peer", "forwarded", "found"),
    [
        ("203.0.113.9", (), "203.0.113.9"),
        ("203.0.113.9", ("192.168.1.1",), "203.0.113.9"),
        ("203.0.113.9", ("10.1.1.1",), "203.0.113.9"),
        ("10.0.0.1", (), "10.0.0.1"),
        ("10.0.0.1", ("198.51.100.7",), "198.51.100.7"),
        ("10.0.0.1", ("192.168.1.1, 198.51.100.7",), "198.51.100.7"),
        ("10.0.0.1", ("192.168.1.1", "198.51.100.7"), "198.51.100.7"),
        ("10.0.0.1", ("192.168.1.1, 198.51.100.7, 10.2.2.2",), "198.51.100.7"),
        ("10.0.0.1", ("10.3.3.3",), "10.3.3.3"),
        ("10.0.0.1", ("192.168.1.1, nonsense",), "10.0.0.1"),
        ("10.0.0.1", ("192.168.1.1,",), "10.0.0.1"),
        ("10.0.0.1", ("198.51.100.7:4711",), "198.51.100.7"),
        ("10.0.0.1", ("[2001:db8::1]:4711",), "2001:db8::1"),
        ("10.0.0.1", ("2001:db8::1",), "2001:db8::1"),
        ("::ffff:10.0.0.1", ("198.51.100.7",), "198.51.100.7"),
        ("::1", ("::ffff:198.51.100.7",), "198.51.100.7"),
        (None, ("198.51.100.7",), "::"),
        ("10.0.0.1", (", ".join(["10.9.9.9"] * 1000),), "10.9.9.9"),
    ],
)
def test_the_address_is_the_last_one_no_proxy_of_ours_has(
    peer: str | None, forwarded: tuple[str, ...], found: str
) -> None:
    assert client_address(connection(peer, *forwarded), parse_networks("x", PROXIES)) == ip_address(found)


def test_without_proxies_nobody_is_believed() -> None:
    assert client_address(connection("127.0.0.1", "198.51.100.7"), ()) == ip_address("127.0.0.1")


@pytest.mark.parametrize(
    ("address", "inside"),
    [("10.1.2.3", True), ("11.0.0.1", False), ("2001:db8::5", True), ("2001:db9::5", False), ("::ffff:a01:203", True)],
)
def test_networks_hold_both_kinds_of_addresses(address: str, inside: bool) -> None:
    networks = parse_networks("x", ("10.0.0.0/8", "2001:db8::/32"))
    assert is_within(ip_address(address), networks) is inside


@pytest.mark.parametrize("text", ["", "10.0.0.1/8", "10.0.0.0/33", "everybody", "10.0.0"])
def test_networks_that_cannot_be_read_are_refused_by_name(text: str) -> None:
    with pytest.raises(UsageError, match="ADMIN_ALLOW"):
        parse_networks("ADMIN_ALLOW", (text,))


def test_failures_of_one_ipv6_network_count_together() -> None:
    assert locking_key(ip_address("2001:db8::1")) == locking_key(ip_address("2001:db8::ffff"))
    assert locking_key(ip_address("2001:db8::1")) != locking_key(ip_address("2001:db8:0:1::1"))
    assert locking_key(ip_address("10.0.0.1")) == "10.0.0.1"
