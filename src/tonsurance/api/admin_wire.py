"""What the admin API hears and says, field by field."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from tonsurance.api.wire import Instant, Out

Category = Annotated[str, Meta(examples=["pricing"])]
KeyName = Annotated[str, Meta(examples=["base_rate_USDC"])]
JsonValue = Annotated[object, Meta(description="Any JSON of the parameter's type.", examples=[0.05])]
Version = Annotated[int, Meta(description="Version of the parameters.", examples=[7])]
Person = Annotated[str, Meta(examples=["ada@example.org"])]
Reason = Annotated[str, Meta(max_length=1000, examples=["Adjusting for market conditions"])]
Expected = (
    Annotated[
        int,
        Meta(ge=0, le=2**53, description="Version you saw: 409 when others changed it since.", examples=[6]),
    ]
    | None
)
RoleName = Annotated[Literal["viewer", "editor", "approver", "admin"], Meta(examples=["editor"])]


class Body(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all bodies: a field nobody knows is a mistake of the caller, not a wish to be ignored."""


class UpdateBody(Body, frozen=True, kw_only=True):
    """A new value of one parameter."""

    value: JsonValue
    reason: Reason = ""
    dry_run: Annotated[bool, Meta(description="Only say what it would do.")] = False
    expected_version: Expected = None
    emergency: Annotated[bool, Meta(description="Pass the cage and the second person; role admin, audited.")] = False


class CreateBody(Body, frozen=True, kw_only=True):
    """A parameter that is not declared: kept and shown, used by nothing of ours."""

    value: JsonValue
    value_type: Annotated[Literal["float", "int", "string", "bool", "json"], Meta(examples=["float"])]
    description: Annotated[str, Meta(max_length=1000, examples=["Fee of the pilot"])] = ""
    reason: Reason = ""


class RollbackBody(Body, frozen=True, kw_only=True):
    """Back to the values of an earlier version, as a new one."""

    version: Annotated[int, Meta(ge=1, le=2**53, examples=[5])]
    reason: Reason = ""
    expected_version: Expected = None


class EditBody(Body, frozen=True, kw_only=True):
    """One edit of a change request."""

    category: Annotated[str, Meta(max_length=50, examples=["pricing"])]
    key: Annotated[str, Meta(max_length=100, examples=["base_rate_USDC"])]
    action: Literal["set", "reset"] = "set"
    value: JsonValue = None


class ChangesBody(Body, frozen=True, kw_only=True):
    """Several edits that hold together or not at all."""

    changes: Annotated[tuple[EditBody, ...], Meta(min_length=1, max_length=100)]
    reason: Annotated[str, Meta(min_length=1, max_length=1000, examples=["Adjusting for market conditions"])]
    expected_version: Expected = None


class DecisionBody(Body, frozen=True, kw_only=True):
    """Why a request is decided so."""

    reason: Reason = ""


class UserBody(Body, frozen=True, kw_only=True):
    """What a person may do at most."""

    role: RoleName
    enabled: bool = True


class RevokeBody(Body, frozen=True, kw_only=True):
    """The `jti` of a token."""

    jti: Annotated[str, Meta(min_length=1, max_length=100, examples=["gyL13ovcW9Z3xic1u9f8ZA"])]


class ParameterOut(Out, frozen=True, kw_only=True):
    """One parameter: what it is, and the value that holds."""

    id: Annotated[int | None, Meta(description="null while it was never stored: the default holds.")]
    category: Category
    key: KeyName
    value_type: Annotated[str, Meta(examples=["float"])]
    value_data: JsonValue
    description: str | None
    last_updated_at: Instant | None
    updated_by: str | None
    version: Annotated[int, Meta(description="Version that changed it last; 0: the default.", examples=[3])]
    default: object
    unit: str
    low: float | None
    high: float | None
    choices: tuple[str, ...]
    chain_owned: Annotated[bool, Meta(description="Enforced by a contract: shown here, changed on chain.")]
    money: Annotated[bool, Meta(description="A change needs a second person when approvals are on.")]
    custom: Annotated[bool, Meta(description="Added by people; not declared by this program.")]
    awaited_by: Annotated[str | None, Meta(description="The feature that will use it; null when it is used.")]


class ParameterProblem(Out, frozen=True, kw_only=True):
    """One thing that is wrong."""

    category: Category
    key: KeyName
    message: Annotated[str, Meta(examples=["is 999.99; the most is 1 (a year)"])]
    field: Annotated[str, Meta(examples=["pricing/base_rate_USDC"])]


class ChangeOut(Out, frozen=True, kw_only=True):
    """One parameter before and after."""

    category: Category
    key: KeyName
    action: Annotated[str, Meta(examples=["set"])]
    old_value: JsonValue
    new_value: JsonValue


class TrialOut(Out, frozen=True, kw_only=True):
    """What an edit would do. Nothing was changed."""

    dry_run: Literal[True]
    valid: bool
    validation: Annotated[str, Meta(examples=["OK"])]
    errors: tuple[ParameterProblem, ...]
    effects: Annotated[
        dict[str, object],
        Meta(
            description="By what is affected; `not_available` where nothing can be said yet. Empty unless valid.",
            examples=[{"apy": {"tranches": []}, "capacity": {"tranches": []}, "quotes": "not_available"}],
        ),
    ]
    category: Category
    key: KeyName
    new_value: JsonValue
    changes: tuple[ChangeOut, ...]
    needs_approval: bool
    base_version: Version


class UpdatedOut(Out, frozen=True, kw_only=True):
    """An edit that holds now."""

    success: Literal[True]
    category: Category
    key: KeyName
    old_value: JsonValue
    new_value: JsonValue
    updated_by: Person
    updated_at: Instant
    version: Version
    emergency: bool = False


class RolledBackOut(Out, frozen=True, kw_only=True):
    """A rollback or a change request that holds now."""

    success: Literal[True]
    version: Version
    changes: tuple[ChangeOut, ...]
    updated_by: Person
    updated_at: Instant


class PendingOut(Out, frozen=True, kw_only=True):
    """An edit that waits for a second person."""

    success: Literal[True]
    change_id: Annotated[str, Meta(examples=["12"])]
    status: Literal["open"]
    message: str
    base_version: Version


class ChangeRequestOut(Out, frozen=True, kw_only=True):
    """A change request and what became of it."""

    change_id: Annotated[str, Meta(examples=["12"])]
    status: Annotated[
        Literal["open", "applied", "rejected", "cancelled", "outdated"],
        Meta(description="`outdated`: others changed one of its parameters since it was written."),
    ]
    author: Person
    reason: str
    kind: Literal["edit", "rollback"]
    changes: tuple[dict[str, object], ...]
    base_version: Version
    created_at: Instant
    decided_at: Instant | None
    decided_by: Person | None
    decision_reason: str | None
    applied_version: int | None


class AuditOut(Out, frozen=True, kw_only=True):
    """One line of the audit log."""

    id: Annotated[int, Meta(description="Pass the last one as `before` for the next page.")]
    category: str
    key: str
    action: str
    old_value: object
    new_value: object
    changed_by: str
    changed_at: Instant
    change_reason: str | None
    client_ip: str | None
    dry_run: bool
    emergency: bool
    role: str
    version: Annotated[int, Meta(description="Version it made; in a dry run the one it was tried on.")]
    request_id: str | None


class VersionOut(Out, frozen=True, kw_only=True):
    """One version of all parameters."""

    version: Version
    created_at: Instant
    author: str
    reason: str | None
    kind: str
    hash: Annotated[str, Meta(description="SHA-256 of all values.")]
    values: dict[str, object] | None = None


class DiffOut(Out, frozen=True, kw_only=True):
    """What differs between two versions."""

    from_version: Version
    to_version: Version
    changes: tuple[ChangeOut, ...]


class ReloadOut(Out, frozen=True, kw_only=True):
    """The parameters were read again."""

    success: Literal[True]
    message: str
    stats: Annotated[
        dict[str, object],
        Meta(examples=[{"total_entries": 118, "valid_entries": 118, "expired_entries": 0, "ttl_seconds": 60}]),
    ]


class UserOut(Out, frozen=True, kw_only=True):
    """A person of the admin API."""

    sub: Person
    role: RoleName
    enabled: bool
    changed_at: Instant
    changed_by: Person


class RevokedOut(Out, frozen=True, kw_only=True):
    """The token is taken back."""

    success: Literal[True]
    jti: str


class AdminProblem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An error as problem details. `error` and `message` are what the first admin API called them."""

    type: Annotated[str, Meta(examples=["urn:tonsurance:problem:invalid_parameters"])]
    title: Annotated[str, Meta(examples=["Bad Request"])]
    status: Annotated[int, Meta(examples=[400])]
    detail: str
    error: Annotated[str, Meta(examples=["Validation failed"])]
    message: str
    code: Annotated[str, Meta(examples=["invalid_parameters"])]
    errors: tuple[ParameterProblem, ...] | None = None
    request_id: str | None = None
