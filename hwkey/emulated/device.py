"""An emulated token while it is plugged in: claims, transfers, and the waits of hosts in this process on them.

This is the one place where an emulated token meets threads and time. `function` gives packets; a bulk-in transfer is
put together from them as a host controller does it, or ends with what has come when the wait is over. Unplugging wakes
every reader at once. Errors are OSError with the errno that Linux and libusb were seen to give (ENODEV, EBUSY, EPIPE,
ETIMEDOUT ...); the pyusb backend translates them. Any thread; one condition a device. Waits are milliseconds, 0 is for
ever.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

from hwkey.emulated.faults import FaultKind, FaultLayer
from hwkey.emulated.function import (
    CLEAR_FEATURE,
    FEATURE_ENDPOINT_HALT,
    TO_ENDPOINT,
    Halted,
    InTransfer,
    Overrun,
    PulledOut,
    Setup,
    TokenFunction,
)
from hwkey.emulated.profile import PACKET_SIZE
from hwkey.emulated.token import EmulatedToken


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
        on_self_unplug: Callable[[EmulatedDevice, bool], None],
    ) -> None:
        """`on_self_unplug` is told of a device that has left by itself, and whether it comes back at once."""
        self.token = token
        self.bus = bus
        self.port_numbers = port_numbers
        self.address = address
        self._on_self_unplug = on_self_unplug
        self._condition = threading.Condition()
        self._is_gone = False
        self._owners: dict[int, object] = {}
        self._function = TokenFunction(token)

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
        if fault is not None and fault.kind is FaultKind.OPEN_EIO_MOVED:
            self._leave(is_back_at_once=True)
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
        with self._carrying():
            self._check_transfer(endpoint, self._function.bulk_out, owner)
            for start in range(0, max(1, len(data)), PACKET_SIZE):
                self._function.packet_out(endpoint, data[start : start + PACKET_SIZE], time.monotonic_ns())
            self._condition.notify_all()
        return len(data)

    def read_bulk(self, endpoint: int, size_max: int, wait_ms: int, owner: object) -> bytes:
        """One bulk-in transfer of at most `size_max` bytes; ETIMEDOUT when nothing came, EOVERFLOW over it."""
        transfer = InTransfer(size_max)
        deadline_ns = _deadline_ns(wait_ms)
        with self._carrying():
            while True:
                packet = self._next_packet(endpoint, self._function.bulk_in, owner, deadline_ns)
                if packet is None:
                    return transfer.received or fail(errno.ETIMEDOUT)
                if transfer.take(packet):
                    return transfer.received

    def read_interrupt(self, endpoint: int, size_max: int, wait_ms: int, owner: object) -> bytes:
        """The next slot change notice, where the profile has an interrupt endpoint."""
        deadline_ns = _deadline_ns(wait_ms)
        with self._carrying():
            packet = self._next_packet(endpoint, self._function.interrupt_in, owner, deadline_ns)
        return packet[:size_max] if packet is not None else fail(errno.ETIMEDOUT)

    def control(self, setup: Setup, data: bytes = b"") -> bytes:
        """One control transfer; EPIPE for what the function does not know."""
        with self._carrying():
            self._check_present()
            return self._function.control(setup, data)

    def clear_halt(self, endpoint: int) -> None:
        """Let an endpoint work again."""
        self.control(Setup(TO_ENDPOINT, CLEAR_FEATURE, FEATURE_ENDPOINT_HALT, endpoint, 0))

    @contextmanager
    def _carrying(self) -> Iterator[None]:
        """Under the condition, with what a function raises made into the errno of a real stack."""
        try:
            with self._condition:
                yield
        except Halted:
            fail(errno.EPIPE)
        except Overrun:
            fail(errno.EOVERFLOW)
        except PulledOut:
            self._leave(is_back_at_once=False)
            fail(errno.ENODEV)

    def _leave(self, *, is_back_at_once: bool) -> None:
        """Outside our condition: the fleet's lock comes before it."""
        self.unplug()
        self._on_self_unplug(self, is_back_at_once)

    def _check_present(self) -> None:
        if self._is_gone:
            fail(errno.ENODEV)

    def _check_transfer(self, endpoint: int, expected: int, owner: object) -> None:
        self._check_present()
        if endpoint != expected or not expected:
            fail(errno.ENOENT)
        if self._owners.get(self.token.profile.ccid_interface_number) is not owner:
            fail(errno.EBUSY)

    def _next_packet(self, endpoint: int, expected: int, owner: object, deadline_ns: int | None) -> bytes | None:
        """Wait for a packet that is there and whose time has come; None when the wait is over."""
        while True:
            self._check_transfer(endpoint, expected, owner)
            now_ns = time.monotonic_ns()
            packet = self._function.packet_in(endpoint, now_ns)
            if packet is not None:
                return packet
            if deadline_ns is not None and now_ns >= deadline_ns:
                return None
            ends_ns = [moment for moment in (deadline_ns, self._function.due_ns(endpoint)) if moment is not None]
            self._condition.wait(max(0, min(ends_ns) - now_ns) / 1e9 if ends_ns else None)


def _deadline_ns(wait_ms: int) -> int | None:
    return time.monotonic_ns() + wait_ms * 1_000_000 if wait_ms else None
