"""A configuration written as TOML: what `usher config show-defaults` prints, and a file that can be read back.

Entries that have no default of their own, because it depends on another entry, are written as comments.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from broker.app.address import Address
from broker.app.config import Config
from broker.app.emulated_keys import EmulatedKeySettings, EmulatedLicence
from broker.licence.terms import terms_claim

COLUMN = 44


def config_text(config: Config) -> str:
    """All sections and entries, each with what it is for."""
    return "\n".join(_lines(config)) + "\n"


def config_json(config: Config) -> dict[str, Any]:
    """The same as plain values, for programs; None where a default depends on another entry."""
    return {
        section.name: {one.name: plain(getattr(getattr(config, section.name), one.name)) for one in _entries(config, section.name)}
        for section in _sections(config)
    }


def _lines(config: Config) -> Iterator[str]:
    for section in _sections(config):
        values = getattr(config, section.name)
        yield f"# {(type(values).__doc__ or '').strip()}"
        yield f"[{section.name}]"
        for one in _entries(config, section.name):
            yield _entry_line(one.name, plain(getattr(values, one.name)), one.metadata["says"])
        yield ""


def _sections(config: Config) -> list[dataclasses.Field[Any]]:
    return [one for one in dataclasses.fields(config) if one.name != "source"]


def _entries(config: Config, section: str) -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(getattr(config, section))


def _entry_line(name: str, value: Any, says: str) -> str:
    if isinstance(value, list) and any(isinstance(one, dict) for one in value):
        rows = "".join(f"    {_toml(one)},\n" for one in value)
        return f"# {says}\n{name} = [\n{rows}]"
    text = f"# {name} =" if value is None or value == [] else f"{name} = {_toml(value)}"
    return f"{text:<{COLUMN}} # {says}"


def plain(value: Any) -> Any:
    """A setting as JSON and TOML know it: text, numbers, lists, dictionaries."""
    if isinstance(value, (Address, Path)):
        return str(value)
    if isinstance(value, EmulatedKeySettings):
        return {
            "name": value.name,
            "profile": value.profile,
            "algorithm": value.algorithm,
            "plugged": value.plugged,
            "licences": [plain(one) for one in value.licences],
        }
    if isinstance(value, EmulatedLicence):
        terms = terms_claim(value.terms)
        return {"product": value.product, "seats": value.seats} | ({"terms": terms} if terms else {})
    if isinstance(value, tuple):
        return [plain(one) for one in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {one.name: plain(getattr(value, one.name)) for one in dataclasses.fields(value)}
    return value


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{name} = {_toml(one)}" for name, one in value.items() if one is not None) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(_toml(one) for one in value) + "]"
    if isinstance(value, float):
        return f"{value:g}"
    # Of TOML's basic strings JSON's are a subset, as long as nothing is escaped as a surrogate pair.
    return json.dumps(value, ensure_ascii=False)
