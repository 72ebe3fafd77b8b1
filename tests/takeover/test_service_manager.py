"""What systemd hears of a broker: ready, reloading, stopping, alive; and silence when the data plane stands still."""

import asyncio
import contextlib
import os
import select
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.app.service_manager import ServiceManager
from broker.exit_codes import ExitCode
from tests.support.broker_process import process_environment, serve_command
from tests.support.toml_text import toml_text

HEARD_S = 60


class Systemd:
    """The receiving end of NOTIFY_SOCKET."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.path = str(path)

    def next(self) -> list[str]:
        """The lines of the next message."""
        assert select.select([self.socket], [], [], HEARD_S)[0], "nothing was said"
        return self.socket.recv(4096).decode().splitlines()

    def await_line(self, line: str) -> list[str]:
        """The first message that has this line."""
        while line not in (said := self.next()):
            pass
        return said

    def is_silent(self) -> bool:
        """Whether nothing waits to be heard."""
        return not select.select([self.socket], [], [], 0)[0]


@pytest.fixture
def systemd() -> Iterator[Systemd]:
    # Not in tmp_path: a unix socket's address holds 107 bytes.
    import tempfile

    with tempfile.TemporaryDirectory() as directory:
        one = Systemd(Path(directory) / "notify")
        with one.socket:
            yield one


def test_each_word_is_one_message_and_the_variables_are_taken_away(systemd: Systemd) -> None:
    environment = {"NOTIFY_SOCKET": systemd.path, "WATCHDOG_USEC": "1000", "PATH": "/bin"}
    manager = ServiceManager(environment)
    assert environment == {"PATH": "/bin"}
    manager.say_ready("serving\nREADY=0")
    assert systemd.next() == ["READY=1", "STATUS=serving READY=0"]
    manager.say_reloading()
    assert systemd.next()[0] == "RELOADING=1"
    manager.say_stopping("SIGTERM")
    assert systemd.next() == ["STOPPING=1", "STATUS=stopping: SIGTERM"]


def test_without_a_service_manager_nothing_is_said_and_nothing_fails() -> None:
    manager = ServiceManager({})
    assert not manager.is_there
    manager.say_ready("serving")


def test_manager_that_has_gone_harms_nobody(systemd: Systemd) -> None:
    manager = ServiceManager({"NOTIFY_SOCKET": systemd.path})
    systemd.socket.close()
    manager.say_ready("serving")


def test_abstract_address_is_understood() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        name = f"usher-test-{os.getpid()}"
        receiver.bind("\0" + name)
        ServiceManager({"NOTIFY_SOCKET": "@" + name}).say_status("here")
        assert receiver.recv(100) == b"STATUS=here"


async def test_watchdog_hears_nothing_while_the_data_plane_stands_still(systemd: Systemd) -> None:
    moving = iter([True, False, False, True])
    asked = asyncio.Event()

    def is_moving() -> bool:
        try:
            return next(moving)
        except StopIteration:
            asked.set()
            return False

    manager = ServiceManager({"NOTIFY_SOCKET": systemd.path, "WATCHDOG_USEC": "3000"})
    task = asyncio.create_task(manager.watch(is_moving))
    await asked.wait()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert [systemd.next(), systemd.next()] == [["WATCHDOG=1"]] * 2
    assert systemd.is_silent()


async def test_watch_of_another_process_is_not_ours(systemd: Systemd) -> None:
    await ServiceManager({"NOTIFY_SOCKET": systemd.path, "WATCHDOG_USEC": "3000", "WATCHDOG_PID": "1"}).watch(lambda: True)
    assert systemd.is_silent()


def test_life_of_a_broker_as_systemd_hears_it(tmp_path: Path, systemd: Systemd) -> None:
    config = tmp_path / "usher.toml"
    free = {name: {"address": "127.0.0.1:0"} for name in ("clients", "admin", "http")}
    config.write_text(toml_text({"broker": {"data_dir": str(tmp_path / "data")}, **free}))
    environment = process_environment() | {"NOTIFY_SOCKET": systemd.path, "WATCHDOG_USEC": "300000"}
    with subprocess.Popen(serve_command(config), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            systemd.await_line("READY=1")
            assert (tmp_path / "data" / "running.json").exists()
            for _ in range(3):
                systemd.await_line("WATCHDOG=1")
            process.send_signal(signal.SIGHUP)
            systemd.await_line("RELOADING=1")
            systemd.await_line("READY=1")
            process.send_signal(signal.SIGTERM)
            systemd.await_line("STOPPING=1")
            assert process.wait(HEARD_S) == ExitCode.DONE
        finally:
            process.kill()
