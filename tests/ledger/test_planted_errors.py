"""Errors planted on purpose, which the lockstep must find: in the sources of the compiled ledger, and in the model's place.

Each one is a block of lines that stands exactly once in ext/ledger. In a copy, which is built once and without optimisation, it stands beside a wrong
block, and the environment chooses (USHER_PLANTED: the error's number, 0 for none). A block that is not found any more fails the test and says so: then
plant the error anew. Each error names the kind of episode that meets it soonest: that all kinds together meet everything, the million says.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from textwrap import indent

import pytest
from Cython.Build import cythonize
from setuptools import Distribution, Extension  # type: ignore[import-untyped]

from broker.model.words import Status
from tests.ledger.lockstep import Failure, run
from tests.ledger.operations import Settings
from tests.ledger.shrink import difference_in, shrink
from tests.ledger.sides import ModelSide
from tests.model.ledger_model import LedgerModel
from tests.model.records import Charge, Lease, Pool, Session

ROOT = Path(__file__).resolve().parents[2]
EXT = ROOT / "ext"
OPERATION_COUNT_MAX = 60_000
OPERATION_COUNT_OF_NONE = 4_000
PROCESSOR_S_MAX = 60
"""Of one error: a broken list may have no end. The processor ends what takes longer, by a signal: found as well."""
CHOICE = "USHER_PLANTED"
CHOOSER = f'''cdef extern from *:
    """
    #include <stdlib.h>
    static int usher_planted(void)
    {{
        static int number = -1;
        const char *text = getenv("{CHOICE}");
        if (number < 0)
            number = text ? atoi(text) : 0;
        return number;
    }}
    """
    int usher_planted() noexcept nogil

'''


@dataclass(frozen=True, slots=True)
class Planted:
    """A block of one file of ext/ledger, and what stands in its place."""

    name: str
    file: str
    right: str
    wrong: str
    kind: str = "everyday"


PLANTED = (
    Planted(
        "one lease too many shares a charge",
        "charges.pxi",
        "    return share_max == 0 or charge.lease_count < share_max\n",
        "    return share_max == 0 or charge.lease_count < share_max + (share_max > 1)\n",
    ),
    Planted(
        "a deficit that does not shrink",
        "pools.pxi",
        "    pool.used -= pool.weight\n",
        # What is left over is put right with the last charge, so that the error is a wrong number and not a crash.
        "    pool.used = 0 if pool.charge_count == 1 else pool.used - (0 if deficit_of(pool) else pool.weight)\n",
        "keys",
    ),
    Planted(
        "a request_id that is forgotten",
        "memory.pxi",
        "        if request.lookup[0] == lookup[0] and request.lookup[1] == lookup[1]:\n            break\n",
        "        if request.kind != REQUEST_OPENED and request.lookup[0] == lookup[0] and request.lookup[1] == lookup[1]:\n            break\n",
    ),
    Planted(
        "an expiry that is not journaled",
        "sessions.pxi",
        "    emit(s, EVENT_SESSION_ENDED, reason, session.fence, 0, -1, -1, 0, number, close_hash, FLAG_CLOSE if is_close_remembered else 0)\n",
        "    if reason != END_EXPIRED:\n"
        "        emit(s, EVENT_SESSION_ENDED, reason, session.fence, 0, -1, -1, 0, number, close_hash, FLAG_CLOSE if is_close_remembered else 0)\n",
    ),
    Planted(
        "request_ids that a restart forgets",
        "replay.pxi",
        "    command.ttl_ms = body.ttl_ms\n    memcpy(command.lookup, body.lookup, 16)\n",
        "    command.ttl_ms = body.ttl_ms\n    siphash128(s.secret, <const uint8_t*>body.lookup, 16, command.lookup)\n",
    ),
    Planted(
        "a place that a restart does not keep",
        "replay.pxi",
        "    slab_take_at(&s.sessions, place)\n    session_put(s, place, e.fence, command)\n",
        "    place = s.sessions.high\n    slab_take_at(&s.sessions, place)\n    session_put(s, place, e.fence, command)\n",
    ),
    Planted(
        "an acknowledged end that comes back",
        "replay.pxi",
        "    drop_acknowledged(s, session_at(s, number), <uint32_t>e.detail)\n",
        "    pass\n",
        "keys",
    ),
)


def _plant(error: Planted, number: int, sources: Path) -> None:
    """The wrong block beside the right one."""
    path = sources / "ledger" / error.file
    text = path.read_text(encoding="utf-8")
    found_count = text.count(error.right)
    assert found_count == 1, (
        f"the text of '{error.name}' stands {found_count} times in ext/ledger/{error.file}"
    )
    margin = error.right[: len(error.right) - len(error.right.lstrip())]
    step = " " * 4
    both = f"{margin}if usher_planted() == {number}:\n{indent(error.wrong, step)}{margin}else:\n{indent(error.right, step)}"
    path.write_text(text.replace(error.right, both), encoding="utf-8")


def _build(sources: Path, folder: Path) -> Path:
    """The extension of these sources, without optimisation; its path."""
    include = [str(sources), str(sources / "ledger")]
    extension = Extension(
        "broker._ledger",
        [str(sources / "ledger" / "_ledger.pyx")],
        include_dirs=[*include, str(sources / "native")],
        extra_compile_args=["-O0", "-g0", "-w"],
    )
    compiled = cythonize(  # type: ignore[no-untyped-call]
        [extension], include_path=include, language_level=3, build_dir=str(folder / "c"), quiet=True
    )
    command = Distribution({"ext_modules": compiled}).get_command_obj("build_ext")
    command.build_lib = str(folder / "lib")
    command.build_temp = str(folder / "objects")
    command.ensure_finalized()
    command.run()
    (built,) = (folder / "lib").rglob("_ledger*.so")
    return built


@pytest.fixture(scope="module")
def planted_ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The extension with all errors in it, none of them chosen."""
    folder = tmp_path_factory.mktemp("planted")
    sources = folder / "ext"
    shutil.copytree(EXT, sources, ignore=shutil.ignore_patterns("*.c", "*.html"))
    shutil.copytree(EXT / "native", sources / "native", dirs_exist_ok=True)
    for number, error in enumerate(PLANTED, 1):
        _plant(error, number, sources)
    unit = sources / "ledger" / "_ledger.pyx"
    text = unit.read_text(encoding="utf-8")
    unit.write_text(text.replace('include "memory.pxi"', CHOOSER + 'include "memory.pxi"'), encoding="utf-8")
    return _build(sources, folder)


def _lockstep(extension: Path, number: int, kind: str, operation_count: int) -> subprocess.CompletedProcess[str]:
    arguments = ["--operations", str(operation_count), "--kind", kind, "--extension", str(extension)]
    done = subprocess.run(
        ["prlimit", f"--cpu={PROCESSOR_S_MAX}:{2 * PROCESSOR_S_MAX}", "--core=0", sys.executable, "-m", "tests.ledger", *arguments],
        cwd=ROOT, env=os.environ | {CHOICE: str(number)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    print(done.stdout, done.stderr)
    return done


@pytest.mark.parametrize("number", range(1, len(PLANTED) + 1), ids=lambda number: PLANTED[number - 1].name)
def test_an_error_planted_in_the_compiled_ledger_is_found(number: int, planted_ledger: Path) -> None:
    done = _lockstep(planted_ledger, number, PLANTED[number - 1].kind, OPERATION_COUNT_MAX)
    if done.returncode != -signal.SIGXCPU:
        assert done.returncode == 1
        assert "replay: python -m tests.ledger" in done.stderr


@pytest.mark.parametrize("kind", sorted({error.kind for error in PLANTED}))
def test_nothing_is_found_in_the_same_build_when_no_error_is_chosen(kind: str, planted_ledger: Path) -> None:
    done = _lockstep(planted_ledger, 0, kind, OPERATION_COUNT_OF_NONE)
    assert (done.returncode, done.stderr) == (0, "")


# --- the same errors with the model in the place of the ledger: quick, and every failure is shrunk -----------------
def _share_too_many(model: LedgerModel, patch: pytest.MonkeyPatch) -> None:
    join = model.charges._join

    def join_and_stay_roomy(session: Session, charge: Charge) -> Lease:
        lease = join(session, charge)
        roomy = charge.pool.roomy[charge.group]
        roomy.extend([] if charge in roomy else [charge])
        return lease

    patch.setattr(model.charges, "_join", join_and_stay_roomy)


def _keep_deficits(model: LedgerModel, patch: pytest.MonkeyPatch) -> None:
    deficit, worst = model.capacity.deficit, dict[int, int]()

    def largest_deficit(pool: Pool) -> int:
        now = deficit(pool)
        worst[pool.number] = min(pool.in_use, max(worst.get(pool.number, 0), now)) if now else 0
        return worst[pool.number]

    patch.setattr(model.capacity, "deficit", largest_deficit)


def _forget_releases(model: LedgerModel, patch: pytest.MonkeyPatch) -> None:
    remember = model.memory.remember
    patch.setattr(
        model.memory, "remember", lambda entry: None if entry.status is Status.RELEASED else remember(entry)
    )


@pytest.mark.parametrize("plant", [_share_too_many, _keep_deficits, _forget_releases])
def test_an_error_planted_in_a_second_model_is_found_and_shrunk(
    plant: Callable[[LedgerModel, pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def make_wrong(settings: Settings) -> ModelSide:
        side = ModelSide(settings)
        plant(side.model, monkeypatch)
        return side

    seed = secrets.randbits(32)
    print(f"seed {seed}")
    with pytest.raises(Failure) as caught:
        run(seed, OPERATION_COUNT_MAX, make_wrong)
    failure = caught.value
    least, difference = shrink(failure.episode.settings, failure.operations, make_wrong)
    assert difference
    assert len(least) < len(failure.operations)
    assert difference_in(failure.episode.settings, least, is_eager=False) == ""
