"""Tonsurance: parametric cover on TON. See ARCHITECTURE.md for the map of this package."""

__version__ = "0.1.0"
