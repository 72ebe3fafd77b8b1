"""The jobs that need hours, as a table: `make soak`, or `python -m tools.soak --minutes 10 --only churn`.

    python -m tools.soak [--minutes M] [--only NAME ...] [--except NAME ...] [--at-once N] [--seed N] [--list]

--minutes is what all chosen jobs get together, divided by their shares; without it each job gets its own full time. As many run at
once as there are processors. A job is a command that ends with status 0 if it found nothing, and whose last line says what it did;
all that it says is kept in build/soak/<name>.log. Seeds are fresh unless one is given, and are shown: with the same
seed and time a job tries the same again, as far as its time goes. Exit status 1: a job found something.

A new job is one entry of JOBS.
"""

from __future__ import annotations

import argparse
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REPORTS = ROOT / "build" / "soak"
STOP_S = 900
"""Given to a job beyond its time, to end by itself."""
SEED_BITS = 31

Command = Callable[[int, int], list[str]]
"""From seconds and seed to arguments of Python."""


@dataclass(frozen=True, slots=True)
class Job:
    """One kind of endurance. `minutes`: its full time, and its share when there is less."""

    name: str
    about: str
    minutes: int
    command: Command


def _fuzz(target: str) -> Command:
    return lambda seconds, seed: ["-m", "tools.fuzz", "run", target, "--seconds", str(seconds), "--seed", str(seed)]


def _timed(module: str, *words: str) -> Command:
    return lambda seconds, seed: ["-m", module, "--seconds", str(seconds), "--seed", str(seed), *words]


JOBS = (
    Job("fuzz-wire", "the codec under any bytes, with sanitizers", 20, _fuzz("wire")),
    Job("fuzz-h2", "a whole HTTP/2 connection under scripts, with sanitizers", 20, _fuzz("h2")),
    Job("fuzz-tls", "TLS against an OpenSSL client under scripts, with sanitizers", 20, _fuzz("tls")),
    Job("differential", "the codec against google.protobuf and the verbs", 30, _timed("tests.fuzz.differential")),
    Job("lockstep", "the ledger against the plain model, run after run", 30, _timed("tests.fuzz.lockstep")),
    Job("journal", "a log and a ledger over it through losses of power, course after course", 30, _timed("tests.journal.soak")),
    Job("crash", "a thousand lives of a real broker that end by kill -9", 45, _timed("tests.crash", "--rounds", "1000")),
    Job("churn", "a million connections opened and closed, memory flat", 30, _timed("tests.hostile.churn")),
    Job("churn-tls", "the same over TLS, a hundred thousand", 15, _timed("tests.hostile.churn", "--tls", "--connections", "100000")),
)


@dataclass(frozen=True, slots=True)
class Report:
    """How a job ended."""

    job: Job
    seconds: float
    seed: int
    status: int
    said: str

    @property
    def is_good(self) -> bool:
        return self.status == 0


def run_job(job: Job, seconds: int, seed: int) -> Report:
    """Runs a job to its end; one that does not end in time has found something, too."""
    begin = time.monotonic()
    log = REPORTS / f"{job.name}.log"
    command = [sys.executable, *job.command(seconds, seed)]
    with log.open("w") as file:
        file.write(f"{' '.join(command)}\n")
        file.flush()
        try:
            status = subprocess.run(command, cwd=ROOT, stdout=file, stderr=file, timeout=seconds + STOP_S, check=False).returncode
        except subprocess.TimeoutExpired:
            status = 124
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return Report(job, time.monotonic() - begin, seed, status, lines[-1] if len(lines) > 1 else "nothing")


def times_of(jobs: Sequence[Job], minutes: float | None) -> list[int]:
    """Seconds for each: its full time, or its share of the minutes."""
    if minutes is None:
        return [job.minutes * 60 for job in jobs]
    total = sum(job.minutes for job in jobs)
    return [max(1, round(minutes * 60 * job.minutes / total)) for job in jobs]


def chosen(only: Sequence[str], without: Sequence[str]) -> list[Job]:
    """The jobs of these names, all if none is named. SystemExit for a name that is none."""
    if unknown := sorted({*only, *without} - {job.name for job in JOBS}):
        raise SystemExit(f"no such job: {', '.join(unknown)}; there are {', '.join(job.name for job in JOBS)}")
    return [job for job in JOBS if (not only or job.name in only) and job.name not in without]


def table(reports: Sequence[Report]) -> str:
    """What ran, how long, with which seed, and what came of it."""
    lines = [f"{'job':<14} {'s':>6} {'seed':>11}  result  what it said"]
    lines += [
        f"{one.job.name:<14} {one.seconds:6.0f} {one.seed:11d}  {'ok' if one.is_good else 'FOUND':<6}  {one.said[:100]}"
        for one in sorted(reports, key=lambda one: JOBS.index(one.job))
    ]
    return "\n".join(lines)


def run_jobs(jobs: Sequence[Job], *, minutes: float | None, at_once: int, seed: int | None) -> list[Report]:
    """All of them; says a line when one ends."""
    REPORTS.mkdir(parents=True, exist_ok=True)
    reports = []
    with ThreadPoolExecutor(at_once) as pool:
        futures = [
            pool.submit(run_job, job, seconds, secrets.randbits(SEED_BITS) if seed is None else seed)
            for job, seconds in zip(jobs, times_of(jobs, minutes), strict=True)
        ]
        for future in as_completed(futures):
            reports.append(future.result())
            print(f"{reports[-1].job.name} has ended after {reports[-1].seconds:.0f} s: {reports[-1].said}", flush=True)
    return reports


def main() -> int:
    """Does what the command line says; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.soak", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, help="for all chosen jobs together; each its full time if not said")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME")
    parser.add_argument("--except", nargs="+", default=[], metavar="NAME", dest="without")
    parser.add_argument("--at-once", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int, help="of all jobs; fresh ones if not said")
    parser.add_argument("--list", action="store_true", dest="is_listing")
    told = parser.parse_args()
    jobs = chosen(told.only, told.without)
    if told.is_listing:
        print("\n".join(f"{job.name:<14} {job.minutes:3d} min  {job.about}" for job in jobs))
        return 0
    reports = run_jobs(jobs, minutes=told.minutes, at_once=told.at_once, seed=told.seed)
    print(f"\n{table(reports)}\n\nlogs: {REPORTS.relative_to(ROOT)}")
    return int(not all(one.is_good for one in reports))


if __name__ == "__main__":
    sys.exit(main())
