"""Where a request comes from, and whether it may come from there."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, TypeAlias

from litestar.connection import ASGIConnection

from tonsurance.core.errors import UsageError

Address: TypeAlias = "IPv4Address | IPv6Address"
Network: TypeAlias = "IPv6Network"
_MAX_HOPS = 32
_V4_PREFIX = 96


def parse_networks(name: str, texts: Sequence[str]) -> tuple[Network, ...]:
    """Addresses and networks of a setting. Raises UsageError naming the setting and the bad one."""
    found = []
    for text in texts:
        try:
            network = ip_network(text.strip())
        except ValueError as error:
            raise UsageError(f"{name}: {text[:60]} is not an address or a network such as 10.0.0.0/8.") from error
        found.append(network if isinstance(network, IPv6Network) else _map_network(str(network)))
    return tuple(found)


def is_within(address: Address, networks: tuple[Network, ...]) -> bool:
    """Whether an address is in one of the networks."""
    mapped = IPv6Address(f"::ffff:{address}") if isinstance(address, IPv4Address) else address
    return any(mapped in network for network in networks)


def client_address(connection: ASGIConnection[Any, Any, Any, Any], proxies: tuple[Network, ...]) -> Address:
    """The caller's address: the peer's own, or, behind configured proxies, the last one that none of them has.

    What other peers claim in X-Forwarded-For is not looked at. An entry that cannot be read ends the search at the
    proxy that handed it on.
    """
    found = _parse(connection.client.host if connection.client is not None else "") or IPv6Address(0)
    hops = ",".join(connection.headers.getall("x-forwarded-for", [])).split(",")
    for text in reversed(hops[-_MAX_HOPS:]):
        if not is_within(found, proxies):
            break
        hop = _parse(text)
        if hop is None:
            break
        found = hop
    return found


def locking_key(address: Address) -> str:
    """What failures are counted by: an IPv4 address, or the /64 that one IPv6 user has at least."""
    if isinstance(address, IPv4Address):
        return str(address)
    return str(ip_network((address, 64), strict=False))


def _parse(text: str) -> Address | None:
    """An address, with or without a port; None when it is none."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _map_network(text: str) -> IPv6Network:
    base, _, prefix = text.partition("/")
    return IPv6Network(f"::ffff:{base}/{_V4_PREFIX + int(prefix)}")
