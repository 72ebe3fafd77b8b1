"""`make storm`: load from a compiled client, against a broker of its own or one that runs already, and honest sums.

    python -m loadtests.storm                                            a short tour of all cycles
    python -m loadtests.storm --cycle renew --sessions 100000 --duration 10
    python -m loadtests.storm --cycle open_close --rate 2000 --arrivals poisson
    python -m loadtests.storm --target 127.0.0.1:7600 --http 127.0.0.1:7602 --cycle renew --sessions 1000
    python -m loadtests.storm --plan -                                   a plan as JSON in, a result as JSON out

Exit status 0 only if every answer was as it should be and the broker's own counters say the same. Loopback only.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import click
from rich.console import Console

from loadtests.own_broker import NotReady, own_broker
from loadtests.run import loopback_target
from loadtests.storm.check import Witness
from loadtests.storm.engine import Progress, raise_descriptor_limit, run_storm
from loadtests.storm.plan import CYCLES, StormPlan
from loadtests.storm.result import StormResult
from loadtests.storm.table import (
    comparison_table,
    counts_text,
    fault_lines,
    headline,
    latency_table,
    plan_text,
    progress_text,
)

WIDTH = 120
SEATS_OF_A_KEY = 60_000
TTL_S = 86_400.0
"""Nobody expires while a storm pauses."""
TOUR_SESSIONS = 500
TOUR_PRODUCTS = ("platform", "crm", "telephony")


@dataclass(frozen=True, slots=True)
class Target:
    """A server: `http` is "HOST:PORT" of its metrics, None if nobody is to be asked."""

    host: str
    port: int
    http: str | None
    process: int | None = None


def target_of(clients: str, http: str | None, process: int | None = None) -> Target:
    """From "HOST:PORT"."""
    host, _, port = clients.rpartition(":")
    return Target("127.0.0.1" if host == "localhost" else host.strip("[]"), int(port), http, process)


@contextmanager
def broker_for(plans: Sequence[StormPlan], data_plane: str | None) -> Iterator[Target]:
    """A broker of our own, with seats for each of these plans."""
    raise_descriptor_limit(max(plan.connections for plan in plans))  # which the broker inherits
    seats = max(plan.sessions + 2 * plan.connections * plan.streams for plan in plans)
    key_count = -(-seats // SEATS_OF_A_KEY)
    products = sorted({product for plan in plans for product in plan.products})
    keys = [
        {"name": f"key-{number}", "seats": dict.fromkeys(products, min(seats, SEATS_OF_A_KEY))}
        for number in range(key_count)
    ]
    settings = {} if data_plane is None else {"clients": {"data_plane": data_plane}}
    with (
        tempfile.TemporaryDirectory(prefix="usher-storm-") as directory,
        own_broker(Path(directory), keys=keys, ttl_s=TTL_S, settings=settings) as broker,
    ):
        yield target_of(broker.clients, broker.http, broker.process.pid)


class Reporter:
    """Says how a storm goes, once a second."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._answered = 0

    def __call__(self, progress: Progress) -> None:
        self._console.print(progress_text(progress, progress[1] - self._answered), style="dim")
        self._answered = progress[1]


def storm_once(console: Console, plan: StormPlan, http: str | None) -> bool:
    """Runs and reports one storm; whether all of it was as it should be."""
    witness = None if http is None else Witness(http)
    result = run_storm(plan, Reporter(console))
    console.print(f"\n{plan_text(plan)}: {headline(result)}", style="bold")
    if result.latencies:
        console.print(latency_table(result))
        console.print(counts_text(result))
    for line in fault_lines(result):
        console.print(line, style="bold red" if line.startswith("ERROR") else "yellow")
    return agrees(console, witness, result) and result.is_good


def agrees(console: Console, witness: Witness | None, result: StormResult) -> bool:
    """Whether the broker says the same."""
    if witness is None:
        console.print("the server's own counters were not compared", style="yellow")
        return True
    comparisons = witness.compare(result)
    if result.answered:
        console.print(comparison_table(comparisons))
    return all(one.agrees for one in comparisons)


def tour_plans(plan: StormPlan) -> Sequence[StormPlan]:
    """All cycles, and an open loop, in a few seconds."""
    pooled = replace(plan, sessions=plan.sessions or TOUR_SESSIONS)
    return (
        *(replace(pooled if cycle in ("renew", "churn") else plan, cycle=cycle) for cycle in CYCLES if cycle not in ("noop", "idle")),
        replace(pooled, cycle="renew", rate_per_s=500.0, arrivals="poisson"),
        replace(plan, cycle="idle", connections=max(plan.connections, 100)),
    )


def from_json(source: str) -> int:
    """A plan from a file or standard input, its result on standard output."""
    text = sys.stdin.read() if source == "-" else Path(source).read_text(encoding="utf-8")
    result = run_storm(StormPlan.from_json(text))
    print(result.to_json())
    return 0 if result.is_good else 1


@click.command(help=__doc__.split("\n\n")[0] if __doc__ else None)
@click.option("--target", metavar="HOST:PORT", callback=loopback_target, help="A server that runs already, on this machine.")
@click.option("--http", metavar="HOST:PORT", callback=loopback_target, help="Its metrics, to compare with.")
@click.option("--data-plane", type=click.Choice(["native", "grpcio"]), help="Of the broker of our own.")
@click.option("--plan", "plan_source", metavar="FILE", help="Everything else from JSON; - is standard input.")
@click.option("--cycle", type=click.Choice(list(CYCLES)), help="One cycle instead of the tour.")
@click.option("--connections", type=int, default=4, show_default=True)
@click.option("--streams", type=int, default=16, show_default=True, help="Calls in flight on each connection.")
@click.option("--duration", "duration_s", type=float, default=2.0, show_default=True, help="Seconds that are measured.")
@click.option("--warmup", "warmup_s", type=float, default=0.5, show_default=True, help="Seconds before.")
@click.option("--rate", "rate_per_s", type=float, help="Calls a second: an open loop.")
@click.option("--arrivals", type=click.Choice(["even", "poisson"]), default="even", show_default=True)
@click.option("--sessions", type=int, default=0, help="Opened first, by renew and churn.")
@click.option("--products", default=",".join(TOUR_PRODUCTS), show_default=True, metavar="A,B")
@click.option("--path", default="/broker.v1.Sessions/Renew", show_default=True, help="The method of noop.")
@click.option("--sources", type=int, default=1, show_default=True, help="Addresses 127.0.0.1, .2, ... to come from.")
@click.option("--tls-ca", type=click.Path(exists=True), help="PEM file of the authority: TLS.")
@click.option("--tls-certificate", type=click.Path(exists=True), help="Of the client, for mutual TLS.")
@click.option("--tls-private-key", type=click.Path(exists=True))
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--processor", type=int, help="The CPU to be pinned to.")
@click.option("--allow-denials", "allows_denials", is_flag=True, help="A denial is no error.")
def main(
    target: str | None, http: str | None, data_plane: str | None, plan_source: str | None, cycle: str | None, products: str,
    **fields: object,
) -> None:  # fmt: skip
    """Runs, prints, exits."""
    if plan_source is not None:
        sys.exit(from_json(plan_source))
    console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)
    names = tuple(name for name in products.split(",") if name)
    try:
        plan = StormPlan(port=1, cycle=cycle or "renew", products=names, **fields)  # type: ignore[arg-type]
        plans = (plan,) if cycle else tour_plans(plan)
        sys.exit(run_all(console, plans, target, http, data_plane))
    except (NotReady, OSError, ValueError) as error:
        console.print(str(error), style="bold red")
        sys.exit(1)


def run_all(
    console: Console, plans: Sequence[StormPlan], target: str | None, http: str | None, data_plane: str | None
) -> int:
    """The storms one after the other against one server; the exit status."""
    if target is not None:
        return run_against(console, plans, target_of(target, http))
    with broker_for(plans, data_plane) as own:
        return run_against(console, plans, own)


def run_against(console: Console, plans: Sequence[StormPlan], target: Target) -> int:
    """The exit status."""
    bad = []
    for one in plans:
        aimed = replace(one, host=target.host, port=target.port, watched_process=target.process)
        if not storm_once(console, aimed, target.http):
            bad.append(aimed.cycle)
    verdict = f"NOT as it should be: {', '.join(bad)}" if bad else "every answer was as it should be"
    console.print(verdict, style="bold red" if bad else "bold green")
    return 1 if bad else 0


if __name__ == "__main__":
    main()
