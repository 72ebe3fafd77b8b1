"""`usher open`: holds one session, or several, until interrupted; for trying things, demonstrations and scripts.

With --json every line of output is one object whose member "event" is granted, denied, notice, lost or closed. Ends with 0
when the sessions were closed, 3 when seats were denied, 10 when a session was lost meanwhile.
"""

from __future__ import annotations

import contextlib
import getpass
import signal
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from broker import client
from broker.cli.connection import clients_address, tls_of
from broker.cli.options import Reach, data_dir_option, json_option, tls_options
from broker.cli.output import print_json_line, say, span
from broker.exit_codes import ExitCode

SESSIONS_MAX = 10_000
PATIENCE = client.RetryPolicy(total_s=5.0)  # somebody sits and waits


@click.command("open")
@click.argument("products", nargs=-1, required=True, metavar="PRODUCT...")
@click.option("--optional", multiple=True, metavar="PRODUCT", help="Take this one too if it is available (repeatable).")
@click.option("--user", default=None, help="Who the session is for. [default: you]")
@click.option("--host", default=None, help="The computer. [default: this one]")
@click.option("--app", default="usher-cli", show_default=True, help="The program that asks.")
@click.option("--label", default="", help="Free text for the admin.")
@click.option("--instance-id", default="", help="A place that is stable over restarts; a newer session there takes over.")
@click.option("--ttl", "ttl_s", type=click.FloatRange(1), help="Seconds without a renew; the broker may shorten it.")
@click.option("--count", type=click.IntRange(1, SESSIONS_MAX), help="Open so many, for users USER-1, USER-2 ...")
@click.option("--for", "hold_s", type=click.FloatRange(0), metavar="SECONDS", help="Close after this long.")
@click.option("--broker", metavar="ADDRESS", envvar="USHER_BROKER", show_envvar=True, help="Where clients connect.")
@data_dir_option
@tls_options
@json_option
def open_session(
    products: tuple[str, ...],
    optional: tuple[str, ...],
    user: str | None,
    count: int | None,
    hold_s: float | None,
    broker: str | None,
    data_dir: Path | None,
    tls_ca: Path | None,
    tls_certificate: Path | None,
    tls_private_key: Path | None,
    is_json: bool,
    **holder: Any,
) -> int:
    """Open a session with all of PRODUCT... and hold it until interrupted.

    The session is renewed in the background and closed at the end, so that its seats are free at once.
    """
    reach = Reach(None, data_dir, None, tls_ca, tls_certificate, tls_private_key)
    report = _Report(is_json)
    with _until_signalled(report.is_over), _client(reach, broker) as one:
        try:
            for name in _users(user or getpass.getuser(), count):
                if not report.is_over.is_set():
                    session = one.open(user=name, products=products, optional=optional, on_notice=report.notice, **holder)
                    report.granted(session, name)
        except client.Denied as denied:
            report.denied(denied.denial)
            return ExitCode.DENIED
        report.hold(hold_s)
        open_count = one.session_count
    report.closed(open_count)
    return ExitCode.SESSION_LOST if report.has_lost else ExitCode.DONE


def _client(reach: Reach, broker: str | None) -> client.Client:
    return client.Client(clients_address(broker, reach.data_dir), tls=tls_of(reach), retry=PATIENCE)


@contextlib.contextmanager
def _until_signalled(is_over: threading.Event) -> Iterator[None]:
    """The first signal to stop sets the event, also amid an Open whose grant must then be closed; a second one kills."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def stop(*_: object) -> None:
        is_over.set()
        restore()

    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        restore()


def _users(user: str, count: int | None) -> Sequence[str]:
    return [user] if count is None else [f"{user}-{number}" for number in range(1, count + 1)]


@dataclass(slots=True)
class _Report:
    """Says what happens to the sessions; `notice` is called in a thread of the client."""

    is_json: bool
    granted_count: int = 0
    lost_count: int = 0
    is_over: threading.Event = field(default_factory=threading.Event)

    @property
    def has_lost(self) -> bool:
        """Whether any session ended before it was closed."""
        return self.lost_count > 0

    def hold(self, hold_s: float | None) -> None:
        """Waits for the end of the time, a signal, or the loss of every session."""
        self._check_lost()
        self.is_over.wait(hold_s)

    def granted(self, session: client.Session, user: str) -> None:
        self.granted_count += 1
        if self.is_json:
            leases = [_lease_json(lease) for lease in session.leases]
            missing = [_denial_json(one) for one in session.unavailable]
            print_json_line(
                {"event": "granted", "session": session.public_id, "user": user, "leases": leases, "unavailable": missing}
            )
            return
        held = ", ".join(lease.product for lease in session.leases)
        emulated = "  (EMULATED seats)" if any(lease.is_emulated for lease in session.leases) else ""
        say(f"Session {session.public_id} for {user}: {held}{emulated}", style="green")
        for one in session.unavailable:
            say(f"  without {one.product}: {one.message}")

    def denied(self, denial: client.Denial) -> None:
        if self.is_json:
            print_json_line({"event": "denied"} | _denial_json(denial))
        else:
            say(f"Denied ({denial.reason}): {denial.message}", style="red")

    def notice(self, notice: client.Notice) -> None:
        is_lost = notice.kind is client.NoticeKind.SESSION_LOST
        if self.is_json:
            line = {"event": "lost" if is_lost else "notice", "session": notice.public_id, "kind": notice.kind.value}
            product = notice.lease.product if notice.lease else None
            print_json_line(line | {"product": product, "end_reason": notice.end_reason, "message": notice.message})
        else:
            grace = notice.lease.key_grace_s if notice.lease else None
            say(f"{notice.public_id}: {notice.message}" + (f" (within {span(grace)})" if grace else ""), style="yellow")
        if is_lost:
            # Last, so that the end of all is not said before the loss of the last.
            self.lost_count += 1
            self._check_lost()

    def closed(self, count: int) -> None:
        if self.is_json:
            print_json_line({"event": "closed", "sessions": count})
        elif count:
            say("Closed." if count == 1 else f"Closed {count} sessions.")

    def _check_lost(self) -> None:
        if self.granted_count and self.lost_count >= self.granted_count:
            self.is_over.set()


def _lease_json(lease: client.Lease) -> dict[str, Any]:
    return {
        "product": lease.product,
        "state": lease.state,
        "seats": lease.seats,
        "shared": lease.is_shared,
        "emulated": lease.is_emulated,
    }


def _denial_json(denial: client.Denial) -> dict[str, Any]:
    return {
        "reason": denial.reason,
        "product": denial.product,
        "capacity": denial.capacity,
        "in_use": denial.in_use,
        "deficit": denial.deficit,
        "retry_after_s": denial.retry_after_s,
        "message": denial.message,
    }
