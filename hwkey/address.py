"""Where a USB device is attached, and which attachment of that place is meant.

A device's bus address changes at each plug-in and is used again after 127, so it names nothing by itself. A
connection is named by bus, port numbers, address and a generation that its bus counts up whenever the place
is found newly occupied. Identity is something else: the public key (see `identity`). Values; any thread.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class UsbAddress:
    """One attachment of one device. `port_numbers` leads from the root hub to the device; may be empty."""

    bus: int
    port_numbers: tuple[int, ...]
    address: int
    generation: int

    @property
    def usb_path(self) -> str:
        """The place in the notation of sysfs, `1-2.3`: bus, root port, hub ports."""
        ports = ".".join(str(port) for port in self.port_numbers) or "0"
        return f"{self.bus}-{ports}"

    def __str__(self) -> str:
        return f"{self.usb_path} (address {self.address}, generation {self.generation})"
