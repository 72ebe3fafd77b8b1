"""`make bench`: Usher and its peers measured in one run, and the ledger by itself; tables, and build/bench.json.

    python -m loadtests.bench                       all parts, some half an hour on a quiet machine
    python -m loadtests.bench --only peers          one part; may be repeated
    python -m loadtests.bench --short               to see that it runs: its figures say nothing
    python -m loadtests.bench --only gil --rounds 3 --seconds 2

Load goes to this machine only. Exit status: 0 measured, whatever the figures; 1 a server failed, or counted otherwise than the
client; 2 a wrong argument. How it is measured: docs/BENCHMARKS.md, and the head of each module in `questions/`.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.status import Status

from loadtests.bench.broker import GRPCIO, NATIVE
from loadtests.bench.client import Pace
from loadtests.bench.ledger import measure_ledger
from loadtests.bench.parts import Bench, Finding
from loadtests.bench.processors import QUIET_SHARE, machine, places
from loadtests.bench.questions import (
    busy_python,
    commit,
    gil,
    h2load,
    idle,
    peers,
    restart,
    sessions,
    strict,
    threads,
    tls,
)
from loadtests.bench.report import as_json, show_finding, write_json
from loadtests.bench.servers import ServerFailed
from loadtests.own_broker import ROOT

PARTS = {
    "peers": peers.measure,
    "h2load": h2load.measure,
    "gil": gil.measure,
    "threads": threads.measure,
    "tls": tls.measure,
    "idle": idle.measure,
    "sessions": sessions.measure,
    "strict": strict.measure,
    "commit": commit.measure,
    "gil-strict": busy_python.measure,
    "sessions-strict": sessions.measure_strict,
    "restart": restart.measure,
}
LEDGER = "ledger"
NAMES = (*PARTS, LEDGER)
WIDTH = 150
"""Columns where there is no terminal to ask."""


def data_plane_here() -> str:
    """The compiled one if it is built."""
    return NATIVE if importlib.util.find_spec("broker._listener") else GRPCIO


@click.command(help=__doc__.split("\n\n")[0] if __doc__ else None)
@click.option("--only", "names", multiple=True, type=click.Choice(NAMES), help="Only this part; may be repeated.")
@click.option("--short", "--quick", "is_short", is_flag=True, help="To see that it runs: the figures say nothing.")
@click.option("--rounds", type=click.IntRange(1, 1000), help="Windows of each server.")
@click.option("--seconds", type=click.FloatRange(0.1, 600), help="Length of a window.")
@click.option("--connections", type=click.IntRange(1, 1000), help="Of the client to each server.")
@click.option("--streams", type=click.IntRange(1, 1000), help="Calls in flight on each connection.")
@click.option("--data-plane", type=click.Choice((NATIVE, GRPCIO)), help="Of the broker; by default native if it is built.")
@click.option("--output", type=click.Path(path_type=Path), default=ROOT / "build" / "bench.json", help="The file to write.")
def main(
    names: tuple[str, ...],
    is_short: bool,
    rounds: int | None,
    seconds: float | None,
    connections: int | None,
    streams: int | None,
    data_plane: str | None,
    output: Path,
) -> None:
    """Measures, shows, writes the file."""
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    usual = Pace().shortened() if is_short else Pace()
    pace = dataclasses.replace(
        usual,
        rounds=rounds or usual.rounds,
        seconds=seconds or usual.seconds,
        connections=connections or usual.connections,
        streams=streams or usual.streams,
    )
    wanted = names or NAMES
    plane = data_plane or data_plane_here()
    console.print(f"data plane {plane}; {places().text}; {pace.rounds} rounds of {pace.seconds:g} s")
    described = machine() | {"data_plane": plane, "is_short": is_short}
    if described["busy_before"] > QUIET_SHARE:
        console.print(f"[yellow]Others are at work here ({described['busy_before']:.0%} busy): rates and latencies will say little.[/]")
    try:
        findings = run_parts(console, pace, plane, wanted, is_short)
    except ServerFailed as error:
        click.echo(f"bench: {error}", err=True)
        sys.exit(1)
    ledger = run_ledger(console, is_short) if LEDGER in wanted else []
    write_json(output, as_json(described, dataclasses.asdict(pace), findings, ledger))
    console.print(f"\nwritten: {output}")


def run_parts(console: Console, pace: Pace, plane: str, wanted: tuple[str, ...], is_short: bool) -> list[Finding]:
    """Each part, shown when it is done; its files lie beside the checkout's, whose disk is meant. Raises ServerFailed."""
    findings = []
    (ROOT / "build").mkdir(exist_ok=True)
    for name in (name for name in PARTS if name in wanted):
        with (
            tempfile.TemporaryDirectory(prefix="bench-", dir=ROOT / "build") as directory,
            Status(name, console=Console(stderr=True)) as status,
        ):
            bench = Bench(
                directory=Path(directory),
                pace=pace,
                places=places(),
                data_plane=plane,
                say=lambda text, name=name: status.update(f"{name}: {text}"),  # type: ignore[misc]
                is_short=is_short,
            )
            findings.append(PARTS[name](bench))
        show_finding(console, findings[-1])
    return findings


def run_ledger(console: Console, is_short: bool) -> list[dict[str, Any]]:
    """The ledger alone, in this process."""
    with Status(LEDGER, console=Console(stderr=True)) as status:
        rows, lines = measure_ledger(is_short=is_short, say=lambda text: status.update(f"{LEDGER}: {text}"))
    finding = Finding("The ledger alone, one thread, batches of 250", lines=lines)
    show_finding(console, finding)
    return rows


if __name__ == "__main__":
    main()
