"""A fleet of emulated tokens on the network, for kernels to attach: the USB/IP server.

    with UsbipServer(fleet) as server:      127.0.0.1, a free port; `server.address` says which
        ...
    server.serve(one_end)                   or without TCP: a socket whose other end a kernel is given

One thread accepts, one looks at the fleet, and one serves each connection; its URBs never wait for those of another. A
token that is pulled, from the fleet or by a scripted fault, hangs up its connection, which is how USB/IP unplugs; it can
be imported again once it is back. A device is imported once at a time.

There is no authentication in USB/IP, and who reaches the port can use the tokens: an address that is not of this
machine is refused unless the caller insists. Peers are bounded: 128 connections, 5 s for the first question and for
taking an answer. Methods: any thread.
"""

from __future__ import annotations

import ipaddress
import logging
import select
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType

from hwkey.emulated.device import EmulatedDevice
from hwkey.emulated.fleet import TokenFleet
from hwkey.emulated.function import PulledOut, TokenFunction
from hwkey.emulated.profile import PRODUCT_ID, VENDOR_ID
from hwkey.emulated.usbip import (
    CommandReader,
    ListRequest,
    Operation,
    RemoteDevice,
    Reply,
    encode_device_list,
    encode_import_reply,
    encode_reply,
)
from hwkey.emulated.usbip_device import UsbipDevice
from hwkey.errors import ProtocolError, TokenStoreError

LOOPBACK = "127.0.0.1"
CONNECTION_COUNT_MAX = 128
PEER_WAIT_S = 5.0
WATCH_INTERVAL_S = 1.0
RECEIVE_SIZE = 16 * 1024

log = logging.getLogger(__name__)


class UsbipServer:
    """Serves what is plugged into a fleet; see the head of the module. `address` is (host, port)."""

    def __init__(
        self, fleet: TokenFleet, *, host: str = LOOPBACK, port: int = 0, is_open_to_network: bool = False
    ) -> None:
        """Listen at once. ValueError for an address that is not loopback unless `is_open_to_network`; OSError."""
        if not is_open_to_network and not ipaddress.ip_address(host).is_loopback:
            raise ValueError(f"{host} is not of this machine alone, and USB/IP lets anybody in who reaches it")
        self._fleet = fleet
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()
        self._held: dict[EmulatedDevice, socket.socket] = {}
        self._threads: list[threading.Thread] = []
        self._is_closing = False
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listening = socket.create_server((host, port), family=family)
        self.address: tuple[str, int] = self._listening.getsockname()[:2]
        for name, run in (("usbip-accept", self._accept), ("usbip-watch", self._watch)):
            self._start(name, run)

    def serve(self, connection: socket.socket) -> None:
        """Serve one connection, which is ours from now on, in a thread of its own."""
        with self._lock:
            is_welcome = not self._is_closing and len(self._connections) < CONNECTION_COUNT_MAX
            if is_welcome:
                self._connections.add(connection)
        if not is_welcome:
            connection.close()
            return
        threading.Thread(target=self._serve, args=(connection,), name="usbip-connection", daemon=True).start()

    def imported(self) -> list[str]:
        """Bus ids of the tokens that somebody has attached."""
        with self._lock:
            return sorted(_bus_id(device) for device in self._held)

    def close(self) -> None:
        """Hang up on everybody, and end; may be called twice."""
        with self._lock:
            self._is_closing = True
            connections = list(self._connections)
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
        for connection in connections:
            _hang_up(connection)
        self._fleet.bump()
        for thread in self._threads:
            thread.join()
        self._listening.close()

    def __enter__(self) -> UsbipServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start(self, name: str, run: Callable[[], None]) -> None:
        thread = threading.Thread(target=run, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._is_closing:
            try:
                connection, _peer = self._listening.accept()
            except OSError as error:
                log.debug("a USB/IP connection was lost before it began: %s", error)
                continue  # also how `close` ends the wait
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.serve(connection)

    def _watch(self) -> None:
        """Hang up for tokens that have left the fleet."""
        while not self._is_closing:
            seen_count = self._fleet.count
            try:
                present = set(self._fleet.devices())
                with self._lock:
                    gone = [held for device, held in self._held.items() if device not in present]
                for connection in gone:
                    _hang_up(connection)
                self._fleet.wait_beyond(seen_count, WATCH_INTERVAL_S)
            except TokenStoreError as error:
                log.warning("the fleet cannot be read: %s", error)
                threading.Event().wait(WATCH_INTERVAL_S)

    def _serve(self, connection: socket.socket) -> None:
        device: EmulatedDevice | None = None
        try:
            connection.settimeout(PEER_WAIT_S)
            reader = CommandReader()
            device = self._begin(connection, reader)
            if device is not None:
                self._carry(connection, reader, device)
        except ProtocolError as error:
            log.warning("hung up on a USB/IP peer: %s", error)
        except PulledOut:
            self._pull(device)
        except (OSError, TokenStoreError) as error:
            log.debug("a USB/IP connection ended: %s", error)
        finally:
            with self._lock:
                self._connections.discard(connection)
                self._held = {one: held for one, held in self._held.items() if held is not connection}
            connection.close()

    def _begin(self, connection: socket.socket, reader: CommandReader) -> EmulatedDevice | None:
        """Answer the first question; the device when it was an import that succeeded."""
        question = _receive_operation(connection, reader)
        if question is None:
            return None
        if isinstance(question, ListRequest):
            connection.sendall(encode_device_list([remote_device(one) for one in self._fleet.devices()]))
            return None
        device = self._hold(question.bus_id, connection)
        connection.sendall(encode_import_reply(remote_device(device) if device else None))
        return device

    def _hold(self, bus_id: str, connection: socket.socket) -> EmulatedDevice | None:
        """Give a token to a connection; None when there is none there, or somebody has it."""
        device = next((one for one in self._fleet.devices() if _bus_id(one) == bus_id), None)
        if device is None:
            return None
        with self._lock:
            return device if self._held.setdefault(device, connection) is connection else None

    def _carry(self, connection: socket.socket, reader: CommandReader, device: EmulatedDevice) -> None:
        """URBs until somebody hangs up."""
        urbs = UsbipDevice(TokenFunction(device.token), remote_device(device).device_number)
        poll = select.poll()
        poll.register(connection, select.POLLIN)
        while True:
            while (command := reader.next_command()) is not None:
                _send(connection, urbs.take(command, time.monotonic_ns()))
            is_readable = poll.poll(_wait_ms(urbs.due_ns()))
            _send(connection, urbs.advance(time.monotonic_ns()))
            if is_readable:
                received = connection.recv(RECEIVE_SIZE)
                if not received:
                    return
                reader.feed(received)

    def _pull(self, device: EmulatedDevice | None) -> None:
        """A scripted fault: the token leaves the fleet, as if somebody had pulled it."""
        for entry in self._fleet.entries():
            if device is not None and entry.usb_path == _bus_id(device):
                self._fleet.unplug(entry.name)


def remote_device(device: EmulatedDevice) -> RemoteDevice:
    """What a token looks like to who would attach it; its bus id is its place in the fleet, `101-1.1`."""
    profile = device.token.profile
    interfaces = tuple((one.interface_class, one.subclass, one.protocol) for one in profile.interfaces)
    return RemoteDevice(
        bus_id=_bus_id(device),
        bus=device.bus,
        address=device.address,
        vendor_id=VENDOR_ID,
        product_id=PRODUCT_ID,
        device_release=profile.device_release,
        interfaces=interfaces,
    )


def _bus_id(device: EmulatedDevice) -> str:
    return f"{device.bus}-{'.'.join(map(str, device.port_numbers))}"


def _receive_operation(connection: socket.socket, reader: CommandReader) -> Operation | None:
    deadline_s = time.monotonic() + PEER_WAIT_S
    while (question := reader.next_operation()) is None:
        received = connection.recv(RECEIVE_SIZE)
        if not received or time.monotonic() > deadline_s:
            return None
        reader.feed(received)
    return question


def _send(connection: socket.socket, replies: list[Reply]) -> None:
    if replies:
        connection.sendall(b"".join(encode_reply(reply) for reply in replies))


def _wait_ms(due_ns: int | None) -> int | None:
    return None if due_ns is None else max(0, -(-(due_ns - time.monotonic_ns()) // 1_000_000))


def _hang_up(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
