"""The emulated fleet of a broker: keys, a test vendor and licences, made on the first start inside the data directory.

    emulated/tokens, emulated/plugged    the fleet (hwkey.emulated.fleet), so that keys keep their identity over restarts
    emulated/vendor                      the test vendor; its trust file is believed beside the configured ones
    emulated/issued.json                 what has been issued; written last, so that an interrupted start is done again
    licences/emulated-*.jwt              the licences, each bound to its key, all with env: test

When the configuration of the fleet has changed, its licences are issued anew by a new test vendor. Nothing here is
a right of use: see `semantics.md` 33. `prepare` runs before the event loop; the rest from any thread.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from broker.app.config_text import plain
from broker.app.emulated_keys import EmulatedKeySettings
from broker.app.logs import facts
from broker.errors import DataDirectoryError
from broker.licence import LicenceError, Vendor, create_vendor, issue_licence, load_vendor
from broker.licence.issue import PUBLIC_FILE
from hwkey import HwkeyError, UsbKeyBus
from hwkey.emulated import SigningAlgorithm, TokenFleet, emulated_bus

log = logging.getLogger("broker.app")

VENDOR_NAME = "EMULATED test vendor"
LICENCE_PREFIX = "emulated-"
ISSUED_FILE = "issued.json"


@dataclass(frozen=True, slots=True)
class EmulatedKeyFacts:
    """One emulated key, for lists."""

    name: str
    profile: str
    is_plugged: bool
    thumbprint: str


def fleet_trust_files(data_dir: Path) -> tuple[Path, ...]:
    """The trust file of a fleet's own test vendor; none while there is no fleet, or if it has no licences."""
    path = _vendor_directory(data_dir / "emulated") / PUBLIC_FILE
    return (path,) if path.exists() else ()


class EmulatedFleet:
    """Implements `broker.verbs.seams.Emulation`. Make it with `prepare`."""

    def __init__(self, fleet: TokenFleet) -> None:
        self._fleet = fleet

    @classmethod
    def prepare(
        cls, data_dir: Path, licence_folder: Path, keys: Sequence[EmulatedKeySettings], now_unix_s: int
    ) -> EmulatedFleet:
        """The fleet of a data directory, with whatever is missing made. Raises DataDirectoryError."""
        directory = data_dir / "emulated"
        try:
            fleet = TokenFleet(directory)
            known = {entry.name for entry in fleet.entries()}
            for one in keys:
                if one.name not in known:
                    _create(fleet, one)
            _issue_all(fleet, directory, licence_folder, keys, now_unix_s)
        except (HwkeyError, LicenceError, OSError, ValueError) as error:
            reason = f"the emulated fleet cannot be prepared: {error}"
            raise DataDirectoryError(directory, reason, "delete this directory to have it made anew") from error
        return cls(fleet)

    def bus(self) -> UsbKeyBus:
        """The fleet as a bus of security keys."""
        return emulated_bus(self._fleet)

    def emulated_keys(self) -> Sequence[EmulatedKeyFacts]:
        """All keys of the fleet, by name."""
        return tuple(
            EmulatedKeyFacts(entry.name, entry.token.profile.name, entry.is_plugged, entry.token.thumbprint)
            for entry in self._fleet.entries()
        )

    def set_plugged(self, name: str, is_plugged: bool) -> EmulatedKeyFacts:
        """Plugs a key in or pulls it, and says how it is now. LookupError for a name that is not in the fleet."""
        if is_plugged:
            self._fleet.plug(name)
        else:
            self._fleet.unplug(name)
        log.info("emulated key moved", extra=facts(name=name, plugged=is_plugged))
        return next(one for one in self.emulated_keys() if name in (one.name, self._fleet.token(one.name).serial))


def _create(fleet: TokenFleet, one: EmulatedKeySettings) -> None:
    fleet.create(
        one.name, profile=one.profile, algorithm=SigningAlgorithm(one.algorithm), is_plugged=one.plugged
    )


def _vendor_directory(directory: Path) -> Path:
    return directory / "vendor"


def _issue_all(
    fleet: TokenFleet, directory: Path, folder: Path, keys: Sequence[EmulatedKeySettings], now_unix_s: int
) -> None:
    """Issues the fleet's licences, unless exactly these stand there already."""
    wanted = _wanted(fleet, folder, keys)
    issued_path = directory / ISSUED_FILE
    if _read(issued_path) == wanted and all((folder / name).exists() for name in wanted["files"]):
        if wanted["files"]:
            load_vendor(_vendor_directory(directory))
        return
    issued_path.unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob(f"{LICENCE_PREFIX}*.jwt"):
        old.unlink()
    shutil.rmtree(_vendor_directory(directory), ignore_errors=True)
    products = {licence.product for one in keys for licence in one.licences}
    if products:
        vendor = create_vendor(_vendor_directory(directory), VENDOR_NAME, products, is_test=True)
        for one in keys:
            _issue(fleet, vendor, folder, one, now_unix_s)
    issued_path.write_text(json.dumps(wanted) + "\n")


def _wanted(fleet: TokenFleet, folder: Path, keys: Sequence[EmulatedKeySettings]) -> dict[str, Any]:
    """What shall be issued, in a form that can be compared with what was."""
    files = [_file_name(one, index) for one in keys for index in range(len(one.licences))]
    licences = {one.name: [fleet.token(one.name).thumbprint, plain(one)["licences"]] for one in keys}
    return {"folder": os.fspath(folder), "files": files, "licences": licences}


def _issue(
    fleet: TokenFleet, vendor: Vendor, folder: Path, one: EmulatedKeySettings, now_unix_s: int
) -> None:
    for index, licence in enumerate(one.licences):
        document = issue_licence(
            vendor,
            licence_id=f"{LICENCE_PREFIX}{one.name}-{index + 1}",
            product=licence.product,
            seats=licence.seats,
            thumbprint=fleet.token(one.name).thumbprint,
            issued_unix_s=now_unix_s,
            customer="nobody: for tests only",
            terms=licence.terms,
        )
        (folder / _file_name(one, index)).write_text(document + "\n")


def _file_name(one: EmulatedKeySettings, index: int) -> str:
    return f"{LICENCE_PREFIX}{one.name}-{index + 1}-{one.licences[index].product}.jwt"


def _read(path: Path) -> object:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None
