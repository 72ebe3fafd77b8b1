"""The tour: what Usher does, shown on a broker of its own with three emulated keys, each step checked as it is told.

    python -m loadtests.demo            (make demo)

Exit status 0 when every step went as said, 1 when one did not, with what was said and what was seen instead.
The broker, its clients and its keys are real processes and the production driver; only the keys' silicon is emulated. Nothing
outside a temporary directory is touched. Steps are methods of Tour, in order; each one leaves what the next needs.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from broker import client
from broker.v1 import admin_pb2
from loadtests.own_broker import ROOT, NotReady, OwnBroker, numbers, own_broker

FLEET: Sequence[Mapping[str, Any]] = (
    {"name": "alpha", "seats": {"platform": 5}},
    {"name": "bravo", "seats": {"platform": 10}},
    {"name": "charlie", "seats": {"crm": 10, "telephony": 5}},
)

PEOPLE = (
    "anna", "boris", "clara", "dmitri", "elena", "fyodor", "galina", "hugo",
    "irina", "jakob", "katya", "leonid", "maria", "nikolai", "olga",
)  # fmt: skip

TTL_S = 3.0
RENEW_GRACE_S = 2.0
"""Short, so that nobody must wait a minute to see a silent app's seats come back."""

SLACK_S = 15.0
"""For a machine that is busy with other things."""


class NotAsSaid(Exception):
    """A step went otherwise than it was told."""


def check(is_so: bool, said: str, seen: object) -> None:
    """Compares what was said with what was seen."""
    if not is_so:
        raise NotAsSaid(f"said: {said}\n  seen: {seen}")


class Tour:
    """The steps, over one broker. `sessions` are those who are logged in, by name."""

    def __init__(self, broker: OwnBroker, console: Console) -> None:
        self.broker = broker
        self.view = broker.view
        self.console = console
        self.apps = client.Client(broker.clients)
        self.sessions: dict[str, client.Session] = {}

    def run(self) -> None:
        """All of it. Raises NotAsSaid or NotReady at the first step that is not as told."""
        with self.apps:
            self.seats_are_summed()
            self.fifteen_log_in()
            self.sixteenth_is_denied()
            self.bundle_takes_all_or_nothing()
            self.key_is_pulled()
            self.key_comes_back()
            self.app_is_killed()
            self.all_log_out()

    def seats_are_summed(self) -> None:
        """Three keys, one sum for each product."""
        self._title("Three keys are plugged in, and have proven that they are there")
        self.console.print(self._table_of_keys())
        capacity = {name: product.capacity for name, product in self.view.products().items()}
        expected = {"crm": 10, "platform": 15, "telephony": 5}
        check(capacity == expected, f"capacity {expected}", capacity)
        self._seen("platform: 5 + 10 = 15 seats; crm 10; telephony 5")

    def _table_of_keys(self) -> Table:
        table = Table(box=None, header_style="dim")
        for column in ("key", "identity", "state", "seats"):
            table.add_column(column)
        names = self.view.emulated_names()
        for seen in sorted(self.view.keys_seen(), key=lambda one: names.get(one.thumbprint, "")):
            seats = ", ".join(f"{product} {count}" for product, count in sorted(seen.seats.items()))
            state = admin_pb2.KeyState.Name(seen.state).removeprefix("KEY_STATE_").lower()
            check(seen.emulated, "the key says that it is EMULATED", seen.thumbprint)
            table.add_row(names.get(seen.thumbprint, ""), f"{seen.thumbprint[:12]}...", state, f"{seats}  EMULATED")
        return table

    def fifteen_log_in(self) -> None:
        """As many logins as there are seats."""
        self._title("Fifteen people log in")
        for person in PEOPLE:
            self._log_in(person)
        platform = self._platform()
        check((platform.in_use, platform.free) == (15, 0), "15 seats in use, none free", numbers(platform))
        self._seen(f"{', '.join(PEOPLE[:3])} ... {PEOPLE[-1]}: {numbers(platform)}")

    def sixteenth_is_denied(self) -> None:
        """The refusal has a reason and numbers."""
        self._title("The sixteenth is denied, and told why")
        denied = self._expect_denial("pavel", ["platform"], "no_free_seats")
        counts = (denied.capacity, denied.in_use)
        check(counts == (15, 15), "the denial says 15 of 15 seats", counts)

    def bundle_takes_all_or_nothing(self) -> None:
        """A crm seat is free, a platform seat is not: the bundle takes neither."""
        self._title("crm + platform: crm has free seats, platform has none, so neither is taken")
        self._expect_denial("pavel", ["crm", "platform"], "no_free_seats")
        crm = self.view.products()["crm"]
        check(crm.in_use == 0, "no crm seat taken", numbers(crm))
        self._seen(f"crm: {numbers(crm)}")

    def key_is_pulled(self) -> None:
        """Capacity falls at once; those at work stay; nobody new gets in."""
        self._title("Key alpha (5 platform seats) is pulled out")
        self.view.unplug("alpha")
        platform = self.view.await_product("platform", lambda seen: seen.capacity == 10, "capacity falls to 10")
        check(platform.in_use == 15 and platform.deficit == 5, "15 in use, deficit 5", numbers(platform))
        self._seen(f"platform: {numbers(platform)}: more are at work than keys are there")
        for session in self.sessions.values():
            session.renew()
        check(all(session.holds("platform") for session in self.sessions.values()), "all 15 go on working", self.sessions)
        self._seen("all fifteen go on working: their key has a grace of some minutes to come back")
        self._log_out("olga")
        platform = self._platform()
        check((platform.in_use, platform.deficit) == (14, 4), "the deficit shrinks to 4", numbers(platform))
        denied = self._expect_denial("pavel", ["platform"], "deficit")
        check(denied.deficit == 4, "the denial says a deficit of 4", denied.deficit)
        self._seen("olga logged out, and still nobody new is let in")

    def key_comes_back(self) -> None:
        """The deficit heals, and the seat that is free is free again."""
        self._title("Key alpha is plugged back in")
        self.view.plug("alpha")
        platform = self.view.await_product("platform", lambda seen: seen.capacity == 15, "capacity is 15 again")
        check((platform.deficit, platform.free) == (0, 1), "no deficit, one seat free", numbers(platform))
        self._seen(f"healed: {numbers(platform)}")

    def app_is_killed(self) -> None:
        """A dead app says nothing; its seats come back when its ttl and renew grace have passed."""
        self._title("An app that holds platform and crm is killed (SIGKILL)")
        with start_app(self.broker.clients, "pavel") as app, killed(app):
            public_id = await_login(app)
            busy = self._platform()
            check((busy.in_use, busy.free) == (15, 0), "its seats are taken", numbers(busy))
        begin_s = time.monotonic()
        self._seen(f"session {public_id} is silent now; it had {TTL_S + RENEW_GRACE_S:g} s since its last renewal")
        self.view.await_product(
            "platform", lambda seen: seen.free == 1, "its platform seat is back", within_s=TTL_S + RENEW_GRACE_S + SLACK_S
        )
        crm = self.view.products()["crm"]
        check(crm.in_use == 0, "its crm seat is back too", numbers(crm))
        self._seen(f"both seats were free again {time.monotonic() - begin_s:.1f} s after the kill")
        self._log_in("pavel")
        self._seen("and pavel logs in anew")

    def all_log_out(self) -> None:
        """Every seat is free, and the broker stops when it is told to."""
        self._title("Everybody logs out, and the broker is stopped")
        for person in list(self.sessions):
            self._log_out(person)
        products = self.view.products().values()
        in_use = {product.product: product.in_use for product in products if product.in_use}
        check(not in_use, "no seat in use", in_use)
        status = self.broker.stop()
        check(status == 0, "the broker ends with status 0", status)
        self._seen("no seat in use, nothing left behind")

    def _log_in(self, person: str) -> None:
        try:
            self.sessions[person] = self.apps.open(user=person, host=f"pc-{person}", app="demo", products=["platform"])
        except client.Denied as denied:
            raise NotAsSaid(f"said: {person} gets a seat\n  seen: denied, {denied}") from denied

    def _log_out(self, person: str) -> None:
        self.sessions.pop(person).close()

    def _expect_denial(self, person: str, products: list[str], reason: str) -> client.Denied:
        try:
            with self.apps.open(user=person, host=f"pc-{person}", app="demo", products=products):
                pass
        except client.Denied as denied:
            check(denied.reason == reason, f"denied: {reason}", f"denied: {denied.reason}")
            self._seen(f'{person}: {denied.reason}: "{denied.message}"')
            return denied
        raise NotAsSaid(f"said: {person} is denied {' + '.join(products)}\n  seen: a grant")

    def _platform(self) -> admin_pb2.Product:
        return self.view.products()["platform"]

    def _title(self, text: str) -> None:
        self.console.print(f"\n[bold]{text}[/bold]")

    def _seen(self, text: str) -> None:
        self.console.print(f"  [green]✓[/green] {text}", highlight=False)


def start_app(target: str, user: str) -> subprocess.Popen[str]:
    """A client app in a process of its own, so that it can be killed."""
    command = [sys.executable, "-m", "loadtests.demo_app", target, user, "platform", "crm"]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)


@contextmanager
def killed(app: subprocess.Popen[str]) -> Iterator[None]:
    """Kills the app at the end of the block, also if that ends early: nobody else would."""
    try:
        yield
    finally:
        app.kill()


def await_login(app: subprocess.Popen[str]) -> str:
    """The public id of the app's session, when it has one."""
    assert app.stdout is not None
    public_id = app.stdout.readline().strip()
    check(bool(public_id), "the app logs in", "it ended without a session")
    return public_id


def main(fleet: Sequence[Mapping[str, Any]] = FLEET) -> int:
    """The whole tour; the exit status."""
    console = Console(soft_wrap=True)
    console.print("A broker is being started, with three emulated keys ...", style="dim")
    with tempfile.TemporaryDirectory(prefix="usher-demo-") as directory:
        try:
            with own_broker(Path(directory), keys=fleet, ttl_s=TTL_S, renew_grace_s=RENEW_GRACE_S) as broker:
                Tour(broker, console).run()
        except (NotAsSaid, NotReady, client.UsherError) as error:
            console.print(f"\n[bold red]Not as said.[/bold red]\n  {error}", highlight=False)
            return 1
    console.print("\n[bold]Every step was as said.[/bold] Next: make run, and try it yourself.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
