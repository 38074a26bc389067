"""What can go wrong with quotes, purchases and policies; the tree they belong to is core/errors.py."""

from __future__ import annotations

from tonsurance.core.errors import DependencyError, InputError, TonsuranceError


class QuoteNeeded(InputError):
    """The vault follows its contract: the commit has to name the quote that is bought."""

    code = "quote_needed"

    def __init__(self) -> None:
        super().__init__(advice="Give quote_id: by it the policy is recognised on chain.")


class QuoteUsed(InputError):
    """A policy was bought by this quote already."""

    code = "quote_used"

    def __init__(self, quote_id: int) -> None:
        super().__init__(
            f"A policy was bought by quote {quote_id} already: there is nothing left to hold room for.",
            advice="Ask for a new quote.",
        )


class InvalidProduct(InputError):
    """There is no such cover on that chain."""

    code = "invalid_product"

    def __init__(self, coverage_type: str, chain: str, reason: str) -> None:
        self.reason = reason
        super().__init__(f"There is no {coverage_type} cover on {chain}: {reason}.")


class NotOnSale(InputError):
    """This product is not sold right now."""

    code = "not_on_sale"

    def __init__(self, product: str, reasons: tuple[str, ...]) -> None:
        self.reasons = reasons
        super().__init__(f"{product} is not sold right now: {'; '.join(reasons)}.")


class UnknownQuote(InputError):
    """There is no such quote, or it is not kept any more."""

    code = "unknown_quote"


class QuoteExpired(InputError):
    """The quote is not valid any more."""

    code = "quote_expired"


class UnknownPolicy(InputError):
    """There is no such policy."""

    code = "unknown_policy"


class RefusedNow(InputError):
    """The contract would refuse this right now."""

    code = "refused_now"


class UnknownTransaction(InputError):
    """No transaction of this hash is known."""

    code = "unknown_transaction"


class SignerUnavailable(DependencyError):
    """No quote can be signed right now."""

    code = "signer_unavailable"


class QuoteIdTaken(DependencyError):
    """A quote of this id is kept already: draw another one."""

    code = "quote_id_taken"


class SigningRefused(TonsuranceError):
    """The signer refuses to sign this quote: nothing can be bought until its operator has looked at it."""

    code = "signing_refused"
