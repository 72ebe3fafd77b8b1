"""An emulated token as a kernel has it over USB/IP: URBs in, answers out, without sockets, threads or a clock.

    device.take(command, now_ns)    an URB or an unlink; what can be answered at once
    device.advance(now_ns)          what has become ready since
    device.due_ns()                 when `advance` will have more; None while nothing is under way

Transfers out are carried out at once. Transfers in wait, in order, for packets of their endpoint, and end by the rule of
`function.InTransfer`; an unlink takes one out of the line, unanswered. Statuses are the negative errno values that a
host controller gives: EPIPE for a stall, EOVERFLOW, EREMOTEIO for a short transfer that may not be. `PulledOut` passes
through: the carrier then hangs up, which is how USB/IP unplugs. At most 256 URBs wait. One thread at a time.
"""

from __future__ import annotations

import errno
from collections import deque
from dataclasses import dataclass, field

from hwkey.emulated.function import ENDPOINT_IN, Halted, InTransfer, Overrun, Setup, TokenFunction
from hwkey.emulated.profile import PACKET_SIZE
from hwkey.emulated.usbip import FLAG_SHORT_NOT_OK, Command, Reply, Submit, SubmitReply, Unlink, UnlinkReply
from hwkey.errors import ProtocolError

WAITING_COUNT_MAX = 256


@dataclass(slots=True)
class _Waiting:
    """A transfer in that is under way."""

    submit: Submit
    transfer: InTransfer = field(init=False)

    def __post_init__(self) -> None:
        self.transfer = InTransfer(self.submit.size)


class UsbipDevice:
    """One import of one token; see the head of the module."""

    def __init__(self, function: TokenFunction, device_number: int) -> None:
        self._function = function
        self._device_number = device_number
        self._waiting: dict[int, deque[_Waiting]] = {}

    def take(self, command: Command, now_ns: int) -> list[Reply]:
        """Carry out one command; raises ProtocolError, or PulledOut."""
        if isinstance(command, Unlink):
            return [self._unlink(command)]
        if command.device_number != self._device_number:
            raise ProtocolError("usbip", f"device {command.device_number:08X} is not the imported one")
        if command.endpoint == 0:
            return [self._control(command)]
        if not command.is_in:
            return [self._write(command, now_ns), *self.advance(now_ns)]
        if sum(map(len, self._waiting.values())) >= WAITING_COUNT_MAX:
            raise ProtocolError("usbip", f"over {WAITING_COUNT_MAX} transfers wait")
        endpoint = command.endpoint | ENDPOINT_IN
        self._waiting.setdefault(endpoint, deque()).append(_Waiting(command))
        return list(self._read(endpoint, now_ns))

    def advance(self, now_ns: int) -> list[Reply]:
        """Fill transfers in with what is ready by now; raises PulledOut."""
        return [reply for endpoint in self._waiting for reply in self._read(endpoint, now_ns)]

    def due_ns(self) -> int | None:
        """When the next packet for a transfer that waits will be ready."""
        dues = [self._function.due_ns(endpoint) for endpoint, line in self._waiting.items() if line]
        return min((due for due in dues if due is not None), default=None)

    def _control(self, submit: Submit) -> Reply:
        try:
            answer = self._function.control(Setup.decode(submit.setup), submit.data)
        except Halted:
            return SubmitReply(submit.number, -errno.EPIPE, 0)
        if not submit.is_in:
            return SubmitReply(submit.number, 0, submit.size)
        # The room is the host's word, as wLength is: the smaller of them holds.
        answer = answer[: submit.size]
        return SubmitReply(submit.number, 0, len(answer), answer)

    def _write(self, submit: Submit, now_ns: int) -> Reply:
        try:
            for start in range(0, max(1, submit.size), PACKET_SIZE):
                self._function.packet_out(submit.endpoint, submit.data[start : start + PACKET_SIZE], now_ns)
        except Halted:
            return SubmitReply(submit.number, -errno.EPIPE, 0)
        return SubmitReply(submit.number, 0, submit.size)

    def _read(self, endpoint: int, now_ns: int) -> list[Reply]:
        line, replies = self._waiting[endpoint], list[Reply]()
        while line and (reply := self._fill(line[0], endpoint, now_ns)) is not None:
            line.popleft()
            replies.append(reply)
        return replies

    def _fill(self, waiting: _Waiting, endpoint: int, now_ns: int) -> Reply | None:
        number = waiting.submit.number
        try:
            while (packet := self._function.packet_in(endpoint, now_ns)) is not None:
                if waiting.transfer.take(packet):
                    return _received(waiting)
        except Halted:
            return SubmitReply(number, -errno.EPIPE, 0)
        except Overrun:
            return SubmitReply(number, -errno.EOVERFLOW, 0)
        return None

    def _unlink(self, unlink: Unlink) -> Reply:
        for line in self._waiting.values():
            for waiting in line:
                if waiting.submit.number == unlink.victim:
                    line.remove(waiting)
                    return UnlinkReply(unlink.number, -errno.ECONNRESET)
        return UnlinkReply(unlink.number, 0)


def _received(waiting: _Waiting) -> Reply:
    data, submit = waiting.transfer.received, waiting.submit
    is_too_short = len(data) < submit.size and submit.flags & FLAG_SHORT_NOT_OK
    return SubmitReply(submit.number, -errno.EREMOTEIO if is_too_short else 0, len(data), data)
