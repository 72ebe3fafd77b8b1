"""Which security keys are attached, and how to open one: the `KeyBus` that the keyring watches.

A bus is scanned, not subscribed to: `scan` is the truth, `wait_change` only says when a new scan is worth while.
Each place with a smart card interface is a `KeyPort`; a place that was empty for a scan, or that holds another
device address than before, comes back under a higher generation, so an old port never opens a new device.

    watcher (one thread a bus)   ports = bus.scan(); start a worker for each new (attach_point, generation),
                                 stop those that are gone; bus.wait_change(wait_s)
    worker (one thread a key)    opened = bus.open(port); opened.prove(...) now and then; opened.close()

`scan` and `wait_change` belong to the watcher's thread; `open` and `wake` may be called from any thread.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from hwkey.address import UsbAddress
from hwkey.ccid_card import CcidCard, Waits
from hwkey.ccid_descriptor import REFUSAL_SENTENCES
from hwkey.changes import ChangeCounter
from hwkey.diagnosis import Machine, usb_node
from hwkey.errors import BackendMissing, Busy, Unplugged, UsbFailure, located
from hwkey.security_key import KeyDescription, SecurityKey
from hwkey.usb_transport import (
    CcidInterface,
    DeviceStrings,
    UsbLink,
    find_interfaces,
    load_libusb_backend,
    read_strings,
)

# pid.codes' number for private tests: our emulator's, also where a kernel has attached it over USB/IP.
EMULATED_VENDOR_ID, EMULATED_PRODUCT_ID = 0x1209, 0x0001


@dataclass(frozen=True, slots=True)
class KeyPort:
    """A place where something with a smart card interface is attached.

    `attach_point` is stable over plug-ins (`usb:1-2.3:0`: bus name, USB path, interface); with `address.generation`
    it names one attachment. `refusal` is a sentence when the reader can not be used, and `open` raises it too.
    Product and serial are for display and empty when the device could not be asked. `is_emulated` is for display
    as well: what makes an emulated key worthless in production is its vendor (`semantics.md` 33).
    """

    attach_point: str
    address: UsbAddress
    interface_number: int
    vendor_id: int
    product_id: int
    product: str
    serial: str
    is_emulated: bool
    refusal: str | None = None

    @property
    def generation(self) -> int:
        """Counts the attachments of this place, from 1."""
        return self.address.generation

    @property
    def usb_path(self) -> str:
        """The place in the notation of sysfs, `1-2.3`."""
        return self.address.usb_path


class KeyBus(Protocol):
    """A source of security keys: the USB of this machine, or an emulated fleet."""

    @property
    def name(self) -> str:
        """Short constant word: `usb`, `emulated`."""

    def scan(self) -> list[KeyPort]:
        """Everything attached now, ordered by attach point; raises HostError when the bus can not be read."""

    def open(self, port: KeyPort) -> SecurityKey:
        """Open, claim, power and identify; raises HwkeyError (Unplugged when the port is of an older generation)."""

    def wait_change(self, wait_s: float) -> bool:
        """Wait for a change since the last scan, at most `wait_s` seconds.

        True: scan now. False: the time is up, and a bus that can not watch may have changed all the same.
        """

    def wake(self) -> None:
        """End a `wait_change` under way at once, as for a shutdown; any thread."""


class ChangeSource(Protocol):
    """What a bus waits on; `changes.ChangeCounter` or something that ends in one."""

    @property
    def count(self) -> int:
        """Changes so far."""

    def bump(self) -> None:
        """Count one change."""

    def wait_beyond(self, seen_count: int, wait_s: float) -> bool:
        """Wait until the count is over `seen_count`, at most `wait_s` seconds; True when it is."""


@dataclass(frozen=True, slots=True)
class _Attachment:
    port: KeyPort
    interface: CcidInterface


class UsbKeyBus:
    """Implements `KeyBus` over any pyusb backend; the same code for real and for emulated keys."""

    def __init__(
        self,
        backend: object,
        *,
        name: str,
        changes: ChangeSource | None = None,
        is_emulated: bool = False,
        waits: Waits | None = None,
        holders_of: Callable[[UsbAddress], tuple[str, ...]] = lambda _: (),
    ) -> None:
        """`holders_of` names the other processes that have a device open: asked only when one is busy."""
        self._backend = backend
        self._holders_of = holders_of
        self._name = name
        self._changes = changes or ChangeCounter()
        self._is_emulated = is_emulated
        self._waits = waits
        self._seen_count = 0
        self._lock = threading.Lock()
        self._attachments: dict[str, _Attachment] = {}
        # Outlives the attachment, so that generations only grow; one small number per place ever used.
        self._generations: dict[str, int] = {}

    @property
    def name(self) -> str:
        """Short constant word that starts every attach point of this bus."""
        return self._name

    def scan(self) -> list[KeyPort]:
        """Everything attached now, ordered by attach point; raises HostError when the bus can not be read."""
        # Before the look, so that a change during it is not taken for seen.
        self._seen_count = self._changes.count
        found: dict[str, _Attachment] = {}
        for interface in find_interfaces(self._backend):
            attachment = self._attachment_of(interface)
            found[attachment.port.attach_point] = attachment
        with self._lock:
            self._attachments = found
        return [found[point].port for point in sorted(found)]

    def open(self, port: KeyPort) -> SecurityKey:
        """Open, claim, power and identify the key of one attachment; raises HwkeyError."""
        with self._lock:
            attachment = self._attachments.get(port.attach_point)
        if attachment is None or attachment.port.address != port.address:
            raise Unplugged(where=port.usb_path)
        with located(port.usb_path):
            try:
                card = self._open_card_awake(attachment.interface)
            except Busy:
                raise Busy(holders=self._holders_of(port.address)) from None
        return SecurityKey.open(card, KeyDescription(port.product, port.serial, port.usb_path, port.is_emulated))

    def wait_change(self, wait_s: float) -> bool:
        """Wait for a change since the last scan, at most `wait_s` seconds; True when there was one."""
        return self._changes.wait_beyond(self._seen_count, wait_s)

    def wake(self) -> None:
        """End a `wait_change` under way at once."""
        self._changes.bump()

    def _open_card_awake(self, interface: CcidInterface) -> CcidCard:
        """A device that autosuspend has put to sleep fails to open with EIO once; some come back as another device."""
        try:
            return self._open_card(interface)
        except UsbFailure as error:
            if error.error_number != errno.EIO:
                raise
            self._changes.bump()  # whoever watches looks whether its address is still the same
            return self._open_card(interface)

    def _open_card(self, interface: CcidInterface) -> CcidCard:
        link = UsbLink.open(self._backend, interface)
        assert interface.descriptor is not None, "an interface without a descriptor is refused"
        try:
            return CcidCard.open(link, interface.descriptor, waits=self._waits)
        except BaseException:
            link.close()
            raise

    def _attachment_of(self, interface: CcidInterface) -> _Attachment:
        usb_path = UsbAddress(interface.bus, interface.port_numbers, interface.address, 0).usb_path
        attach_point = f"{self._name}:{usb_path}:{interface.interface_number}"
        known = self._attachments.get(attach_point)
        if known is not None and known.interface.address == interface.address:
            return known
        generation = self._generations.get(attach_point, 0) + 1
        self._generations[attach_point] = generation
        address = UsbAddress(interface.bus, interface.port_numbers, interface.address, generation)
        return _Attachment(self._port_of(interface, attach_point, address), interface)

    def _port_of(self, interface: CcidInterface, attach_point: str, address: UsbAddress) -> KeyPort:
        # Once per attachment: strings cost control transfers, and only a person reads them.
        strings = DeviceStrings() if interface.refusal else read_strings(self._backend, interface)
        ids = (interface.vendor_id, interface.product_id)
        return KeyPort(
            attach_point=attach_point,
            address=address,
            interface_number=interface.interface_number,
            vendor_id=interface.vendor_id,
            product_id=interface.product_id,
            product=strings.product,
            serial=strings.serial,
            is_emulated=self._is_emulated or ids == (EMULATED_VENDOR_ID, EMULATED_PRODUCT_ID),
            refusal=REFUSAL_SENTENCES[interface.refusal] if interface.refusal else None,
        )


class MissingUsbBus:
    """Implements `KeyBus` where libusb is not installed: it holds no key, and each scan says what to install.

    So a machine without it serves what else it has, and whoever watches the bus sees why no key comes.
    """

    name = "usb"

    def __init__(self) -> None:
        self._changes = ChangeCounter()
        self._seen_count = 0

    def scan(self) -> list[KeyPort]:
        """Raises BackendMissing."""
        self._seen_count = self._changes.count
        raise BackendMissing

    def open(self, port: KeyPort) -> SecurityKey:
        """Raises BackendMissing."""
        raise BackendMissing

    def wait_change(self, wait_s: float) -> bool:
        """Wait for a `wake`, at most `wait_s` seconds; True when it came."""
        return self._changes.wait_beyond(self._seen_count, wait_s)

    def wake(self) -> None:
        """End a `wait_change` under way at once."""
        self._changes.bump()


def open_libusb_bus(*, waits: Waits | None = None) -> UsbKeyBus:
    """The USB of this machine; raises BackendMissing when libusb-1.0 is not installed."""
    return UsbKeyBus(load_libusb_backend(), name="usb", waits=waits, holders_of=holders_here)


def holders_here(address: UsbAddress) -> tuple[str, ...]:
    """Who else on this machine has a device open, as far as this user may see: `pcscd (pid 123)`."""
    found = Machine().holders(str(usb_node(address.bus, address.address)))
    return tuple(str(one) for one in found.processes if one.pid != os.getpid())
