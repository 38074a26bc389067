"""Every error this system raises on purpose.

    TonsuranceError
      InputError                what the caller gave cannot be used; nothing was changed
        BadField  UnknownTranche  UnknownVault  InvalidUtilization  InvalidAddress  WrongNetwork  UsageError
        BeforeHistory  InTheFuture  TooManyPoints  IdempotencyConflict  VaultFollowsChain  NotInitialized
        CapacityExceeded  UnknownReservation  ReservationEnded  TooManyReservations
        those of core/sale_errors.py: of quotes, policies and who signs
      DependencyError           something outside cannot be reached or answers wrongly; try again
        ChainUnavailable (RateLimited)  DatabaseUnavailable (DatabaseDenied)  PostgresNotFound  NotReady  StaleFigures
        PriceUnavailable
      ChainDataError            the chain's answer contradicts itself or ours
        HashMismatch  BrokenLink  HeadWentBack  SourcesDisagree  NotOurContract  GetMethodFailed  DecodeError
      LedgerError               the ledger refuses; the transaction was rolled back
        LedgerRefused  CursorConflict  WriterFenced
      MigrationError

Each class has a stable `code` (the API and the logs show it) and its first docstring line is the default message.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tonsurance.core.capacity import Capacity


class TonsuranceError(Exception):
    """Something went wrong."""

    code = "error"

    def __init__(self, message: str | None = None, *, advice: str | None = None) -> None:
        self.message = message or (type(self).__doc__ or "").split("\n")[0]
        self.advice = advice
        super().__init__(self.message if advice is None else f"{self.message} {advice}")


class InputError(TonsuranceError):
    """The input cannot be used."""

    code = "bad_input"


class BadField(InputError):
    """A field of the input cannot be used."""

    def __init__(self, field: str, message: str) -> None:
        self.field = field
        super().__init__(message)


class UnknownTranche(InputError):
    """There is no such tranche."""

    code = "unknown_tranche"

    def __init__(self, given: str, valid: tuple[str, ...]) -> None:
        self.given = given
        self.valid = valid
        super().__init__(f"Unknown tranche: {given[:64]}", advice=f"Valid ids: {', '.join(valid)}.")


class UnknownVault(InputError):
    """There is no such vault."""

    code = "unknown_vault"


class InvalidUtilization(InputError):
    """Utilisation must be a number from 0 to 1."""

    code = "invalid_utilization"


class InvalidAddress(InputError):
    """This is not a TON address."""

    code = "invalid_address"


class WrongNetwork(InputError):
    """The address belongs to another network."""

    code = "wrong_network"


class BeforeHistory(InputError):
    """The ledger holds nothing from that time: it is before the first event."""

    code = "before_history"


class InTheFuture(InputError):
    """The ledger does not reach that far yet."""

    code = "in_the_future"


class TooManyPoints(InputError):
    """So many points are not given at once."""

    code = "too_many_points"

    def __init__(self, most: int, coarser: str | None) -> None:
        self.coarser = coarser
        ask = f"Ask for resolution={coarser}, or for a shorter time." if coarser else "Ask for a shorter time."
        super().__init__(f"At most {most:,} points are given at once. {ask}")


class IdempotencyConflict(InputError):
    """This key was used before for another request."""

    code = "idempotency_conflict"


class VaultFollowsChain(InputError):
    """The vault follows its contract: its amounts move by events of the chain only."""

    code = "vault_follows_chain"

    def __init__(self, vault_id: str) -> None:
        super().__init__(
            f"Vault {vault_id} follows its contract: its amounts move by events of the chain only.",
            advice="Hold room for a purchase with reserve_coverage, and commit it when the policy was bought.",
        )


class NotInitialized(InputError):
    """The utilisation tracker is not initialised."""

    code = "not_initialized"

    def __init__(self) -> None:
        super().__init__(advice="Call `await tracker.init(database_config=...)` first, or use `async with`.")


class CapacityExceeded(InputError):
    """There is no room for this much cover."""

    code = "capacity_exceeded"

    def __init__(self, asked_nano: int, capacity: Capacity) -> None:
        self.capacity = capacity
        """All limits with the room they leave, and the one that binds."""
        where = f" of {capacity.binding_tranche}" if capacity.binding_tranche else ""
        super().__init__(
            f"{asked_nano} nanoTON of cover do not fit: {capacity.binding_limit}{where} leaves "
            f"{capacity.available_nano} nanoTON.",
            advice="Ask for less, or again later: the same key may be used.",
        )


class UnknownReservation(InputError):
    """There is no such reservation."""

    code = "unknown_reservation"


class ReservationEnded(InputError):
    """The reservation has ended."""

    code = "reservation_ended"

    def __init__(self, status: str) -> None:
        self.status = status
        super().__init__(f"The reservation is {status}.", advice="Reserve again under a new key.")


class TooManyReservations(InputError):
    """Too many reservations are open."""

    code = "too_many_reservations"


class TooManyStreams(InputError):
    """One more open stream than one address may have, or all together."""

    code = "too_many_connections"


class UsageError(InputError):
    """The command was called wrongly."""

    code = "usage"


class DependencyError(TonsuranceError):
    """Something this process depends on cannot be reached."""

    code = "dependency"


class ChainUnavailable(DependencyError):
    """The TON API cannot be reached or did not answer usefully."""

    code = "chain_unavailable"

    def __init__(
        self, message: str | None = None, *, advice: str | None = None, retry_after_s: float | None = None
    ) -> None:
        self.retry_after_s = retry_after_s
        """Seconds after which asking again makes sense, when that is known."""
        super().__init__(message, advice=advice)


class RateLimited(ChainUnavailable):
    """The TON API refuses more requests for now."""

    code = "rate_limited"


class DatabaseUnavailable(DependencyError):
    """The database cannot be reached."""

    code = "database_unavailable"


class DatabaseDenied(DatabaseUnavailable):
    """The database's login or role may not do this."""

    code = "database_denied"


class PostgresNotFound(DependencyError):
    """No PostgreSQL was found to start and DATABASE_URL is not set."""

    code = "postgres_not_found"


class NotReady(DependencyError):
    """There is no data to answer from yet."""

    code = "not_ready"


class PriceUnavailable(DependencyError):
    """A price cannot be had now, or what the source says is none."""

    code = "price_unavailable"


class StaleFigures(DependencyError):
    """The ledger could not be read for too long: there are no current figures."""

    code = "stale_figures"


class ChainDataError(TonsuranceError):
    """The chain's answer contradicts itself."""

    code = "chain_data"


class HashMismatch(ChainDataError):
    """The bytes received do not have the hash they were announced with."""

    code = "hash_mismatch"


class BrokenLink(ChainDataError):
    """A transaction is missing between two that the API returned."""

    code = "broken_link"


class HeadWentBack(ChainDataError):
    """The API reports an older head than it did before."""

    code = "head_went_back"


class SourcesDisagree(ChainDataError):
    """Two sources tell different histories of one account."""

    code = "sources_disagree"

    def __init__(self, message: str, *, lt: int) -> None:
        self.lt = lt
        """Logical time of the first transaction they differ in."""
        super().__init__(message)


class NotOurContract(ChainDataError):
    """The account does not hold the contract it should."""

    code = "not_our_contract"


class GetMethodFailed(ChainDataError):
    """A get-method ended with an error."""

    code = "get_method_failed"


class DecodeError(ChainDataError):
    """These bytes are not what the layout says."""

    code = "decode_error"


class LedgerError(TonsuranceError):
    """The ledger refused a change."""

    code = "ledger"


class LedgerRefused(LedgerError):
    """A chain event would take an amount of the ledger out of its bounds."""

    code = "ledger_refused"


class CursorConflict(LedgerError):
    """The stored cursor is not the one this batch starts from."""

    code = "cursor_conflict"


class WriterFenced(LedgerError):
    """Another process writes this ledger now."""

    code = "writer_fenced"


class MigrationError(TonsuranceError):
    """The database schema cannot be brought to this version."""

    code = "migration"
