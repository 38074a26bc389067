"""`tonsurance token`: a token for the admin API, printed alone so that a script can take it."""

from __future__ import annotations

import sys

from tonsurance.core.errors import UsageError
from tonsurance.services.admin_tokens import TokenKeys, issue_token, parse_ttl
from tonsurance.settings import Environment, home_dir, jwt_secrets
from tonsurance.stack import find_jwt_secret


def read_token_keys(env: Environment) -> TokenKeys:
    """The secrets of the environment, else the one that the local stack of this home made for itself.

    Raises UsageError when there is none.
    """
    current, previous = jwt_secrets(env)
    if current is None:
        current = find_jwt_secret(home_dir(env))
    if current is None:
        raise UsageError(
            "No secret is there to sign a token with.",
            advice="Set JWT_SECRET, or JWT_SECRET_FILE, or start a local stack with: tonsurance run",
        )
    return TokenKeys(current, previous)


def token(*, role: str, sub: str, ttl: str = "1h") -> None:
    """Print a token for the admin API. It is as good as a password until it expires.

    Parameters
    ----------
    role
        viewer, editor, approver or admin.
    sub
        Name of the person; it stands in the audit log.
    ttl
        How long it lives: 90s, 30m, at most 12h.
    """
    text, _ = issue_token(read_token_keys(Environment()), sub=sub, role=role, ttl_s=parse_ttl(ttl))
    sys.stdout.write(text + "\n")
