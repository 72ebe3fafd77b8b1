"""The USB/IP protocol, version 1.1.1, as bytes and values, for both of its ends and without any I/O.

A connection begins with one question of the operation phase; a successful import turns it into a stream of URBs:

    OP_REQ_DEVLIST -> OP_REP_DEVLIST              which devices there are; the connection ends
    OP_REQ_IMPORT  -> OP_REP_IMPORT               one device; then, until somebody hangs up:
        CMD_SUBMIT -> RET_SUBMIT, later, in any order; CMD_UNLINK -> RET_UNLINK

    48 bytes, big-endian: command 4 | seqnum 4 | devid 4 | direction 4 | ep 4 | 28 bytes by command, then the data

Bytes of a peer are hostile: every size is checked before it is believed, a reader keeps at most one message, and what
breaks the protocol is `ProtocolError("usbip", ...)`, after which the connection is of no more use. Isochronous transfers
are refused: no security key has them. Statuses are negative errno values of Linux. Pure; one thread a reader.
Source: docs.kernel.org/usb/usbip_protocol.html, and tools/usb/usbip of the kernel's sources.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from hwkey.errors import ProtocolError

VERSION = 0x0111
DEFAULT_PORT = 3240
OP_REQ_DEVLIST, OP_REP_DEVLIST = 0x8005, 0x0005
OP_REQ_IMPORT, OP_REP_IMPORT = 0x8003, 0x0003
CMD_SUBMIT, CMD_UNLINK, RET_SUBMIT, RET_UNLINK = 1, 2, 3, 4
DIRECTION_OUT, DIRECTION_IN = 0, 1
STATUS_OK, STATUS_NO_DEVICE = 0, 1
SPEED_FULL = 2
# number_of_packets of a transfer that is not isochronous: older and newer kernels.
NO_PACKETS = (0, 0xFFFFFFFF)
FLAG_SHORT_NOT_OK = 0x0001

# Linux cuts a transfer of user space into URBs of 16 KiB; four of them are more than any reader's message.
TRANSFER_SIZE_MAX = 64 * 1024
DEVICE_COUNT_MAX = 1024
INTERFACE_COUNT_MAX = 32
BUS_ID_SIZE, PATH_SIZE = 32, 256

_OPERATION = struct.Struct(">HHI")
_DEVICE = struct.Struct(">256s32sIIIHHHBBBBBB")
_HEADER = struct.Struct(">IIIII")
_SUBMIT = struct.Struct(">IiIII8s")
_RETURN = struct.Struct(">iIIII8x")
HEADER_SIZE = 48
_UNLINK_PAD = bytes(24)


@dataclass(frozen=True, slots=True)
class RemoteDevice:
    """A device that is offered. `bus_id` names it in an import; `interfaces` are (class, subclass, protocol)."""

    bus_id: str
    bus: int
    address: int
    vendor_id: int
    product_id: int
    device_release: int
    interfaces: tuple[tuple[int, int, int], ...]
    configuration_value: int = 1
    speed: int = SPEED_FULL

    @property
    def device_number(self) -> int:
        """The devid that every URB carries."""
        return self.bus << 16 | self.address


@dataclass(frozen=True, slots=True)
class ListRequest:
    """OP_REQ_DEVLIST."""


@dataclass(frozen=True, slots=True)
class ImportRequest:
    """OP_REQ_IMPORT."""

    bus_id: str


@dataclass(frozen=True, slots=True)
class Submit:
    """CMD_SUBMIT. `size` is the room of a transfer in, or the length of `data`; `setup` matters for endpoint 0."""

    number: int
    device_number: int
    is_in: bool
    endpoint: int
    flags: int
    size: int
    setup: bytes
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class Unlink:
    """CMD_UNLINK: `victim` is the number of a Submit that shall not be answered any more."""

    number: int
    device_number: int
    victim: int


@dataclass(frozen=True, slots=True)
class SubmitReply:
    """RET_SUBMIT. `size` is what was moved either way; `data` only what came in."""

    number: int
    status: int
    size: int
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class UnlinkReply:
    """RET_UNLINK: -ECONNRESET when the victim was still waiting, 0 when it had been answered."""

    number: int
    status: int


Operation = ListRequest | ImportRequest
Command = Submit | Unlink
Reply = SubmitReply | UnlinkReply


class _Buffer:
    """What has come and was not yet read; holds one message and the piece that came behind it."""

    def __init__(self) -> None:
        self._data = bytearray()

    def add(self, data: bytes) -> None:
        self._data += data

    def peek(self, size: int) -> bytes | None:
        return bytes(self._data[:size]) if len(self._data) >= size else None

    def take(self, size: int) -> bytes:
        taken = bytes(self._data[:size])
        del self._data[:size]
        return taken


class CommandReader:
    """A server's side: one operation first, then commands; `feed` bytes, then ask until None."""

    def __init__(self) -> None:
        self._buffer = _Buffer()

    def feed(self, data: bytes) -> None:
        """Take bytes as they came."""
        self._buffer.add(data)

    def next_operation(self) -> Operation | None:
        """The question that begins a connection, once it is whole; raises ProtocolError."""
        head = self._buffer.peek(_OPERATION.size)
        if head is None:
            return None
        version, code, _status = _OPERATION.unpack(head)
        if version != VERSION:
            raise ProtocolError("usbip", f"version {version:04X}, not {VERSION:04X}", data=head)
        if code == OP_REQ_DEVLIST:
            self._buffer.take(_OPERATION.size)
            return ListRequest()
        if code != OP_REQ_IMPORT:
            raise ProtocolError("usbip", f"operation {code:04X} is none that a server knows", data=head)
        if self._buffer.peek(_OPERATION.size + BUS_ID_SIZE) is None:
            return None
        return ImportRequest(_text(self._buffer.take(_OPERATION.size + BUS_ID_SIZE)[_OPERATION.size :]))

    def next_command(self) -> Command | None:
        """The next URB or unlink, once it is whole; raises ProtocolError."""
        head = self._buffer.peek(HEADER_SIZE)
        if head is None:
            return None
        command, number, device_number, direction, endpoint = _HEADER.unpack_from(head)
        if command == CMD_UNLINK:
            victim = int.from_bytes(self._buffer.take(HEADER_SIZE)[20:24], "big")
            return Unlink(number, device_number, victim)
        if command != CMD_SUBMIT:
            raise ProtocolError("usbip", f"command {command} is none that a server knows", data=head)
        flags, size, _start, packet_count, _interval, setup = _SUBMIT.unpack_from(head, _HEADER.size)
        _check_submit(head, direction, endpoint, size, packet_count)
        data_size = size if direction == DIRECTION_OUT else 0
        whole = self._buffer.peek(HEADER_SIZE + data_size)
        if whole is None:
            return None
        data = self._buffer.take(HEADER_SIZE + data_size)[HEADER_SIZE:]
        return Submit(number, device_number, direction == DIRECTION_IN, endpoint, flags, size, setup, data)


def encode_reply(reply: Reply) -> bytes:
    """RET_SUBMIT with what came in, or RET_UNLINK."""
    if isinstance(reply, UnlinkReply):
        return _HEADER.pack(RET_UNLINK, reply.number, 0, 0, 0) + struct.pack(">i", reply.status) + _UNLINK_PAD
    head = _HEADER.pack(RET_SUBMIT, reply.number, 0, 0, 0)
    return head + _RETURN.pack(reply.status, reply.size, 0, NO_PACKETS[1], 0) + reply.data


def encode_device_list(devices: list[RemoteDevice]) -> bytes:
    """OP_REP_DEVLIST: each device with its interfaces."""
    head = _OPERATION.pack(VERSION, OP_REP_DEVLIST, STATUS_OK) + struct.pack(">I", len(devices))
    return head + b"".join(_encode_device(one) + _encode_interfaces(one) for one in devices)


def encode_import_reply(device: RemoteDevice | None) -> bytes:
    """OP_REP_IMPORT: the device, or that there is none of that name (or that somebody has it)."""
    if device is None:
        return _OPERATION.pack(VERSION, OP_REP_IMPORT, STATUS_NO_DEVICE)
    return _OPERATION.pack(VERSION, OP_REP_IMPORT, STATUS_OK) + _encode_device(device)


# The other end: what attaches a device.


def encode_list_request() -> bytes:
    """OP_REQ_DEVLIST."""
    return _OPERATION.pack(VERSION, OP_REQ_DEVLIST, STATUS_OK)


def encode_import_request(bus_id: str) -> bytes:
    """OP_REQ_IMPORT; ValueError for a name that does not fit."""
    name = bus_id.encode()
    if len(name) >= BUS_ID_SIZE:
        raise ValueError(f"{bus_id!r} is longer than a bus id of USB/IP")
    return _OPERATION.pack(VERSION, OP_REQ_IMPORT, STATUS_OK) + name.ljust(BUS_ID_SIZE, b"\0")


def encode_command(command: Command) -> bytes:
    """CMD_SUBMIT with what goes out, or CMD_UNLINK: what a kernel sends; for tests and tools."""
    if isinstance(command, Unlink):
        head = _HEADER.pack(CMD_UNLINK, command.number, command.device_number, 0, 0)
        return head + struct.pack(">I", command.victim) + _UNLINK_PAD
    direction = DIRECTION_IN if command.is_in else DIRECTION_OUT
    head = _HEADER.pack(CMD_SUBMIT, command.number, command.device_number, direction, command.endpoint)
    return head + _SUBMIT.pack(command.flags, command.size, 0, NO_PACKETS[1], 0, command.setup) + command.data


class ReplyReader:
    """A client's side: `feed` bytes, then ask until None."""

    def __init__(self) -> None:
        self._buffer = _Buffer()
        self._in_sizes: dict[int, int] = {}

    def feed(self, data: bytes) -> None:
        """Take bytes as they came."""
        self._buffer.add(data)

    def expect(self, command: Command) -> None:
        """Note a command that was sent: only its direction says whether its reply carries data."""
        if isinstance(command, Submit):
            self._in_sizes[command.number] = command.size if command.is_in else 0

    def next_device_list(self) -> list[RemoteDevice] | None:
        """The answer to a list request, once it is whole; raises ProtocolError."""
        head = self._buffer.peek(_OPERATION.size + 4)
        if head is None:
            return None
        _check_reply(head, OP_REP_DEVLIST)
        count = int.from_bytes(head[_OPERATION.size :], "big")
        if count > DEVICE_COUNT_MAX:
            raise ProtocolError("usbip", f"a list of {count} devices", data=head)
        return self._read_devices(count)

    def next_import(self) -> RemoteDevice | str | None:
        """The answer to an import, once it is whole: the device, or a sentence why not; raises ProtocolError."""
        head = self._buffer.peek(_OPERATION.size)
        if head is None:
            return None
        if (status := _check_reply(head, OP_REP_IMPORT)) != STATUS_OK:
            return f"there is no such device, or it is attached elsewhere (status {status})"
        whole = self._buffer.peek(_OPERATION.size + _DEVICE.size)
        if whole is None:
            return None
        self._buffer.take(len(whole))
        return _decode_device(whole[_OPERATION.size :], ())

    def next_reply(self) -> Reply | None:
        """The next answer to a command, once it is whole; raises ProtocolError."""
        head = self._buffer.peek(HEADER_SIZE)
        if head is None:
            return None
        kind, number, *_ = _HEADER.unpack_from(head)
        status, size, *_ = _RETURN.unpack_from(head, _HEADER.size)
        if kind == RET_UNLINK:
            self._buffer.take(HEADER_SIZE)
            return UnlinkReply(number, status)
        if kind != RET_SUBMIT or number not in self._in_sizes:
            raise ProtocolError("usbip", "an answer to nothing", data=head)
        data_size = size if self._in_sizes[number] else 0
        if data_size > self._in_sizes[number]:
            raise ProtocolError("usbip", f"{size} bytes for {self._in_sizes[number]}", data=head)
        if self._buffer.peek(HEADER_SIZE + data_size) is None:
            return None
        del self._in_sizes[number]
        return SubmitReply(number, status, size, self._buffer.take(HEADER_SIZE + data_size)[HEADER_SIZE:])

    def _read_devices(self, count: int) -> list[RemoteDevice] | None:
        position, devices = _OPERATION.size + 4, []
        for _ in range(count):
            whole = self._buffer.peek(position + _DEVICE.size)
            if whole is None:
                return None
            interface_count = whole[-1]
            if interface_count > INTERFACE_COUNT_MAX:
                raise ProtocolError("usbip", f"a device of {interface_count} interfaces")
            begin, position = position, position + _DEVICE.size + 4 * interface_count
            if (described := self._buffer.peek(position)) is None:
                return None
            devices.append(_decode_device(described[begin : begin + _DEVICE.size], _interfaces(described[begin + _DEVICE.size :])))
        self._buffer.take(position)
        return devices


def _check_submit(head: bytes, direction: int, endpoint: int, size: int, packet_count: int) -> None:
    if direction not in (DIRECTION_OUT, DIRECTION_IN) or endpoint > 15:
        raise ProtocolError("usbip", f"endpoint {endpoint} in direction {direction}", data=head)
    if not 0 <= size <= TRANSFER_SIZE_MAX:
        raise ProtocolError("usbip", f"a transfer of {size} bytes", data=head)
    if packet_count not in NO_PACKETS:
        raise ProtocolError("usbip", "an isochronous transfer", data=head)


def _check_reply(head: bytes, code_expected: int) -> int:
    version, code, status = _OPERATION.unpack_from(head)
    if version != VERSION or code != code_expected:
        raise ProtocolError("usbip", f"version {version:04X}, reply {code:04X}", data=head)
    return int(status)


def _text(field: bytes) -> str:
    """A name in a field of zeros. Names are for comparing: what is no UTF-8 equals none of ours."""
    return field.split(b"\0", 1)[0].decode("utf-8", "backslashreplace")


def _encode_device(device: RemoteDevice) -> bytes:
    return _DEVICE.pack(
        f"/sys/devices/emulated/{device.bus_id}".encode()[: PATH_SIZE - 1],
        device.bus_id.encode()[: BUS_ID_SIZE - 1],
        *(device.bus, device.address, device.speed),
        *(device.vendor_id, device.product_id, device.device_release),
        *(0, 0, 0),  # class, subclass and protocol are those of the interfaces
        *(device.configuration_value, 1, len(device.interfaces)),
    )


def _encode_interfaces(device: RemoteDevice) -> bytes:
    return b"".join(bytes((*interface, 0)) for interface in device.interfaces)


def _decode_device(data: bytes, interfaces: tuple[tuple[int, int, int], ...]) -> RemoteDevice:
    _path, bus_id, bus, address, speed, vendor_id, product_id, release, *_, value, _count, _interfaces = _DEVICE.unpack(data)
    return RemoteDevice(_text(bus_id), bus, address, vendor_id, product_id, release, interfaces, value, speed)


def _interfaces(data: bytes) -> tuple[tuple[int, int, int], ...]:
    return tuple((data[start], data[start + 1], data[start + 2]) for start in range(0, len(data), 4))
