"""A pyusb backend whose bus is a fleet of emulated tokens, so that the production driver runs on it unchanged.

The second of the two files that import `usb`. It holds no logic: descriptors come from the profile, transfers
go to the device, and the device's OSErrors become USBError with the libusb code that a real stack gives with
that errno. Any thread, as libusb. pyusb calls everything by position; buffers are arrays that are filled in place
and the count is returned (for interrupt reads too, whatever pyusb's docstring says).
"""

from __future__ import annotations

import errno
from array import array
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any, TypeVar

import usb.backend
import usb.core

from hwkey.emulated.device import EmulatedDevice, fail
from hwkey.emulated.fleet import TokenFleet
from hwkey.emulated.function import ENDPOINT_IN, Setup
from hwkey.emulated.profile import PACKET_SIZE, PRODUCT_ID, VENDOR_ID
from hwkey.emulated.usb_descriptors import (
    ATTRIBUTES_BUS_POWERED,
    CONFIGURATION_VALUE,
    INDEX_MANUFACTURER,
    INDEX_PRODUCT,
    INDEX_SERIAL,
    POWER_2MA_COUNT,
    TYPE_CONFIGURATION,
    TYPE_DEVICE,
    TYPE_ENDPOINT,
    TYPE_INTERFACE,
    USB_RELEASE,
    configuration_descriptor,
)

T = TypeVar("T")

# errno to libusb_error, as libusb's Linux backend pairs them.
LIBUSB_CODES: dict[int, int] = {
    errno.EIO: -1,
    errno.EINVAL: -2,
    errno.EACCES: -3,
    errno.ENODEV: -4,
    errno.ENOENT: -5,
    errno.EBUSY: -6,
    errno.ETIMEDOUT: -7,
    errno.EOVERFLOW: -8,
    errno.EPIPE: -9,
}
SPEED_FULL = 2


class _OpenDevice:
    """One opening of a device: what pyusb passes back to us, and the owner of claims."""

    def __init__(self, device: EmulatedDevice) -> None:
        self.device = device


class EmulatedBackend(usb.backend.IBackend):
    """Implements pyusb's IBackend over a fleet."""

    def __init__(self, fleet: TokenFleet) -> None:
        super().__init__()
        self._fleet = fleet

    def enumerate_devices(self) -> Iterable[EmulatedDevice]:
        return self._fleet.devices()

    def get_parent(self, dev: EmulatedDevice) -> None:
        """Hubs are not modelled as devices."""

    def get_device_descriptor(self, dev: EmulatedDevice) -> SimpleNamespace:
        return SimpleNamespace(
            bLength=18,
            bDescriptorType=TYPE_DEVICE,
            bcdUSB=USB_RELEASE,
            bDeviceClass=0,
            bDeviceSubClass=0,
            bDeviceProtocol=0,
            bMaxPacketSize0=PACKET_SIZE,
            idVendor=VENDOR_ID,
            idProduct=PRODUCT_ID,
            bcdDevice=dev.token.profile.device_release,
            iManufacturer=INDEX_MANUFACTURER,
            iProduct=INDEX_PRODUCT,
            iSerialNumber=INDEX_SERIAL,
            bNumConfigurations=1,
            address=dev.address,
            bus=dev.bus,
            port_number=dev.port_numbers[-1],
            port_numbers=dev.port_numbers,
            speed=SPEED_FULL,
        )

    def get_configuration_descriptor(self, dev: EmulatedDevice, config: int) -> SimpleNamespace:
        if config != 0:
            raise IndexError(f"no configuration {config}")
        interfaces = dev.token.profile.interfaces
        return SimpleNamespace(
            bLength=9,
            bDescriptorType=TYPE_CONFIGURATION,
            wTotalLength=len(configuration_descriptor(dev.token.profile)),
            bNumInterfaces=len(interfaces),
            bConfigurationValue=CONFIGURATION_VALUE,
            iConfiguration=0,
            bmAttributes=ATTRIBUTES_BUS_POWERED,
            bMaxPower=POWER_2MA_COUNT,
            extra_descriptors=b"",
        )

    def get_interface_descriptor(self, dev: EmulatedDevice, intf: int, alt: int, config: int) -> SimpleNamespace:
        interfaces = dev.token.profile.interfaces
        if config != 0 or alt != 0 or intf >= len(interfaces):
            raise IndexError(f"no interface {intf} with alternate setting {alt}")
        interface = interfaces[intf]
        return SimpleNamespace(
            bLength=9,
            bDescriptorType=TYPE_INTERFACE,
            bInterfaceNumber=interface.number,
            bAlternateSetting=0,
            bNumEndpoints=len(interface.endpoints),
            bInterfaceClass=interface.interface_class,
            bInterfaceSubClass=interface.subclass,
            bInterfaceProtocol=interface.protocol,
            iInterface=0,
            extra_descriptors=interface.extra_descriptors,
        )

    def get_endpoint_descriptor(
        self, dev: EmulatedDevice, ep: int, intf: int, alt: int, config: int
    ) -> SimpleNamespace:
        endpoints = dev.token.profile.interfaces[intf].endpoints
        if config != 0 or alt != 0 or ep >= len(endpoints):
            raise IndexError(f"no endpoint {ep}")
        return SimpleNamespace(
            bLength=7,
            bDescriptorType=TYPE_ENDPOINT,
            bEndpointAddress=endpoints[ep].address,
            bmAttributes=endpoints[ep].attributes,
            wMaxPacketSize=endpoints[ep].packet_size,
            bInterval=endpoints[ep].interval,
            bRefresh=0,
            bSynchAddress=0,
            extra_descriptors=b"",
        )

    def open_device(self, dev: EmulatedDevice) -> _OpenDevice:
        _translated(dev.open)
        return _OpenDevice(dev)

    def close_device(self, dev_handle: _OpenDevice) -> None:
        dev_handle.device.close(dev_handle)

    def set_configuration(self, dev_handle: _OpenDevice, config_value: int) -> None:
        if config_value != CONFIGURATION_VALUE:
            _translated(lambda: fail(errno.ENOENT))

    def get_configuration(self, dev_handle: _OpenDevice) -> int:
        return CONFIGURATION_VALUE

    def set_interface_altsetting(self, dev_handle: _OpenDevice, intf: int, altsetting: int) -> None:
        if altsetting != 0:
            _translated(lambda: fail(errno.ENOENT))

    def claim_interface(self, dev_handle: _OpenDevice, intf: int) -> None:
        _translated(lambda: dev_handle.device.claim(intf, dev_handle))

    def release_interface(self, dev_handle: _OpenDevice, intf: int) -> None:
        _translated(lambda: dev_handle.device.release(intf, dev_handle))

    def bulk_write(self, dev_handle: _OpenDevice, ep: int, intf: int, data: array[int], timeout: int) -> int:
        return _translated(lambda: dev_handle.device.write_bulk(ep, data.tobytes(), dev_handle))

    def bulk_read(self, dev_handle: _OpenDevice, ep: int, intf: int, buff: array[int], timeout: int) -> int:
        return _fill(
            buff, _translated(lambda: dev_handle.device.read_bulk(ep, len(buff), timeout, dev_handle))
        )

    def intr_read(self, dev_handle: _OpenDevice, ep: int, intf: int, size: array[int], timeout: int) -> int:
        return _fill(
            size, _translated(lambda: dev_handle.device.read_interrupt(ep, len(size), timeout, dev_handle))
        )

    def ctrl_transfer(
        self,
        dev_handle: _OpenDevice,
        bmRequestType: int,  # noqa: N803  the names of the USB standard, as IBackend has them
        bRequest: int,  # noqa: N803
        wValue: int,  # noqa: N803
        wIndex: int,  # noqa: N803
        data: array[int],
        timeout: int,
    ) -> int:
        setup = Setup(bmRequestType, bRequest, wValue, wIndex, len(data))
        answer = _translated(lambda: dev_handle.device.control(setup, data.tobytes()))
        return _fill(data, answer) if bmRequestType & ENDPOINT_IN else len(data)

    def clear_halt(self, dev_handle: _OpenDevice, ep: int) -> None:
        _translated(lambda: dev_handle.device.clear_halt(ep))

    def reset_device(self, dev_handle: _OpenDevice) -> None:
        """A port reset gives the claims up; the token keeps its address."""
        dev_handle.device.close(dev_handle)

    def is_kernel_driver_active(self, dev_handle: _OpenDevice, intf: int) -> bool:
        return False

    def detach_kernel_driver(self, dev_handle: _OpenDevice, intf: int) -> None:
        _translated(lambda: fail(errno.ENOENT))

    def attach_kernel_driver(self, dev_handle: _OpenDevice, intf: int) -> None:
        _translated(lambda: fail(errno.ENOENT))


def _fill(buffer: array[int], data: bytes) -> int:
    buffer[: len(data)] = array("B", data)
    return len(data)


def _translated(call: Callable[[], T]) -> T:
    try:
        return call()
    except OSError as error:
        raise _usb_error(error) from error


def _usb_error(error: OSError) -> Exception:
    assert error.errno is not None, "the device raises with an errno"
    kind: Any = usb.core.USBTimeoutError if error.errno == errno.ETIMEDOUT else usb.core.USBError
    translated: Exception = kind(error.strerror, LIBUSB_CODES[error.errno], error.errno)
    return translated
