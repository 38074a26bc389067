"""The database's roles, and which process takes which one.

What each may do stands in migrations/009_roles.sql. A process connects with any login that is a member of its role
and takes the role when the connection starts, so its statements have the rights of the role and no others.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

INGEST = "tonsurance_ingest"
"""Inserts events; everything else of the ledger moves by functions that check it."""
API = "tonsurance_api"
"""Reads."""
ADMIN = "tonsurance_admin"
"""Changes parameters, people and data sets."""

ROLE_OF: Mapping[str, str | None] = MappingProxyType(
    {
        "daemon": INGEST,
        "writer": INGEST,
        "sync": INGEST,
        "chain parameters": ADMIN,  # the daemon stores what the contracts say as a version of the configuration
        "api": API,
        "reservations": INGEST,  # a commit on a direct vault posts its cover in the same transaction
        "admin api": ADMIN,
        "config": ADMIN,
        "contracts": ADMIN,
        "health": API,
        "verify": API,
        "migrate": None,
        "replay": None,  # makes a schema of its own, so it is the owner's
        "psql": None,
    }
)
"""What a connection is for -> the role it takes; None: what its login may do (the owner's, to migrate)."""
