"""An emulated token as a bus sees it: its endpoints, packet by packet, without threads, transfers or a clock.

    control(setup, data)            the control pipe: standard requests, descriptors, the CCID abort
    packet_out(endpoint, packet)    bulk-out, one packet of at most 64 bytes
    packet_in(endpoint)             bulk-in or interrupt-in: a packet, or None, which a bus calls NAK
    due_ns(endpoint)                when the packet that waits there will be ready; None when nothing waits

Whoever carries the packets makes transfers of them: `device` for hosts in this process, a USB/IP server for a kernel.
`InTransfer` is the rule that both follow: a transfer in ends on a short packet or on a full buffer, so an answer of
exactly n * 64 bytes ends on an empty packet. A stalled endpoint raises `Halted` until its halt is cleared, and a scripted
unplug raises `PulledOut`: the carrier must then make the token leave its bus. Time is an argument, in nanoseconds of
any clock that only grows. One thread at a time. Source: USB 2.0, chapters 5.8, 8.5 and 9.4.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

from hwkey.ccid import REQUEST_ABORT
from hwkey.emulated.applet import PivApplet
from hwkey.emulated.faults import Fault, FaultKind, FaultLayer
from hwkey.emulated.profile import ATTRIBUTES_BULK, ATTRIBUTES_INTERRUPT, PACKET_SIZE, EndpointSpec, Profile
from hwkey.emulated.reader import EmulatedReader, Packet
from hwkey.emulated.token import EmulatedToken
from hwkey.emulated.usb_descriptors import (
    CONFIGURATION_VALUE,
    TYPE_CONFIGURATION,
    TYPE_DEVICE,
    TYPE_STRING,
    configuration_descriptor,
    device_descriptor,
    string_descriptor,
)

ENDPOINT_IN = 0x80
SLOT_CHANGE_CARD_PRESENT = bytes([0x50, 0x03])

# bmRequestType: direction, type, recipient.
FROM_DEVICE, FROM_INTERFACE, FROM_ENDPOINT = 0x80, 0x81, 0x82
TO_DEVICE, TO_INTERFACE, TO_ENDPOINT = 0x00, 0x01, 0x02
CLASS_TO_INTERFACE = 0x21
GET_STATUS, CLEAR_FEATURE, SET_FEATURE, SET_ADDRESS = 0x00, 0x01, 0x03, 0x05
GET_DESCRIPTOR, GET_CONFIGURATION, SET_CONFIGURATION = 0x06, 0x08, 0x09
GET_INTERFACE, SET_INTERFACE = 0x0A, 0x0B
FEATURE_ENDPOINT_HALT = 0


class Halted(Exception):
    """The endpoint, or this control request, answers STALL."""


class PulledOut(Exception):
    """A scripted fault: the token leaves its bus in the middle of this packet."""


class Overrun(Exception):
    """More data than the transfer has room for."""


@dataclass(frozen=True, slots=True)
class Setup:
    """The eight bytes that begin a control transfer."""

    request_type: int
    request: int
    value: int
    index: int
    size: int

    @classmethod
    def decode(cls, data: bytes) -> Setup:
        """Read a setup packet; ValueError unless it is eight bytes."""
        if len(data) != 8:
            raise ValueError(f"a setup packet is 8 bytes, not {len(data)}")
        words = [int.from_bytes(data[start : start + 2], "little") for start in (2, 4, 6)]
        return cls(data[0], data[1], *words)


class InTransfer:
    """One transfer from the device: packets are put together until a short one, or until the buffer is full."""

    def __init__(self, size_max: int) -> None:
        self._size_max = size_max
        self.received = b""

    def take(self, packet: bytes) -> bool:
        """Add one packet; True when the transfer has ended. Raises Overrun."""
        self.received += packet
        if len(self.received) > self._size_max:
            raise Overrun
        return len(packet) < PACKET_SIZE or len(self.received) == self._size_max


class TokenFunction:
    """One attachment of one token. See the head of the module; `bulk_out`, `bulk_in`, `interrupt_in` are addresses."""

    def __init__(self, token: EmulatedToken) -> None:
        self._token = token
        self._profile = token.profile
        card = PivApplet(token.profile, token.certificate_der, token, token.faults)
        self._reader = EmulatedReader(token.profile, card, token.faults)
        self._ready: deque[tuple[int, Packet]] = deque()
        self._slot_changes: deque[bytes] = deque([SLOT_CHANGE_CARD_PRESENT])
        self._halted: set[int] = set()
        self._configuration = 0
        self.bulk_out, self.bulk_in, self.interrupt_in = _ccid_endpoints(token.profile)

    def packet_out(self, endpoint: int, packet: bytes, now_ns: int) -> None:
        """One packet to the reader; raises Halted, also for an endpoint that is none, or PulledOut."""
        self._check(endpoint, self.bulk_out)
        fault = self._take_fault(endpoint)
        if fault is not None and fault.kind is FaultKind.LOST_PACKET:
            return
        self._reader.receive(packet)
        for answer in self._reader.take_packets():
            begin_ns = max(now_ns, self._ready[-1][0]) if self._ready else now_ns
            self._ready.append((begin_ns + answer.delay_ms * 1_000_000, answer))

    def packet_in(self, endpoint: int, now_ns: int) -> bytes | None:
        """The next packet that is ready; None when none is. Raises Halted or PulledOut."""
        if endpoint and endpoint == self.interrupt_in:
            return self._slot_changes.popleft() if self._slot_changes else None
        self._check(endpoint, self.bulk_in)
        if not self._ready or self._ready[0][0] > now_ns:
            return None
        fault = self._take_fault(endpoint)
        due_ns, packet = self._ready.popleft()
        if fault is not None and fault.kind is FaultKind.LOST_PACKET:
            return self.packet_in(endpoint, now_ns)
        if fault is not None:
            half = len(packet.data) // 2 if fault.kind is FaultKind.SPLIT_PACKET else 0
            self._ready.appendleft((due_ns, replace(packet, data=packet.data[half:])))
            return packet.data[:half]
        return packet.data

    def due_ns(self, endpoint: int) -> int | None:
        """When the next packet of an endpoint will be ready; None when nothing is under way."""
        return self._ready[0][0] if endpoint == self.bulk_in and self._ready else None

    def clear_halt(self, endpoint: int) -> None:
        """Let an endpoint work again."""
        self._halted.discard(endpoint)

    def control(self, setup: Setup, data: bytes = b"") -> bytes:
        """One control transfer: what goes to the host, at most `setup.size` bytes; raises Halted."""
        requests: dict[tuple[int, int], Callable[[Setup], bytes | None]] = {
            (FROM_DEVICE, GET_DESCRIPTOR): self._descriptor,
            (FROM_DEVICE, GET_STATUS): lambda _: bytes(2),
            (FROM_INTERFACE, GET_STATUS): lambda _: bytes(2),
            (FROM_ENDPOINT, GET_STATUS): lambda asked: bytes([asked.index in self._halted, 0]),
            (FROM_DEVICE, GET_CONFIGURATION): lambda _: bytes([self._configuration]),
            (TO_DEVICE, SET_ADDRESS): lambda _: b"",
            (TO_DEVICE, SET_CONFIGURATION): self._configure,
            (FROM_INTERFACE, GET_INTERFACE): lambda _: bytes(1),
            (TO_INTERFACE, SET_INTERFACE): lambda asked: b"" if asked.value == 0 else None,
            (TO_ENDPOINT, CLEAR_FEATURE): self._clear_feature,
            (TO_ENDPOINT, SET_FEATURE): self._set_feature,
            (CLASS_TO_INTERFACE, REQUEST_ABORT): self._abort,
        }
        run = requests.get((setup.request_type, setup.request))
        answer = run(setup) if run is not None else None
        if answer is None:
            raise Halted
        return answer[: setup.size]

    def _check(self, endpoint: int, expected: int) -> None:
        if endpoint != expected or endpoint in self._halted:
            raise Halted

    def _take_fault(self, endpoint: int) -> Fault | None:
        """The fault of this packet, when it is one that the packet itself suffers; raises Halted or PulledOut."""
        fault = self._token.faults.take(FaultLayer.PACKET)
        if fault is None:
            return None
        if fault.kind is FaultKind.UNPLUG:
            raise PulledOut
        if fault.kind is FaultKind.STALL:
            self._halted.add(endpoint)
            raise Halted
        return fault

    def _descriptor(self, setup: Setup) -> bytes | None:
        kind, index = setup.value >> 8, setup.value & 0xFF
        if kind == TYPE_STRING:
            return string_descriptor(self._profile, self._token.serial, index)
        if kind == TYPE_DEVICE and index == 0:
            return device_descriptor(self._profile)
        if kind == TYPE_CONFIGURATION and index == 0:
            return configuration_descriptor(self._profile)
        return None

    def _configure(self, setup: Setup) -> bytes | None:
        if setup.value not in (0, CONFIGURATION_VALUE):
            return None
        self._configuration = setup.value
        self._halted.clear()
        return b""

    def _clear_feature(self, setup: Setup) -> bytes | None:
        if setup.value != FEATURE_ENDPOINT_HALT:
            return None
        self.clear_halt(setup.index)
        return b""

    def _set_feature(self, setup: Setup) -> bytes | None:
        if setup.value != FEATURE_ENDPOINT_HALT:
            return None
        self._halted.add(setup.index)
        return b""

    def _abort(self, setup: Setup) -> bytes | None:
        if setup.index != self._profile.ccid_interface_number:
            return None
        self._reader.abort()
        self._ready = deque(item for item in self._ready if item[1].outlives_abort)
        return b""


def _ccid_endpoints(profile: Profile) -> tuple[int, int, int]:
    """Addresses of bulk-out, bulk-in and interrupt-in (0: none) of the smart card interface."""
    interface = next(item for item in profile.interfaces if item.number == profile.ccid_interface_number)

    def find(attributes: int, direction: int) -> int:
        def is_wanted(endpoint: EndpointSpec) -> bool:
            return endpoint.attributes == attributes and endpoint.address & ENDPOINT_IN == direction

        return next((endpoint.address for endpoint in interface.endpoints if is_wanted(endpoint)), 0)

    return (
        find(ATTRIBUTES_BULK, 0),
        find(ATTRIBUTES_BULK, ENDPOINT_IN),
        find(ATTRIBUTES_INTERRUPT, ENDPOINT_IN),
    )
