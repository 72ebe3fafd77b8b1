"""The keyring at work: threads that watch the buses and ask the keys, around the logic of `engine.py`.

    watcher (one a bus)          scan · wait for a change, at most the scan interval · tick
    worker (one an attachment)   does what `core.work` says: open, prove when due, idle, stop; owns its SecurityKey
    whoever calls                start, stop, reload, and what an admin wants

All state is under one lock; scanning, opening and proving happen outside of it, telling the ledger inside, so that the
ledger hears of everything in the order in which it was decided. Public methods may be called from any thread, but not
from inside the sink. Threads are not daemons: `stop` ends them, and waits at most for a USB transfer under way.
A defect in one key's driver must not take the others down: whatever a worker meets is logged and becomes a failure of
that key. If a thread dies all the same, proofs are not renewed and the ledger ends their capacity by itself.
"""

import logging
import os
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from broker.keyring.core import WorkKind
from broker.keyring.engine import KeyringEngine
from broker.keyring.memory import Memory, VolatileMemory
from broker.keyring.records import Attachment, Fault, FaultKind, Identity
from broker.keyring.settings import KeyringSettings
from broker.keyring.sink import CapacitySink
from broker.keyring.views import KeyringViews
from broker.licence import FolderReading, LicenceFolder, TrustFile
from hwkey import NONCE_SIZE, CardAbsent, HwkeyError, KeyBus, KeyPort, ProofRejected, SecurityKey, Unplugged

_log = logging.getLogger(__name__)

_NS_IN_S: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the keyring takes from outside of the program; tests give their own. Wall time in seconds since 1970."""

    clock_ns: Callable[[], int] = time.monotonic_ns
    wall_unix_s: Callable[[], float] = time.time
    entropy: Callable[[int], bytes] = os.urandom
    jitter: Callable[[int, int], int] = random.randint


_HERE: Final = Surroundings()


@dataclass(slots=True, eq=False)
class _Worker:
    wake: threading.Condition
    thread: threading.Thread = field(init=False)


class Keyring:
    """The keys and licences of one broker. `start` once, `stop` once. `memory` keeps what a restart must not change, and
    `wall_high_unix_s` is the latest wall time that an earlier run saw."""

    def __init__(
        self,
        *,
        buses: Sequence[KeyBus],
        folder: LicenceFolder,
        trust: TrustFile,
        sink: CapacitySink,
        settings: KeyringSettings,
        memory: Memory | None = None,
        wall_high_unix_s: int = 0,
        surroundings: Surroundings = _HERE,
    ) -> None:
        self._buses = tuple(buses)
        self._folder = folder
        self._trust = trust
        self._settings = settings
        self._here = surroundings
        self._lock = threading.RLock()
        self._engine = KeyringEngine(
            settings=settings,
            sink=sink,
            memory=VolatileMemory() if memory is None else memory,
            jitter=surroundings.jitter,
            wall_high_unix_s=wall_high_unix_s,
        )
        self._core = self._engine.core
        self._workers: dict[int, _Worker] = {}
        self._watchers: list[threading.Thread] = []
        self._bus_faults: dict[str, str] = {}
        self._started = threading.Event()
        self._stopping = threading.Event()

    # --- life ---------------------------------------------------------------------------------------------------------

    def start(self) -> FolderReading:
        """Reads the licences, declares their pools as starting, recalls what an earlier run remembers, and begins to watch.
        Clients may be served, and the ledger's time may go on, from then on."""
        content = self._folder.content(self._trust, self._engine.revocations)
        with self._lock:
            names = [bus.name for bus in self._buses]
            self._engine.begin(content, names, self._here.clock_ns(), self._wall_unix_s())
            reading = self._engine.reading
            self._watchers = [
                threading.Thread(target=self._watch, args=(bus,), name=f"keyring-watch-{bus.name}")
                for bus in self._buses
            ]
            self._after()
        for watcher in self._watchers:
            watcher.start()
        return reading

    def await_started(self, wait_s: float) -> bool:
        """Waits until the keys of the first scan have all been proven or have failed; whether they have."""
        return self._started.wait(wait_s)

    def stop(self) -> None:
        """Ends all threads, lets go of the keys and writes down when each was proven last. The ledger is told nothing: what was
        proven ends by itself."""
        self._stopping.set()
        for bus in self._buses:
            bus.wake()
        for watcher in self._watchers:
            watcher.join()
        with self._lock:
            workers = list(self._workers.values())
            for worker in workers:
                worker.wake.notify_all()
        for worker in workers:
            worker.thread.join()
        with self._lock:
            self._engine.end(self._here.clock_ns())

    # --- what an admin asks for ---------------------------------------------------------------------------------------

    def reload(self, trust: TrustFile | None = None) -> FolderReading:
        """Reads the licence folder again, with another trust file if one is given. Seats follow at once. The reading is
        the folder's own, what keys carry aside, as that of `start`."""
        with self._lock:
            trust = trust or self._trust
            known = self._engine.revocations
        content = self._folder.content(trust, known)
        with self._lock:
            self._trust = trust
            self._engine.trust_changed(trust)
            self._engine.take(content, self._here.clock_ns())
            self._after()
        return content.judged()

    def set_enabled(self, thumbprint: str, is_enabled: bool) -> bool:
        """Stops or resumes counting a key; enabling ends a quarantine too. False for a key that is not known."""
        with self._lock:
            is_known = self._core.set_enabled(thumbprint, is_enabled, self._here.clock_ns())
            self._after()
        return is_known

    def doubt(self, thumbprint: str) -> bool:
        """Has a key proven again at once. False for a key that is not connected."""
        with self._lock:
            is_connected = self._core.doubt(thumbprint, self._here.clock_ns())
            self._after()
        return is_connected

    @property
    def is_starting(self) -> bool:
        """Whether the keys of the first scan are still being tried. Waits for nothing."""
        return not self._started.is_set()

    def wall_unix_s(self) -> int:
        """The latest wall time ever seen, which licences are judged by: what the journal's mark must not go below."""
        with self._lock:
            return self._engine.see_wall(self._wall_unix_s())

    def views(self) -> KeyringViews:
        """All keys and licences as they are now."""
        with self._lock:
            return self._engine.views(self._here.clock_ns(), self._wall_unix_s(), self._bus_faults)

    # --- under the lock -----------------------------------------------------------------------------------------------

    def _wall_unix_s(self) -> int:
        return int(self._here.wall_unix_s())

    def _after(self) -> None:
        """What follows every input, and who is to be woken."""
        self._engine.follow(self._here.clock_ns(), self._wall_unix_s())
        if self._engine.is_started:
            self._started.set()
        for number in self._core.woken:
            if worker := self._workers.get(number):
                worker.wake.notify_all()
        self._core.woken.clear()

    # --- watcher threads ----------------------------------------------------------------------------------------------

    def _watch(self, bus: KeyBus) -> None:
        wait_s = self._settings.scan_interval_ns / _NS_IN_S
        while not self._stopping.is_set():
            try:
                self._scanned(bus, bus.scan(), "")
            except HwkeyError as error:
                # What was attached stays so, as far as we know; its proofs go on or fail by themselves.
                self._scanned(bus, None, str(error))
            except Exception as error:
                _log.exception("scanning the bus %s failed", bus.name)
                self._scanned(bus, None, repr(error))
            if not self._stopping.is_set():
                self._wait_change(bus, wait_s)

    def _wait_change(self, bus: KeyBus, wait_s: float) -> None:
        try:
            bus.wait_change(wait_s)
        except Exception as error:
            # The watcher must not end by it: nobody would see a key come or go any more.
            self._scanned(bus, None, repr(error))
            self._stopping.wait(wait_s)

    def _scanned(self, bus: KeyBus, ports: Sequence[KeyPort] | None, fault: str) -> None:
        with self._lock:
            self._engine.unscanned.discard(bus.name)
            if fault and self._bus_faults.get(bus.name) != fault:
                _log.warning("the bus %s cannot be scanned: %s", bus.name, fault)
            if fault:
                self._bus_faults[bus.name] = fault
            else:
                self._bus_faults.pop(bus.name, None)
            if ports is not None:
                for attachment in self._core.scanned(bus.name, ports, self._here.clock_ns()):
                    self._employ(bus, attachment)
            self._after()

    def _employ(self, bus: KeyBus, attachment: Attachment) -> None:
        worker = _Worker(threading.Condition(self._lock))
        worker.thread = threading.Thread(
            target=self._serve,
            args=(bus, attachment.port, attachment.number),
            name=f"keyring-{attachment.port.attach_point}",
        )
        self._workers[attachment.number] = worker
        worker.thread.start()

    # --- worker threads -----------------------------------------------------------------------------------------------

    def _serve(self, bus: KeyBus, port: KeyPort, number: int) -> None:
        """The life of one connection."""
        opened: SecurityKey | None = None
        try:
            while (kind := self._await_work(number)) is not WorkKind.STOP:
                if kind is WorkKind.OPEN:
                    if opened is not None:
                        opened.close()
                    opened = self._open(bus, port, number)
                elif opened is not None:
                    self._prove(opened, number)
        finally:
            if opened is not None:
                opened.close()
            with self._lock:
                del self._workers[number]

    def _await_work(self, number: int) -> WorkKind:
        """Sleeps until there is something to do, and says what."""
        with self._lock:
            wake = self._workers[number].wake
            while not self._stopping.is_set():
                work = self._core.work(number)
                if work.kind is WorkKind.STOP:
                    return WorkKind.STOP
                wait_ns = work.due_ns - self._here.clock_ns()
                if work.kind is WorkKind.IDLE:
                    wake.wait()
                elif wait_ns > 0:
                    wake.wait(wait_ns / _NS_IN_S)
                else:
                    return work.kind
            return WorkKind.STOP

    def _open(self, bus: KeyBus, port: KeyPort, number: int) -> SecurityKey | None:
        try:
            opened = bus.open(port)
        except Exception as error:
            self._failed(number, error)
            return None
        description = opened.description
        identity = Identity(opened.thumbprint, str(description), description.usb_path, port.is_emulated)
        with self._lock:
            self._core.opened(number, identity, self._here.clock_ns())
            self._after()
        return opened

    def _prove(self, opened: SecurityKey, number: int) -> None:
        # The proof counts from here: the key was there at some instant after its nonce came into being.
        asked_ns = self._here.clock_ns()
        nonce = self._here.entropy(NONCE_SIZE)
        try:
            opened.prove(nonce=nonce, broker_id=self._settings.broker_id, purpose=self._settings.purpose)
        except Exception as error:
            self._failed(number, error)
            return
        with self._lock:
            self._core.proved(number, asked_ns, self._here.clock_ns())
            self._engine.carried(
                number, opened.thumbprint, opened.certificate_der, self._trust, self._here.clock_ns()
            )
            self._after()

    def _failed(self, number: int, error: Exception) -> None:
        if not isinstance(error, HwkeyError):
            _log.error("a defect in the driver of a security key", exc_info=error)
        with self._lock:
            self._core.failed(number, fault_of(error), self._here.clock_ns())
            self._after()


def fault_of(error: Exception) -> Fault:
    """What an error of the driver says about the key."""
    if isinstance(error, (Unplugged, CardAbsent)):
        return Fault(FaultKind.GONE, error.code, str(error))
    if isinstance(error, ProofRejected):
        return Fault(FaultKind.WRONG, error.code, str(error))
    if isinstance(error, HwkeyError):
        return Fault(FaultKind.UNANSWERED, error.code, str(error))
    return Fault(FaultKind.UNANSWERED, "defect", f"the driver failed: {error!r}")
