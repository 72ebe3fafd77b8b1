"""A smart card in a CCID reader: the slot engine of `ccid_slot` run over a bulk link.

The engine decides, this loop does: write, read, feed, until done. One command at a time (bMaxCCIDBusySlots is
1 on every token); one thread at a time. Waits are milliseconds: `answer_wait_ms` for one read, stretched by the
reader's time extensions, all of a command within `command_wait_ms` of monotonic time.

Errors leave the card in doubt; `reset` is the way back: clear halts, abort, drain, power cycle. The very first
command after plug-in may stay unanswered or meet a stale packet, so opening tries that way once by itself.

At the TPDU level the protocol is ours to agree on, after each power-up (libccid's order): PPS when the card's first
choice is not T=0, then SetParameters; either is left out where the reader does it itself. The card's rate stays at
the standard's default, which is slow (a certificate takes a second or two) and which every card and reader can do.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from hwkey.apdu import EXTENDED_SHAPE, SHORT_DATA_SIZE_MAX, SHORT_EXPECTED_SIZE_MAX, ApduForm, CommandShape
from hwkey.atr import PROTOCOL_T0, Atr, decode_atr
from hwkey.ccid import HEADER_SIZE
from hwkey.ccid_descriptor import CcidDescriptor, ExchangeLevel, refusal_of_descriptor, unsupported
from hwkey.ccid_slot import CcidSlot, Done, Read, Send
from hwkey.errors import CardFailure, HwkeyError, NotAnswering, ProtocolError, Stalled, Unsupported

DRAIN_READ_COUNT_MAX = 64
SHORT_HEADER_SIZE, LE_SIZE, STATUS_WORD_SIZE = 5, 1, 2
PPS_T0 = bytes.fromhex("FF00FF")  # PPSS, PPS0: T=0 and nothing else, PCK (7816-3 9.2)
UNCHANGEABLE_PARAMETERS = range(128)  # bError of SetParameters: not supported, or the index of what can not be set


@dataclass(frozen=True, slots=True)
class Waits:
    """How long to wait for a reader, in milliseconds. The slowest token seen took 1.0 s for one request."""

    answer_wait_ms: int = 5_000
    command_wait_ms: int = 15_000
    drain_wait_ms: int = 20


class BulkLink(Protocol):
    """A claimed CCID interface: bulk pipes and the abort request. Implemented over pyusb in `usb_transport`."""

    def write(self, data: bytes, wait_ms: int) -> None:
        """All of `data` to the bulk-out endpoint; raises HwkeyError."""

    def read(self, size_max: int, wait_ms: int) -> bytes:
        """One bulk-in transfer, possibly empty; raises NotAnswering when nothing came, else HwkeyError."""

    def request_abort(self, slot_index: int, sequence: int, wait_ms: int) -> None:
        """The control half of a CCID abort; raises HwkeyError."""

    def clear_halts(self) -> None:
        """Clear the halt condition of both bulk endpoints; raises HwkeyError."""

    def close(self) -> None:
        """Release and close; never raises, may be called twice."""


class CcidCard:
    """Implements `apdu.Card` over a bulk link; powered from construction by `open` until `close`."""

    def __init__(
        self,
        link: BulkLink,
        descriptor: CcidDescriptor,
        *,
        waits: Waits,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._link = link
        self._descriptor = descriptor
        self._waits = waits
        self._clock_ns = clock_ns
        self._is_extended = descriptor.level is ExchangeLevel.EXTENDED_APDU
        self._slot = CcidSlot(message_size_max=descriptor.message_size_max, has_chaining=self._is_extended)
        self._atr = b""
        self._shape = _shape_below_extended(descriptor)
        self._is_halted = False

    @classmethod
    def open(
        cls,
        link: BulkLink,
        descriptor: CcidDescriptor,
        *,
        waits: Waits | None = None,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> CcidCard:
        """Power the card of a reader whose level we speak; raises HwkeyError, and the link stays the caller's."""
        refusal = refusal_of_descriptor(descriptor)
        if refusal is not None:
            raise unsupported(refusal)
        card = cls(link, descriptor, waits=waits or Waits(), clock_ns=clock_ns)
        try:
            card._power_on()
        except (NotAnswering, ProtocolError, Stalled):
            card.reset()
        return card

    @property
    def atr(self) -> bytes:
        """Answer to reset of the last power-up."""
        return self._atr

    @property
    def shape(self) -> CommandShape:
        """What a command may be, by the descriptor of the reader and the ATR of the card."""
        return self._shape

    def transmit(self, command: bytes) -> bytes:
        """One command APDU, or TPDU, in; one response APDU out; raises HwkeyError."""
        return self._run(self._slot.transfer(command), "a card command").data

    def reset(self) -> None:
        """Clear halts, abort, drain, power off and on; raises HwkeyError when the card stays in doubt."""
        self._slot.cancel()
        self._clear_halts()
        self._abort()
        self._clear_halts()
        self._drain()
        self._run(self._slot.power_off(), "power off")
        self._power_on()

    def close(self) -> None:
        """Power the card off as far as that is possible, and let go of the device."""
        with suppress(HwkeyError):
            self._run(self._slot.power_off(), "power off", command_wait_ms=self._waits.drain_wait_ms * 10)
        self._link.close()

    def _power_on(self) -> None:
        selects = self._descriptor.power_selects
        for select in selects:
            try:
                self._atr = self._run(self._slot.power_on(select), "power on").data
                break
            except CardFailure:
                if select == selects[-1]:
                    raise
        atr = decode_atr(self._atr)
        is_extended = self._is_extended and atr.has_extended_lengths
        self._shape = EXTENDED_SHAPE if is_extended else _shape_below_extended(self._descriptor)
        if self._shape.form is ApduForm.T0_TPDU:
            self._agree_on_t0(atr)

    def _agree_on_t0(self, atr: Atr) -> None:
        """Make card and reader speak T=0; raises Unsupported when the card can not."""
        is_default = atr.default_protocol == PROTOCOL_T0
        if not is_default and (atr.has_fixed_protocol or PROTOCOL_T0 not in atr.protocols):
            raise Unsupported(
                reason="card_t1",
                detail="its card speaks T=1 and its reader leaves that to this driver, which does not speak it; put the "
                "card into a reader that exchanges APDUs, or use a USB security key",
            )
        if is_default and self._descriptor.has_auto_negotiation:
            return
        if not is_default and not self._descriptor.has_auto_pps:
            self._exchange_pps()
        try:
            self._run(self._slot.set_parameters(PROTOCOL_T0, atr.t0_parameters), "set parameters")
        except CardFailure as error:
            if error.error_code not in UNCHANGEABLE_PARAMETERS:
                raise

    def _exchange_pps(self) -> None:
        answer = self._run(self._slot.transfer(PPS_T0), "PPS").data
        if answer != PPS_T0:
            raise ProtocolError("atr", "the card did not agree to T=0", data=answer)

    def _run(self, step: Send | Read | Done, operation: str, *, command_wait_ms: int | None = None) -> Done:
        deadline_ns = self._clock_ns() + (command_wait_ms or self._waits.command_wait_ms) * 1_000_000
        try:
            while not isinstance(step, Done):
                step = self._slot.receive(self._do(step, operation, deadline_ns))
        except HwkeyError as error:
            self._slot.cancel()
            self._is_halted = self._is_halted or isinstance(error, Stalled)
            raise
        return step

    def _do(self, step: Send | Read, operation: str, deadline_ns: int) -> bytes:
        wait_ms = self._waits.answer_wait_ms
        if isinstance(step, Send):
            self._link.write(step.message, self._remaining_ms(wait_ms, operation, deadline_ns))
        else:
            wait_ms *= step.wait_multiplier
        return self._link.read(
            self._descriptor.message_size_max, self._remaining_ms(wait_ms, operation, deadline_ns)
        )

    def _remaining_ms(self, wait_ms: int, operation: str, deadline_ns: int) -> int:
        left_ms = (deadline_ns - self._clock_ns()) // 1_000_000
        # libusb takes a wait of 0 for "for ever", so the last millisecond counts as none left.
        if left_ms < 1:
            raise NotAnswering(operation=operation, waited_ms=self._waits.command_wait_ms)
        return min(wait_ms, left_ms)

    def _clear_halts(self) -> None:
        """Only after a stall: clearing restarts data toggles, which not every reader follows."""
        if self._is_halted:
            self._link.clear_halts()
            self._is_halted = False

    def _abort(self) -> None:
        """Both halves of an abort; a reader that knows none of it is drained and power-cycled all the same."""
        message = self._slot.abort()
        with suppress(NotAnswering, Stalled, CardFailure, ProtocolError):
            self._link.request_abort(0, self._slot.sequence, self._waits.answer_wait_ms)
            self._run(message, "abort")
        self._slot.cancel()

    def _drain(self) -> None:
        """Read away what is left of an older answer."""
        try:
            for _ in range(DRAIN_READ_COUNT_MAX):
                self._link.read(self._descriptor.message_size_max, self._waits.drain_wait_ms)
        except NotAnswering:
            return
        except Stalled:
            self._is_halted = True
            raise


def _shape_below_extended(descriptor: CcidDescriptor) -> CommandShape:
    """What fits one message of the reader; a few say less than a whole short APDU needs."""
    form = ApduForm.T0_TPDU if descriptor.level is ExchangeLevel.TPDU else ApduForm.SHORT
    if descriptor.level is ExchangeLevel.EXTENDED_APDU:
        return CommandShape(form)  # longer blocks are chained
    block_size = descriptor.message_size_max - HEADER_SIZE
    # Responses are let through when only the header does not fit: readers differ on whether it counts.
    fits_response = descriptor.message_size_max >= SHORT_EXPECTED_SIZE_MAX + STATUS_WORD_SIZE
    return CommandShape(
        form,
        data_size_max=max(1, min(SHORT_DATA_SIZE_MAX, block_size - SHORT_HEADER_SIZE - LE_SIZE)),
        expected_size_max=SHORT_EXPECTED_SIZE_MAX if fits_response else max(1, block_size - STATUS_WORD_SIZE),
    )
