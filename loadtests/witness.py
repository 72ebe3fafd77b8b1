"""What the broker itself says about a load run: its event stream audited, its counters before and after.

A witness looks on in a thread of its own while locust runs, pulls a key if the scenario wants it, and afterwards compares
locust's sums with the broker's. It needs an Admin it may call; without one there is no witness, and the report says so.
"""

from __future__ import annotations

import threading
import time
import urllib.request
from dataclasses import dataclass

import grpc

from loadtests.audit import Audit
from loadtests.locust_process import Run
from loadtests.own_broker import BrokerView

PULLED_S, PLUGGED_S = 1.5, 2.5
"""In turn, while the scenario runs."""

SETTLE_S = 10.0
"""For the event stream to bring what the counters already say."""

COUNTERS = ("usher_sessions_opened_total", "usher_denied_requests_total", "usher_renewals_total")


@dataclass(frozen=True, slots=True)
class Counts:
    """The broker's counters at one time."""

    opened: int
    denied: int
    renewed: int

    def since(self, before: Counts) -> Counts:
        """What came in between."""
        return Counts(self.opened - before.opened, self.denied - before.denied, self.renewed - before.renewed)


def read_counts(http: str) -> Counts:
    """The counters of the broker whose HTTP port this is."""
    with urllib.request.urlopen(f"http://{http}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    values = dict.fromkeys(COUNTERS, 0.0)
    for line in lines:
        name, _, value = line.partition(" ")
        if name in values:
            values[name] = float(value)
    return Counts(*(round(values[name]) for name in COUNTERS))


class Witness:
    """Looks on between `with` and its end. `audit` may be read afterwards."""

    def __init__(self, view: BrokerView, http: str, *, pulls_alpha: bool) -> None:
        self.audit = Audit()
        self._view = view
        self._http = http
        self._is_over = threading.Event()
        self._threads = [threading.Thread(target=self._look_on, name="witness", daemon=True)]
        if pulls_alpha:
            self._threads.append(threading.Thread(target=self._pull_and_plug, name="key-puller", daemon=True))

    def __enter__(self) -> Witness:
        self._before = read_counts(self._http)
        self.audit.start_from(self._view.products().values())
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for thread in self._threads[1:]:
            thread.join()

    def counts(self) -> Counts:
        """What the broker counted since the beginning, once the event stream has brought all of it."""
        end_s = time.monotonic() + SETTLE_S
        while True:
            counts = read_counts(self._http).since(self._before)
            if self.audit.opened_count >= counts.opened or time.monotonic() > end_s:
                return counts
            time.sleep(0.05)

    def objections(self, run: Run) -> list[str]:
        """Where the broker's word and locust's differ, and what the audit found."""
        counts = self.counts()
        said = {
            "sessions opened": (run.count_of("granted", "Open", without=": replayed"), counts.opened),
            "requests denied": (run.count_of("denied"), counts.denied),
            "sessions renewed": (run.count_of("ok", "Renew", without="supersession"), counts.renewed),
            "sessions opened, by events": (counts.opened, self.audit.opened_count),
        }
        found = [f"{what}: {one} by locust, {other} by the broker" for what, (one, other) in said.items() if one != other]
        if self.audit.missed_count:
            found.append(f"{self.audit.missed_count} events were missed: the audit proves nothing")
        return found + self.audit.findings

    def _look_on(self) -> None:
        # From the very first event, not "from now on": the stream may begin some time after the first login.
        try:
            for answer in self._view.events(after_sequence=1):
                self.audit.feed(answer)
        except grpc.RpcError:
            return  # the channel was closed: the broker's end, or ours

    def _pull_and_plug(self) -> None:
        while not self._is_over.wait(PLUGGED_S):
            self._view.unplug("alpha")
            self._is_over.wait(PULLED_S)
            self._view.plug("alpha")
