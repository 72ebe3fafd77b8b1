"""Readers: each turns one TOML value into a typed setting, or says what is wrong with it and what to write instead.

A reader is a function (value, base directory) -> setting that raises `WrongValue`. TOML's bool is Python's, which is an
int: every number reader refuses it by itself. Relative paths are taken from the directory of the file. Pure:
whether a file exists is asked where it is used, so that a configuration can be checked on another machine.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from broker.app.address import parse_address

Reader = Callable[[object, Path], Any]

HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9a-fA-F:]+\]")


class WrongValue(Exception):
    """Half a sentence about the value, and half a one about what to write."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.remedy = remedy


def boolean(value: object, base: Path) -> bool:
    """true or false."""
    if not isinstance(value, bool):
        raise WrongValue(f"{_shown(value)} is not true or false", "write true or false, without quotes")
    return value


def table(value: object, base: Path) -> Any:
    """A table with entries of its own, which `config_file` reads."""
    if not isinstance(value, dict):
        raise WrongValue(f"{_shown(value)} is not a table", 'write { certificate = "server.pem", private_key = "server.key" }')
    return value


def seconds(least_s: float, most_s: float) -> Reader:
    """A duration in seconds, whole or not."""

    def read(value: object, base: Path) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise WrongValue(f"{_shown(value)} is not a number", f"write seconds, {least_s:g} to {most_s:g}")
        if not least_s <= value <= most_s:
            raise WrongValue(f"{value:g} s is out of bounds", f"write {least_s:g} to {most_s:g} seconds")
        return float(value)

    return read


def whole(least: int, most: int) -> Reader:
    """A whole number."""

    def read(value: object, base: Path) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise WrongValue(f"{_shown(value)} is not a whole number", f"write {least} to {most}")
        if not least <= value <= most:
            raise WrongValue(f"{value} is out of bounds", f"write {least} to {most}")
        return value

    return read


def one_of(*words: str) -> Reader:
    """One of some words."""

    def read(value: object, base: Path) -> str:
        if not isinstance(value, str) or value not in words:
            raise WrongValue(f"{_shown(value)} is unknown", "write " + " or ".join(f'"{word}"' for word in words))
        return value

    return read


def address(value: object, base: Path) -> Any:
    """A host and a port."""
    remedy = 'write it as "127.0.0.1:7600" or "[::1]:7600"'
    if not isinstance(value, str):
        raise WrongValue(f"{_shown(value)} is not an address", remedy)
    try:
        return parse_address(value)
    except ValueError as error:
        raise WrongValue(f"{_shown(value)} {error}", remedy) from None


def path(value: object, base: Path) -> Path:
    """A file or directory; relative to the configuration file, ~ is the home directory."""
    if not isinstance(value, str) or not value or "\0" in value:
        raise WrongValue(f"{_shown(value)} is not a path", "write a path in quotes")
    try:
        return base / Path(value).expanduser()
    except RuntimeError:
        raise WrongValue(f"{_shown(value)} names a home directory that does not exist", "write the whole path") from None


def paths(value: object, base: Path) -> tuple[Path, ...]:
    """One path or a list of them."""
    if isinstance(value, str):
        return (path(value, base),)
    if not isinstance(value, list) or not value:
        raise WrongValue(f"{_shown(value)} is not a path", "write a path in quotes, or a list of them")
    return tuple(path(one, base) for one in value)


def host_names(value: object, base: Path) -> tuple[str, ...]:
    """Names under which the HTTP port may be asked for, without ports."""
    remedy = 'write a list such as ["usher.example", "10.0.0.5"], without ports'
    if not isinstance(value, list):
        raise WrongValue(f"{_shown(value)} is not a list", remedy)
    for name in value:
        if not isinstance(name, str) or not HOST_NAME.fullmatch(name):
            raise WrongValue(f"{_shown(name)} is not a host name", remedy)
    return tuple(name.lower() for name in value)


def _shown(value: object) -> str:
    """A value as it might stand in the file, kept short."""
    text = {True: "true", False: "false"}.get(value) if isinstance(value, bool) else None
    text = text or (f'"{value}"' if isinstance(value, str) else repr(value))
    return text if len(text) <= 60 else text[:57] + "..."
