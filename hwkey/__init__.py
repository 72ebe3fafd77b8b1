"""The security keys of a broker: found on USB, opened, and made to prove that they are there.

    bus = open_libusb_bus()                     or hwkey.emulated.emulated_bus(fleet)
    for port in bus.scan():
        opened = bus.open(port)                 SecurityKey: thumbprint, public_key, certificate_der, description
        proof = opened.prove(nonce=secrets.token_bytes(32), broker_id="...", purpose="presence")
        opened.close()

Layers, each a module: discovery > security_key > piv > apdu > ccid_card > ccid_slot > ccid, over usb_transport.
This package imports nothing from `broker`; only `usb_transport` and `emulated.backend` import `usb`.
Threads: `discovery`. Errors: `errors`. Identity: `identity`. What is signed: `proof`.
"""

from hwkey.address import UsbAddress
from hwkey.ccid_card import Waits
from hwkey.discovery import KeyBus, KeyPort, MissingUsbBus, UsbKeyBus, open_libusb_bus
from hwkey.errors import (
    BackendMissing,
    Busy,
    CardAbsent,
    CardFailure,
    CardMute,
    CardUnpowered,
    DeviceError,
    HostError,
    HwkeyError,
    KeyClosed,
    NotAnswering,
    NotAPivKey,
    NotPermitted,
    ProofRejected,
    ProtocolError,
    Stalled,
    StatusWordError,
    TokenStoreError,
    UnfitError,
    Unplugged,
    Unsupported,
    UsbFailure,
)
from hwkey.identity import PublicKey, SigningAlgorithm, public_key_of, thumbprint_of
from hwkey.proof import NONCE_SIZE, Challenge, Proof, verify_signature
from hwkey.security_key import KeyDescription, SecurityKey

__all__ = [
    "NONCE_SIZE",
    "BackendMissing",
    "Busy",
    "CardAbsent",
    "CardFailure",
    "CardMute",
    "CardUnpowered",
    "Challenge",
    "DeviceError",
    "HostError",
    "HwkeyError",
    "KeyBus",
    "KeyClosed",
    "KeyDescription",
    "KeyPort",
    "MissingUsbBus",
    "NotAPivKey",
    "NotAnswering",
    "NotPermitted",
    "Proof",
    "ProofRejected",
    "ProtocolError",
    "PublicKey",
    "SecurityKey",
    "SigningAlgorithm",
    "Stalled",
    "StatusWordError",
    "TokenStoreError",
    "UnfitError",
    "Unplugged",
    "Unsupported",
    "UsbAddress",
    "UsbFailure",
    "UsbKeyBus",
    "Waits",
    "open_libusb_bus",
    "public_key_of",
    "thumbprint_of",
    "verify_signature",
]
