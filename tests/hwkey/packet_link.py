"""A driver's link to an emulated token by packets alone: no pyusb, no threads, and a clock that jumps to the next event.

Implements `ccid_card.BulkLink` over `TokenFunction`, the face that a USB/IP server carries too, so what holds here holds
for any carrier. Waits cost nothing: when no packet is ready, the clock is at once where it is, or where the wait ends.
Every transfer counts, and one too many is an AssertionError, which no part of the driver catches.
"""

from __future__ import annotations

from hwkey import NotAnswering, SecurityKey, Stalled, Unplugged, Waits
from hwkey.ccid import REQUEST_ABORT
from hwkey.ccid_card import CcidCard
from hwkey.emulated import EmulatedToken
from hwkey.emulated.function import (
    CLASS_TO_INTERFACE,
    CLEAR_FEATURE,
    FEATURE_ENDPOINT_HALT,
    TO_ENDPOINT,
    Halted,
    InTransfer,
    PulledOut,
    Setup,
    TokenFunction,
)
from hwkey.emulated.profile import PACKET_SIZE
from hwkey.security_key import KeyDescription

WAITS = Waits(answer_wait_ms=1_000, command_wait_ms=5_000, drain_wait_ms=20)


class PacketLink:
    """One attachment of one token."""

    def __init__(self, token: EmulatedToken, *, transfer_count_max: int) -> None:
        self._token = token
        self._function = TokenFunction(token)
        self._transfer_count_max = transfer_count_max
        self._is_gone = False
        self.transfer_count = 0
        self.now_ns = 0

    def clock_ns(self) -> int:
        return self.now_ns

    def write(self, data: bytes, wait_ms: int) -> None:
        self._count()
        try:
            for start in range(0, len(data), PACKET_SIZE):
                self._function.packet_out(self._function.bulk_out, data[start : start + PACKET_SIZE], self.now_ns)
        except (Halted, PulledOut) as error:
            raise self._ended(error) from error

    def read(self, size_max: int, wait_ms: int) -> bytes:
        self._count()
        deadline_ns = self.now_ns + wait_ms * 1_000_000
        transfer = InTransfer(-(-size_max // PACKET_SIZE) * PACKET_SIZE)
        try:
            while (packet := self._next_packet(deadline_ns)) is not None:
                if transfer.take(packet):
                    return transfer.received
        except (Halted, PulledOut) as error:
            raise self._ended(error) from error
        if not transfer.received:
            raise NotAnswering(operation="bulk read", waited_ms=wait_ms)
        return transfer.received

    def request_abort(self, slot_index: int, sequence: int, wait_ms: int) -> None:
        interface = self._token.profile.ccid_interface_number
        self._control(Setup(CLASS_TO_INTERFACE, REQUEST_ABORT, sequence << 8 | slot_index, interface, 0))

    def clear_halts(self) -> None:
        for endpoint in (self._function.bulk_out, self._function.bulk_in):
            self._control(Setup(TO_ENDPOINT, CLEAR_FEATURE, FEATURE_ENDPOINT_HALT, endpoint, 0))

    def close(self) -> None:
        self._is_gone = True

    def open_key(self) -> SecurityKey:
        """The key behind this link, opened as a bus opens it."""
        card = CcidCard.open(self, self._token.profile.descriptor, waits=WAITS, clock_ns=self.clock_ns)
        return SecurityKey.open(card, KeyDescription("", self._token.serial, "0-1", is_emulated=True))

    def _next_packet(self, deadline_ns: int) -> bytes | None:
        while True:
            packet = self._function.packet_in(self._function.bulk_in, self.now_ns)
            if packet is not None:
                return packet
            due_ns = self._function.due_ns(self._function.bulk_in)
            if due_ns is None or due_ns > deadline_ns:
                self.now_ns = deadline_ns
                return None
            self.now_ns = due_ns

    def _control(self, setup: Setup) -> None:
        self._count()
        try:
            self._function.control(setup)
        except Halted as error:
            raise Stalled(operation="control") from error

    def _count(self) -> None:
        self.transfer_count += 1
        assert self.transfer_count <= self._transfer_count_max, f"over {self._transfer_count_max} transfers"
        if self._is_gone:
            raise Unplugged

    def _ended(self, error: Halted | PulledOut) -> Stalled | Unplugged:
        if isinstance(error, Halted):
            return Stalled(operation="bulk transfer")
        self._is_gone = True
        return Unplugged()
