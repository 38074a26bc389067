"""The three dimensions of a product: what is covered, on which chain, for which stablecoin. Ids are the API's."""

from __future__ import annotations

COVERAGE_TYPES: tuple[str, ...] = ("depeg", "smart_contract", "oracle", "bridge", "cex_liquidation")
CHAINS: tuple[str, ...] = (
    "Ethereum", "Arbitrum", "Base", "Polygon", "Optimism", "Bitcoin", "Lightning", "Solana", "TON",
)  # fmt: skip
STABLECOINS: tuple[str, ...] = (
    "USDC", "USDT", "USDP", "DAI", "FRAX", "BUSD", "USDe", "sUSDe", "USDY", "PYUSD", "GHO", "LUSD", "crvUSD", "mkUSD",
)  # fmt: skip
