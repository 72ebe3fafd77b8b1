"""`usher backup` and `usher restore` with a real broker: what a client was granted before the backup stands in the restored broker."""

import shutil
from pathlib import Path

import grpc

from broker.exit_codes import ExitCode
from broker.v1 import sessions_pb2, sessions_pb2_grpc, types_pb2
from tests.support.broker_process import CALL_S, RunningBroker, running_broker
from tests.support.usher_command import usher

FLEET = [{"name": "alpha", "seats": {"platform": 5}}]
REQUEST_ID = bytes(range(16))


def opened(broker: RunningBroker, request_id: bytes = REQUEST_ID) -> bytes:
    """The session of an Open; the same for the same request_id."""
    with grpc.insecure_channel(broker.clients) as channel:
        holder = types_pb2.Holder(user="anna", host="pc")
        products = [types_pb2.ProductRequest(product="platform")]
        request = sessions_pb2.OpenRequest(request_id=request_id, holder=holder, products=products)
        answer = sessions_pb2_grpc.SessionsStub(channel).Open(request, timeout=CALL_S)
        assert answer.WhichOneof("result") == "grant", answer
        return bytes(answer.grant.session_id)


def renew(broker: RunningBroker, session_id: bytes) -> None:
    with grpc.insecure_channel(broker.clients) as channel:
        sessions_pb2_grpc.SessionsStub(channel).Renew(sessions_pb2.RenewRequest(session_id=session_id), timeout=CALL_S)


def test_session_granted_before_a_backup_lives_in_the_restored_broker(tmp_path: Path) -> None:
    backup = tmp_path / "backup"
    with running_broker(tmp_path / "first", emulated_keys=FLEET) as broker:
        session_id = opened(broker)
        taken = usher("backup", backup, "--data-dir", broker.data_directory, "--json")
        assert taken.code == ExitCode.DONE, taken.err
        assert taken.json["generation"] == 1
        renew(broker, session_id)  # nothing was held up
    data_dir = tmp_path / "second" / "data"
    restored = usher("restore", backup, "--data-dir", data_dir)
    assert restored.code == ExitCode.DONE, restored.err
    assert "--accept-restored" in restored.out
    with running_broker(tmp_path / "second", emulated_keys=FLEET, arguments=["--accept-restored"]) as broker:
        assert broker.generation > 1000
        renew(broker, session_id)
        assert opened(broker) == session_id


def test_backup_of_a_broker_that_rests_is_made_under_its_lock(tmp_path: Path) -> None:
    with running_broker(tmp_path, emulated_keys=FLEET) as broker:
        opened(broker)
    taken = usher("backup", tmp_path / "backup", "--data-dir", tmp_path / "data")
    assert taken.code == ExitCode.DONE, taken.err
    assert "admin token" in taken.out


def test_directory_of_a_running_broker_is_not_replaced(tmp_path: Path) -> None:
    with running_broker(tmp_path, emulated_keys=FLEET) as broker:
        assert usher("backup", tmp_path / "backup", "--data-dir", broker.data_directory).code == ExitCode.DONE
        refused = usher("restore", tmp_path / "backup", "--data-dir", broker.data_directory, "--replace")
        assert refused.code == ExitCode.DATA_DIRECTORY
        assert f"process {broker.process.pid}" in refused.err
        opened(broker)
    refused = usher("restore", tmp_path / "backup", "--data-dir", tmp_path / "data")
    assert refused.code == ExitCode.DATA_DIRECTORY
    assert "is not empty" in refused.err
    done = usher("restore", tmp_path / "backup", "--data-dir", tmp_path / "data", "--replace", "--json")
    assert done.code == ExitCode.DONE, done.err
    facts = done.json
    (aside,) = facts["put_aside"]
    assert (Path(aside) / "secret").read_bytes() == (tmp_path / "data" / "secret").read_bytes()
    assert facts["generation"] > int((Path(aside) / "generation").read_text())


def test_backup_of_what_is_no_broker_says_so(tmp_path: Path) -> None:
    refused = usher("backup", tmp_path / "backup", "--data-dir", tmp_path)
    assert refused.code == ExitCode.DATA_DIRECTORY
    assert "is no broker's" in refused.err


def test_broker_that_keeps_no_log_has_nothing_to_back_up(tmp_path: Path) -> None:
    with running_broker(tmp_path, emulated_keys=FLEET, settings={"journal": {"durability": "none"}}) as broker:
        refused = usher("backup", tmp_path / "backup", "--data-dir", broker.data_directory)
    assert refused.code == ExitCode.DATA_DIRECTORY
    assert "keeps no log" in refused.err
    assert not (tmp_path / "backup").exists()


def test_damaged_backup_puts_nothing_aside(tmp_path: Path) -> None:
    with running_broker(tmp_path, emulated_keys=FLEET) as broker:
        assert usher("backup", tmp_path / "backup", "--data-dir", broker.data_directory).code == ExitCode.DONE
    shutil.rmtree(tmp_path / "backup" / "licences")
    refused = usher("restore", tmp_path / "backup", "--data-dir", tmp_path / "data", "--replace")
    assert refused.code == ExitCode.DATA_DIRECTORY
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith("data")) == ["data"]
