"""The products: what is covered, on which chain, for which stablecoin. Ids are the API's and the database's."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cached_property
from itertools import product as combine
from types import MappingProxyType

import msgspec

from tonsurance.core.errors import BadField
from tonsurance.core.sale_errors import InvalidProduct

COVERAGE_TYPES: tuple[str, ...] = ("depeg", "smart_contract", "oracle", "bridge", "cex_liquidation")
CHAINS: tuple[str, ...] = (
    "Ethereum", "Arbitrum", "Base", "Polygon", "Optimism", "Bitcoin", "Lightning", "Solana", "TON",
)  # fmt: skip
STABLECOINS: tuple[str, ...] = (
    "USDC", "USDT", "USDP", "DAI", "FRAX", "BUSD", "USDe", "sUSDe", "USDY", "PYUSD", "GHO", "LUSD", "crvUSD", "mkUSD",
)  # fmt: skip

INVALID_PAIRS: Mapping[tuple[str, str], str] = MappingProxyType(
    {
        ("smart_contract", "Bitcoin"): "no smart-contract layer",
        ("smart_contract", "Lightning"): "no smart-contract layer",
        ("oracle", "Bitcoin"): "no oracle-dependent contracts",
        ("oracle", "Lightning"): "no oracle-dependent contracts",
        ("bridge", "Bitcoin"): "bridged Bitcoin is covered on the chain it is bridged through (Lightning)",
    }
)
"""Coverage types that make no sense on a chain, and why; the factory contract refuses them too."""


_TYPE_SHIFT = 16
_CHAIN_SHIFT = 8
_SHOWN_CHARS = 64


class Product(msgspec.Struct, frozen=True, order=True, dict=True):
    """One product by its ids. Ordered as its key is."""

    coverage_type_id: int
    chain_id: int
    stablecoin_id: int

    @property
    def coverage_type(self) -> str:
        """What is covered, by name."""
        return COVERAGE_TYPES[self.coverage_type_id]

    @property
    def chain(self) -> str:
        """Where, by name."""
        return CHAINS[self.chain_id]

    @property
    def stablecoin(self) -> str:
        """For which coin, by symbol."""
        return STABLECOINS[self.stablecoin_id]

    @property
    def name(self) -> str:
        """`depeg_Ethereum_USDC`: the text whose hash is the product's."""
        return f"{self.coverage_type}_{self.chain}_{self.stablecoin}"

    @property
    def key(self) -> int:
        """type << 16 | chain << 8 | coin, as the factory contract numbers it."""
        return self.coverage_type_id << _TYPE_SHIFT | self.chain_id << _CHAIN_SHIFT | self.stablecoin_id

    @cached_property
    def hash(self) -> str:
        """0x and the SHA-256 of the name, hex."""
        return f"0x{hashlib.sha256(self.name.encode()).hexdigest()}"

    @property
    def invalid_reason(self) -> str | None:
        """Why there is no such cover; None for the products that exist."""
        return INVALID_PAIRS.get((self.coverage_type, self.chain))


PRODUCTS: tuple[Product, ...] = tuple(
    Product(*ids) for ids in combine(range(len(COVERAGE_TYPES)), range(len(CHAINS)), range(len(STABLECOINS)))
)
"""All combinations, in the order of their keys."""
VALID_PRODUCTS: tuple[Product, ...] = tuple(product for product in PRODUCTS if product.invalid_reason is None)
"""Those that exist."""
_BY_NAMES = {(one.coverage_type, one.chain, one.stablecoin): one for one in PRODUCTS}


def find_product(coverage_type: str, chain: str, stablecoin: str) -> Product:
    """A product by its names, valid or not. Raises BadField with the names there are."""
    for field, given, known in (
        ("coverage_type", coverage_type, COVERAGE_TYPES),
        ("chain", chain, CHAINS),
        ("stablecoin", stablecoin, STABLECOINS),
    ):
        if given not in known:
            what = field.replace("_", " ")
            raise BadField(field, f"Unknown {what}: {str(given)[:_SHOWN_CHARS]}. Known: {', '.join(known)}.")
    return _BY_NAMES[coverage_type, chain, stablecoin]


def check_valid(product: Product) -> Product:
    """The product itself. Raises InvalidProduct with the reason when there is no such cover."""
    reason = product.invalid_reason
    if reason is not None:
        raise InvalidProduct(product.coverage_type, product.chain, reason)
    return product


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
