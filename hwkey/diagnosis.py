"""What the kernel says about the smart card readers of this machine: places, permissions, power, hubs, and who holds each one.

Facts only, read from sysfs, proc and dev without opening a device; what they mean for an admin is for others to say. All paths are
below one `root`, so that a directory can stand for a machine. Nothing here raises for what is missing or may not be read: devices come and go while
they are looked at, and a container shows only parts. Any thread. Sources: Linux `Documentation/ABI/testing/sysfs-bus-usb`, proc(5).
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SMART_CARD_CLASS = "0b"
USBFS = "usbfs"
"""What sysfs names as the driver of an interface that a program has claimed."""
HOLDERS_MAX = 16
SELF_POWERED = 0x40
"""Of a configuration's bmAttributes (USB 2.0, 9.6.3)."""
_ACL = "system.posix_acl_access"


@dataclass(frozen=True, slots=True)
class Account:
    """Who is to open a device."""

    name: str
    uid: int
    gids: frozenset[int]


@dataclass(frozen=True, slots=True)
class Process:
    """A process by id and name; the name is empty if it has ended meanwhile."""

    pid: int
    name: str

    def __str__(self) -> str:
        return f"{self.name or 'process'} (pid {self.pid})"


@dataclass(frozen=True, slots=True)
class Hub:
    """A hub above a reader. `is_root` ones are the host controller's own."""

    usb_path: str
    product: str
    is_root: bool
    is_self_powered: bool


@dataclass(frozen=True, slots=True)
class ReaderFacts:
    """One device with a smart card interface. `drivers` are the kernel's and usbfs, one each interface of that class that has one; texts are
    empty and numbers None where sysfs does not say. `hubs` from the root down."""

    usb_path: str
    vendor_id: int
    product_id: int
    product: str
    node: Path
    drivers: tuple[str, ...]
    power_control: str
    autosuspend_delay_ms: int | None
    runtime_status: str
    hubs: tuple[Hub, ...]

    @property
    def can_autosuspend(self) -> bool:
        """Whether the kernel may put it to sleep when nobody has it open."""
        return self.power_control == "auto" and (self.autosuspend_delay_ms is None or self.autosuspend_delay_ms >= 0)

    @property
    def is_claimed(self) -> bool:
        """Whether a program has claimed a smart card interface of it."""
        return USBFS in self.drivers


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """Owner and mode of a device node. `has_acl`: its access list says more than the mode does."""

    uid: int
    gid: int
    mode: int
    has_acl: bool

    def may_open(self, account: Account) -> bool:
        """Whether mode, owner and group let an account read and write."""
        if account.uid == 0:
            return True
        shift = 6 if account.uid == self.uid else 3 if self.gid in account.gids else 0
        return (self.mode >> shift) & 0o6 == 0o6


@dataclass(frozen=True, slots=True)
class Holders:
    """Who has a file open. `hidden_count`: processes that this user may not look into."""

    processes: tuple[Process, ...]
    hidden_count: int


class Machine:
    """The machine below `root`."""

    def __init__(self, root: Path = Path("/")) -> None:
        self.root = root

    @property
    def has_usb(self) -> bool:
        """Whether sysfs shows any USB host controller."""
        return any(path.name.startswith("usb") for path in _entries(self._devices))

    def readers(self) -> list[ReaderFacts]:
        """Every device with a smart card interface, by place."""
        drivers: dict[str, list[str]] = {}
        for interface in _entries(self._devices):
            if ":" in interface.name and _text(interface / "bInterfaceClass") == SMART_CARD_CLASS:
                driver = _link_name(interface / "driver")
                drivers.setdefault(interface.name.partition(":")[0], []).extend([driver] if driver else [])
        return [self._reader(name, tuple(found)) for name, found in sorted(drivers.items())]

    def node(self, path: Path) -> NodeFacts | None:
        """The device node that sysfs promises; None if there is none, as in a container without it."""
        try:
            found = (self.root / path.relative_to("/")).stat()
        except OSError:
            return None
        return NodeFacts(found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode), self._has_acl(path))

    def holders(self, target: str) -> Holders:
        """Who has a file open, as proc links it: `/dev/bus/usb/001/004`, `socket:[4711]`."""
        found: list[Process] = []
        hidden_count = 0
        for process in _entries(self.root / "proc"):
            if not process.name.isdigit():
                continue
            try:
                is_holder = any(_link(entry) == target for entry in (process / "fd").iterdir())
            except PermissionError:
                hidden_count += 1
            except OSError:
                continue
            else:
                if is_holder and len(found) < HOLDERS_MAX:
                    found.append(Process(int(process.name), _text(process / "comm")))
        return Holders(tuple(sorted(found, key=lambda one: one.pid)), hidden_count)

    @property
    def _devices(self) -> Path:
        return self.root / "sys/bus/usb/devices"

    def _reader(self, name: str, drivers: tuple[str, ...]) -> ReaderFacts:
        place = self._devices / name
        return ReaderFacts(
            usb_path=name,
            vendor_id=_number(place / "idVendor", 16) or 0,
            product_id=_number(place / "idProduct", 16) or 0,
            product=_text(place / "product"),
            node=usb_node(_number(place / "busnum") or 0, _number(place / "devnum") or 0),
            drivers=drivers,
            power_control=_text(place / "power/control"),
            autosuspend_delay_ms=_number(place / "power/autosuspend_delay_ms"),
            runtime_status=_text(place / "power/runtime_status"),
            hubs=tuple(self._hub(one) for one in hub_names(name)),
        )

    def _hub(self, name: str) -> Hub:
        place = self._devices / name
        attributes = _number(place / "bmAttributes", 16)
        is_self_powered = attributes is None or bool(attributes & SELF_POWERED)
        return Hub(name, _text(place / "product"), name.startswith("usb"), is_self_powered)

    def _has_acl(self, path: Path) -> bool:
        with contextlib.suppress(OSError):
            return bool(os.getxattr(self.root / path.relative_to("/"), _ACL))
        return False


def usb_node(bus: int, address: int) -> Path:
    """Where the kernel puts the node of a USB device."""
    return Path(f"/dev/bus/usb/{bus:03d}/{address:03d}")


def hub_names(usb_path: str) -> Iterator[str]:
    """The hubs above a place, from the root down: `usb1`, `1-2` above `1-2.3`."""
    bus, _, ports = usb_path.partition("-")
    yield f"usb{bus}"
    steps = ports.split(".")
    for count in range(1, len(steps)):
        yield f"{bus}-{'.'.join(steps[:count])}"


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _number(path: Path, base: int = 10) -> int | None:
    try:
        return int(_text(path), base)
    except ValueError:
        return None


def _link(path: Path) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _link_name(path: Path) -> str:
    return os.path.basename(_link(path))
