"""What can go wrong with a security key, as one tree split by who is at fault.

`HwkeyError` is the root, and everything that `hwkey` raises about the outside world is below it:

    HwkeyError
      DeviceError      the key or its reader: Unplugged, NotAnswering, Stalled, ProtocolError,
                       StatusWordError, CardFailure (CardMute, CardUnpowered), CardAbsent, ProofRejected
      UnfitError       a device that will never do as it is: NotAPivKey, Unsupported
      HostError        this machine: Busy, NotPermitted, BackendMissing, UsbFailure, TokenStoreError
      KeyClosed        the caller used a security key that it had closed

Rules: facts are attributes, the sentence is made from them; `code` is a short constant word that is safe as
a metric label; `where` is the USB path, filled in by the first layer that knows it (`located`). Foreign
errors (pyusb's USBError) are translated once, in `usb_transport`. Wrong arguments from our own code are
ValueError, not one of these. Raised on whichever thread made the call.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

# Enough of an offending message to recognise it in a log, never all of a hostile one.
EXCERPT_SIZE_MAX = 32


class HwkeyError(Exception):
    """Root of the tree. `code` names the kind, `where` the USB path (None: not known)."""

    code: ClassVar[str] = "hwkey_error"

    def __init__(self, sentence: str, *, where: str | None = None) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.where = where

    def __str__(self) -> str:
        return self.sentence if self.where is None else f"security key at {self.where}: {self.sentence}"


class DeviceError(HwkeyError):
    """The key or its reader is at fault; another attempt may succeed."""

    code = "device_error"


class Unplugged(DeviceError):
    """The device has left the bus (ENODEV), or is no longer the one that the port named."""

    code = "unplugged"

    def __init__(self, *, where: str | None = None) -> None:
        super().__init__("it has been unplugged", where=where)


class NotAnswering(DeviceError):
    """No answer within the wait. `operation` was under way, `waited_ms` is the wait that passed."""

    code = "not_answering"

    def __init__(self, *, operation: str, waited_ms: int, where: str | None = None) -> None:
        super().__init__(f"no answer to {operation} within {waited_ms} ms", where=where)
        self.operation = operation
        self.waited_ms = waited_ms


class Stalled(DeviceError):
    """The device halted an endpoint (EPIPE). `operation` was under way."""

    code = "stalled"

    def __init__(self, *, operation: str, where: str | None = None) -> None:
        super().__init__(f"it stalled during {operation}", where=where)
        self.operation = operation


class ProtocolError(DeviceError):
    """Bytes that break a standard. `layer` is tlv, apdu, atr, ccid, piv or usb; `excerpt` is how they begin."""

    code = "protocol_error"

    def __init__(self, layer: str, detail: str, *, data: bytes = b"", where: str | None = None) -> None:
        self.layer = layer
        self.detail = detail
        self.excerpt = bytes(data[:EXCERPT_SIZE_MAX])
        shown = f" [{self.excerpt.hex(' ')}]" if self.excerpt else ""
        super().__init__(f"malformed {layer}: {detail}{shown}", where=where)


class StatusWordError(DeviceError):
    """The card refused a command with an ISO 7816-4 status word. `instruction` is the INS byte."""

    code = "refused_by_card"

    def __init__(self, *, instruction: int, status_word: int, where: str | None = None) -> None:
        super().__init__(f"instruction {instruction:02X} was refused with {status_word:04X}", where=where)
        self.instruction = instruction
        self.status_word = status_word


# bError, CCID rev. 1.1 table 6.2-2, in words for an admin; 01 to 7F name the byte of the command that is wrong.
SLOT_ERROR_WORDS: dict[int, str] = {
    0xFF: "the command was aborted",
    0xFE: "the card does not answer (mute)",
    0xFD: "parity errors between reader and card",
    0xFC: "the card sends faster than the reader takes",
    0xFB: "hardware error in the reader",
    0xF8: "the card's answer to reset has a wrong check byte",
    0xF7: "the card's answer to reset is none",
    0xF6: "the card's protocol is not supported",
    0xF5: "the card's class is not supported",
    0xF4: "procedure byte conflict",
    0xF3: "deactivated protocol",
    0xF2: "the reader is busy with its own sequence",
    0xF0: "the reader waits for a PIN",
    0xE0: "the reader's slot is busy",
    0x05: "no such slot",
    0x00: "command not supported",
}


class CardFailure(DeviceError):
    """The reader reported a failed command. `error_code` is CCID's bError, `icc_status` bmICCStatus."""

    code = "card_failure"

    def __init__(self, *, error_code: int, icc_status: int, where: str | None = None) -> None:
        words = SLOT_ERROR_WORDS.get(error_code, "the reader refuses the command")
        state = {0: "powered", 1: "without power"}.get(icc_status, "of unknown state")
        super().__init__(f"{words} (error {error_code:02X}, card {state})", where=where)
        self.error_code = error_code
        self.icc_status = icc_status


class CardMute(CardFailure):
    """A card is in the slot and does not answer (bError FE): wrongly inserted, dirty, or no smart card at all."""

    code = "card_mute"


class CardUnpowered(CardFailure):
    """The card has lost its power (bmICCStatus 1): taken out and put back, or powered off by its reader."""

    code = "card_unpowered"


class CardAbsent(DeviceError):
    """The reader has no card in its slot (bmICCStatus 2)."""

    code = "card_absent"

    def __init__(self, *, where: str | None = None) -> None:
        super().__init__("the reader holds no card", where=where)


class ProofRejected(DeviceError):
    """A signature that the thumbprinted public key did not make. `thumbprint` names that key."""

    code = "proof_rejected"

    def __init__(self, *, thumbprint: str, detail: str, where: str | None = None) -> None:
        super().__init__(f"the proof of key {thumbprint} was rejected: {detail}", where=where)
        self.thumbprint = thumbprint
        self.detail = detail


class UnfitError(HwkeyError):
    """The device is sound but can not serve; trying again without a change is useless."""

    code = "unfit"


class NotAPivKey(UnfitError):
    """No PIV applet, or no usable certificate in slot 9E."""

    code = "not_a_piv_key"

    def __init__(self, detail: str, *, where: str | None = None) -> None:
        super().__init__(detail, where=where)
        self.detail = detail


class Unsupported(UnfitError):
    """A reader or algorithm that this driver does not speak. `reason` is a constant word."""

    code = "unsupported"

    def __init__(self, *, reason: str, detail: str, where: str | None = None) -> None:
        super().__init__(detail, where=where)
        self.reason = reason
        self.detail = detail


class HostError(HwkeyError):
    """This machine is at fault, not the key."""

    code = "host_error"


class Busy(HostError):
    """Another process holds the interface (EBUSY): pcscd or scdaemon as a rule. `holders` names those that could be seen."""

    code = "busy"

    def __init__(self, *, where: str | None = None, holders: tuple[str, ...] = ()) -> None:
        who = f"it is held by {', '.join(holders)}" if holders else "another process holds it"
        super().__init__(
            f"{who}; if that is pcscd: systemctl disable --now pcscd.socket pcscd.service, "
            "or let pcscd ignore this reader; `usher doctor` says more",
            where=where,
        )
        self.holders = holders


class NotPermitted(HostError):
    """The device may not be opened by this user (EACCES)."""

    code = "not_permitted"

    def __init__(self, *, where: str | None = None) -> None:
        super().__init__("this user may not open it; install the udev rules 70-usher.rules and 99-usher.rules (`usher doctor` says how)", where=where)


class BackendMissing(HostError):
    """libusb is not installed, so no real USB device can be seen."""

    code = "backend_missing"

    def __init__(self) -> None:
        super().__init__(
            "libusb-1.0 is not installed, so no real security key can be used; on Debian: apt install libusb-1.0-0, "
            "then start again"
        )


class UsbFailure(HostError):
    """Any other USB error. `error_number` is errno, or None. EIO on open has been tried a second time already."""

    code = "usb_failure"

    def __init__(self, *, operation: str, error_number: int | None, detail: str, where: str | None = None) -> None:
        super().__init__(f"USB {operation} failed: {detail} (errno {error_number})", where=where)
        self.operation = operation
        self.error_number = error_number
        self.detail = detail


class TokenStoreError(HostError):
    """An emulated token's directory can not be read or written. `path` names the file."""

    code = "token_store"

    def __init__(self, *, path: str, detail: str) -> None:
        super().__init__(f"emulated token at {path}: {detail}")
        self.path = path
        self.detail = detail


class KeyClosed(HwkeyError):
    """The security key was closed by its owner before this call."""

    code = "closed"

    def __init__(self, *, where: str | None = None) -> None:
        super().__init__("it has been closed", where=where)


@contextmanager
def located(where: str) -> Iterator[None]:
    """Write the USB path into any HwkeyError that passes through and does not know it yet."""
    try:
        yield
    except HwkeyError as error:
        if error.where is None:
            error.where = where
        raise
