"""One broker after another on the same ports, directory and keys: in the stated order, and with either one dying on the way."""

import contextlib
import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from broker import client
from broker.app.config import Config
from broker.app.preflight import try_without_directory
from broker.app.takeover import DIRECTORY, DOOR_FILE, TAKEOVER, door_path, message, send
from broker.errors import ConfigError
from broker.exit_codes import ExitCode
from tests.support.broker_process import RunningBroker, process_environment, running_broker, serve_command
from tests.support.toml_text import toml_text
from tests.support.waiting import until

FLEET = [{"name": "alpha", "seats": {"platform": 5}}]
END_S = 60


@contextmanager
def successor(broker: RunningBroker, *, config: Path | None = None, arguments: Sequence[str] = ()) -> Iterator[subprocess.Popen[str]]:
    """`usher serve --takeover` beside a broker; its standard output is one line once it serves."""
    words = serve_command(config or broker.config_path, arguments=["--takeover", "--json", *arguments])
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=process_environment()) as process:
        try:
            yield process
        finally:
            process.kill()


def endpoints(process: subprocess.Popen[str]) -> dict[str, object]:
    """Where it serves; waits until it does."""
    assert process.stdout
    line = process.stdout.readline()
    assert line, process.communicate()[1]
    return dict(json.loads(line))


def visit(broker: RunningBroker) -> socket.socket:
    """A connection to the broker's door."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.settimeout(END_S)
    with door_path(broker.data_directory) as path:
        connection.connect(path)
    return connection


def ask(connection: socket.socket, **members: object) -> tuple[dict[str, object], list[int]]:
    """One question, and the answer with its descriptors."""
    send(connection, members)
    data, descriptors, _, _ = socket.recv_fds(connection, 4096, 8)
    return message(data), descriptors


def test_successor_serves_on_the_same_ports_in_a_later_generation(tmp_path: Path) -> None:
    with running_broker(tmp_path, emulated_keys=FLEET) as broker, successor(broker) as process:
        now = endpoints(process)
        assert broker.process.wait(END_S) == ExitCode.DONE
        assert (now["clients"], now["admin"], now["http"]) == (broker.clients, broker.admin, broker.http)
        assert now["generation"] == broker.generation + 1
        with client.open(broker.clients, user="anna", products=["platform"]) as session:
            assert session.holds("platform")
        process.send_signal(signal.SIGTERM)
        assert process.wait(END_S) == ExitCode.DONE


def test_new_client_meets_keys_that_have_been_tried(tmp_path: Path) -> None:
    with running_broker(tmp_path, emulated_keys=FLEET) as broker, successor(broker) as process:
        broker.process.wait(END_S)
        # Before the successor serves: the connection waits at the socket, and is answered with a seat, not with keys_starting.
        with client.open(broker.clients, user="anna", products=["platform"], retry=client.RetryPolicy(attempt_s=30, total_s=30)) as session:
            assert session.holds("platform")
        assert endpoints(process)["generation"] == broker.generation + 1


def test_third_takes_over_from_the_second(tmp_path: Path) -> None:
    with running_broker(tmp_path, emulated_keys=FLEET) as broker, successor(broker) as second:
        endpoints(second)
        with successor(broker) as third:
            assert endpoints(third)["clients"] == broker.clients
            assert second.wait(END_S) == ExitCode.DONE


def test_with_nothing_to_take_over_it_starts_as_always(tmp_path: Path) -> None:
    with running_broker(tmp_path, emulated_keys=FLEET, arguments=["--takeover"]) as broker:
        assert broker.generation == 1
        assert "nothing to take over" in broker.log_text()


@pytest.mark.parametrize(
    ("section", "entries", "said"),
    [
        ("clients", {"tls": {"certificate": "/nonexistent.pem", "private_key": "/nonexistent.key"}}, "nonexistent"),
        ("licences", {"trust": ["/nonexistent.json"]}, "nonexistent.json"),
    ],
)
def test_successor_that_cannot_start_leaves_the_broker_alone(tmp_path: Path, section: str, entries: dict[str, object], said: str) -> None:
    with running_broker(tmp_path, emulated_keys=FLEET) as broker:
        wrong = tmp_path / "wrong.toml"
        free = {name: {"address": "127.0.0.1:0"} for name in ("clients", "admin", "http")}
        free.setdefault(section, {}).update(entries)
        wrong.write_text(toml_text({"broker": {"data_dir": str(broker.data_directory)}, **free}))
        with successor(broker, config=wrong) as process:
            words = process.communicate(timeout=END_S)[1]
        assert process.returncode == ExitCode.CONFIG
        assert said in words
        assert "taking over" not in words
        with client.open(broker.clients, user="anna", products=["platform"]) as session:
            assert session.holds("platform")
        assert broker.process.poll() is None


def test_bounds_beyond_the_memory_are_found_before_anybody_is_asked_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(**_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("broker._ledger.Ledger", failing)
    with pytest.raises(ConfigError, match="bounds: the ledger cannot be built so large"):
        try_without_directory(Config())


def test_successor_that_ends_before_it_wants_the_directory_leaves_the_broker_alone(tmp_path: Path) -> None:
    with running_broker(tmp_path, emulated_keys=FLEET) as broker:
        with visit(broker) as connection:
            answer, descriptors = ask(connection, wants=TAKEOVER, pid=0, version="?")
            assert answer["is_agreed"]
            assert len(descriptors) == 3
        for one in descriptors:
            os.close(one)
        with successor(broker) as process:
            assert endpoints(process)["generation"] == broker.generation + 1


def test_successor_that_dies_after_it_wanted_the_directory_is_reported_by_the_status(tmp_path: Path) -> None:
    with running_broker(tmp_path, emulated_keys=FLEET) as broker:
        with visit(broker) as connection:
            for one in ask(connection, wants=TAKEOVER, pid=0, version="?")[1]:
                os.close(one)
            send(connection, {"wants": DIRECTORY})
            connection.shutdown(socket.SHUT_RDWR)
            assert broker.process.wait(END_S) == ExitCode.PART_FAILED
        until(lambda: "start a broker" in broker.log_text(), "the last words")
    with running_broker(tmp_path, emulated_keys=FLEET) as broker:
        assert broker.generation == 2


def test_predecessor_that_dies_while_it_lets_go_leaves_lock_and_sockets_to_the_successor(tmp_path: Path) -> None:
    with running_broker(tmp_path, emulated_keys=FLEET) as broker:
        broker.process.send_signal(signal.SIGSTOP)  # so that it dies before it can say anything
        with successor(broker) as process, socket.create_connection(tuple(broker.clients.split(":"))):
            broker.process.send_signal(signal.SIGCONT)
            assert process.stderr
            for line in process.stderr:
                if "taking over" in line:
                    break
            broker.process.kill()
            assert endpoints(process)["clients"] == broker.clients
        broker.process.wait(END_S)


def test_second_successor_is_refused_while_the_first_waits(tmp_path: Path) -> None:
    with running_broker(tmp_path, emulated_keys=FLEET) as broker, visit(broker) as first, visit(broker) as second:
        for one in ask(first, wants=TAKEOVER, pid=0, version="?")[1]:
            os.close(one)
        for one in ask(second, wants=TAKEOVER, pid=0, version="?")[1]:
            os.close(one)
        send(first, {"wants": DIRECTORY})
        with contextlib.suppress(ConnectionResetError):
            assert second.recv(4096) == b""  # the door is closed to all others from then on
        with contextlib.suppress(OSError):
            send(second, {"wants": DIRECTORY})
        data, descriptors, _, _ = socket.recv_fds(first, 4096, 8)
        assert (message(data), len(descriptors)) == ({"yours": DIRECTORY}, 1)
        os.close(descriptors[0])
        assert broker.process.wait(END_S) == ExitCode.DONE


def test_service_of_systemd_is_not_taken_over_from_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/nonexistent")
    with running_broker(tmp_path, emulated_keys=FLEET) as broker:
        monkeypatch.delenv("NOTIFY_SOCKET")
        with successor(broker) as process:
            words = process.communicate(timeout=END_S)[1]
        assert process.returncode == ExitCode.DATA_DIRECTORY
        assert "systemctl restart usher" in words
        assert broker.process.poll() is None


def test_door_is_there_only_while_the_broker_serves_and_only_for_its_user(tmp_path: Path) -> None:
    with running_broker(tmp_path, emulated_keys=FLEET) as broker:
        assert (broker.data_directory / DOOR_FILE).stat().st_mode & 0o777 == 0o600
        broker.stop()
        assert not (broker.data_directory / DOOR_FILE).exists()


def test_nonsense_at_the_door_disturbs_nobody(tmp_path: Path) -> None:
    with running_broker(tmp_path, emulated_keys=FLEET) as broker:
        for words in (b"\xff", b"[]", b"{}", b'{"wants": "everything"}', b'{"wants": "directory"}'):
            with visit(broker) as connection:
                connection.send(words)
                assert connection.recv(4096) == b""
        with successor(broker) as process:
            assert endpoints(process)["generation"] == broker.generation + 1
