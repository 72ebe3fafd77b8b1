"""A host's side of USB/IP in user space: what a kernel does with URBs, so that the driver can be run without one.

Implements `ccid_card.BulkLink` over a socket to a `UsbipServer`. A read that finds nothing in time is unlinked, as usbfs
does, and a connection that ends is an unplugged device.
"""

from __future__ import annotations

import errno
import itertools
import socket

from hwkey import NotAnswering, SecurityKey, Stalled, Unplugged, Waits
from hwkey.ccid import REQUEST_ABORT
from hwkey.ccid_card import CcidCard
from hwkey.emulated.function import CLASS_TO_INTERFACE, CLEAR_FEATURE, TO_ENDPOINT
from hwkey.emulated.profile import Profile
from hwkey.emulated.usbip import (
    RemoteDevice,
    Reply,
    ReplyReader,
    Submit,
    SubmitReply,
    Unlink,
    UnlinkReply,
    encode_command,
    encode_import_request,
)
from hwkey.security_key import KeyDescription

WAITS = Waits(answer_wait_ms=1_000, command_wait_ms=5_000, drain_wait_ms=20)
CUT_OFF_S = 10.0


class UsbipHost:
    """One connection to a server, and after `import_device` one device."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._connection = socket.create_connection(address, CUT_OFF_S)
        self._reader = ReplyReader()
        self._numbers = itertools.count(1)
        self.device: RemoteDevice | None = None

    def import_device(self, bus_id: str) -> RemoteDevice | str:
        self._connection.sendall(encode_import_request(bus_id))
        while (answer := self._reader.next_import()) is None:
            self._receive(CUT_OFF_S)
        self.device = answer if isinstance(answer, RemoteDevice) else None
        return answer

    def submit(self, endpoint: int, *, data: bytes | None = None, size: int = 0, setup: bytes = bytes(8)) -> int:
        """An URB: out with `data`, in without; its number."""
        assert self.device is not None
        number = next(self._numbers)
        is_in, sent = data is None, data or b""
        one = Submit(
            number, self.device.device_number, is_in, endpoint & 0x0F, 0, size if is_in else len(sent), setup, sent
        )
        self._reader.expect(one)
        self._send(encode_command(one))
        return number

    def unlink(self, victim: int) -> int:
        assert self.device is not None
        number = next(self._numbers)
        self._send(encode_command(Unlink(number, self.device.device_number, victim)))
        return number

    def reply(self, wait_s: float = CUT_OFF_S) -> Reply | None:
        """The next answer; None when there is none in time. Raises Unplugged."""
        while (answer := self._reader.next_reply()) is None:
            try:
                self._receive(wait_s)
            except TimeoutError:
                return None
        return answer

    def close(self) -> None:
        self._connection.close()

    def _send(self, data: bytes) -> None:
        try:
            self._connection.sendall(data)
        except ConnectionError as error:
            raise Unplugged from error

    def _receive(self, wait_s: float) -> None:
        self._connection.settimeout(wait_s)
        try:
            received = self._connection.recv(65536)
        except ConnectionError as error:
            raise Unplugged from error
        if not received:
            raise Unplugged
        self._reader.feed(received)


class UsbipLink:
    """`BulkLink` over a host's connection."""

    def __init__(self, host: UsbipHost, profile: Profile) -> None:
        self._host = host
        self._interface = profile.ccid_interface_number
        endpoints = next(one for one in profile.interfaces if one.number == self._interface).endpoints
        self._bulk_out, self._bulk_in = endpoints[0].address, endpoints[1].address

    def write(self, data: bytes, wait_ms: int) -> None:
        self._finished(self._host.submit(self._bulk_out, data=data), "bulk write")

    def read(self, size_max: int, wait_ms: int) -> bytes:
        number = self._host.submit(self._bulk_in, size=-(-size_max // 64) * 64)
        answer = self._host.reply(wait_ms / 1000)
        if answer is None:
            unlinked = self._host.unlink(number)
            answer = self._host.reply()
            if answer == UnlinkReply(unlinked, -errno.ECONNRESET):
                raise NotAnswering(operation="bulk read", waited_ms=wait_ms)
            assert self._host.reply() == UnlinkReply(unlinked, 0)
        return self._checked(answer, number, "bulk read").data

    def request_abort(self, slot_index: int, sequence: int, wait_ms: int) -> None:
        setup = bytes([CLASS_TO_INTERFACE, REQUEST_ABORT, slot_index, sequence, self._interface, 0, 0, 0])
        self._finished(self._host.submit(0, data=b"", setup=setup), "abort request")

    def clear_halts(self) -> None:
        for endpoint in (self._bulk_out, self._bulk_in):
            setup = bytes([TO_ENDPOINT, CLEAR_FEATURE, 0, 0, endpoint, 0, 0, 0])
            self._finished(self._host.submit(0, data=b"", setup=setup), "clear halt")

    def close(self) -> None:
        self._host.close()

    def _finished(self, number: int, operation: str) -> None:
        self._checked(self._host.reply(), number, operation)

    def _checked(self, answer: Reply | None, number: int, operation: str) -> SubmitReply:
        assert isinstance(answer, SubmitReply)
        assert answer.number == number
        if answer.status == -errno.EPIPE:
            raise Stalled(operation=operation)
        assert answer.status == 0
        return answer


def open_over_usbip(address: tuple[str, int], bus_id: str, profile: Profile) -> SecurityKey:
    """The production driver on a token that is attached by nothing but bytes."""
    host = UsbipHost(address)
    try:
        if isinstance(refusal := host.import_device(bus_id), str):
            raise LookupError(refusal)
        card = CcidCard.open(UsbipLink(host, profile), profile.descriptor, waits=WAITS)
    except BaseException:
        host.close()
        raise
    return SecurityKey.open(card, KeyDescription(profile.product, "", bus_id, True))
