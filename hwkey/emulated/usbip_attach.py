"""How this machine's kernel is given a USB/IP device, and how it is taken away again: vhci_hcd's files in sysfs.

    devices = list_remote(host, port)       what a server offers
    port = attach(host, port, bus_id)       import it and hand the connection to the kernel
    port = attach_socket(socket, ...)       the same for a connection that exists, of TCP or AF_UNIX
    detach(port)                            hang up

The kernel keeps the connection, so the caller may end. vhci_hcd must be loaded (`modprobe vhci-hcd`) and sysfs be
writable: root. Its status files have one line a port: hub, port, state (4: free), speed, devid, socket, name. Any
thread; two attachers may choose the same port, and the kernel then refuses one. Raises VhciError, ProtocolError, OSError.
Source: drivers/usb/usbip/vhci_sysfs.c of Linux.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from hwkey.emulated.usbip import RemoteDevice, ReplyReader, encode_import_request, encode_list_request
from hwkey.errors import HostError

VHCI_DIRECTORY = Path("/sys/devices/platform/vhci_hcd.0")
STATE_FREE = 4
PEER_WAIT_S = 5.0
RECEIVE_SIZE = 64 * 1024

T = TypeVar("T")


class VhciError(HostError):
    """The kernel's side of USB/IP is missing, full, or refused; or the server refused the import."""

    code = "vhci"


@dataclass(frozen=True, slots=True)
class VhciPort:
    """One port of the kernel's virtual hubs; `name` is the kernel's place for what is attached there, `1-1`."""

    number: int
    hub: str
    state: int
    device_number: int
    name: str

    @property
    def is_free(self) -> bool:
        """Whether something can be attached here."""
        return self.state == STATE_FREE


def list_remote(host: str, port: int) -> list[RemoteDevice]:
    """What a server offers; raises OSError, ProtocolError or VhciError."""
    with _connect(host, port) as connection:
        connection.sendall(encode_list_request())
        reader = ReplyReader()
        return _receive(connection, reader.next_device_list, reader)


def attach(host: str, port: int, bus_id: str, *, vhci: Path = VHCI_DIRECTORY) -> int:
    """Attach one device of a server; the number of the virtual port that it is on."""
    with _connect(host, port) as connection:
        return attach_socket(connection, bus_id, vhci=vhci)


def attach_socket(connection: socket.socket, bus_id: str, *, vhci: Path = VHCI_DIRECTORY) -> int:
    """Import over a connection, and give it to the kernel; the caller may close its own end of it afterwards."""
    connection.sendall(encode_import_request(bus_id))
    reader = ReplyReader()
    imported = _receive(connection, reader.next_import, reader)
    if not isinstance(imported, RemoteDevice):  # a sentence
        raise VhciError(f"{bus_id}: {imported}")
    connection.settimeout(None)  # the kernel would inherit a socket that does not wait
    free = next((one for one in read_ports(vhci) if one.is_free and one.hub == "hs"), None)
    if free is None:
        raise VhciError("every virtual port is taken; detach something")
    line = f"{free.number} {connection.fileno()} {imported.device_number} {imported.speed}"
    _write(vhci / "attach", line)
    return free.number


def detach(number: int, *, vhci: Path = VHCI_DIRECTORY) -> None:
    """Pull what is on a virtual port; VhciError when nothing is."""
    if not any(one.number == number and not one.is_free for one in read_ports(vhci)):
        raise VhciError(f"nothing is attached to port {number}")
    _write(vhci / "detach", str(number))


def read_ports(vhci: Path = VHCI_DIRECTORY) -> list[VhciPort]:
    """Every virtual port, by number; raises VhciError when the module is not loaded."""
    try:
        texts = [path.read_text() for path in vhci.glob("status*")]
    except OSError as error:
        raise VhciError(f"{error.filename}: {error.strerror}") from error
    if not texts:
        raise VhciError("the kernel's module vhci_hcd is not loaded: `modprobe vhci-hcd`, as root")
    return sorted((port for text in texts for port in parse_status(text)), key=lambda port: port.number)


def parse_status(text: str) -> list[VhciPort]:
    """The ports of one status file; lines that are none are left out (each file begins with a head)."""
    ports = []
    for line in text.splitlines():
        match line.split():
            case [hub, number, state, _speed, device, _socket, name] if number.isdecimal() and state.isdecimal():
                ports.append(VhciPort(int(number), hub, int(state), int(device, 16), name))
    return ports


def _connect(host: str, port: int) -> socket.socket:
    connection = socket.create_connection((host, port), PEER_WAIT_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _receive(connection: socket.socket, read: Callable[[], T | None], reader: ReplyReader) -> T:
    while (answer := read()) is None:
        received = connection.recv(RECEIVE_SIZE)
        if not received:
            raise VhciError("the server hung up before it had answered")
        reader.feed(received)
    return answer


def _write(path: Path, line: str) -> None:
    try:
        path.write_text(line)
    except OSError as error:
        raise VhciError(f"{path}: {error.strerror}; this needs root and the module vhci_hcd") from error
