"""How a transaction went: the phases of its description. Raises DecodeError where it is not what block.tlb says.

TL-B: trans_ord$0000 credit_first:Bool storage_ph:(Maybe TrStoragePhase) credit_ph:(Maybe TrCreditPhase)
compute_ph:TrComputePhase action:(Maybe ^TrActionPhase) aborted:Bool bounce:(Maybe TrBouncePhase) destroyed:Bool
"""

from __future__ import annotations

import msgspec

from tonsurance.chain.cells import Cell, Slice


class Phases(msgspec.Struct, frozen=True):
    """Whether compute and action phase both succeeded, and their codes; None where a phase did not run."""

    succeeded: bool
    exit_code: int | None = None
    action_code: int | None = None


def read_phases(description: Cell) -> Phases:
    """An ordinary transaction succeeded when compute and action phase did and it was not aborted.

    Other kinds (tick-tock, storage, split, merge) do not happen to ordinary contracts and never count.
    """
    data = description.begin_parse()
    if data.load_uint(4) != 0:
        return Phases(False)
    data.load_bool()  # credit_first
    _skip_storage_phase(data)
    _skip_credit_phase(data)
    computed, exit_code = _read_compute_phase(data)
    action = data.load_maybe_ref()
    aborted = data.load_bool()
    acted, action_code = (False, None) if action is None else _read_action_phase(action.begin_parse())
    return Phases(computed and acted and not aborted, exit_code, action_code)


def _skip_storage_phase(data: Slice) -> None:
    if data.load_bool():
        data.load_coins()
        if data.load_bool():
            data.load_coins()
        _skip_status_change(data)


def _skip_status_change(data: Slice) -> None:
    """0 unchanged, 10 frozen, 11 deleted."""
    if data.load_bool():
        data.load_bool()


def _skip_credit_phase(data: Slice) -> None:
    if data.load_bool():
        if data.load_bool():
            data.load_coins()
        data.load_coins()
        data.load_maybe_ref()  # other currencies


def _read_compute_phase(data: Slice) -> tuple[bool, int | None]:
    """Whether the virtual machine ran and ended well, and its exit code; the slice is then behind this phase."""
    if not data.load_bool():
        if data.load_uint(2) == 3:  # reason: 00, 01, 10, or 110
            data.load_bool()
        return False, None
    success = data.load_bool()
    data.load_uint(2)
    data.load_coins()
    return success, _read_exit_code(data.load_ref().begin_parse())


def _read_exit_code(details: Slice) -> int:
    """gas_used gas_limit:(VarUInteger 7) gas_credit:(Maybe (VarUInteger 3)) mode:int8 exit_code:int32 ..."""
    for _ in ("gas_used", "gas_limit"):
        details.load_uint(8 * details.load_uint(3))
    if details.load_bool():
        details.load_uint(8 * details.load_uint(2))
    details.load_uint(8)
    return details.load_int(32)


def _read_action_phase(data: Slice) -> tuple[bool, int]:
    """success valid no_funds:Bool status_change total_fwd_fees:(Maybe Grams) total_action_fees:(Maybe Grams) code"""
    success = data.load_bool()
    data.load_uint(2)
    _skip_status_change(data)
    for _ in ("total_fwd_fees", "total_action_fees"):
        if data.load_bool():
            data.load_coins()
    return success, data.load_int(32)
