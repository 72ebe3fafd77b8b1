"""Reading `usher.toml` into a `Config`: every fault named with file, dotted entry, reason and what to write instead.

All faults of a file are found in one reading, so that an admin corrects them in one go; nothing of a wrong file is used.
Unknown sections and entries are faults, with the nearest known name: a misspelt limit must not pass in silence.
"""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from broker.app.config import Config, TlsSettings
from broker.app.config_rules import broken_rules
from broker.app.config_values import WrongValue
from broker.errors import ConfigError, ConfigFault

FILE_SIZE_MAX = 1 << 20

_Section = TypeVar("_Section")


def load_config(path: Path) -> Config:
    """The configuration in a file, of which only the rules between entries are not yet checked. Raises ConfigError."""
    return parse_config(_text(path), str(path), path.absolute().parent)


def checked(config: Config) -> Config:
    """The same configuration, if its entries go together; ConfigError with every rule that they break."""
    if faults := broken_rules(config):
        raise ConfigError(faults)
    return config


def parse_config(text: str, source: str, base: Path) -> Config:
    """The configuration in a text; relative paths are taken from `base`."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError((ConfigFault(source, "", f"is not TOML: {error}", "correct that line"),)) from None
    reading = _Reading(source, base)
    config = reading.config(document)
    if reading.faults:
        raise ConfigError(tuple(reading.faults))
    return config


class _Reading:
    """One pass over one document; collects its faults."""

    def __init__(self, source: str, base: Path) -> None:
        self.faults: list[ConfigFault] = []
        self._source = source
        self._base = base

    def config(self, document: Mapping[str, Any]) -> Config:
        sections = {one.name: one.type for one in dataclasses.fields(Config) if one.name != "source"}
        found: dict[str, Any] = {"source": self._source}
        for name, members in document.items():
            if name not in sections:
                self._unknown(name, name, sections, "section")
            elif not isinstance(members, dict):
                self._fault(name, "is a section", f"write [{name}] on a line of its own")
            else:
                found[name] = self._section(name, members, type(getattr(Config(), name)))
        return Config(**found)

    def _section(self, name: str, members: Mapping[str, Any], section: type[_Section]) -> _Section:
        known = {one.name: one for one in dataclasses.fields(section)}  # type: ignore[arg-type]
        found: dict[str, Any] = {}
        for member, value in members.items():
            dotted = f"{name}.{member}"
            if member not in known:
                self._unknown(dotted, member, known, "entry", name)
            else:
                self._entry(found, dotted, member, value, known[member].metadata["read"])
        if isinstance(tls := found.get("tls"), dict):
            found["tls"] = self._tls(f"{name}.tls", tls)
        return section(**found)

    def _tls(self, dotted: str, members: Mapping[str, Any]) -> TlsSettings:
        tls = self._section(dotted, members, TlsSettings)
        for needed in ("certificate", "private_key"):
            if needed not in members:
                self._fault(f"{dotted}.{needed}", "is missing", "TLS needs a certificate and its private key")
        return tls

    def _entry(self, found: dict[str, Any], dotted: str, member: str, value: object, read: Any) -> None:
        try:
            found[member] = read(value, self._base)
        except WrongValue as wrong:
            self._fault(dotted, wrong.reason, wrong.remedy)

    def _unknown(self, dotted: str, name: str, known: Iterable[str], what: str, prefix: str = "") -> None:
        nearest = difflib.get_close_matches(name, list(known), n=1)
        where = f"{prefix}." if prefix else ""
        remedy = f"did you mean {where}{nearest[0]}?" if nearest else "known are " + ", ".join(known)
        self._fault(dotted, f"is no known {what}", remedy)

    def _fault(self, dotted: str, reason: str, remedy: str) -> None:
        self.faults.append(ConfigFault(self._source, dotted, reason, remedy))


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(FILE_SIZE_MAX + 1)
    except OSError as error:
        fault = ConfigFault(str(path), "", f"cannot be read: {error.strerror}", "name an existing file with --config")
        raise ConfigError((fault,)) from None
    if len(data) > FILE_SIZE_MAX:
        raise ConfigError((ConfigFault(str(path), "", "is larger than 1 MiB", "is it the right file?"),))
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        fault = ConfigFault(str(path), "", f"is not UTF-8 (byte {error.start})", "save it as UTF-8")
        raise ConfigError((fault,)) from None
