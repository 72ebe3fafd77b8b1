"""TOML written from plain dictionaries: just enough for the configurations that tests make.

Tables become `[name]` sections one level deep; everything below is written inline.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def toml_text(sections: Mapping[str, Mapping[str, Any]]) -> str:
    """The sections as a TOML document."""
    lines: list[str] = []
    for name, entries in sections.items():
        lines.append(f"[{name}]")
        lines.extend(f"{entry} = {_inline(value)}" for entry, value in entries.items())
        lines.append("")
    return "\n".join(lines)


def _inline(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{json.dumps(name)} = {_inline(one)}" for name, one in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_inline(one) for one in value) + "]"
    if isinstance(value, Path):
        return json.dumps(str(value))
    return json.dumps(value)
