"""The real USB seam: CCID interfaces found and opened through a pyusb backend.

One of the two files that import `usb` (the other is the emulated backend). The backend is always passed on:
pyusb's own search falls back to others in silence. Every USBError becomes one of ours here and nowhere else:

    ENODEV Unplugged · EBUSY Busy · EACCES, EPERM NotPermitted · ETIMEDOUT NotAnswering · EPIPE Stalled
    EOVERFLOW ProtocolError · ENOSYS, not implemented Unsupported · anything else UsbFailure with its errno

Finding does no transfers; strings need one open and a few control transfers. `find_interfaces` may be called
from any one thread at a time; a `UsbLink` belongs to the thread of its card. Waits are milliseconds.
"""

from __future__ import annotations

import errno
import importlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import usb.core
import usb.util

from hwkey.ccid import INTERFACE_CLASS, REQUEST_ABORT
from hwkey.ccid_descriptor import (
    CcidDescriptor,
    Refusal,
    decode_descriptor,
    refusal_of_descriptor,
    refusal_of_interface,
    unsupported,
)
from hwkey.errors import (
    BackendMissing,
    Busy,
    HwkeyError,
    NotAnswering,
    NotPermitted,
    ProtocolError,
    Stalled,
    Unplugged,
    Unsupported,
    UsbFailure,
)

CLASS_REQUEST_TO_INTERFACE = 0x21
STRING_WAIT_MS = 500

log = logging.getLogger(__name__)

# pyusb has no types; these two names are the border behind which nothing is checked.
_Device: Any = usb.core.Device
_util: Any = usb.util


@dataclass(frozen=True, slots=True)
class CcidInterface:
    """One CCID interface of one attached device, as its descriptors show it; no transfer was needed.

    `descriptor` and the endpoints mean something only when `refusal` is None. `device_id` is the backend's.
    """

    bus: int
    port_numbers: tuple[int, ...]
    address: int
    vendor_id: int
    product_id: int
    interface_number: int
    refusal: Refusal | None
    descriptor: CcidDescriptor | None = None
    bulk_out: int = 0
    bulk_in: int = 0
    packet_size: int = 64
    device_id: object = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class DeviceStrings:
    """String descriptors for display; empty where the device has none or may not be opened."""

    product: str = ""
    serial: str = ""


def load_libusb_backend() -> object:
    """pyusb's libusb-1.0 backend, loaded on the first call; raises BackendMissing."""
    # Loads a shared library, so only where real keys are wanted.
    libusb1: Any = importlib.import_module("usb.backend.libusb1")
    backend: object = libusb1.get_backend()
    if backend is None:
        raise BackendMissing
    return backend


def find_interfaces(backend: Any) -> list[CcidInterface]:
    """Every smart card interface on the bus, those that are refused included; raises HwkeyError.

    A device that leaves while it is looked at is left out, and so is one that cannot be described: any gadget can be
    plugged in beside the keys, and must not hide them.
    """
    interfaces: list[CcidInterface] = []
    with _translated("enumeration", 0):
        device_ids = list(backend.enumerate_devices())
    for device_id in device_ids:
        try:
            interfaces.extend(_interfaces_of(backend, device_id))
        except (usb.core.USBError, NotImplementedError, LookupError, ValueError) as error:
            log.debug("left out of the scan: %r", error)
    return interfaces


def read_strings(backend: Any, interface: CcidInterface) -> DeviceStrings:
    """Product and serial of the device, as far as it may be asked; never raises for a device's fault."""
    device: Any = _Device(interface.device_id, backend)
    device.default_timeout = STRING_WAIT_MS
    try:
        return DeviceStrings(device.product or "", device.serial_number or "")
    except (usb.core.USBError, ValueError, IndexError, NotImplementedError) as error:
        log.debug("no strings from %s-%s: %s", interface.bus, interface.port_numbers, error)
        return DeviceStrings()
    finally:
        _util.dispose_resources(device)


class UsbLink:
    """Implements `ccid_card.BulkLink`: an opened device with its CCID interface claimed until `close`."""

    def __init__(self, device: Any, interface: CcidInterface) -> None:
        self._device = device
        self._interface = interface

    @classmethod
    def open(cls, backend: Any, interface: CcidInterface) -> UsbLink:
        """Open and claim; raises Unsupported for a refused interface, Busy, NotPermitted, Unplugged, UsbFailure."""
        if interface.refusal is not None:
            raise unsupported(interface.refusal)
        with _translated("open", 0):
            # A Device of its own, so that nothing is shared with another opening of the same place.
            device: Any = _Device(interface.device_id, backend)
        try:
            with _translated("claim", 0):
                _util.claim_interface(device, interface.interface_number)
        except HwkeyError:
            _util.dispose_resources(device)
            raise
        return cls(device, interface)

    def write(self, data: bytes, wait_ms: int) -> None:
        """All of `data` in one transfer. No zero-length packet follows: readers know the length (CCID 5.1)."""
        with _translated("bulk write", wait_ms):
            written = self._device.write(self._interface.bulk_out, data, wait_ms)
        if written != len(data):
            raise NotAnswering(operation="bulk write", waited_ms=wait_ms)

    def read(self, size_max: int, wait_ms: int) -> bytes:
        """One transfer; the buffer is rounded up to whole packets, else libusb reports an overflow."""
        packet_size = self._interface.packet_size
        size = -(-size_max // packet_size) * packet_size
        with _translated("bulk read", wait_ms):
            return bytes(self._device.read(self._interface.bulk_in, size, wait_ms))

    def request_abort(self, slot_index: int, sequence: int, wait_ms: int) -> None:
        """Class request ABORT: wValue is bSeq in the high byte and bSlot in the low one."""
        value = sequence << 8 | slot_index
        with _translated("abort request", wait_ms):
            self._device.ctrl_transfer(
                CLASS_REQUEST_TO_INTERFACE, REQUEST_ABORT, value, self._interface.interface_number, None, wait_ms
            )

    def clear_halts(self) -> None:
        """Clear the halt condition of both bulk endpoints, which also restarts their data toggles."""
        with _translated("clear halt", 0):
            self._device.clear_halt(self._interface.bulk_out)
            self._device.clear_halt(self._interface.bulk_in)

    def close(self) -> None:
        """Release and close; an unplugged device is let go of just the same."""
        with suppress(usb.core.USBError):
            _util.dispose_resources(self._device)


def _interfaces_of(backend: Any, device_id: object) -> Iterator[CcidInterface]:
    device: Any = _Device(device_id, backend)
    if device.bNumConfigurations < 1:
        return
    # Security keys have one configuration; the first of several is the one that Linux selects.
    for interface in device[0]:
        if interface.bInterfaceClass == INTERFACE_CLASS and interface.bAlternateSetting == 0:
            yield _describe(device, device_id, interface)


def _describe(device: Any, device_id: object, interface: Any) -> CcidInterface:
    bulk = [endpoint for endpoint in interface if endpoint.bmAttributes & 0b11 == _util.ENDPOINT_TYPE_BULK]
    outs = [endpoint for endpoint in bulk if not endpoint.bEndpointAddress & _util.ENDPOINT_IN]
    ins = [endpoint for endpoint in bulk if endpoint.bEndpointAddress & _util.ENDPOINT_IN]
    # libccid has met readers that hang the class descriptor on an endpoint.
    extras = [interface.extra_descriptors, *(endpoint.extra_descriptors for endpoint in interface)]
    descriptor, refusal = _read_class_descriptor(b"".join(bytes(extra or b"") for extra in extras))
    if not outs or not ins:
        refusal = Refusal.NO_DESCRIPTOR
    by_class = refusal_of_interface(
        interface.bInterfaceClass, interface.bInterfaceSubClass, interface.bInterfaceProtocol
    )
    return CcidInterface(
        bus=device.bus or 0,
        port_numbers=tuple(device.port_numbers or ()),
        address=device.address or 0,
        vendor_id=device.idVendor,
        product_id=device.idProduct,
        interface_number=interface.bInterfaceNumber,
        refusal=by_class or refusal,
        descriptor=descriptor,
        bulk_out=outs[0].bEndpointAddress if outs else 0,
        bulk_in=ins[0].bEndpointAddress if ins else 0,
        packet_size=max(1, ins[0].wMaxPacketSize & 0x7FF) if ins else 64,
        device_id=device_id,
    )


def _read_class_descriptor(extra: bytes) -> tuple[CcidDescriptor | None, Refusal | None]:
    try:
        descriptor = decode_descriptor(extra)
    except ProtocolError:
        return None, Refusal.MALFORMED_DESCRIPTOR if extra else Refusal.NO_DESCRIPTOR
    return descriptor, refusal_of_descriptor(descriptor)


@contextmanager
def _translated(operation: str, wait_ms: int) -> Iterator[None]:
    try:
        yield
    except usb.core.USBError as error:
        raise _translate(error, operation, wait_ms) from error
    except NotImplementedError as error:
        raise Unsupported(reason="usb_operation", detail=f"USB {operation} is not possible here") from error


def _translate(error: usb.core.USBError, operation: str, wait_ms: int) -> HwkeyError:
    if isinstance(error, usb.core.USBTimeoutError) or error.errno == errno.ETIMEDOUT:
        return NotAnswering(operation=operation, waited_ms=wait_ms)
    if error.errno == errno.ENODEV:
        return Unplugged()
    if error.errno == errno.EBUSY:
        return Busy()
    if error.errno in (errno.EACCES, errno.EPERM):
        return NotPermitted()
    if error.errno == errno.EPIPE:
        return Stalled(operation=operation)
    if error.errno == errno.EOVERFLOW:
        return ProtocolError("usb", f"more data than was asked for in {operation}")
    if error.errno == errno.ENOSYS:
        return Unsupported(reason="usb_operation", detail=f"USB {operation} is not possible here")
    return UsbFailure(operation=operation, error_number=error.errno, detail=str(error.strerror))
