"""The codec takes no GIL: held against the C that Cython generates, as tests/native/test_no_gil.py holds the ledger."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.native.test_no_gil import FORBIDDEN, HARMLESS, ROOT, bodies

WIRE = ROOT / "ext" / "wire"
FUNCTION = re.compile(r"^cdef (?:inline )?[\w* ]+?[ *](\w+)\((?:[^)]*)\) noexcept nogil:", re.MULTILINE)


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The codec's C, generated anew."""
    target: Path = tmp_path_factory.mktemp("generated") / "_wire.c"
    command = [sys.executable, "-m", "cython", "-3", "-I", "ext", "-I", "ext/ledger", "-I", "ext/wire", "ext/wire/_wire.pyx", "-o", str(target)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return target.read_text()


def request_path_functions() -> list[str]:
    """Every function of the codec but those of its Python face, which must all be declared to run without the GIL."""
    names = []
    for source in sorted(WIRE.glob("*.pxi")):
        text = source.read_text()
        found = FUNCTION.findall(text)
        if source.name != "face.pxi":
            assert len(found) == len(re.findall(r"^cdef (?!extern|enum|struct|class)", text, re.MULTILINE)), source.name
        names += found
    return names


def test_no_function_of_the_codec_touches_python(generated: str) -> None:
    names = request_path_functions()
    assert len(names) > 70, "the pattern no longer finds the functions"
    code = bodies(generated)
    guilty = {}
    for name in names:
        found = [text for c_name, text in code.items() if c_name.endswith(f"_wire_{name}")]
        assert len(found) == 1, f"{name} is not in the generated C"
        words = set(FORBIDDEN.findall(found[0])) - HARMLESS
        if words:
            guilty[name] = sorted(words)
    assert guilty == {}
