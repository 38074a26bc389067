"""The vault without rounding: the same rules in exact fractions, to measure what rounding gives or takes."""

from __future__ import annotations

from fractions import Fraction

from tonsurance.core.waterfall import LOCKED_SHARES

NOBODY = ""


class IdealTranche:
    """Capital and unearned premium as fractions; who has which part of the shares. NOBODY may hold some."""

    def __init__(self) -> None:
        self.capital = self.unearned = Fraction(0)
        self.end = self.last = Fraction(0)
        self.shares: dict[str, Fraction] = {}

    @property
    def all_shares(self) -> Fraction:
        return sum(self.shares.values(), Fraction(0))

    def accrue(self, now: int) -> None:
        """Earn up to now."""
        if now <= self.last:
            return
        part = Fraction(1) if now >= self.end else (now - self.last) / (self.end - self.last)
        earned = self.unearned * part
        self.capital, self.unearned, self.last = self.capital + earned, self.unearned - earned, Fraction(now)

    def join(self, owner: str, amount: int) -> None:
        """A deposit at the exact price; the first of an epoch is 1:1 and leaves the rest with nobody."""
        if self.shares:
            minted = amount * self.all_shares / self.capital
        else:
            minted = Fraction(amount - LOCKED_SHARES)
            self.shares[NOBODY] = LOCKED_SHARES + self.capital
        self.shares[owner] = self.shares.get(owner, Fraction(0)) + minted
        self.capital += amount

    def leave(self, owner: str, part: Fraction) -> Fraction:
        """An owner takes this part of what he has."""
        burned = self.shares[owner] * part
        paid = burned * self.capital / self.all_shares
        self.shares[owner] -= burned
        self.capital -= paid
        return paid

    def add(self, premium: int, end: int, now: int) -> None:
        """A premium joins the stream. That it ends at a whole second is part of the rule, so the end is given."""
        if premium:
            self.unearned, self.end, self.last = self.unearned + premium, Fraction(end), Fraction(now)

    def start_epoch(self) -> None:
        """All shares are void; what is left or still to be earned is nobody's."""
        self.capital, self.unearned, self.shares = self.capital + self.unearned, Fraction(0), {}

    def worth(self, owner: str) -> Fraction:
        """What an owner's shares are worth."""
        held = self.shares.get(owner)
        return held * self.capital / self.all_shares if held else Fraction(0)


class IdealVault:
    """Six of them, and the wallets of everybody."""

    def __init__(self) -> None:
        self.tranches = [IdealTranche() for _ in range(6)]
        self.wallets: dict[str, Fraction] = {}

    def pay(self, owner: str, amount: Fraction | int) -> None:
        """Into (or out of) somebody's wallet."""
        self.wallets[owner] = self.wallets.get(owner, Fraction(0)) + amount

    def lose(self, amount: int) -> Fraction:
        """The waterfall, most junior first. Returns what is paid."""
        left = Fraction(amount)
        for tranche in reversed(self.tranches):
            loss = min(left, tranche.capital)
            tranche.capital -= loss
            left -= loss
        return amount - left

    def value(self, owner: str) -> Fraction:
        """Wallet and holdings."""
        return self.wallets.get(owner, Fraction(0)) + sum(tranche.worth(owner) for tranche in self.tranches)
