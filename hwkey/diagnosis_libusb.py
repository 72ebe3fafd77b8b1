"""Which libusb this process has loaded: its version, its file, and whether it hears of keys from udev or from the kernel.

A libusb that was built with udev (Debian's) hears of no plug-in where udevd does not run, as in most containers; one built without it
(the PyPI package libusb-package) listens to the kernel itself. Both seen by experiment. Loads the library; any thread.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hwkey.errors import BackendMissing
from hwkey.usb_transport import load_libusb_backend


class _Version(ctypes.Structure):
    """`struct libusb_version` of libusb.h."""

    _fields_ = (
        ("major", ctypes.c_uint16),
        ("minor", ctypes.c_uint16),
        ("micro", ctypes.c_uint16),
        ("nano", ctypes.c_uint16),
        ("rc", ctypes.c_char_p),
        ("describe", ctypes.c_char_p),
    )


@dataclass(frozen=True, slots=True)
class LibusbFacts:
    """`version` as 1.0.26; `file` is empty if proc does not show it."""

    version: str
    file: str
    is_udev: bool


def libusb_facts(root: Path = Path("/")) -> LibusbFacts | None:
    """The libusb that the driver uses; None if there is none."""
    try:
        backend: Any = load_libusb_backend()
    except BackendMissing:
        return None
    # By index: a function object of our own, whose types nobody else sees.
    get_version = backend.lib["libusb_get_version"]
    get_version.restype = ctypes.POINTER(_Version)
    found = get_version().contents
    file, is_udev = mapped_libraries((root / "proc/self/maps").read_text(encoding="utf-8", errors="replace"))
    return LibusbFacts(f"{found.major}.{found.minor}.{found.micro}", file, is_udev)


def mapped_libraries(maps: str) -> tuple[str, bool]:
    """The file of libusb among a process' mappings (proc(5), `maps`), and whether libudev is there, too."""
    files = [fields[5].strip() for line in maps.splitlines() if len(fields := line.split(maxsplit=5)) == 6]
    libusb = next((one for one in files if "libusb-1.0" in one.rpartition("/")[2]), "")
    return libusb, any(one.rpartition("/")[2].startswith("libudev.so") for one in files)
