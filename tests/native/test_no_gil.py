"""The request path takes no GIL: held against the C that Cython generates, not against what the sources say.

A `noexcept nogil` function that Cython could not keep free of Python would take the GIL to report an exception
(`PyGILState_Ensure`, `__Pyx_ErrOccurredWithGIL`) or call into Python. Each of ours is looked up in the generated C.
"""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

ROOT = Path(__file__).resolve().parents[2]
UNITS = sorted((ROOT / "ext").glob("*/_*.pyx"))
FORBIDDEN = re.compile(r"\b(PyGILState_\w+|__Pyx_ErrOccurredWithGIL|__Pyx_WriteUnraisable|__Pyx_AddTraceback|Py_\w+|Py[A-Z]\w+_\w+)\b")
HARMLESS = {"Py_ssize_t", "Py_UNREACHABLE"}

every_unit = pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)


@dataclass(frozen=True, slots=True)
class Function:
    """One of the C file: `name` is as in the sources."""

    name: str
    body: str


@cache
def generated(unit: Path) -> str:
    """The unit's C, generated anew."""
    with TemporaryDirectory() as folder:
        target = Path(folder) / f"{unit.stem}.c"
        folders = ["ext", *(str(one.parent) for one in UNITS)]
        places = [word for one in folders for word in ("-I", one)]
        command = [sys.executable, "-m", "cython", "-3", *places, str(unit), "-o", str(target)]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
        return target.read_text()


def sources_of(source: Path, unit: Path) -> list[Path]:
    """A source and all that it includes: of its own layer, or of others by their paths."""
    found = [source]
    for name in re.findall(r'^include "([^"]+)"', source.read_text(), re.MULTILINE):
        place = next(path for path in (source.parent / name, unit.parent / name, ROOT / "ext" / name) if path.exists())
        found += sources_of(place.resolve(), unit)
    return found


def request_path_functions(unit: Path) -> list[str]:
    """Every function of a unit that is declared to run without the GIL, those of the layers that it includes too."""
    names = []
    for source in sources_of(unit, unit):
        names += re.findall(r"^cdef (?:inline )?[\w* ]+?[ *](\w+)\([^)]*\) noexcept nogil:", source.read_text(), re.MULTILINE)
    return names


@cache
def functions(unit: Path) -> tuple[Function, ...]:
    """Every function that stands in the unit's C."""
    found = []
    prefix = rf"__pyx_f_(?:6broker_)?{len(unit.stem)}{unit.stem}_"
    pattern = rf"^(?:static |CYTHON_INLINE )+[^;{{}}=]*?{prefix}(\w+)\([^;{{}}]*\) \{{\n(.*?)^\}}"
    for match in re.finditer(pattern, generated(unit), re.MULTILINE | re.DOTALL):
        found.append(Function(match[1], re.sub(r"/\*.*?\*/", "", match[2], flags=re.DOTALL)))
    return tuple(found)


@every_unit
def test_no_function_of_the_request_path_touches_python(unit: Path) -> None:
    names = request_path_functions(unit)
    assert len(names) > 15, "the pattern no longer finds the functions"
    bodies = {one.name: one.body for one in functions(unit)}
    assert [name for name in names if name not in bodies] == [], "these are not in the generated C"
    guilty = {name: sorted(set(FORBIDDEN.findall(bodies[name])) - HARMLESS) for name in names}
    assert {name: words for name, words in guilty.items() if words} == {}


@every_unit
def test_a_function_that_needs_python_would_be_found(unit: Path) -> None:
    request_path = set(request_path_functions(unit))
    others = [one for one in functions(unit) if one.name not in request_path]
    assert others, "every unit has a Python face with functions of its own"
    assert any(FORBIDDEN.search(one.body) for one in others)


def test_the_listener_is_looked_at_with_every_layer_in_it() -> None:
    names = set(request_path_functions(ROOT / "ext" / "listener" / "_listener.pyx"))
    assert {"tls_feed", "feed", "open_intake", "put_answer", "service_take", "streams_take", "notices_poll", "peer_flush"} <= names
    assert len(names) > 350
