"""The border to pyusb: each errno of a real stack becomes its own error, and odd devices do no harm to a scan."""

from __future__ import annotations

import errno
from types import SimpleNamespace
from typing import Any

import pytest
import usb.core

from hwkey import (
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
    usb_transport,
)
from hwkey.ccid_descriptor import Refusal
from hwkey.discovery import UsbKeyBus
from hwkey.emulated import EmulatedBackend, TokenFleet
from hwkey.emulated.device import EmulatedDevice
from hwkey.usb_transport import UsbLink, find_interfaces, load_libusb_backend

ERRNOS: list[tuple[int | None, type[HwkeyError]]] = [
    (errno.ENODEV, Unplugged),
    (errno.EBUSY, Busy),
    (errno.EACCES, NotPermitted),
    (errno.EPERM, NotPermitted),
    (errno.ETIMEDOUT, NotAnswering),
    (errno.EPIPE, Stalled),
    (errno.EOVERFLOW, ProtocolError),
    (errno.ENOSYS, Unsupported),
    (errno.EIO, UsbFailure),
    (errno.ENOENT, UsbFailure),
    (None, UsbFailure),
]


class FailingBackend(EmulatedBackend):
    """Fails one named call with one exception."""

    def __init__(self, fleet: TokenFleet, call: str, error: Exception) -> None:
        super().__init__(fleet)

        def failing(*_: Any) -> Any:
            raise error

        setattr(self, call, failing)


class OneOddDevice(EmulatedBackend):
    """Cannot describe the device at one address."""

    def __init__(self, fleet: TokenFleet, address: int, error: Exception) -> None:
        super().__init__(fleet)
        self._odd_address = address
        self._error = error

    def get_configuration_descriptor(self, dev: EmulatedDevice, config: int) -> SimpleNamespace:
        if dev.address == self._odd_address:
            raise self._error
        return super().get_configuration_descriptor(dev, config)


@pytest.mark.parametrize(
    "error", [usb.core.USBError("scripted", -99, errno.EIO), NotImplementedError("odd"), IndexError("odd"), ValueError("odd")]
)
def test_device_that_cannot_be_described_does_not_hide_the_others(fleet: TokenFleet, error: Exception) -> None:
    fleet.create("odd")
    fleet.create("sound")
    odd, sound = fleet.devices()
    found = find_interfaces(OneOddDevice(fleet, odd.address, error))
    assert [interface.address for interface in found] == [sound.address]


@pytest.mark.parametrize(("error_number", "expected"), ERRNOS)
@pytest.mark.parametrize("call", ["open_device", "claim_interface"])
def test_each_errno_on_the_way_to_a_claim_is_its_own_error(
    fleet: TokenFleet, call: str, error_number: int | None, expected: type[HwkeyError]
) -> None:
    fleet.create("only")
    backend = FailingBackend(fleet, call, usb.core.USBError("scripted", -99, error_number))
    (interface,) = find_interfaces(backend)
    with pytest.raises(expected) as caught:
        UsbLink.open(backend, interface)
    assert type(caught.value) is expected
    assert isinstance(caught.value.__cause__, usb.core.USBError)


def test_operation_that_a_backend_does_not_have_is_unsupported(fleet: TokenFleet) -> None:
    fleet.create("only")
    backend = FailingBackend(fleet, "claim_interface", NotImplementedError("claim"))
    with pytest.raises(Unsupported):
        UsbLink.open(backend, find_interfaces(backend)[0])


@pytest.mark.parametrize(("asked_size", "buffer_size"), [(271, 320), (3072, 3072), (1, 64)])
def test_read_buffer_is_rounded_up_to_whole_packets(fleet: TokenFleet, asked_size: int, buffer_size: int) -> None:
    fleet.create("only")
    backend = EmulatedBackend(fleet)
    sizes: list[int] = []

    def reading(_handle: object, _endpoint: int, _interface: int, buffer: Any, _wait_ms: int) -> int:
        sizes.append(len(buffer))
        return 0

    backend.bulk_read = reading  # type: ignore[method-assign]
    assert UsbLink.open(backend, find_interfaces(backend)[0]).read(asked_size, 100) == b""
    assert sizes == [buffer_size]


def test_write_that_is_cut_short_is_not_answering(fleet: TokenFleet) -> None:
    fleet.create("only")
    backend = EmulatedBackend(fleet)
    backend.bulk_write = lambda *_: 3  # type: ignore[method-assign]
    with pytest.raises(NotAnswering):
        UsbLink.open(backend, find_interfaces(backend)[0]).write(bytes(10), 100)


def test_device_that_leaves_during_a_scan_is_left_out_and_the_others_stay(fleet: TokenFleet) -> None:
    fleet.create("leaves")
    fleet.create("stays")
    backend = EmulatedBackend(fleet)
    whole = backend.get_configuration_descriptor

    def vanishing(dev: Any, config: int) -> SimpleNamespace:
        if dev.token.serial == "leaves":
            raise usb.core.USBError("scripted", -4, errno.ENODEV)
        return whole(dev, config)

    backend.get_configuration_descriptor = vanishing  # type: ignore[method-assign]
    assert [interface.port_numbers for interface in find_interfaces(backend)] == [(1, 2)]


def changed_interface(backend: EmulatedBackend, **changes: object) -> None:
    whole = backend.get_interface_descriptor

    def changing(*arguments: Any) -> SimpleNamespace:
        return SimpleNamespace(**(vars(whole(*arguments)) | changes))

    backend.get_interface_descriptor = changing  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"bInterfaceProtocol": 2}, Refusal.ICCD_PROTOCOL),
        ({"bInterfaceSubClass": 1}, Refusal.UNKNOWN_SUBCLASS),
        ({"extra_descriptors": b""}, Refusal.NO_DESCRIPTOR),
        ({"extra_descriptors": b"\x05\x21\x00\x00\x00"}, Refusal.MALFORMED_DESCRIPTOR),
        ({"bNumEndpoints": 0}, Refusal.NO_DESCRIPTOR),
    ],
)
def test_reader_that_is_not_spoken_to_is_listed_with_its_reason_and_opening_says_it_too(
    fleet: TokenFleet, changes: dict[str, object], refusal: Refusal
) -> None:
    fleet.create("only", profile="nitrokey3-like")
    backend = EmulatedBackend(fleet)
    changed_interface(backend, **changes)
    bus = UsbKeyBus(backend, name="odd")
    (port,) = bus.scan()
    assert port.refusal
    with pytest.raises(Unsupported) as caught:
        bus.open(port)
    assert caught.value.reason == refusal.value
    assert caught.value.detail == port.refusal


def test_class_descriptor_on_an_endpoint_is_found(fleet: TokenFleet) -> None:
    fleet.create("only", profile="nitrokey3-like")
    backend = EmulatedBackend(fleet)
    extra = fleet.token("only").profile.descriptor.encode()
    changed_interface(backend, extra_descriptors=b"")
    whole = backend.get_endpoint_descriptor
    backend.get_endpoint_descriptor = (  # type: ignore[method-assign]
        lambda *arguments: SimpleNamespace(**(vars(whole(*arguments)) | {"extra_descriptors": list(extra)}))
    )
    assert [interface.refusal for interface in find_interfaces(backend)] == [None]


def test_missing_libusb_is_told_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = SimpleNamespace(get_backend=lambda: None)
    monkeypatch.setattr(usb_transport.importlib, "import_module", lambda _: missing)
    with pytest.raises(BackendMissing, match="apt install"):
        load_libusb_backend()


def test_bus_that_can_not_be_enumerated_is_a_usb_failure(fleet: TokenFleet) -> None:
    backend = FailingBackend(fleet, "enumerate_devices", usb.core.USBError("scripted", -1, errno.EIO))
    with pytest.raises(UsbFailure) as caught:
        UsbKeyBus(backend, name="usb").scan()
    assert caught.value.error_number == errno.EIO
