"""An emulated token while it is plugged in: its endpoints, claims, halts, and the waits of a host on them.

This is the one place where an emulated token meets threads and time. A bulk-in transfer is put together from the
reader's packets as a host controller does it: it ends on a short packet, on a full buffer, or with what has come
when the wait is over. Unplugging wakes every reader at once. Errors are OSError with the errno that Linux and
libusb were seen to give (ENODEV, EBUSY, EPIPE, ETIMEDOUT ...); whoever serves the device (the pyusb backend, a
USB/IP server) translates them. Any thread; one condition a device. Waits are milliseconds, 0 is for ever.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import NoReturn

from hwkey.ccid import REQUEST_ABORT
from hwkey.emulated.applet import PivApplet
from hwkey.emulated.faults import FaultKind, FaultLayer
from hwkey.emulated.profile import MANUFACTURER, PACKET_SIZE, EndpointSpec
from hwkey.emulated.reader import EmulatedReader
from hwkey.emulated.token import EmulatedToken

REQUEST_TYPE_GET_STANDARD = 0x80
REQUEST_GET_DESCRIPTOR = 0x06
DESCRIPTOR_TYPE_STRING = 0x03
CLASS_REQUEST_TO_INTERFACE = 0x21
LANGUAGE_US_ENGLISH = 0x0409
INDEX_MANUFACTURER, INDEX_PRODUCT, INDEX_SERIAL = 1, 2, 3
ENDPOINT_IN = 0x80
SLOT_CHANGE_CARD_PRESENT = bytes([0x50, 0x03])


def fail(error_number: int) -> NoReturn:
    """Raise the OSError of an errno."""
    raise OSError(error_number, os.strerror(error_number))


class EmulatedDevice:
    """One attachment of one token. A replug is a new device with a new address, as on a real bus."""

    def __init__(
        self,
        token: EmulatedToken,
        *,
        bus: int,
        port_numbers: tuple[int, ...],
        address: int,
        on_self_unplug: Callable[[EmulatedDevice], None],
    ) -> None:
        self.token = token
        self.bus = bus
        self.port_numbers = port_numbers
        self.address = address
        self._on_self_unplug = on_self_unplug
        self._condition = threading.Condition()
        self._is_gone = False
        self._owners: dict[int, object] = {}
        self._halted: set[int] = set()
        card = PivApplet(token.profile, token.certificate_der, token, token.faults)
        self._reader = EmulatedReader(token.profile, card, token.faults)
        self._ready: deque[tuple[float, bytes]] = deque()
        self._slot_changes: deque[bytes] = deque([SLOT_CHANGE_CARD_PRESENT])
        self._bulk_out, self._bulk_in, self._interrupt_in = _ccid_endpoints(token)

    def unplug(self) -> None:
        """Leave the bus; every transfer under way or to come ends with ENODEV."""
        with self._condition:
            self._is_gone = True
            self._condition.notify_all()

    def open(self) -> None:
        """Check that a host may open the device now."""
        fault = self.token.faults.take(FaultLayer.OPEN)
        with self._condition:
            self._check_present()
        if fault is not None:
            fail(errno.EACCES if fault.kind is FaultKind.ACCESS_DENIED else errno.EIO)

    def claim(self, interface_number: int, owner: object) -> None:
        """Give an interface to an owner; EBUSY when another has it."""
        with self._condition:
            self._check_present()
            if interface_number not in {interface.number for interface in self.token.profile.interfaces}:
                fail(errno.ENOENT)
            if self._owners.setdefault(interface_number, owner) is not owner:
                fail(errno.EBUSY)

    def release(self, interface_number: int, owner: object) -> None:
        """Take an interface back from its owner; ENOENT when it was not his."""
        with self._condition:
            self._check_present()
            if self._owners.get(interface_number) is not owner:
                fail(errno.ENOENT)
            del self._owners[interface_number]

    def close(self, owner: object) -> None:
        """Take back everything from an owner; works on a device that is gone."""
        with self._condition:
            for interface_number in [number for number, held_by in self._owners.items() if held_by is owner]:
                del self._owners[interface_number]

    def write_bulk(self, endpoint: int, data: bytes, owner: object) -> int:
        """One bulk-out transfer; returns the bytes taken."""
        self._begin_transfer(endpoint, self._bulk_out)
        with self._condition:
            self._check_transfer(endpoint, self._bulk_out, owner)
            for start in range(0, len(data), PACKET_SIZE):
                self._reader.receive(data[start : start + PACKET_SIZE])
            self._take_packets()
            self._condition.notify_all()
        return len(data)

    def read_bulk(self, endpoint: int, size_max: int, wait_ms: int, owner: object) -> bytes:
        """One bulk-in transfer of at most `size_max` bytes; ETIMEDOUT when nothing came, EOVERFLOW over it."""
        self._begin_transfer(endpoint, self._bulk_in)
        deadline_s = time.monotonic() + wait_ms / 1000 if wait_ms else None
        received = b""
        with self._condition:
            while True:
                packet = self._next_packet(endpoint, owner, deadline_s)
                if packet is None:
                    return received or fail(errno.ETIMEDOUT)
                received += packet
                if len(received) > size_max:
                    fail(errno.EOVERFLOW)
                if len(packet) < PACKET_SIZE or len(received) == size_max:
                    return received

    def read_interrupt(self, endpoint: int, size_max: int, wait_ms: int, owner: object) -> bytes:
        """The next slot change notice, where the profile has an interrupt endpoint."""
        deadline_s = time.monotonic() + wait_ms / 1000 if wait_ms else None
        with self._condition:
            while True:
                self._check_transfer(endpoint, self._interrupt_in, owner)
                if self._slot_changes:
                    return self._slot_changes.popleft()[:size_max]
                if not self._wait_until(deadline_s):
                    fail(errno.ETIMEDOUT)

    def control(self, request_type: int, request: int, value: int, index: int, size_max: int) -> bytes:
        """One control transfer: string descriptors and the CCID abort; EPIPE for all others."""
        with self._condition:
            self._check_present()
            if (request_type, request) == (REQUEST_TYPE_GET_STANDARD, REQUEST_GET_DESCRIPTOR):
                return self._string_descriptor(value)[:size_max]
            if (request_type, request) == (CLASS_REQUEST_TO_INTERFACE, REQUEST_ABORT):
                if index != self.token.profile.ccid_interface_number:
                    fail(errno.EPIPE)
                self._reader.abort()
                self._ready.clear()
                return b""
        fail(errno.EPIPE)

    def clear_halt(self, endpoint: int) -> None:
        """Let an endpoint work again."""
        with self._condition:
            self._check_present()
            self._halted.discard(endpoint)

    def _begin_transfer(self, endpoint: int, expected: int) -> None:
        fault = self.token.faults.take(FaultLayer.TRANSFER) if endpoint == expected else None
        if fault is None:
            return
        if fault.kind is FaultKind.UNPLUG:
            self.unplug()
            self._on_self_unplug(self)  # outside our condition: the fleet's lock comes before it
        else:
            with self._condition:
                self._halted.add(endpoint)

    def _check_present(self) -> None:
        if self._is_gone:
            fail(errno.ENODEV)

    def _check_transfer(self, endpoint: int, expected: int, owner: object) -> None:
        self._check_present()
        if endpoint != expected or not expected:
            fail(errno.ENOENT)
        if self._owners.get(self.token.profile.ccid_interface_number) is not owner:
            fail(errno.EBUSY)
        if endpoint in self._halted:
            fail(errno.EPIPE)

    def _take_packets(self) -> None:
        ready_s = time.monotonic()
        while self._reader.packets:
            packet = self._reader.packets.popleft()
            ready_s += packet.delay_ms / 1000
            self._ready.append((ready_s, packet.data))

    def _next_packet(self, endpoint: int, owner: object, deadline_s: float | None) -> bytes | None:
        """Wait for a packet that is there and whose time has come; None when the wait is over."""
        while True:
            self._check_transfer(endpoint, self._bulk_in, owner)
            now_s = time.monotonic()
            if self._ready and self._ready[0][0] <= now_s:
                return self._ready.popleft()[1]
            if deadline_s is not None and now_s >= deadline_s:
                return None
            due_s = [moment for moment in (deadline_s, self._ready[0][0] if self._ready else None) if moment is not None]
            self._wait_until(min(due_s) if due_s else None)

    def _wait_until(self, moment_s: float | None) -> bool:
        """Wait for a notification; False when the moment had passed before."""
        if moment_s is None:
            self._condition.wait()
            return True
        left_s = moment_s - time.monotonic()
        if left_s <= 0:
            return False
        self._condition.wait(left_s)
        return True

    def _string_descriptor(self, value: int) -> bytes:
        if value >> 8 != DESCRIPTOR_TYPE_STRING:
            fail(errno.EPIPE)
        index = value & 0xFF
        strings = {
            INDEX_MANUFACTURER: MANUFACTURER,
            INDEX_PRODUCT: self.token.profile.product,
            INDEX_SERIAL: self.token.serial,
        }
        if index == 0:
            body = LANGUAGE_US_ENGLISH.to_bytes(2, "little")
        elif index in strings:
            body = strings[index].encode("utf-16-le")[:252]
        else:
            fail(errno.EPIPE)
        return bytes([len(body) + 2, DESCRIPTOR_TYPE_STRING]) + body


def _ccid_endpoints(token: EmulatedToken) -> tuple[int, int, int]:
    """Addresses of bulk-out, bulk-in and interrupt-in (0: none) of the smart card interface."""
    profile = token.profile
    interface = next(item for item in profile.interfaces if item.number == profile.ccid_interface_number)

    def find(is_wanted: Callable[[EndpointSpec], bool]) -> int:
        return next((endpoint.address for endpoint in interface.endpoints if is_wanted(endpoint)), 0)

    return (
        find(lambda endpoint: not endpoint.address & ENDPOINT_IN),
        find(lambda endpoint: bool(endpoint.address & ENDPOINT_IN) and endpoint.attributes == 2),
        find(lambda endpoint: bool(endpoint.address & ENDPOINT_IN) and endpoint.attributes == 3),
    )
