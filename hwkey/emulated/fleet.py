"""The emulated tokens of one machine: which there are, which are plugged in, and where.

A fleet lives in memory, or in a directory that several processes may share:

    <directory>/tokens/<name>/     one token each (see `token`)
    <directory>/plugged/<name>     an empty file while the token is plugged in

so that a command in another process plugs and unplugs keys of a running broker. Within one process a plug
counts and wakes waiters at once; one made elsewhere is seen by `refresh`, which every scan and every wait
calls. A marker that was removed and made again in between is a replug, told by its inode and time.

A token keeps its place (bus and ports) for as long as the fleet object lives, in the order in which tokens were
added; each plug gets a new bus address, as on a real bus: 2 to 127, then again. Any thread; one lock.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from hwkey.changes import ChangeCounter
from hwkey.emulated.device import EmulatedDevice
from hwkey.emulated.token import TOKEN_FILE, EmulatedToken
from hwkey.errors import TokenStoreError
from hwkey.identity import SigningAlgorithm

NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
TOKENS_DIRECTORY, PLUGGED_DIRECTORY = "tokens", "plugged"
POLL_INTERVAL_S = 0.1
BUS_FIRST = 101  # far from the numbers of real buses, so that a list shows at once which is which
TOKENS_PER_BUS = 100
PORTS_PER_HUB = 10
ADDRESS_FIRST, ADDRESS_LAST = 2, 127

Marker = tuple[int, int]

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Slot:
    """A token's place, and the device in it while it is plugged."""

    token: EmulatedToken
    bus: int
    port_numbers: tuple[int, ...]
    device: EmulatedDevice | None = None
    marker: Marker | None = None


@dataclass(frozen=True, slots=True)
class FleetEntry:
    """One token of a fleet, for lists."""

    name: str
    token: EmulatedToken
    is_plugged: bool
    usb_path: str


class TokenFleet:
    """A set of tokens by name; names are letters, digits, dot, dash and underscore, at most 64."""

    def __init__(self, directory: Path | None = None) -> None:
        """In memory without a directory; with one, its tokens are loaded and its markers obeyed.

        Raises TokenStoreError.
        """
        self._directory = directory
        self._lock = threading.RLock()
        self._slots: dict[str, _Slot] = {}
        self._addresses: dict[int, int] = {}
        self._broken: set[str] = set()
        self._changes = ChangeCounter()
        if directory is not None:
            self._make_directories(directory)
            self._load_new_tokens(directory / TOKENS_DIRECTORY, is_strict=True)
            self.refresh()

    def create(
        self,
        name: str,
        *,
        serial: str | None = None,
        profile: str = "yubikey5-like",
        algorithm: SigningAlgorithm = SigningAlgorithm.P256,
        is_plugged: bool = True,
    ) -> EmulatedToken:
        """Make a token (serial: the name, unless given), keep it, and plug it in unless told otherwise."""
        token = EmulatedToken.create(serial=serial or name, profile=profile, algorithm=algorithm)
        self.add(name, token, is_plugged=is_plugged)
        return token

    def add(self, name: str, token: EmulatedToken, *, is_plugged: bool = True) -> None:
        """Take a token into the fleet; ValueError when the name is taken or unusable, or TokenStoreError."""
        if not NAME_PATTERN.fullmatch(name):
            raise ValueError(f"{name!r} is no name for a token: letters, digits, dot, dash and underscore")
        with self._lock:
            if name in self._slots:
                raise ValueError(f"there is a token {name!r} already")
            if self._directory is not None:
                token.save(self._directory / TOKENS_DIRECTORY / name)
            self._place(name, token)
            if is_plugged:
                self.plug(name)

    def plug(self, name: str) -> None:
        """Plug a token in, by name or serial; one that is plugged stays so. KeyError when there is none."""
        with self._lock:
            slot_name, slot = self._find(name)
            if slot.device is None:
                slot.marker = self._write_marker(slot_name)
                self._attach(slot)

    def unplug(self, name: str) -> None:
        """Pull a token out, by name or serial; one that is out stays so. KeyError when there is none."""
        with self._lock:
            slot_name, slot = self._find(name)
            self._remove_marker(slot_name)
            self._detach(slot)

    def entries(self) -> list[FleetEntry]:
        """Every token, by name."""
        with self._lock:
            self.refresh()
            return [_entry_of(name, slot) for name, slot in sorted(self._slots.items())]

    def token(self, name: str) -> EmulatedToken:
        """A token by name or serial; KeyError when there is none."""
        with self._lock:
            return self._find(name)[1].token

    def devices(self) -> list[EmulatedDevice]:
        """What is plugged in now, in the order of places; what a host controller enumerates."""
        with self._lock:
            self.refresh()
            return [slot.device for slot in self._slots.values() if slot.device is not None]

    def refresh(self) -> None:
        """Take in what other processes did to the directory; raises TokenStoreError when it can not be read.

        A broken token that appears now is logged once and left out: the others must go on.
        """
        if self._directory is None:
            return
        with self._lock:
            self._load_new_tokens(self._directory / TOKENS_DIRECTORY, is_strict=False)
            markers = _read_markers(self._directory / PLUGGED_DIRECTORY)
            for name, slot in self._slots.items():
                self._obey(slot, markers.get(name))

    @property
    def count(self) -> int:
        """Plugs and unplugs so far (`discovery.ChangeSource`)."""
        return self._changes.count

    def bump(self) -> None:
        """Wake whoever waits for a change (`discovery.ChangeSource`)."""
        self._changes.bump()

    def wait_beyond(self, seen_count: int, wait_s: float) -> bool:
        """Wait for a change (`discovery.ChangeSource`): at once within the process, else by polling markers."""
        if self._directory is None:
            return self._changes.wait_beyond(seen_count, wait_s)
        deadline_s = time.monotonic() + wait_s
        while True:
            self.refresh()
            left_s = deadline_s - time.monotonic()
            if self._changes.wait_beyond(seen_count, max(0.0, min(POLL_INTERVAL_S, left_s))):
                return True
            if left_s <= POLL_INTERVAL_S:
                return False

    def _find(self, name: str) -> tuple[str, _Slot]:
        if name in self._slots:
            return name, self._slots[name]
        for slot_name, slot in self._slots.items():
            if slot.token.serial == name:
                return slot_name, slot
        raise KeyError(name)

    def _place(self, name: str, token: EmulatedToken) -> _Slot:
        bus_index, index = divmod(len(self._slots), TOKENS_PER_BUS)
        hub, port = divmod(index, PORTS_PER_HUB)
        slot = _Slot(token, BUS_FIRST + bus_index, (hub + 1, port + 1))
        self._slots[name] = slot
        return slot

    def _attach(self, slot: _Slot) -> None:
        slot.device = EmulatedDevice(
            slot.token,
            bus=slot.bus,
            port_numbers=slot.port_numbers,
            address=self._next_address(slot.bus),
            on_self_unplug=self._forget,
        )
        self._changes.bump()

    def _detach(self, slot: _Slot) -> None:
        device, slot.device, slot.marker = slot.device, None, None
        if device is not None:
            device.unplug()
            self._changes.bump()

    def _forget(self, device: EmulatedDevice, is_back_at_once: bool) -> None:
        """A scripted fault has pulled the token out: as `unplug`, from the token's side."""
        with self._lock:
            for name, slot in self._slots.items():
                if slot.device is device:
                    self.unplug(name)
                    if is_back_at_once:
                        self.plug(name)

    def _next_address(self, bus: int) -> int:
        used = {slot.device.address for slot in self._slots.values() if slot.device and slot.bus == bus}
        address = self._addresses.get(bus, ADDRESS_FIRST - 1)
        while True:
            address = address + 1 if address < ADDRESS_LAST else ADDRESS_FIRST
            if address not in used:
                self._addresses[bus] = address
                return address

    def _obey(self, slot: _Slot, marker: Marker | None) -> None:
        if marker == slot.marker:
            return
        self._detach(slot)
        if marker is not None:
            slot.marker = marker
            self._attach(slot)

    def _load_new_tokens(self, directory: Path, *, is_strict: bool) -> None:
        for name in sorted(_list_names(directory) - self._slots.keys() - self._broken):
            if not (directory / name / TOKEN_FILE).exists():
                continue  # still being written: that file comes last
            try:
                self._place(name, EmulatedToken.load(directory / name))
            except TokenStoreError as error:
                if is_strict:
                    raise
                self._broken.add(name)
                log.warning("left out of the fleet: %s", error)

    def _make_directories(self, directory: Path) -> None:
        try:
            for part in (TOKENS_DIRECTORY, PLUGGED_DIRECTORY):
                (directory / part).mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise TokenStoreError(path=str(directory), detail=error.strerror or str(error)) from error

    def _write_marker(self, name: str) -> Marker | None:
        if self._directory is None:
            return None
        path = self._directory / PLUGGED_DIRECTORY / name
        try:
            path.touch(exist_ok=True)
            return _marker_of(path.stat())
        except OSError as error:
            raise TokenStoreError(path=str(path), detail=error.strerror or str(error)) from error

    def _remove_marker(self, name: str) -> None:
        if self._directory is None:
            return
        path = self._directory / PLUGGED_DIRECTORY / name
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise TokenStoreError(path=str(path), detail=error.strerror or str(error)) from error


def _entry_of(name: str, slot: _Slot) -> FleetEntry:
    usb_path = f"{slot.bus}-{'.'.join(map(str, slot.port_numbers))}"
    return FleetEntry(name, slot.token, slot.device is not None, usb_path)


def _marker_of(status: os.stat_result) -> Marker:
    return status.st_ino, status.st_mtime_ns


def _list_names(directory: Path) -> set[str]:
    try:
        return {name for name in os.listdir(directory) if NAME_PATTERN.fullmatch(name)}
    except OSError as error:
        raise TokenStoreError(path=str(directory), detail=error.strerror or str(error)) from error


def _read_markers(directory: Path) -> dict[str, Marker]:
    try:
        with os.scandir(directory) as found:
            return {item.name: _marker_of(item.stat()) for item in found}
    except OSError as error:
        raise TokenStoreError(path=str(directory), detail=error.strerror or str(error)) from error
