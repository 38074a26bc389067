"""REST, version 2: what a wallet has to send to deposit, to withdraw, and to end a policy. Nothing is kept or sent."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from litestar import Router, post
from litestar.di import NamedDependency, Provide
from litestar.openapi import ResponseSpec
from litestar.params import JSONBody, PathParameter, SkipValidation

from tonsurance.api import wire
from tonsurance.api.admin_guard import BODY
from tonsurance.api.bodies import ID_SCHEMA, ExactRequest, check_given_body, read_id
from tonsurance.api.builder_wire import BuilderAnswer, DepositBody, ExpireBody, WithdrawBody, WithdrawRequestBody
from tonsurance.api.errors import PROBLEM_JSON
from tonsurance.api.render import show_now, show_time
from tonsurance.core.errors import BadField, InputError
from tonsurance.core.units import BIGINT_MAX, NANO_PER_TON, ton_from_nano
from tonsurance.services.factory_state import is_stale
from tonsurance.services.wallet_requests import Prepared, WalletRequests

MAX_BODY_BYTES = 4 * 1024
_MOST_DIGITS = 30

Service = NamedDependency[SkipValidation[WalletRequests]]
DefaultVault = NamedDependency[SkipValidation[str]]
PolicyInPath = Annotated[str, PathParameter(description="The policy's id.", schema_extra=ID_SCHEMA)]


def _problem(description: str) -> ResponseSpec:
    return ResponseSpec(wire.Problem, generate_examples=False, media_type=PROBLEM_JSON, description=description)


ANSWERS = {
    400: _problem("Bad input: which field, and why; for a tranche the ids there are."),
    404: _problem("There is no such vault."),
    422: _problem("The contract is known to refuse this now, and why."),
    503: _problem("The contracts were not read yet, or the database cannot be reached."),
}


@post(
    "/api/v2/vault/deposit",
    summary="Build a deposit",
    description="The message that deposits, for the depositor's wallet to sign. Gas goes on top of the amount; what is "
    "not used comes back.",
    status_code=200,
    opt={BODY: DepositBody},
    responses=ANSWERS,
)
async def build_deposit(requests: Service, default_vault: DefaultVault, data: JSONBody[DepositBody]) -> BuilderAnswer:
    """One message to the vault."""
    amount = read_amount(data.amount_ton, data.amount_nanoton)
    return _answer(await requests.deposit(data.vault_id or default_vault, data.tranche_id, amount, data.sender))


@post(
    "/api/v2/vault/withdraw-request",
    summary="Build the announcement of a withdrawal",
    description="The first of two steps: shares are announced, and may be withdrawn some time later.",
    status_code=200,
    opt={BODY: WithdrawRequestBody},
    responses=ANSWERS,
)
async def build_withdraw_request(
    requests: Service, default_vault: DefaultVault, data: JSONBody[WithdrawRequestBody]
) -> BuilderAnswer:
    """One message to the vault."""
    vault_id = data.vault_id or default_vault
    return _answer(await requests.request_withdrawal(vault_id, data.tranche_id, int(data.shares), data.sender))


@post(
    "/api/v2/vault/withdraw",
    summary="Build a withdrawal",
    description="The second step: takes what was announced.",
    status_code=200,
    opt={BODY: WithdrawBody},
    responses=ANSWERS,
)
async def build_withdraw(requests: Service, default_vault: DefaultVault, data: JSONBody[WithdrawBody]) -> BuilderAnswer:
    """One message to the vault."""
    return _answer(await requests.withdraw(data.vault_id or default_vault, data.tranche_id, data.sender))


@post(
    "/api/v2/policies/{policy_id:str}/expire",
    summary="Build the end of a policy",
    description="Anyone may end a policy whose cover and time to claim are over. The body may be left out.",
    status_code=200,
    opt={BODY: ExpireBody},
    responses=ANSWERS | {404: _problem("There is no such policy or vault.")},
)
async def build_expire(
    requests: Service, default_vault: DefaultVault, policy_id: PolicyInPath, data: JSONBody[ExpireBody | None] = None
) -> BuilderAnswer:
    """One message to the factory."""
    given = data or ExpireBody()
    number = read_id("policy_id", policy_id)
    return _answer(await requests.expire(given.vault_id or default_vault, number, given.sender))


def make_builder_router(requests: WalletRequests, default_vault: str) -> Router:
    """All of them; `default_vault` is meant where none is named."""

    def provide_requests() -> WalletRequests:
        return requests

    def provide_vault() -> str:
        return default_vault

    return Router(
        path="/",
        route_handlers=[build_deposit, build_withdraw_request, build_withdraw, build_expire],
        request_class=ExactRequest,
        before_request=check_given_body,
        dependencies={
            "requests": Provide(provide_requests, sync_to_thread=False),
            "default_vault": Provide(provide_vault, sync_to_thread=False),
        },
        request_max_body_size=MAX_BODY_BYTES,
        cache_control=None,
        response_headers={"Cache-Control": "no-store"},
        tags=["wallet"],
    )


def read_amount(ton: Decimal | None, nanoton: str | int | None) -> int:
    """nanoTON from one of two ways to say it. Raises InputError unless exactly one is given and it is exact."""
    if (ton is None) == (nanoton is None):
        raise InputError("Give either amount_ton or amount_nanoton.")
    if ton is None:
        return int(nanoton or 0)
    if not ton.is_finite() or ton.copy_abs() > BIGINT_MAX:
        raise BadField("amount_ton", "amount_ton is a finite amount of TON.")
    _, digits, exponent = ton.as_tuple()
    if len(digits) > _MOST_DIGITS or not isinstance(exponent, int) or abs(exponent) > _MOST_DIGITS:
        raise BadField("amount_ton", "amount_ton has at most 9 decimals.")
    parts, whole = ton.as_integer_ratio()  # exact, where a product of decimals is rounded
    nano, rest = divmod(parts * NANO_PER_TON, whole)
    if rest:
        raise BadField("amount_ton", "amount_ton has at most 9 decimals.")
    return nano


def _answer(prepared: Prepared) -> BuilderAnswer:
    state, request = prepared.state, prepared.request
    return BuilderAnswer(
        transaction=request.transaction,
        link=request.link,
        payload_hash=request.payload_hash,
        action=prepared.action,
        returns=prepared.returns,
        value_ton=ton_from_nano(prepared.value_nano),
        value_nanoton=str(prepared.value_nano),
        minimum_value_nanoton=str(prepared.least_nano),
        vault_id=state.vault_id,
        contract=prepared.contract,
        network_id=state.network_id,
        valid_until=show_time(request.transaction.valid_until),
        read_at=show_time(state.read_at),
        stale=is_stale(state),
        data_age_seconds=round(state.age_s, 3),
        timestamp=show_now(),
    )
