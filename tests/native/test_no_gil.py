"""The request path takes no GIL: held against the C that Cython generates, not against what the sources say.

A `noexcept nogil` function that Cython could not keep free of Python would take the GIL to report an exception
(`PyGILState_Ensure`, `__Pyx_ErrOccurredWithGIL`) or call into Python. Each of ours is looked up in the generated C.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LEDGER = ROOT / "ext" / "ledger"
FORBIDDEN = re.compile(r"\b(PyGILState_\w+|__Pyx_ErrOccurredWithGIL|__Pyx_WriteUnraisable|__Pyx_AddTraceback|Py_\w+|Py[A-Z]\w+_\w+)\b")
HARMLESS = {"Py_ssize_t", "Py_UNREACHABLE"}


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The ledger's C, generated anew."""
    target = tmp_path_factory.mktemp("generated") / "_ledger.c"
    command = [sys.executable, "-m", "cython", "-3", "-I", "ext", "-I", "ext/ledger", "ext/ledger/_ledger.pyx", "-o", str(target)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return target.read_text()


def request_path_functions() -> list[str]:
    """Every function of the ledger that is declared to run without the GIL."""
    names = []
    for source in sorted(LEDGER.glob("*.pxi")):
        names += re.findall(r"^cdef (?:inline )?[\w* ]+?[ *](\w+)\([^)]*\) noexcept nogil:", source.read_text(), re.MULTILINE)
    return names


def bodies(code: str) -> dict[str, str]:
    """C name -> body, of every function that stands in the file."""
    found = {}
    for match in re.finditer(r"^(?:static |CYTHON_INLINE )+[^;{}=]*?(__pyx_f_\w+)\([^;{}]*\) \{\n(.*?)^\}", code, re.MULTILINE | re.DOTALL):
        found[match[1]] = re.sub(r"/\*.*?\*/", "", match[2], flags=re.DOTALL)
    return found


def test_no_function_of_the_request_path_touches_python(generated: str) -> None:
    names = request_path_functions()
    assert len(names) > 100, "the pattern no longer finds the functions"
    code = bodies(generated)
    guilty = {}
    for name in names:
        (body,) = [text for c_name, text in code.items() if c_name.endswith(f"_ledger_{name}")] or [None]
        assert body is not None, f"{name} is not in the generated C"
        words = set(FORBIDDEN.findall(body)) - HARMLESS
        if words:
            guilty[name] = sorted(words)
    assert guilty == {}


def test_a_function_that_needs_python_would_be_found(generated: str) -> None:
    code = bodies(generated)
    reading = next(text for name, text in code.items() if name.endswith("_ledger__pool_view"))
    assert FORBIDDEN.search(reading)
