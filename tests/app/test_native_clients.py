"""The native data plane's threads inside the broker: begun, drained, cut, and missed when they end unasked.

Over a listener that does as it is told; the real one is under test in tests/listener and in the contract suite.
"""

import builtins
import dataclasses
import importlib
import signal
import socket
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from broker.app import native_clients
from broker.app.address import Address
from broker.app.config import ClientsSection, Config
from broker.app.native_clients import NativeClients, require_data_plane
from broker.app.socket_activation import bound_socket
from broker.errors import ConfigError
from broker.model.listener import ListenerCounters

NATIVE = dataclasses.replace(Config(), clients=ClientsSection(data_plane="native"))
GRPCIO = dataclasses.replace(Config(), clients=ClientsSection(data_plane="grpcio"))


class ObedientListener:
    """Runs until drained or stopped; `fails_with` ends a loop at once, `ignores_drain` is for one that hangs."""

    def __init__(self, fails_with: BaseException | None = None, ignores_drain: bool = False, ends: bool = False) -> None:
        self.fails_with, self.ignores_drain, self.ends = fails_with, ignores_drain, ends
        self.said: list[object] = []
        self.masks: list[set[int]] = []
        self._over = threading.Event()

    def run(self, number: int) -> None:
        self.masks.append(set(signal.pthread_sigmask(signal.SIG_BLOCK, ())))
        if self.fails_with is not None:
            raise self.fails_with
        if not self.ends:
            self._over.wait()

    def set_serving(self, is_serving: bool) -> None:
        self.said.append(is_serving)

    def keep_port(self) -> None:
        self.said.append("keep_port")

    def drain(self, grace_ns: int) -> None:
        self.said.append(grace_ns)
        if not self.ignores_drain:
            self._over.set()

    def stop(self) -> None:
        self.said.append("stop")
        self._over.set()

    def wake(self) -> None:
        self.said.append("wake")

    def counters(self) -> ListenerCounters:
        raise NotImplementedError


def unheard(part: str, error: BaseException) -> None:
    raise AssertionError(f"{part} failed: {error!r}")


def clients_of(listener: ObedientListener, count: int = 2, on_failure: Callable[[str, BaseException], None] = unheard) -> NativeClients:
    return NativeClients(listener, bound_socket(Address("127.0.0.1", 0), "clients.address"), count, on_failure)


async def test_loops_run_until_a_drain_and_health_is_told_first() -> None:
    listener = ObedientListener()
    clients = clients_of(listener, 3)
    await clients.start()
    await clients.stop(1.5)
    assert listener.said == [True, False, 1_500_000_000]
    assert len(listener.masks) == 3


async def test_port_takes_connections_from_the_start_on_and_none_after_the_stop() -> None:
    clients = clients_of(ObedientListener())
    address = ("127.0.0.1", clients.port)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)
    await clients.start()
    socket.create_connection(address).close()
    await clients.stop(0)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)


async def test_loops_run_with_every_signal_blocked() -> None:
    listener = ObedientListener()
    clients = clients_of(listener)
    await clients.start()
    await clients.stop(0)
    for mask in listener.masks:
        assert {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1} <= mask


@pytest.mark.parametrize(
    ("listener", "words"),
    [(ObedientListener(fails_with=OSError("epoll is gone")), "epoll is gone"), (ObedientListener(ends=True), "ended by itself")],
)
async def test_loop_that_ends_unasked_is_a_failure(listener: ObedientListener, words: str) -> None:
    heard: list[tuple[str, BaseException]] = []
    has_failed = threading.Event()

    def hear(part: str, error: BaseException) -> None:
        heard.append((part, error))
        has_failed.set()

    clients = clients_of(listener, 1, hear)
    await clients.start()
    assert has_failed.wait(10)
    await clients.stop(0)
    ((part, error),) = heard
    assert part == "the data plane's thread 0"
    assert words in str(error)


async def test_loops_that_do_not_drain_are_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_clients, "CUT_S", 0.01)
    listener = ObedientListener(ignores_drain=True)
    clients = clients_of(listener)
    await clients.start()
    await clients.stop(0)
    assert listener.said == [True, False, 0, "stop"]


async def test_stop_before_the_start_only_closes_the_port() -> None:
    """A broker whose HTTP listener could not start is shut down by the same table."""
    listener = ObedientListener()
    clients = clients_of(listener)
    await clients.stop(0)
    assert (listener.said, listener.masks) == ([], [])
    assert clients._listening.fileno() == -1


def test_without_the_compiled_part_the_fault_says_what_to_install_or_to_write(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str, *rest: Any) -> Any:
        raise ImportError(f"No module named '{name}'")

    monkeypatch.setattr(importlib, "import_module", missing)
    require_data_plane(GRPCIO)
    with pytest.raises(ConfigError) as caught:
        require_data_plane(NATIVE)
    (fault,) = caught.value.faults
    assert fault.dotted == "clients.data_plane"
    assert "broker._listener" in fault.reason
    assert "libnghttp2-dev libssl-dev" in fault.remedy
    assert 'data_plane = "grpcio"' in fault.remedy


def test_compiled_part_is_not_loaded_for_grpcio(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "broker._listener", raising=False)
    real = builtins.__import__

    def counting(name: str, *rest: Any) -> Any:
        assert "_listener" not in name, "grpcio needs no compiled data plane"
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", counting)
    require_data_plane(GRPCIO)
