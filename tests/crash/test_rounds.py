"""Kill -9 at every named place and at any instant: nothing acknowledged is lost, given twice, undone or stranded; and an error planted is seen.

USHER_CRASH_ROUNDS is how many rounds (11; `.ci/run` sets 200, `make soak` has 1,000), USHER_CRASH_SEED their seed.
"""

import os
import secrets
from pathlib import Path

import pytest

from tests.crash.__main__ import run
from tests.crash.rounds import ENDS, Campaign
from tests.support.data_planes import NEEDS_NATIVE

ROUNDS = int(os.environ.get("USHER_CRASH_ROUNDS", "11"))
SEED = int(os.environ.get("USHER_CRASH_SEED", "0")) or secrets.randbits(31)
ROUNDS_OF_ALL_ENDS = 100
"""In so many each place is reached at least once."""
PLANTED_ROUNDS_MAX = 4
SLOW_SYNC_MS = 40


def test_no_acknowledged_grant_is_lost_doubled_undone_or_stranded_by_kill_9(capsys: pytest.CaptureFixture[str]) -> None:
    report = run(ROUNDS, float("inf"), SEED)
    with capsys.disabled():
        print(f"\n{report.text()}")
    assert not report.faults, f"python -m tests.crash --rounds {ROUNDS} --seed {SEED}\n{report.text()}"
    # A machine so slow that nothing could be judged would prove nothing.
    assert report.figures["opened"] >= ROUNDS
    assert report.figures["rounds_judged"] >= ROUNDS // 2
    assert report.ends.total() == ROUNDS
    assert report.ends["not_reached"] <= ROUNDS // 2
    assert report.ends.keys() >= ({end.name.removesuffix("_again") for end in ENDS} if ROUNDS >= ROUNDS_OF_ALL_ENDS else {"any_instant"})


@NEEDS_NATIVE
def test_auditor_sees_a_broker_that_answers_before_its_log_has_it(tmp_path: Path) -> None:
    campaign = Campaign(tmp_path, seed=SEED, sync_delay_ms=SLOW_SYNC_MS, answers_early=True)
    for _ in range(PLANTED_ROUNDS_MAX):
        campaign.round()
        if campaign.auditor.faults:
            break
    assert {fault.kind for fault in campaign.auditor.faults} & {"lost", "revived", "duplicate"}


def test_slow_syncs_lose_nothing_when_answers_wait_for_them(tmp_path: Path) -> None:
    campaign = Campaign(tmp_path, seed=SEED, sync_delay_ms=SLOW_SYNC_MS)
    for _ in range(PLANTED_ROUNDS_MAX):
        campaign.round()
    assert campaign.auditor.faults == []
    assert campaign.auditor.figures["opened"] > 0
