"""What a restart keeps, on the real process: stopped in order, killed, with another durability, with a log that was put back."""

import json
import os
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from broker.client.admin import AdminClient
from broker.exit_codes import ExitCode
from broker.v1 import admin_pb2, sessions_pb2, sessions_pb2_grpc, types_pb2
from tests.support.broker_process import RunningBroker, process_environment, running_broker, serve_command
from tests.support.data_planes import DATA_PLANES
from tests.support.usher_command import usher
from tests.support.waiting import until

ONE_KEY = [{"name": "alpha", "seats": {"platform": 5}}]
CALL_S = 20.0


class House:
    """One data directory and the brokers that serve it, one after the other, at one address."""

    def __init__(self, directory: Path, **sections: dict[str, Any]) -> None:
        self.directory = directory
        self.settings: dict[str, dict[str, Any]] = sections
        self.keys = ONE_KEY

    @contextmanager
    def broker(self, *arguments: str) -> Iterator[RunningBroker]:
        with running_broker(
            self.directory, settings=self.settings, emulated_keys=self.keys, arguments=arguments
        ) as one:
            self.settings.setdefault("clients", {})["address"] = one.clients
            yield one

    @property
    def log(self) -> Path:
        return self.directory / "data" / "journal"


@contextmanager
def sessions_of(broker: RunningBroker) -> Iterator[sessions_pb2_grpc.SessionsStub]:
    with grpc.insecure_channel(broker.clients, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        yield sessions_pb2_grpc.SessionsStub(channel)


def login(user: str, request_id: bytes, instance_id: str = "") -> sessions_pb2.OpenRequest:
    return sessions_pb2.OpenRequest(
        request_id=request_id,
        holder=types_pb2.Holder(user=user, host="desk", app="test/1"),
        products=[types_pb2.ProductRequest(product="platform")],
        instance_id=instance_id,
    )


def opened(broker: RunningBroker, user: str, request_id: bytes = b"", instance_id: str = "") -> types_pb2.Grant:
    with sessions_of(broker) as stub:
        answer = stub.Open(login(user, request_id or os.urandom(16), instance_id), timeout=CALL_S)
    assert answer.WhichOneof("result") == "grant", answer
    return answer.grant


def renewed(broker: RunningBroker, session_id: bytes) -> bool:
    with sessions_of(broker) as stub:
        try:
            stub.Renew(sessions_pb2.RenewRequest(session_id=session_id), timeout=CALL_S)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                return False
            raise
    return True


def journal_of(broker: RunningBroker) -> admin_pb2.Journal:
    return broker.admin_stub().GetBroker(admin_pb2.GetBrokerRequest(), metadata=broker.admin_metadata).journal


# --- what comes back -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("data_plane", DATA_PLANES)
@pytest.mark.parametrize("is_killed", [False, True], ids=["stopped", "killed"])
def test_sessions_come_back_with_their_seats(tmp_path: Path, data_plane: str, is_killed: bool) -> None:
    house = House(tmp_path, clients={"data_plane": data_plane})
    with house.broker() as first:
        granted = [opened(first, f"user-{number}").session_id for number in range(3)]
        _ = first.kill() if is_killed else first.stop()
    with house.broker() as second:
        assert second.products()["platform"].in_use == 3
        assert all(renewed(second, session_id) for session_id in granted)
        facts = journal_of(second)
        assert (facts.status, facts.recovered_sessions, facts.last_run_clean) == ("fine", 3, not is_killed)
        assert [one.holder.user for one in second.sessions()] == ["user-0", "user-1", "user-2"]


def test_request_whose_answer_was_lost_gets_the_session_that_it_had_opened(tmp_path: Path) -> None:
    house, request_id = House(tmp_path), os.urandom(16)
    with house.broker() as first:
        session_id = opened(first, "anna", request_id).session_id
        first.kill()
    with house.broker() as second:
        assert opened(second, "anna", request_id).session_id == session_id
        assert second.products()["platform"].in_use == 1


def test_app_that_comes_back_with_the_broker_takes_over_its_own_session(tmp_path: Path) -> None:
    house = House(tmp_path)
    with house.broker() as first:
        before = opened(first, "anna", instance_id="till-7").session_id
        first.kill()
    with house.broker() as second:
        after = opened(second, "anna", instance_id="till-7")
        assert not renewed(second, before)
        assert renewed(second, after.session_id)
        assert second.products()["platform"].in_use == 1


def test_sessions_of_later_starts_have_later_fences(tmp_path: Path) -> None:
    house, fences = House(tmp_path), []
    for number in range(3):
        with house.broker() as broker:
            fences.append(int.from_bytes(opened(broker, f"user-{number}").session_id[8:16]))
            broker.kill()
    assert fences == sorted(set(fences))
    assert len({fence >> 40 for fence in fences}) == 3


def test_closed_session_stays_closed(tmp_path: Path) -> None:
    house = House(tmp_path)
    with house.broker() as first:
        grant = opened(first, "anna")
        with sessions_of(first) as stub:
            stub.Close(sessions_pb2.CloseRequest(session_id=grant.session_id, request_id=os.urandom(16)), timeout=CALL_S)
        first.kill()
    with house.broker() as second:
        assert not renewed(second, grant.session_id)
        assert second.products()["platform"].in_use == 0


def test_full_house_is_full_after_a_restart_too(tmp_path: Path) -> None:
    house = House(tmp_path)
    with house.broker() as first:
        for number in range(5):
            opened(first, f"user-{number}")
        first.kill()
    with house.broker() as second, sessions_of(second) as stub:
        denial = stub.Open(login("late", os.urandom(16)), timeout=CALL_S).denial
        assert (denial.capacity, denial.in_use) == (5, 5)


def test_watcher_goes_on_behind_the_last_event_that_it_saw_before_the_restart(tmp_path: Path) -> None:
    house = House(tmp_path)
    with house.broker() as first:
        opened(first, "anna")
        before = _watched(first, 1, session="1.1")[-1]
        first.stop()
    with house.broker() as second:
        opened(second, "bert")
        after = _watched(second, before, session="2.")
        assert before < after[0] < after[-1]
        assert after == sorted(set(after))


def _watched(broker: RunningBroker, after_sequence: int, session: str) -> list[int]:
    """Sequences behind that one, up to the first event about a session whose public id begins so."""
    seen: list[int] = []
    with AdminClient(broker.admin, broker.admin_token) as admin:
        for block in admin.watch(after_sequence):
            for event in block.events:
                seen.append(event.sequence)
                if event.session.startswith(session):
                    return seen
    raise AssertionError(f"no session {session} among {seen}")


def test_status_command_says_what_came_back(tmp_path: Path) -> None:
    house = House(tmp_path)
    with house.broker() as first:
        opened(first, "anna")
        first.kill()
    with house.broker() as second:
        done = usher("status", "--data-dir", second.data_directory, "--json")
        assert json.loads(done.out)["journal"] | {"log_size": 0, "recovery_s": 0} == {
            "journal_status": "fine",
            "recovered_sessions": 1,
            "recovery_s": 0,
            "last_run_clean": False,
            "log_size": 0,
            "log_size_max": 4 << 30,
            "last_snapshot": "",
            "log_behind_snapshot_size": journal_of(second).position,
            "warnings": [],
        }


# --- other durabilities ----------------------------------------------------------------------------------------


def test_broker_that_keeps_nothing_begins_empty(tmp_path: Path) -> None:
    house = House(tmp_path, journal={"durability": "none"})
    with house.broker() as first:
        session_id = opened(first, "anna").session_id
        first.stop()
    assert not house.log.exists()
    with house.broker() as second:
        assert not renewed(second, session_id)
        assert not second.admin_stub().GetBroker(admin_pb2.GetBrokerRequest(), metadata=second.admin_metadata).HasField("journal")


@pytest.mark.parametrize("data_plane", DATA_PLANES)
def test_relaxed_broker_that_was_killed_learns_for_one_ttl_who_is_there(tmp_path: Path, data_plane: str) -> None:
    house = House(tmp_path, journal={"durability": "relaxed"}, clients={"data_plane": data_plane})
    with house.broker() as first:
        kept = opened(first, "anna").session_id
        first.stop()
    with house.broker() as second:  # ended in order: nothing is missing
        opened(second, "bert")
        second.kill()
    with house.broker() as third, sessions_of(third) as stub:
        assert renewed(third, kept)
        denial = stub.Open(login("carl", os.urandom(16)), timeout=CALL_S).denial
        assert denial.reason == types_pb2.DENIAL_REASON_LEARNING
        assert 0 < denial.retry_after.seconds <= 70
        assert journal_of(third).status == "learning"
        with urllib.request.urlopen(f"{third.url}/healthz", timeout=CALL_S) as answer:
            assert json.load(answer)["status"] == "learning"


def test_what_a_relaxed_broker_left_open_is_learned_by_a_strict_one_too_and_by_the_next_if_it_is_stopped_meanwhile(tmp_path: Path) -> None:
    house = House(tmp_path, journal={"durability": "relaxed"})
    with house.broker() as first:
        opened(first, "anna")
        first.kill()
    house.settings["journal"] = {"durability": "strict"}
    for _ in range(2):
        with house.broker() as later, sessions_of(later) as stub:
            denial = stub.Open(login("carl", os.urandom(16)), timeout=CALL_S).denial
            assert denial.reason == types_pb2.DENIAL_REASON_LEARNING
            later.stop()


def test_learning_that_is_over_is_not_begun_again(tmp_path: Path) -> None:
    house = House(tmp_path, journal={"durability": "relaxed"}, sessions={"ttl_s": 1, "renew_grace_s": 0})
    with house.broker() as first:
        first.kill()
    with house.broker() as second:
        until(lambda: journal_of(second).status != "learning", "the learning to be over")
        second.stop()
    with house.broker() as third:
        assert journal_of(third).status == "fine"


# --- a log that was put back -----------------------------------------------------------------------------------


@pytest.fixture
def restored(tmp_path: Path) -> tuple[House, bytes, bytes]:
    """A house whose log was put back as it was after its first run, and sessions of before and behind that. The state file lies outside."""
    house = House(tmp_path, journal={"state_file": str(tmp_path / "known-state")})
    with house.broker() as first:
        before = opened(first, "anna").session_id
        first.stop()
    shutil.copytree(house.directory / "data", tmp_path / "backup")
    with house.broker() as second:
        behind = opened(second, "bert").session_id
        second.stop()
    shutil.rmtree(house.directory / "data")
    shutil.copytree(tmp_path / "backup", house.directory / "data")
    return house, before, behind


def test_restored_backup_is_refused_with_what_to_do(restored: tuple[House, bytes, bytes]) -> None:
    house, _, _ = restored
    code, _, said = _failing(house)
    assert code == ExitCode.DATA_DIRECTORY
    assert "a backup was restored" in said
    assert "--accept-restored" in said
    assert "Traceback" not in said


def test_accepted_backup_serves_what_it_has_and_lets_nobody_new_in_for_one_ttl(restored: tuple[House, bytes, bytes]) -> None:
    house, before, behind = restored
    with house.broker("--accept-restored") as broker, sessions_of(broker) as stub:
        assert renewed(broker, before)
        assert not renewed(broker, behind)
        assert stub.Open(login("carl", os.urandom(16)), timeout=CALL_S).denial.reason == types_pb2.DENIAL_REASON_LEARNING
        assert broker.generation > 2
    with house.broker() as again, sessions_of(again) as stub:
        assert renewed(again, before)
        assert stub.Open(login("dora", os.urandom(16)), timeout=CALL_S).denial.reason == types_pb2.DENIAL_REASON_LEARNING


def _failing(house: House) -> tuple[int, str, str]:
    command = serve_command(house.directory / "usher.toml")
    done = subprocess.run(command, capture_output=True, text=True, env=process_environment(), timeout=60)
    return done.returncode, done.stdout, done.stderr
