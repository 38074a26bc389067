"""The three dimensions of a product: what is covered, on which chain, for which stablecoin. Ids are the API's."""

from __future__ import annotations

COVERAGE_TYPES: tuple[str, ...] = ("depeg", "smart_contract", "oracle", "bridge", "cex_liquidation")
CHAINS: tuple[str, ...] = (
    "Ethereum", "Arbitrum", "Base", "Polygon", "Optimism", "Bitcoin", "Lightning", "Solana", "TON",
)  # fmt: skip
STABLECOINS: tuple[str, ...] = (
    "USDC", "USDT", "USDP", "DAI", "FRAX", "BUSD", "USDe", "sUSDe", "USDY", "PYUSD", "GHO", "LUSD", "crvUSD", "mkUSD",
)  # fmt: skip


def find_unknown_dimension(coverage_type: int, chain_id: int, stablecoin_id: int) -> str | None:
    """What is unknown of a product's ids, in words; None when all three are known."""
    given = (
        ("coverage type", coverage_type, COVERAGE_TYPES),
        ("chain", chain_id, CHAINS),
        ("stablecoin", stablecoin_id, STABLECOINS),
    )
    for name, number, known in given:
        if not 0 <= number < len(known):
            return f"there is no {name} {number}: 0 to {len(known) - 1}"
    return None
