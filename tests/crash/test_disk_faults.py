"""Disks that fail under load, by injection and on a real small file system: the broker ends at once, or serves renew-only, and nothing acknowledged is lost."""

import contextlib
import errno
import json
import os
import subprocess
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from broker.exit_codes import ExitCode
from broker.v1 import sessions_pb2, sessions_pb2_grpc
from tests.crash.auditor import Login
from tests.crash.clients import CALL_S, open_request
from tests.crash.faulty_disk import COMPILER, DiskFault
from tests.crash.rounds import STEPS_WAITING_FOR_SNAPSHOT, Campaign, End, line_to
from tests.support.broker_process import RunningBroker

NEEDS_COMPILER = pytest.mark.skipif(COMPILER is None, reason="no C compiler here: disks cannot be made to fail by injection")
DISK_SIZE = 2 << 20
CALLS_MAX = 30
BALLAST_SIZE = 1 << 18
ANY_INSTANT = End("any_instant")
FULL = End("full_disk", steps_max=STEPS_WAITING_FOR_SNAPSHOT, status=ExitCode.JOURNAL_FAILED, is_awaited=True)
FAULTS = {
    "sync_fails_and_pages_are_gone": DiskFault("sync", "drop"),
    "sync_finds_no_room": DiskFault("sync", str(errno.ENOSPC)),
    "write_fails_halfway": DiskFault("write", str(errno.EIO)),
    "write_finds_no_room": DiskFault("write", str(errno.ENOSPC)),
    "write_is_over_quota": DiskFault("write", str(errno.EDQUOT)),
}


def last_words(campaign: Campaign) -> list[dict[str, str]]:
    """What brokers logged as critical."""
    lines = (campaign.directory / "broker.log").read_text(errors="replace").splitlines()
    return [json.loads(line) for line in lines if '"critical"' in line]


# --- by injection --------------------------------------------------------------------------------------------------


@NEEDS_COMPILER
def test_disk_that_fails_under_load_ends_the_broker_and_loses_nothing_acknowledged(tmp_path: Path) -> None:
    campaign = Campaign(tmp_path, seed=1)
    campaign.round(ANY_INSTANT)
    for name, fault in FAULTS.items():
        # Beyond the first calls, which are the start's own: there the broker serves renew-only instead.
        campaign.round(End(name, count_max=CALLS_MAX, count_min=12, fault=fault, status=ExitCode.JOURNAL_FAILED))
    campaign.round(ANY_INSTANT)
    assert campaign.ends == {"any_instant": 2} | dict.fromkeys(FAULTS, 1)
    assert [words["message"].partition(":")[0] for words in last_words(campaign)] == ["the disk refused the log"] * len(FAULTS)
    assert campaign.auditor.faults == []
    assert campaign.auditor.figures["rounds_judged"] >= len(FAULTS)


@NEEDS_COMPILER
def test_cut_of_power_at_a_sync_loses_nothing_that_was_answered(tmp_path: Path) -> None:
    campaign = Campaign(tmp_path, seed=3)
    for _ in range(3):
        campaign.round(End("power_cut", count_max=CALLS_MAX, fault=DiskFault("sync", "power")))
    campaign.round(ANY_INSTANT)
    assert campaign.ends["power_cut"] == 3
    assert campaign.auditor.faults == []


@NEEDS_COMPILER
def test_auditor_sees_a_disk_that_lies_about_its_syncs(tmp_path: Path) -> None:
    campaign = Campaign(tmp_path, seed=3)
    campaign.round(End("lie", count_max=CALLS_MAX, count_min=CALLS_MAX, fault=DiskFault("sync", "lie")))
    campaign.round(ANY_INSTANT)
    assert campaign.auditor.faults


# --- on a real small file system ---------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, with room for a few files of the log."""
    place = tmp_path / "small"
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_SIZE}", "none", place], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no small file system can be mounted here: {done.stderr.strip()}; tests/app/test_full_disk.py has the limit of a file's size")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


def campaign_on(disk: Path, directory: Path, ballast_size: int = 0) -> Campaign:
    """Its log on the small disk; without snapshots, which would make room again."""
    journal = {"folder": str(disk / "journal"), "ballast_size": ballast_size, "snapshot_after_size": 1 << 30}
    return Campaign(directory, seed=11, journal=journal)


def filler_of(disk: Path) -> Callable[[RunningBroker], None]:
    """Somebody else who takes all room, and whatever becomes free again, until the broker is gone."""

    def fill(broker: RunningBroker) -> None:
        pause = threading.Event()
        while broker.process.poll() is None:
            fill_up(disk)
            pause.wait(0.01)

    return fill


def fill_up(disk: Path) -> None:
    """Takes all the room that there is now."""
    with (disk / "filler").open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass


def judge_renew_only(campaign: Campaign) -> None:
    """Whoever is in stays in, nobody else gets in, and it is said."""
    with campaign.serving() as broker, line_to(broker, campaign.auditor) as line, grpc.insecure_channel(broker.clients) as channel:
        for holder in campaign.holders:
            holder.renew_all(line)
        stub = sessions_pb2_grpc.SessionsStub(channel)
        with pytest.raises(grpc.RpcError) as refused:
            stub.Open(open_request(Login("new", os.urandom(16), ("platform",))), timeout=CALL_S)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "RENEW_ONLY" in str(refused.value.trailing_metadata())
        for login in campaign.auditor.live():
            stub.Renew(sessions_pb2.RenewRequest(session_id=login.session_id), timeout=CALL_S)
        with urllib.request.urlopen(f"{broker.url}/healthz", timeout=CALL_S) as answer:
            assert json.load(answer)["status"] == "renew_only"


def test_disk_that_is_full_for_real_ends_the_broker_then_serves_renew_only_then_all(small_disk: Path, tmp_path: Path) -> None:
    campaign = campaign_on(small_disk, tmp_path / "house")
    campaign.round(ANY_INSTANT)
    campaign.round(FULL, filler_of(small_disk))
    assert campaign.ends == {"any_instant": 1, "full_disk": 1}
    assert last_words(campaign)[-1]["cause"] == os.strerror(errno.ENOSPC)
    judge_renew_only(campaign)
    (small_disk / "filler").unlink()
    campaign.round(ANY_INSTANT)
    campaign.round(ANY_INSTANT)
    assert campaign.auditor.faults == []
    assert campaign.auditor.figures["rounds_judged"] == 4


def test_start_on_a_full_disk_lives_on_the_ballast(small_disk: Path, tmp_path: Path) -> None:
    campaign = campaign_on(small_disk, tmp_path / "house", BALLAST_SIZE)
    campaign.round(ANY_INSTANT)
    (small_disk / "journal" / "spare").unlink(missing_ok=True)
    fill_up(small_disk)
    campaign.round(ANY_INSTANT)
    assert not (small_disk / "journal" / "ballast").exists()
    assert campaign.auditor.faults == []
    assert campaign.auditor.figures["rounds_judged"] == 2


def test_disk_that_became_read_only_serves_renew_only_and_then_all(small_disk: Path, tmp_path: Path) -> None:
    campaign = campaign_on(small_disk, tmp_path / "house")
    campaign.round(ANY_INSTANT)
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    judge_renew_only(campaign)
    subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)
    campaign.round(ANY_INSTANT)
    assert campaign.auditor.faults == []
    assert campaign.auditor.figures["rounds_judged"] == 2
