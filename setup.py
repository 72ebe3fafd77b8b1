"""The compiled parts of Usher, and the switches that they are built with.

Everything else about the package stands in pyproject.toml. Environment:

* USHER_PURE=1      no compiled parts at all: a client install, for computers without a compiler;
* USHER_DEBUG=1     -O0, and the asserts and bounds checks of ext/ armed (-DUSHER_DEBUG);
* USHER_ANNOTATE=1  an HTML report beside each .pyx, of the lines that touch Python.

A source tree without ext/ builds without them too. Extensions are `optional`: a failed build leaves a package
whose client works; `tools/setup` and `usher serve` say so when the broker cannot.
"""

from __future__ import annotations

import os
from pathlib import Path

from setuptools import Extension, setup

ROOT = Path(__file__).resolve().parent

COMPILED = {
    "broker._ledger": "ext/ledger/_ledger.pyx",
}
"""Module -> its source. A new compiled module is one line here."""


def is_set(name: str) -> bool:
    """Whether a switch is on."""
    return os.environ.get(name, "") not in ("", "0")


def compiler_arguments() -> list[str]:
    """What the C compiler is told: always with frame pointers and symbols, so that perf and gdb can read it."""
    level = ["-O0", "-DUSHER_DEBUG"] if is_set("USHER_DEBUG") else ["-O2"]
    return [*level, "-g", "-fno-omit-frame-pointer"]


def depends() -> list[str]:
    """Every file whose change must rebuild: declarations and C headers besides the sources."""
    patterns = ("**/*.pxd", "**/*.pxi", "**/*.pyx", "native/*.h", "native/*.c")
    found = {path.relative_to(ROOT).as_posix() for pattern in patterns for path in (ROOT / "ext").glob(pattern)}
    return sorted(found)


def extensions() -> list[Extension]:
    """The extensions whose sources are here."""
    if is_set("USHER_PURE"):
        return []
    wanted = [
        Extension(
            module,
            [source],
            include_dirs=["ext", str(Path(source).parent), "ext/native"],
            extra_compile_args=compiler_arguments(),
            depends=depends(),
        )
        for module, source in COMPILED.items()
        if (ROOT / source).exists()
    ]
    if not wanted:
        return []
    from Cython.Build import cythonize  # only where something is compiled: a pure install has no Cython

    compiled = cythonize(
        wanted,
        include_path=["ext", "ext/ledger"],
        language_level=3,
        annotate=is_set("USHER_ANNOTATE"),
    )
    for one in compiled:
        one.optional = True  # here and not above: cythonize forgets it
    return compiled


setup(ext_modules=extensions())
