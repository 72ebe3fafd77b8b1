"""The fuzz targets of wire, h2 and tls for a bounded time: no finding; and they do find errors that were planted.

USHER_FUZZ_S seconds each (a few if unset; .ci/run sets its share), with a fresh seed unless USHER_FUZZ_SEED is set. A finding is shown
with the sanitizer's words and the command that replays it anywhere.
"""

from __future__ import annotations

import os
import secrets
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tools import fuzz

SECONDS = int(os.environ.get("USHER_FUZZ_S", "4"))
SEED = int(os.environ.get("USHER_FUZZ_SEED", str(secrets.randbits(31))))
PLANTED_S = 60
TARGETS = tuple(fuzz.LIBRARIES)

PLANTED = {
    "wire": (
        "wire/reader.pxi",
        "size > <uint64_t>(reader.end - reader.at)",
        "size > <uint64_t>(reader.end - reader.at) + 1",
    ),
    "h2": ("h2/connection.pxi", "    held_keep(c)\n", ""),
    "tls": ("tls/spans.pxi", "min(<size_t>size, target.size_max - target.used)", "<size_t>size"),
}
"""Target -> file, what stands there, and what the error puts in its place: a byte too far, memory that is gone, room that is not there."""


@pytest.fixture(scope="module")
def results() -> dict[str, fuzz.Result]:
    """One run of each target, all at once."""
    return {one.target: one for one in fuzz.run_all(TARGETS, seconds=SECONDS, seed=SEED)}


@pytest.mark.parametrize("target", TARGETS)
def test_no_input_makes_a_sanitizer_or_an_assertion_speak(target: str, results: dict[str, fuzz.Result]) -> None:
    found = results[target]
    assert not found.report, f"seed {found.seed}\n{found.report}\n{found.advice}"
    assert found.run_count > len(fuzz.seeds(target)), "only the seeds were tried"


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An executable of each target over sources with an error."""
    return dict(ThreadPoolExecutor(2).map(lambda target: (target, plant(target, tmp_path_factory.mktemp(target))), TARGETS))


def plant(target: str, folder: Path) -> Path:
    """The target over a copy of ext with its error."""
    name, before, after = PLANTED[target]
    ext = folder / "ext"
    shutil.copytree(fuzz.ROOT / "ext", ext, ignore=shutil.ignore_patterns("*.c", "*.pyx"))
    text = (ext / name).read_text()
    assert text.count(before) == 1, f"{name} has changed: plant another error"
    (ext / name).write_text(text.replace(before, after))
    return fuzz.build(target, ext)


@pytest.mark.parametrize("target", TARGETS)
def test_an_error_that_was_planted_is_found(target: str, planted: dict[str, Path]) -> None:
    found = fuzz.run(target, seconds=PLANTED_S, seed=SEED, executable=planted[target])
    assert found.finding is not None, f"seed {found.seed}: {found.run_count} inputs did not find it"
    found.finding.unlink()


@pytest.mark.parametrize("target", TARGETS)
def test_python_never_starts_in_a_target(target: str) -> None:
    source = (fuzz.SOURCES / f"fuzz_{target}.pyx").read_text()
    bodies = [line for line in source.splitlines() if line.startswith(("def ", "cdef class ", "import ", "from broker"))]
    assert bodies == [], "only functions without the GIL: everything of Python is a trap"
