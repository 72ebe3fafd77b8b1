"""The codec's sources: no function but those of its Python face may need the GIL (tests/native looks into the generated C)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

WIRE = Path(__file__).resolve().parents[2] / "ext" / "wire"
REQUEST_PATH = sorted(path for path in WIRE.glob("*.pxi") if path.name != "face.pxi")


@pytest.mark.parametrize("source", REQUEST_PATH, ids=lambda path: path.name)
def test_every_function_of_the_request_path_is_declared_free_of_the_gil(source: Path) -> None:
    text = source.read_text()
    functions = re.findall(r"^cdef (?!extern|enum|struct|class)[^:]*:$", text, re.MULTILINE)
    assert functions, "the pattern no longer finds the functions"
    assert [one for one in functions if not one.endswith(") noexcept nogil:")] == []
    assert not re.search(r"^def |\bmalloc\b|\bcalloc\b", text, re.MULTILINE), "nothing here allocates or is called from Python"
