"""What admin handlers are given, and what their paths and queries hold."""

from __future__ import annotations

from typing import Annotated

from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec
from litestar.params import PathParameter, QueryParameter, SkipValidation

from tonsurance.api.admin_guard import Caller
from tonsurance.api.admin_wire import AdminProblem, PendingOut
from tonsurance.api.errors import PROBLEM_JSON
from tonsurance.services.config_admin import ConfigAdmin

Injected = NamedDependency[SkipValidation[ConfigAdmin]]
CallerOf = NamedDependency[SkipValidation[Caller]]
CategoryInPath = Annotated[str, PathParameter(description="Such as `pricing`, `risk`, `tranche`.", max_length=50)]
KeyInPath = Annotated[str, PathParameter(description="Such as `base_rate_USDC`.", max_length=100)]
ReasonInQuery = Annotated[str, QueryParameter(max_length=1000)]
VersionInQuery = Annotated[int | None, QueryParameter(ge=0, le=2**53, description="Version you saw.")]
BeforeId = Annotated[int | None, QueryParameter(ge=1, le=2**63 - 1, description="Only older ones than this id.")]


def _problem(description: str) -> ResponseSpec:
    return ResponseSpec(AdminProblem, generate_examples=False, media_type=PROBLEM_JSON, description=description)


ANSWERS = {
    400: _problem("Bad input: every reason is listed in `errors`."),
    401: _problem("No token, or one that is not valid (any more)."),
    403: _problem("The role or the address does not allow it."),
    404: _problem("There is no such thing."),
    409: _problem("Changed by others since, or enforced on chain."),
    422: _problem("The step is too large or comes too soon."),
    429: _problem("Too many requests, or too many bad tokens. See Retry-After."),
    503: _problem("The database cannot be reached."),
}
ACCEPTED = {202: ResponseSpec(PendingOut, generate_examples=False, description="A second person has to agree.")}
