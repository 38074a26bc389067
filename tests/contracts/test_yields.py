"""The funded APY made from events alone is the one the vault itself would tell."""

from __future__ import annotations

import random

import pytest

from contracts.vault_run import TON, VaultRun
from contracts.world import ALICE
from tonsurance.chain.deployment import DAY_S
from tonsurance.core.catalog import TRANCHE_IDS
from tonsurance.core.events import PremiumsDistributed
from tonsurance.core.ledger import Totals, entries_of, post
from tonsurance.core.yields import YEAR_S, StreamEnd, extend_stream, funded_apy


class Folded:
    """What the ledger knows: totals, and the streams from premiums and the lives of their covers."""

    def __init__(self) -> None:
        self.totals = dict.fromkeys(TRANCHE_IDS, Totals())
        self.streams: dict[str, StreamEnd] = {}
        self.premiums = 0

    def take(self, step, now: int, lives: dict[int, int]) -> None:  # type: ignore[no-untyped-def]
        for event in step.events:
            for entry in entries_of(event):
                self.totals[entry.tranche_id] = post(self.totals[entry.tranche_id], entry)
                if isinstance(event, PremiumsDistributed):
                    unearned = self.totals[entry.tranche_id].unearned
                    last = self.streams.get(entry.tranche_id)
                    life = lives[event.policy_id]
                    self.streams[entry.tranche_id] = extend_stream(last, unearned, entry.unearned, life, now)
                    self.premiums += 1


def test_the_funded_apy_from_events_is_the_rate_of_the_vaults_getter() -> None:
    run, folded, dice = VaultRun(), Folded(), random.Random(58)
    lives: dict[int, int] = {}
    for tranche in range(1, 7):
        folded.take(run.deposit(ALICE, tranche, 3_000 * TON), run.world.now, lives)
    compared = 0
    for number in range(1, 31):
        run.pass_time(dice.randrange(9 * DAY_S))
        if dice.random() < 0.6:
            lives[number] = dice.randint(1, 60) * DAY_S
            step = run.back(number, dice.randint(1, 200) * TON, dice.randint(1, 20 * TON), lives[number])
        elif dice.random() < 0.5 and run.mirror.policies:
            step = run.release(min(run.mirror.policies))
        else:
            step = run.deposit(ALICE, dice.randint(1, 6), 5 * TON)
        folded.take(step, run.world.now, lives)
        for tranche_id in TRANCHE_IDS:
            place = TRANCHE_IDS.index(tranche_id) + 1
            _, capital, _, unearned, end, last, _ = run.world.get(run.vault, "get_tranche_state", place)
            totals, stream = folded.totals[tranche_id], folded.streams.get(tranche_id)
            assert (totals.capital, totals.unearned) == (capital, unearned)
            if not unearned or run.world.now >= end:
                assert funded_apy(capital, unearned, stream, run.world.now) == 0.0
                continue
            assert stream is not None
            assert stream.end == end
            told = 100 * unearned / (end - last) * YEAR_S / capital
            rounding = 100 * number / (end - last) * YEAR_S / capital  # a nano for each time it was earned
            assert funded_apy(capital, unearned, stream, run.world.now) == pytest.approx(told, abs=rounding)
            compared += 1
    assert compared > 60
