"""The bridges that are watched. Cover of bridges is sold only where one of them is."""

from __future__ import annotations

import msgspec


class Bridge(msgspec.Struct, frozen=True):
    """A bridge by its id, from one chain to another; chains are named as products name them."""

    bridge_id: str
    source: str
    destination: str


BRIDGES: tuple[Bridge, ...] = (
    Bridge("wormhole_eth_ton", "Ethereum", "TON"),
    Bridge("wormhole_arb_ton", "Arbitrum", "TON"),
    Bridge("wormhole_base_ton", "Base", "TON"),
    Bridge("wormhole_poly_ton", "Polygon", "TON"),
    Bridge("wormhole_sol_ton", "Solana", "TON"),
    Bridge("multichain_eth_ton", "Ethereum", "TON"),
    Bridge("orbit_eth_ton", "Ethereum", "TON"),
    Bridge("celer_eth_ton", "Ethereum", "TON"),
    Bridge("lightning_btc_ton", "Lightning", "TON"),
)

WATCHED_CHAINS = frozenset(bridge.source for bridge in BRIDGES)
"""The chains whose bridges are watched: a bridge is covered on the chain that it takes coins from."""
