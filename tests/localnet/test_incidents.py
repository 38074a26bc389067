"""Incidents follow from the seed and the block alone, and are as far apart as they should be."""

from __future__ import annotations

from itertools import pairwise

import pytest

from tonsurance.localnet.incidents import QUIET_AFTER, QUIET_BEFORE, SLOT_BLOCKS, Incident, Policy, incident_of

SLOTS = 400


def incidents(seed: int = 1) -> list[Incident]:
    return [incident_of(seed, slot * SLOT_BLOCKS) for slot in range(SLOTS)]


def policy(policy_id: int = 1, **changes: int) -> Policy:
    fields = {"coverage_type": 1, "chain_id": 2, "stablecoin_id": 3, "coverage": 800, "start": 0, "end": 1}
    return Policy(policy_id=policy_id, **(fields | changes))


def test_the_same_seed_and_block_are_the_same_incident() -> None:
    assert incidents() == incidents()
    assert incidents(1) != incidents(2)
    assert {incident_of(1, 450 + block) for block in range(SLOT_BLOCKS)} == {incident_of(1, 450)}


def test_incidents_are_150_to_300_blocks_apart() -> None:
    gaps = [after.begins - before.begins for before, after in pairwise(incidents())]

    assert 150 <= min(gaps) < 170
    assert 280 < max(gaps) <= 300


def test_an_incident_and_the_quiet_around_it_lie_within_its_slot() -> None:
    for incident in incidents():
        first, last = incident.begins - QUIET_BEFORE, incident.begins + incident.blocks + QUIET_AFTER - 1
        assert {first // SLOT_BLOCKS, last // SLOT_BLOCKS} == {incident.number}
        assert incident.is_near(first)
        assert incident.is_near(last)
        assert not incident.is_near(first - 1)
        assert not incident.is_near(last + 1)
        assert not incident.is_on(incident.begins - 1)
        assert incident.is_on(incident.begins)


def test_the_market_stands_still_less_than_a_fifth_of_the_time() -> None:
    near = sum(incident.blocks + QUIET_BEFORE + QUIET_AFTER for incident in incidents())

    assert near / (SLOTS * SLOT_BLOCKS) < 0.2


def test_one_in_eight_is_big_and_some_bring_a_freeze() -> None:
    big = [incident for incident in incidents() if incident.per_mille < 1000]

    assert len(big) == SLOTS // 8
    assert {incident.eighths for incident in incidents()} == {1, 2, 3, 4, 5, 7}
    assert 0.1 < sum(incident.freezes for incident in incidents()) / SLOTS < 0.3


@pytest.mark.parametrize("field", ["coverage_type", "chain_id", "stablecoin_id"])
def test_an_incident_hits_what_it_names(field: str) -> None:
    incident = Incident(number=1, begins=0, blocks=1, eighths=8, **{field: 5})

    assert incident.hits(policy(**{field: 5}))
    assert not incident.hits(policy(**{field: 4}))


def test_of_many_policies_a_big_incident_hits_its_share() -> None:
    incident = Incident(number=1, begins=0, blocks=1, eighths=7, per_mille=280)

    hit = [number for number in range(2_000) if incident.hits(policy(number))]

    assert 0.25 < len(hit) / 2_000 < 0.31
    assert hit == [number for number in range(2_000) if incident.hits(policy(number))]


def test_it_pays_eighths_of_the_cover_and_never_nothing() -> None:
    assert Incident(number=1, begins=0, blocks=1, eighths=3).payout(policy(coverage=800)) == 300
    assert Incident(number=1, begins=0, blocks=1, eighths=8).payout(policy(coverage=801)) == 801
    assert Incident(number=1, begins=0, blocks=1, eighths=1).payout(policy(coverage=3)) == 1
