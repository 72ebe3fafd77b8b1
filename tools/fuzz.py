"""The fuzz targets of the layers without I/O: how they are built for AddressSanitizer and UBSan, run, and replayed.

    python -m tools.fuzz run [TARGET ...] [--seconds 60] [--seed N]     in parallel, as many as there are processors
    python -m tools.fuzz replay TARGET FILE | --hex DIGITS              one input again, with all that the sanitizers say
    python -m tools.fuzz keep TARGET FOLDER                             the least inputs that reach what FOLDER reaches, as new seeds

A target is a Cython unit of tests/fuzz that includes a layer's own sources. It becomes C in which Python never starts: every name
of Python that it mentions is a trap. With clang and libFuzzer (`tools/setup fuzz`) inputs are guided by coverage; without, cc and
tests/fuzz/drive.c change the seeds blindly. Seeds stand in tests/fuzz/corpus, a line of hex each. All else is under
build/fuzz: what was built, the inputs that grew (kept from run to run), and findings. Exit status 1: there is a finding.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import os
import re
import secrets
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "tests" / "fuzz"
BUILD = ROOT / "build" / "fuzz"

LIBRARIES = {"wire": [], "h2": ["-lnghttp2"], "tls": ["-lssl", "-lcrypto", "-lpthread"]}
"""Target -> what it is linked with. Each is tests/fuzz/fuzz_<target>.pyx over ext/<target>."""

SANITIZERS = "address,undefined"
COMPILED = ("-g", "-O1", "-w", "-fno-omit-frame-pointer", "-fno-sanitize-recover=all")
INPUT_SIZE_MAX = 2048
RSS_MIB_MAX = 2048
CORPUS_HEAD = "# Seeds of tests/fuzz/fuzz_{target}.pyx, in hex: first what once was a finding, then what tools/fuzz.py kept."
STOP_S = 120
"""Given to a run beyond its seconds, to end by itself."""


class BuildFailed(Exception):
    """A target could not be built; the words of the tool that failed."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a run came to. `finding`: the input that ended it, if one did; `report`: the sanitizer's words."""

    target: str
    seed: int
    run_count: int
    finding: Path | None
    report: str

    @property
    def advice(self) -> str:
        """How to see a finding again, on this computer and on others."""
        if self.finding is None:
            return ""
        return f"python -m tools.fuzz replay {self.target} --hex {self.finding.read_bytes().hex()}"


# --- building -------------------------------------------------------------------------------------------------


@functools.cache
def guided_compiler() -> str | None:
    """A clang that has libFuzzer."""
    for name in ("clang", *(f"clang-{version}" for version in range(22, 13, -1))):
        if shutil.which(name) is None:
            continue
        command = [name, "-fsanitize=fuzzer", "-x", "c", "-w", "-", "-o", "/dev/null"]
        program = "int LLVMFuzzerTestOneInput(void) { return 0; }"
        if subprocess.run(command, input=program, text=True, capture_output=True, check=False).returncode == 0:
            return name
    return None


def build(target: str, ext: Path = ROOT / "ext") -> Path:
    """The executable of a target over the layers in `ext`; made anew when a source has changed."""
    compiler = guided_compiler()
    name = hashlib.sha256(_state(target, ext, compiler).encode()).hexdigest()[:16]
    folder = BUILD / "built" / f"{target}-{name}"
    executable = folder / "run"
    if not executable.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            made = _compile(target, ext, compiler, Path(scratch))
            made.rename(executable)
    return executable


def _state(target: str, ext: Path, compiler: str | None) -> str:
    """Everything that the executable is made of."""
    files = [path for path in sorted(ext.rglob("*")) if path.suffix in {".pxd", ".pxi", ".h"}]
    files += [path for path in sorted(SOURCES.iterdir()) if path.suffix in {".pyx", ".pxi", ".h", ".c"}]
    digests = [f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in files]
    return "\n".join([target, str(compiler), sys.version, Path(__file__).read_text(), *digests])


def _compile(target: str, ext: Path, compiler: str | None, scratch: Path) -> Path:
    """Cython to C, C to an object, traps for what it mentions of Python, all of it to an executable."""
    folders = [ext, ext / target, *sorted(path for path in ext.iterdir() if path.is_dir()), SOURCES]
    source, compiled, traps = scratch / f"fuzz_{target}.c", scratch / "target.o", scratch / "traps.c"
    unit = SOURCES / f"fuzz_{target}.pyx"
    cython = [sys.executable, "-m", "cython", "-3", "--line-directives"]
    _tool([*cython, *(word for folder in folders for word in ("-I", str(folder))), str(unit), "-o", str(source)])
    headers = [f"-I{folder}" for folder in (sysconfig.get_path("include"), ext, ext / "native", SOURCES, scratch)]
    sanitizers = f"-fsanitize={SANITIZERS}" if compiler is None else f"-fsanitize=fuzzer,{SANITIZERS}"
    cc = compiler or "cc"
    _tool([cc, "-c", *COMPILED, sanitizers, *headers, str(source), "-o", str(compiled)])
    traps.write_text(_traps(compiled))
    inputs = [str(compiled), str(traps)] if compiler else [str(compiled), str(traps), str(SOURCES / "drive.c")]
    _tool([cc, *COMPILED, sanitizers, *inputs, "-o", str(scratch / "run"), *LIBRARIES[target]])
    return scratch / "run"


def _traps(compiled: Path) -> str:
    """A function that ends the process for each name of Python: the module's start mentions them, and nobody calls it."""
    undefined = _tool(["nm", "-u", str(compiled)])
    names = re.findall(r"^\s+[Uw] (_?Py\w+)", undefined, re.MULTILINE)
    return "".join(f"void {name}(void) {{ __builtin_trap(); }}\n" for name in names)


def _tool(command: list[str]) -> str:
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        raise BuildFailed(f"{' '.join(command)}\n{answer.stdout}{answer.stderr}")
    return answer.stdout


# --- seeds ----------------------------------------------------------------------------------------------------


def corpus_path(target: str) -> Path:
    """Where a target's seeds stand."""
    return SOURCES / "corpus" / f"{target}.hex"


def _named_seeds(target: str) -> list[tuple[bytes, str]]:
    """Each seed with what is said of it, mostly nothing; what once was a finding is named, and never dropped."""
    lines = [line.partition("#") for line in corpus_path(target).read_text().splitlines()]
    return [(bytes.fromhex(digits), name.strip()) for digits, _, name in lines if digits.strip()]


def seeds(target: str) -> list[bytes]:
    """A target's seeds."""
    return [data for data, _ in _named_seeds(target)]


def unpack_seeds(target: str, folder: Path) -> None:
    """A file for each seed."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed in seeds(target):
        (folder / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)


def keep(target: str, grown: Path) -> int:
    """Writes the named seeds, and the least of the others and the grown inputs that reach as much, shortest first; how many."""
    named = {data: name for data, name in _named_seeds(target) if name}
    with tempfile.TemporaryDirectory() as scratch:
        least = Path(scratch) / "least"
        least.mkdir()
        unpack_seeds(target, Path(scratch) / "seeds")
        _tool([str(build(target)), "-merge=1", f"-max_len={INPUT_SIZE_MAX}", str(least), str(Path(scratch) / "seeds"), str(grown)])
        found = {path.read_bytes() for path in least.iterdir()} - set(named)
    lines = [f"{data.hex()}  # {name}" for data, name in named.items()]
    lines += [data.hex() for data in sorted(found, key=lambda data: (len(data), data))]
    corpus_path(target).write_text("\n".join([CORPUS_HEAD.format(target=target), *lines]) + "\n")
    return len(lines)


# --- running --------------------------------------------------------------------------------------------------


def run(target: str, *, seconds: int, seed: int, executable: Path | None = None, run_count_max: int = -1) -> Result:
    """Tries inputs for so many seconds, or until one is a finding. Other builds than the own leave no inputs behind."""
    own = executable is None
    program = executable or build(target)
    findings = BUILD / "findings"
    with tempfile.TemporaryDirectory() as scratch:
        grown = BUILD / target if own else Path(scratch) / "grown"
        for folder in (findings, grown):
            folder.mkdir(parents=True, exist_ok=True)
        unpack_seeds(target, Path(scratch) / "seeds")
        command = [
            str(program), f"-max_total_time={seconds}", f"-seed={seed}", f"-runs={run_count_max}", f"-max_len={INPUT_SIZE_MAX}",
            f"-rss_limit_mb={RSS_MIB_MAX}", "-timeout=30", "-print_final_stats=1", f"-artifact_prefix={scratch}/", str(grown),
            str(Path(scratch) / "seeds"),
        ]  # fmt: skip
        answer = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=seconds + STOP_S, check=False)
        finding = None if answer.returncode == 0 else _keep_finding(Path(scratch), findings, target)
    counted = re.search(r"stat::number_of_executed_units:\s*(\d+)", answer.stderr)
    report = "" if answer.returncode == 0 else f"status {answer.returncode}\n{answer.stderr[-6000:]}"
    return Result(target, seed, int(counted[1]) if counted else 0, finding, report)


def _keep_finding(scratch: Path, findings: Path, target: str) -> Path | None:
    """The input that ended a run, under a name of its own."""
    for path in sorted(path for path in scratch.iterdir() if path.is_file()):
        data = path.read_bytes()
        if path.name == "input-at-work":
            data = data[8 : 8 + int.from_bytes(data[:8], "little")]
        kept = findings / f"{target}-{hashlib.sha256(data).hexdigest()[:16]}"
        kept.write_bytes(data)
        return kept
    return None


def run_all(targets: Sequence[str], *, seconds: int, seed: int) -> list[Result]:
    """Each target for so many seconds, as many at once as there are processors."""
    for target in targets:
        build(target)               # one after the other, so that its time is not taken from the runs
    with ThreadPoolExecutor(max(1, os.cpu_count() or 1)) as pool:
        return list(pool.map(lambda target: run(target, seconds=seconds, seed=seed), targets))


def replay(target: str, data: bytes) -> int:
    """One input, before the eyes of who asked; the status."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "input"
        path.write_bytes(data)
        command = [str(build(target)), f"-artifact_prefix={scratch}/", str(path)]
        return subprocess.run(command, check=False).returncode


# --- the command ----------------------------------------------------------------------------------------------


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tools.fuzz", description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run")
    running.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(LIBRARIES)}; all")
    running.add_argument("--seconds", type=int, default=60, help="for each target (60)")
    running.add_argument("--seed", type=int, help="a fresh one if not said")
    replaying = commands.add_parser("replay")
    replaying.add_argument("target", choices=LIBRARIES)
    replaying.add_argument("file", type=Path, nargs="?")
    replaying.add_argument("--hex", default="")
    keeping = commands.add_parser("keep")
    keeping.add_argument("target", choices=LIBRARIES)
    keeping.add_argument("folder", type=Path)
    return parser.parse_args()


def _run_and_tell(targets: Sequence[str], seconds: int, seed: int) -> int:
    guided = guided_compiler()
    print(f"seed {seed}, {seconds} s each, {guided + ' and libFuzzer' if guided else 'cc, without coverage'}", flush=True)
    results = run_all(targets, seconds=seconds, seed=seed)
    for one in results:
        print(f"{one.target:6} {one.run_count:10d} inputs  {(one.report and 'A FINDING') or 'no finding'}")
    for one in results:
        if one.report:
            print(f"\n{one.report}\n{one.advice}", file=sys.stderr)
    return int(any(one.report for one in results))


def main() -> int:
    """Does what the command line says; the exit status."""
    told = _arguments()
    if told.command == "run":
        unknown = set(told.targets) - set(LIBRARIES)
        if unknown:
            raise SystemExit(f"no such target: {', '.join(sorted(unknown))}")
        return _run_and_tell(told.targets or list(LIBRARIES), told.seconds, secrets.randbits(31) if told.seed is None else told.seed)
    if told.command == "replay":
        return replay(told.target, told.file.read_bytes() if told.file else bytes.fromhex(told.hex))
    print(f"{keep(told.target, told.folder)} seeds in {corpus_path(told.target).relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
