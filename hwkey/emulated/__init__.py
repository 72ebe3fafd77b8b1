"""Emulated security keys: whole tokens at packet level, behind the same driver as real ones.

    fleet = TokenFleet()                        or TokenFleet(directory), kept over restarts
    token = fleet.create("crm-10", profile="nitrokey3-like", algorithm=SigningAlgorithm.P384)
    bus = emulated_bus(fleet)                   a `hwkey.KeyBus`
    fleet.unplug("crm-10"); fleet.plug("crm-10"); token.faults.append(Fault(FaultKind.STALL))

Layers: backend (pyusb) > fleet > device (threads, transfers, waits) > function (packets) > reader (CCID) > applet (PIV)
> token. From function on they are pure. They say EMULATED in every string, and only a test vendor licenses them.
"""

from hwkey.ccid_card import Waits
from hwkey.discovery import UsbKeyBus
from hwkey.emulated.backend import EmulatedBackend
from hwkey.emulated.faults import Fault, FaultKind, FaultLayer, FaultScript
from hwkey.emulated.fleet import FleetEntry, TokenFleet
from hwkey.emulated.profile import PROFILES, Profile
from hwkey.emulated.token import EmulatedToken
from hwkey.identity import SigningAlgorithm

__all__ = [
    "PROFILES",
    "EmulatedBackend",
    "EmulatedToken",
    "Fault",
    "FaultKind",
    "FaultLayer",
    "FaultScript",
    "FleetEntry",
    "Profile",
    "SigningAlgorithm",
    "TokenFleet",
    "emulated_bus",
]


def emulated_bus(fleet: TokenFleet, *, waits: Waits | None = None) -> UsbKeyBus:
    """The fleet as a bus of security keys; plugging and unplugging wakes its `wait_change` at once."""
    return UsbKeyBus(EmulatedBackend(fleet), name="emulated", changes=fleet, is_emulated=True, waits=waits)
