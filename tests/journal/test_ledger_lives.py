"""A real ledger, journaled, through crashes, snapshots and damage: what comes back is what its committed events make, byte for byte.

USHER_LEDGER_SEEDS is how many courses are run; one course is one seed.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from broker._journal import SimulatedDisk, read_snapshot, snapshot_positions
from broker.model.words import Status
from tests.journal.ledger_lives import LedgerLives, dump_of
from tests.journal.material import BROKER_ID

SEEDS = int(os.environ.get("USHER_LEDGER_SEEDS", "24"))
LIVES_OF_COURSE = 5


def run_course(seed: int) -> LedgerLives:
    """Some lives, each ended by a loss of power at a random operation of the disk."""
    disk = SimulatedDisk(seed, writes_short=bool(seed % 2))
    lives = LedgerLives(disk, seed)
    for _ in range(LIVES_OF_COURSE):
        lives.begin()
        disk.power_off_after(lives.chance.randrange(30, 900))
        for _ in range(lives.chance.randrange(50, 400)):
            lives.act()
            try:
                lives.work()
            except OSError:
                assert disk.is_off
            if lives.store.failure or disk.is_off:
                break
            lives.told = lives.store.committed
        if lives.chance.random() < 0.3 and not disk.is_off:
            disk.mend()
            lives.store.stop()
            while lives.store.journal.step():
                pass
            lives.told = lives.store.committed
            assert lives.told == lives.position
        disk.crash()
    lives.begin()
    return lives


@pytest.mark.parametrize("part", range(4))
def test_what_comes_back_is_what_the_committed_events_make(part: int) -> None:
    snapshots = 0
    for seed in range(part, SEEDS, 4):
        lives = run_course(seed)
        snapshots += len(snapshot_positions(lives.place))
    assert snapshots


def test_one_seed_gives_one_disk() -> None:
    def files(seed: int) -> list[bytes]:
        disk = run_course(seed).place
        assert isinstance(disk, SimulatedDisk)
        return [disk.read(name) for name in disk.names()]

    assert files(5) == files(5)


def test_a_snapshot_says_the_same_as_the_log_that_it_replaces() -> None:
    lives = LedgerLives(SimulatedDisk(2), 2)
    lives.begin()
    for _ in range(3):
        for _ in range(250):
            lives.act()
            lives.store.journal.step()
        while lives.store.journal.step():
            pass
        assert lives.compactor.compact()
        again = lives.shadow()
        for events in read_snapshot(lives.place, broker_id=BROKER_ID):
            again.replay(events)
        assert dump_of(again) == dump_of(lives.expected(lives.store.committed))


def test_sessions_renew_over_clean_stops_with_a_committer_and_a_compactor_in_their_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.journal.compaction.CHECK_S", 0.01)
    lives = LedgerLives(tmp_path / "log", 4, snapshot_after_size=20_000)
    for _ in range(3):
        lives.begin()
        lives.store.start()
        lives.compactor.start()
        for _ in range(600):
            lives.act()
            lives.store.journal.wake()
        assert lives.compactor.compact()
        assert lives.compactor.stop()
        lives.ledger.end_run(lives.now_ns)
        lives.read()
        assert lives.store.stop()
        assert lives.store.committed == lives.position
        lives.store.close()
    lives.begin()
    alive = [session_id for session_id in lives.acknowledged if lives.ledger.renew(lives.now_ns, session_id).status is Status.RENEWED]
    assert len(alive) == len(lives.ledger.sessions(lives.now_ns)[0]) > 20
    assert len(snapshot_positions(tmp_path / "log")) == 2
    lives.store.close()
