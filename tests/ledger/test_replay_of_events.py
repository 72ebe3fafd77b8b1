"""A log gives the ledger back: whole, by way of snapshots, cut at any event, and damaged at any byte."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from tests.ledger.episodes import KINDS
from tests.ledger.histories import History, history_of
from tests.ledger.sides import command_end, dump_of
from tests.ledger.state_audit import audit_state

ROOT = Path(__file__).resolve().parents[2]
OPERATION_COUNT = 700
CUT_COUNT = 40
SIZE_MAX_LEAST = 16_384


@pytest.fixture(scope="module", params=[*KINDS])
def history(request: pytest.FixtureRequest) -> History:
    return history_of(f"history/{request.param}", request.param, OPERATION_COUNT)


def event_ends(events: bytes) -> list[int]:
    ends, at = [], 0
    while at < len(events):
        at += int.from_bytes(events[at : at + 4], "little")
        ends.append(at)
    return ends


def test_the_replayed_ledger_has_the_state_of_the_one_that_wrote_the_log(history: History) -> None:
    dump = dump_of(history.ledger)
    audit_state(dump)
    assert dump_of(history.replayed(history.events)) == dump


def test_a_dump_replayed_gives_the_same_dump_whatever_the_size_of_its_parts(history: History) -> None:
    dump = dump_of(history.ledger, SIZE_MAX_LEAST)
    assert dump_of(history.replayed(dump)) == dump
    assert dump_of(history.replayed(dump), SIZE_MAX_LEAST) == dump


def test_a_snapshot_in_the_middle_and_the_rest_of_the_log_are_as_good_as_the_whole_log(history: History) -> None:
    rng = Random("middle")
    for _ in range(8):
        cut = command_end(history.events, rng.randrange(len(history.events)))
        snapshot = dump_of(history.replayed(history.events[:cut]))
        audit_state(snapshot)
        assert dump_of(history.replayed(snapshot, history.events[cut:])) == dump_of(history.ledger)


def test_events_given_one_by_one_are_as_good_as_all_at_once(history: History) -> None:
    ends = event_ends(history.events)
    pieces = [history.events[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    assert dump_of(history.replayed(*pieces)) == dump_of(history.ledger)


def test_a_log_cut_at_any_event_gives_whole_commands_and_nothing_of_the_last_half_one(history: History) -> None:
    ends = event_ends(history.events)
    for cut in Random("cut").sample(ends, min(CUT_COUNT, len(ends))):
        half = history.replayed(history.events[:cut])
        whole = history.replayed(history.events[: command_end(history.events, cut)])
        recovered = half.resume(1, 2**60)
        assert recovered == whole.resume(1, 2**60)
        state = audit_state(dump_of(half))
        assert state.live_fences == audit_state(dump_of(whole)).live_fences
        assert {pool.pool: pool.in_use for pool in half.pools() if pool.in_use} == state.seats_in_use


def test_a_run_behind_half_a_command_is_replayed_without_it(history: History) -> None:
    ends = event_ends(history.events)
    halves = [end for end in ends if command_end(history.events, end) != end]
    if not halves:
        pytest.skip("all commands of this kind are of one event")
    cut = Random("half").choice(halves)
    second = history.replayed(history.events[:cut], generation=1_001)
    second.resume(5, 2**60)
    later = second.read_events(0)[0]
    third = history.replayed(history.events[:cut], later, generation=1_002)
    assert dump_of(third) == dump_of(second)


@pytest.mark.parametrize("kind", ["everyday", "keys", "wide"])
def test_a_damaged_log_or_snapshot_is_refused_or_gives_a_ledger_that_is_in_order(kind: str) -> None:
    """In a process of its own: an assert of the compiled ledger would end it."""
    command = [sys.executable, "-m", "tests.ledger.hostile", "--kind", kind, "--count", "700"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    print(run.stdout[-4_000:], run.stderr[-4_000:])
    assert run.returncode == 0
