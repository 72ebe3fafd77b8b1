"""`make load`: the locust scenarios, one after the other, each against a broker of its own, and the report about them.

    python -m loadtests.run                            all scenarios, about two minutes
    python -m loadtests.run --short                    a few seconds each
    python -m loadtests.run --scenario login_rush --users 300 --seconds 60
    python -m loadtests.run --target 127.0.0.1:7600    against a broker that runs already

Ends by itself. Exit status 0 if nothing failed: no call of locust, no objection of the broker's own counters and events
(only for a broker of our own: others have other clients too). Loopback only, since a load run is no guest anybody wants.
"""

from __future__ import annotations

import ipaddress
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console

from loadtests.locust_process import Run, run_locust
from loadtests.own_broker import ROOT, NotReady, own_broker
from loadtests.report import Finding, ceiling_sentences, remarks_of, terminal_table, wrapped, write_index
from loadtests.scenarios import BY_NAME, CEILING, SCENARIOS, Scenario
from loadtests.witness import Witness

REPORTS = ROOT / "build" / "load"

WIDTH = 110
"""Columns of the report where there is no terminal to ask."""


def loopback_target(_: click.Context, __: click.Parameter, target: str | None) -> str | None:
    """Refuses addresses of other machines."""
    if target is None:
        return None
    host, _separator, port = target.rpartition(":")
    try:
        is_loopback = host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback or not port.isdigit():
        raise click.BadParameter("write 127.0.0.1:PORT: load is only sent to this machine")
    return target


def own_finding(scenario: Scenario, user_count: int, seconds: int) -> Finding:
    """A scenario against a broker of its own, which is asked afterwards."""
    with tempfile.TemporaryDirectory(prefix="usher-load-") as directory:
        with (
            own_broker(Path(directory), keys=scenario.fleet) as broker,
            Witness(broker.view, broker.http, pulls_alpha=scenario.pulls_alpha) as witness,
        ):
            run = run_locust(scenario, broker.clients, REPORTS, user_count=user_count, seconds=seconds)
            objections = witness.objections(run)
        audit = witness.audit
    notes = [f"{audit.event_count} events audited, {audit.opened_count} sessions, never a seat beyond capacity"]
    if audit.findings or audit.missed_count:
        notes = []
    if scenario.pulls_alpha:
        notes.append(f"the largest deficit was {audit.deficit_peak}")
        if audit.deficit_peak == 0:
            objections.append("no deficit was ever seen: the key was pulled while its seats were free")
    return Finding(run, (*general_objections(run), *objections), tuple(notes))


def foreign_finding(scenario: Scenario, target: str, user_count: int, seconds: int) -> Finding:
    """A scenario against a broker that runs already, with whatever seats it has."""
    run = run_locust(scenario, target, REPORTS, user_count=user_count, seconds=seconds)
    return Finding(run, general_objections(run, is_own=False), foreign_notes(run, target))


def foreign_notes(run: Run, target: str) -> tuple[str, ...]:
    """What must be known of a run against a broker that is not ours, lest its numbers be taken for more than they are."""
    notes = [f"against {target}: the broker's own counters were not compared"]
    if not run.scenario.expects_denials and (denied_count := run.count_of("denied")):
        notes.append(f"{denied_count} calls were denied: that broker has fewer seats than users, so this says little")
    return tuple(notes)


def general_objections(run: Run, *, is_own: bool = True) -> tuple[str, ...]:
    """What is wrong with any run."""
    found = []
    if not run.request_count:
        found.append(f"no call was made; see {run.scenario.name}.log")
    if run.failure_count or run.status:
        found.append(f"{run.failure_count} calls failed, locust's status was {run.status}")
    if is_own and run.scenario.expects_denials and not run.count_of("denied"):
        found.append("nobody was denied: there were too few users for the question")
    if is_own and not run.scenario.expects_denials and run.count_of("denied"):
        found.append("somebody was denied although there were seats for all")
    return tuple(found)


@contextmanager
def noop_server() -> Iterator[str]:
    """A server that does nothing, in a process of its own; its address."""
    command = [sys.executable, "-m", "loadtests.noop_server"]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield f"127.0.0.1:{process.stdout.readline().strip()}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def measure_ceiling(is_short: bool) -> Run:
    """How fast locust itself is here and now."""
    seconds = CEILING.seconds_short if is_short else CEILING.seconds
    with noop_server() as target:
        return run_locust(CEILING, target, REPORTS, user_count=CEILING.user_count, seconds=seconds)


@click.command(help=__doc__.split("\n\n")[0] if __doc__ else None)
@click.option("--target", metavar="HOST:PORT", callback=loopback_target, help="A broker that runs already, on this machine.")
@click.option("--scenario", "names", multiple=True, type=click.Choice(list(BY_NAME)), help="Only these; may be repeated.")
@click.option("--users", type=click.IntRange(1, 5000), help="Instead of each scenario's own number.")
@click.option("--seconds", type=click.IntRange(2, 3600), help="Instead of each scenario's own.")
@click.option("--short", "is_short", is_flag=True, help="A few seconds each.")
@click.option("--ceiling/--no-ceiling", "with_ceiling", default=True, help="Measure locust's own ceiling too.")
def main(
    target: str | None,
    names: Sequence[str],
    users: int | None,
    seconds: int | None,
    is_short: bool,
    with_ceiling: bool,
) -> None:
    """Runs, prints, writes the report, exits."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)
    chosen = [BY_NAME[name] for name in names] or list(SCENARIOS)
    findings = []
    for scenario in chosen:
        if target is not None and scenario.pulls_alpha:
            console.print(f"{scenario.name}: left out, the keys of a broker that runs already are not ours to pull")
            continue
        run_s = seconds or (scenario.seconds_short if is_short else scenario.seconds)
        user_count = users or scenario.user_count
        console.print(f"{scenario.name}: {user_count} users, {run_s} s ...", style="dim")
        try:
            if target is None:
                findings.append(own_finding(scenario, user_count, run_s))
            else:
                findings.append(foreign_finding(scenario, target, user_count, run_s))
        except NotReady as error:
            console.print(str(error), style="red")
            sys.exit(1)
    ceiling = measure_ceiling(is_short) if with_ceiling else None
    sys.exit(report(console, findings, ceiling))


def report(console: Console, findings: Sequence[Finding], ceiling: Run | None) -> int:
    """Says how it went; the exit status."""
    page = write_index(REPORTS, findings, ceiling)
    console.print()
    console.print(terminal_table(findings))
    console.print()
    for remark in remarks_of(findings):
        console.print(wrapped(remark), style="bold red" if "WRONG" in remark else "")
    console.print(wrapped(ceiling_sentences(ceiling, findings)))
    failure_count = sum(finding.run.failure_count for finding in findings)
    is_good = bool(findings) and not any(finding.objections for finding in findings)
    console.print(f"\nfailures {failure_count}; report: {page.relative_to(ROOT)}", style="bold" if is_good else "bold red")
    return 0 if is_good else 1


if __name__ == "__main__":
    main()
