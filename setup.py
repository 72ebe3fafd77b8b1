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
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup

ROOT = Path(__file__).resolve().parent

COMPILED = {
    "broker._ledger": "ext/ledger/_ledger.pyx",
    "broker._h2": "ext/h2/_h2.pyx",
    "broker._tls": "ext/tls/_tls.pyx",
    "broker._wire": "ext/wire/_wire.pyx",
    "broker._listener": "ext/listener/_listener.pyx",
    "broker._journal": "ext/journal/_journal.pyx",
    "loadtests._storm": "ext/storm/_storm.pyx",
}
"""Module -> its source. A new compiled module is one line here."""

LIBRARIES = {
    "broker._h2": ["libnghttp2"],
    "broker._tls": ["openssl >= 3.0"],
    "broker._listener": ["libnghttp2", "openssl >= 3.0"],
    "loadtests._storm": ["libnghttp2", "openssl >= 3.0"],
}
"""Module -> the C libraries that it needs, by their pkg-config names. Without one the module is left out: the broker
still serves, with data_plane = grpcio."""


IN_PLACE_ONLY = {"loadtests._storm"}
"""What a checkout has and a wheel has not: tools that load the broker."""


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


def library_arguments(module: str) -> tuple[list[str], list[str]] | None:
    """What the compiler and the linker are told about a module's libraries; None, and a line that says so, without them."""
    names = LIBRARIES.get(module, [])
    if not names:
        return [], []
    try:
        flags = [
            subprocess.run(["pkg-config", option, *names], check=True, capture_output=True, text=True).stdout.split()
            for option in ("--cflags", "--libs")
        ]
    except (OSError, subprocess.CalledProcessError):
        print(f"{module} is left out: pkg-config does not find {' '.join(names)} (see tools/setup)", file=sys.stderr)
        return None
    return flags[0], flags[1]


def extension(module: str, source: str) -> Extension | None:
    """One compiled module, if its source and its libraries are here."""
    if not (ROOT / source).exists():
        return None
    arguments = library_arguments(module)
    if arguments is None:
        return None
    return Extension(
        module,
        [source],
        include_dirs=["ext", str(Path(source).parent), "ext/native"],
        extra_compile_args=[*compiler_arguments(), *arguments[0]],
        extra_link_args=arguments[1],
        depends=depends(),
    )


def extensions() -> list[Extension]:
    """The extensions whose sources and libraries are here."""
    if is_set("USHER_PURE"):
        return []
    left_out = set() if "--inplace" in sys.argv else IN_PLACE_ONLY
    items = [item for item in COMPILED.items() if item[0] not in left_out]
    wanted = [one for one in (extension(*item) for item in items) if one is not None]
    if not wanted:
        return []
    from Cython.Build import cythonize  # only where something is compiled: a pure install has no Cython

    compiled = cythonize(
        wanted,
        include_path=["ext", *sorted({str(Path(source).parent) for source in COMPILED.values()})],
        language_level=3,
        annotate=is_set("USHER_ANNOTATE"),
    )
    for one in compiled:
        one.optional = True  # here and not above: cythonize forgets it
    return compiled


setup(ext_modules=extensions())
