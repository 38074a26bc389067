"""Why a transaction failed, in a name and a sentence: the contracts' own codes and the virtual machine's.

The contracts' codes are those of contracts/errors.fc; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import msgspec


class ExitCode(msgspec.Struct, frozen=True):
    """A code's name as programs may compare it, and what it means to the one who sent the message."""

    name: str
    sentence: str


def _table(rows: Mapping[int, tuple[str, str]]) -> Mapping[int, ExitCode]:
    return MappingProxyType({code: ExitCode(name, sentence) for code, (name, sentence) in rows.items()})


CONTRACT_CODES: Mapping[int, ExitCode] = _table(
    {
        0xFFFF: ("unknown_op", "The contract knows no such operation; a plain transfer is refused too."),
        100: ("paused", "The contract is paused: it takes no deposits or sells no policies for now."),
        101: ("not_admin", "Only the contract's admin may do this."),
        102: ("not_factory", "Only the vault's own factory may ask this."),
        103: ("not_vault", "Only the factory's own vault may answer."),
        104: ("low_value", "The message carried less TON than the operation needs."),
        105: ("too_many_policies", "The contract holds as many policies as it can."),
        110: ("bad_tranche", "There is no such tranche: they are numbered 1 to 6."),
        111: ("deposit_too_small", "The deposit is smaller than the vault takes."),
        112: ("no_shares_minted", "One share is worth more than the whole deposit."),
        113: ("price_too_low", "Losses left the tranche's shares worth so little that nobody may join it now."),
        114: ("too_many_holders", "The vault has as many shareholders as it can hold."),
        115: ("not_enough_shares", "The sender does not own that many shares of the tranche."),
        116: ("no_request", "No withdrawal was announced."),
        117: ("too_early", "The announced withdrawal may not be taken yet."),
        118: ("too_late", "The time to take the announced withdrawal is over; announce it again."),
        119: ("tranche_over_limit", "A tranche would back more cover than its capital allows."),
        120: ("vault_over_limit", "The vault would back more cover than its capital allows."),
        121: ("policy_too_large", "The policy is larger than the vault backs in one piece."),
        122: ("policies_alive", "This can be done only while no policy is in force."),
        123: ("frozen", "The vault is frozen: it pays nothing out for now."),
        124: ("freeze_too_long", "The vault cannot be frozen for so long."),
        125: ("claim_due", "A claim waits to be paid: until then nobody joins, leaves or buys."),
        126: ("no_claim", "No claim of this policy is held back."),
        127: ("claim_not_due", "The claim that is held back is not due yet."),
        128: ("bad_claim_amount", "The claim is zero or larger than the policy's cover."),
        130: ("bad_signature", "The quote's signature is not one of the factory's quote key."),
        131: ("wrong_tag", "The signed content is not a quote."),
        132: ("wrong_network", "The quote is for another network."),
        133: ("wrong_factory", "The quote is for another factory."),
        134: ("not_buyer", "The quote is for another buyer than the sender."),
        135: ("quote_expired", "The quote is not valid any more."),
        136: ("deadline_too_far", "The quote is valid for longer than the factory takes."),
        137: ("quote_used", "A policy was bought with this quote already."),
        138: ("too_many_quotes", "The factory remembers as many used quotes as it can; try again in some minutes."),
        139: ("bad_coverage_type", "The quote names a coverage type that does not exist."),
        140: ("bad_chain", "The quote names a chain that does not exist."),
        141: ("bad_stablecoin", "The quote names a stablecoin that does not exist."),
        142: ("invalid_product", "There is no such cover on that chain."),
        143: ("bad_duration", "The cover's duration is not one that is sold."),
        144: ("no_coverage", "The quote has no cover."),
        145: ("premium_too_low", "The premium is lower than the factory takes for such cover."),
        146: ("bad_trigger", "The quote's trigger or floor is not the one that is sold."),
        150: ("unknown_policy", "The factory knows no such policy: it never was, was refused, or is over."),
        151: ("wrong_state", "The policy is not in a state in which this can be done."),
        152: ("not_ended", "The cover, with its time to claim, is not over yet."),
        153: ("retry_too_early", "The vault was asked a short time ago; wait for its answer."),
        154: ("not_claims_role", "Only the claims role may do this."),
        155: ("cover_not_started", "The cover has not started yet."),
        156: ("bad_payout_amount", "The payout is zero or larger than the policy's cover."),
        160: ("not_operator", "Only the operator may do this."),
        161: ("bad_price", "The price cannot be used."),
        162: ("nothing_to_trade", "The float is within its threshold, or may not become smaller."),
    }
)
"""Thrown by our contracts; what they throw undoes everything, and the value goes back."""

MACHINE_CODES: Mapping[int, ExitCode] = _table(
    {
        0: ("ok", "The contract ran to its end."),
        1: ("ok", "The contract ran to its end."),
        2: ("stack_underflow", "The contract lacked a value it needed."),
        3: ("stack_overflow", "The contract held more values than it can."),
        4: ("integer_overflow", "A number became too large."),
        5: ("out_of_range", "A number was outside its range."),
        6: ("invalid_opcode", "The contract's code cannot be run."),
        7: ("type_check", "A value was of another type than needed."),
        8: ("cell_overflow", "More was written than a cell can hold."),
        9: ("cell_underflow", "The message is shorter than the operation needs."),
        10: ("dictionary_error", "A dictionary of the contract cannot be read."),
        13: ("out_of_gas", "The message carried too little TON for the contract to finish."),
        -14: ("out_of_gas", "The message carried too little TON for the contract to finish."),
    }
)
"""Of the compute phase, by the virtual machine itself."""

ACTION_CODES: Mapping[int, ExitCode] = _table(
    {
        0: ("ok", "What the contract wanted to send was sent."),
        32: ("invalid_action_list", "What the contract wanted to do cannot be read."),
        33: ("too_many_actions", "The contract wanted to do too much at once."),
        34: ("invalid_action", "Something the contract wanted to do is not possible."),
        35: ("bad_source", "A message named another sender."),
        36: ("bad_destination", "A message was for an address that cannot be."),
        37: ("not_enough_ton", "The message carried too little TON for what had to be sent on."),
        38: ("not_enough_currency", "There was too little of another currency."),
        40: ("message_too_costly", "The message carried too little TON for what had to be sent on."),
        43: ("state_too_large", "The contract would have become too large."),
    }
)
"""Of the action phase, after the contract itself ran well."""

NOT_RUN = ExitCode("not_run", "The contract did not run: the message carried too little TON, or nobody is there.")


def explain_failure(exit_code: int | None, action_code: int | None) -> ExitCode:
    """Why a failed transaction failed: by the compute phase, else by the action phase."""
    if exit_code is None:
        return NOT_RUN
    if exit_code not in (0, 1):
        return explain_exit(exit_code)
    unknown = ExitCode("unknown_action_code", f"What the contract wanted to do ended with code {action_code}.")
    return ACTION_CODES.get(-1 if action_code is None else action_code, unknown)


def explain_exit(exit_code: int) -> ExitCode:
    """What an exit code of the compute phase means."""
    found = CONTRACT_CODES.get(exit_code) or MACHINE_CODES.get(exit_code)
    return found or ExitCode(
        "unknown_exit_code", f"The contract ended with code {exit_code}, which it does not explain."
    )
