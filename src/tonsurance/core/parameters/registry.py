"""All declared parameters by name."""

from __future__ import annotations

from types import MappingProxyType

from tonsurance.core.errors import InputError
from tonsurance.core.parameters.api import API
from tonsurance.core.parameters.declaration import Key, Parameter
from tonsurance.core.parameters.pricing import PRICING
from tonsurance.core.parameters.risk import RISK
from tonsurance.core.parameters.tranche import TRANCHE

CATEGORIES: tuple[str, ...] = ("pricing", "risk", "tranche", "bridge", "stress", "api", "external")
"""Every parameter is in one of these; `bridge`, `stress` and `external` are waiting for their features."""

AWAITED: tuple[str, ...] = (
    "collateral manager",
    "rate limits",
    "risk engine",
    "vault terms",
)
"""The features that parameters wait for. One that came takes its marks (`awaited_by`) and its name here away."""

PARAMETERS: tuple[Parameter, ...] = (*PRICING, *RISK, *TRANCHE, *API)
REGISTRY = MappingProxyType({parameter.name: parameter for parameter in PARAMETERS})


class UnknownParameter(InputError):
    """There is no such parameter."""

    code = "unknown_parameter"


def find_parameter(category: str, key: str) -> Parameter:
    """The declaration of a parameter. Raises UnknownParameter."""
    name: Key = (category, key)
    found = REGISTRY.get(name)
    if found is None:
        raise unknown_parameter(category, key)
    return found


def unknown_parameter(category: str, key: str) -> UnknownParameter:
    """The error that names it, shortened to what a name may have."""
    return UnknownParameter(f"There is no parameter {category[:64]}/{key[:128]}.")
