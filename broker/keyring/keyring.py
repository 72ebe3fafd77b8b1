"""The keyring at work: threads that watch the buses and ask the keys, around the logic of `core.py` and `capacity.py`.

    watcher (one a bus)          scan · wait for a change, at most the scan interval · tick
    worker (one an attachment)   does what `core.work` says: open, prove when due, idle, stop; owns its SecurityKey

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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from broker.keyring.book import CapacityBook
from broker.keyring.capacity import Decision, decide
from broker.keyring.carried import CarriedLicences
from broker.keyring.core import KeyChange, KeyringCore, WorkKind
from broker.keyring.periods import NoticeKind, PeriodNotice, PeriodNotices, left_in_words
from broker.keyring.records import Attachment, Fault, FaultKind, Identity
from broker.keyring.settings import KeyringSettings
from broker.keyring.sink import CapacitySink
from broker.keyring.states import KeyState
from broker.keyring.views import KeyringViews, key_views, licence_views
from broker.keyring.wall import WallMark
from broker.licence import FolderContent, FolderReading, Licence, LicenceFolder, TrustFile, day
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
    """The keys and licences of one broker. `start` once, `stop` once."""

    def __init__(
        self,
        *,
        buses: Sequence[KeyBus],
        folder: LicenceFolder,
        trust: TrustFile,
        sink: CapacitySink,
        settings: KeyringSettings,
        surroundings: Surroundings = _HERE,
    ) -> None:
        self._buses = tuple(buses)
        self._folder = folder
        self._trust = trust
        self._settings = settings
        self._here = surroundings
        self._lock = threading.RLock()
        self._core = KeyringCore(settings, surroundings.jitter)
        self._book = CapacityBook(sink, settings.source_count_max)
        self._wall = WallMark()
        self._periods = PeriodNotices(settings.ending_warnings_s)
        self._content = FolderContent()
        self._carried = CarriedLicences(settings.carried_count_max)
        self._reading = FolderReading()
        self._decision = Decision((), {}, 0, 0)
        self._workers: dict[int, _Worker] = {}
        self._watchers: list[threading.Thread] = []
        self._bus_faults: dict[str, str] = {}
        self._unscanned = {bus.name for bus in self._buses}
        self._starting_until_ns = 0
        self._started = threading.Event()
        self._stopping = threading.Event()

    # --- life ---------------------------------------------------------------------------------------------------------

    def start(self) -> FolderReading:
        """Reads the licences, declares their pools as starting, and begins to watch. Clients may be served from then on."""
        content = self._folder.content(self._trust)
        with self._lock:
            self._starting_until_ns = self._here.clock_ns() + self._settings.starting_ns_max
            self._content = content
            reading = self._take()
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
        """Ends all threads and lets go of the keys. The ledger is told nothing: what was proven ends by itself."""
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

    # --- what an admin asks for ---------------------------------------------------------------------------------------

    def reload(self, trust: TrustFile | None = None) -> FolderReading:
        """Reads the licence folder again, with another trust file if one is given. Seats follow at once. The reading is
        the folder's own, what keys carry aside, as that of `start`."""
        with self._lock:
            trust = trust or self._trust
            known = self._content.revocations
        content = self._folder.content(trust, known)
        with self._lock:
            self._trust, self._content = trust, content
            self._carried.trust_changed(trust)
            self._take()
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

    def views(self) -> KeyringViews:
        """All keys and licences as they are now."""
        with self._lock:
            now_ns = self._here.clock_ns()
            now_unix_s = self._wall.see(int(self._here.wall_unix_s()))
            records = self._core.records()
            named = {record.thumbprint: record for record in records if record.thumbprint}
            return KeyringViews(
                keys=key_views(records, self._book.given, self._set_aside(), now_ns),
                licences=licence_views(
                    self._reading,
                    named,
                    self._book,
                    self._decision.set_aside,
                    now_unix_s,
                    max(self._settings.ending_warnings_s, default=0),
                ),
                is_starting=self.is_starting,
                is_clock_suspect=self._wall.is_suspect,
                faults=self._faults(),
            )

    # --- under the lock -----------------------------------------------------------------------------------------------

    def _set_aside(self) -> list[Licence]:
        return [one for one in self._reading.accepted if one.digest in self._decision.set_aside]

    def _take(self) -> FolderReading:
        """Judges all licences anew: those of the folder, and those that keys carry."""
        before, reading = self._reading, self._content.judged(self._carried.all())
        _log_lists(before, reading)
        self._reading = reading
        self._periods.forget_others(reading.accepted)
        self._core.licensed(licence.thumbprint for licence in reading.accepted)
        self._book.declare(reading.accepted, is_starting=self.is_starting)
        for refusal in reading.refused:
            if refusal not in before.refused:
                _log.warning("licence refused (%s): %s", refusal.reason, refusal)
        return reading

    def _after(self) -> None:
        """What follows every input: time, the log, decisions, and who is to be woken."""
        now_ns = self._here.clock_ns()
        now_unix_s = self._wall.see(int(self._here.wall_unix_s()))
        self._core.tick(now_ns)
        for change in self._core.changes:
            _log_change(change)
        self._core.changes.clear()
        for notice in self._periods.due(self._reading.accepted, now_unix_s):
            _log_notice(notice)
        stands = now_ns < self._decision.stands_until_ns and now_unix_s < self._decision.stands_until_unix_s
        if self._core.is_capacity_changed or not stands:
            self._core.is_capacity_changed = False
            standings = self._core.standings(now_ns)
            before = self._decision.set_aside
            reading = self._reading
            self._decision = decide(
                now_ns, now_unix_s, reading.accepted, standings, self._book.given, reading.revoked
            )
            self._book.apply(self._decision.commands)
            self._log_set_aside(before)
        self._end_starting(now_ns)
        for number in self._core.woken:
            if worker := self._workers.get(number):
                worker.wake.notify_all()
        self._core.woken.clear()

    def _log_set_aside(self, before: Mapping[str, str]) -> None:
        """Seats that were paid for and do not count are for an admin, once for each key that displaces them."""
        for licence in self._reading.accepted:
            larger = self._decision.set_aside.get(licence.digest, "")
            if larger and before.get(licence.digest) != larger:
                details = {"licence": licence.licence_id, "product": licence.product, "seats": licence.seats}
                details |= {"thumbprint": licence.thumbprint, "counts_instead": larger}
                _log.warning("licence set aside: of its series one key a host counts", extra={"facts": details})

    def _end_starting(self, now_ns: int) -> None:
        if self._started.is_set():
            return
        is_tried = not self._unscanned and not self._core.unsettled_count()
        if is_tried or now_ns >= self._starting_until_ns:
            self._book.end_starting()
            self._started.set()

    def _faults(self) -> tuple[str, ...]:
        faults = [f"{bus}: {sentence}" for bus, sentence in sorted(self._bus_faults.items())]
        if count := self._core.unserved_count:
            faults.append(
                f"{count} more keys are attached than the {self._settings.attachment_count_max} that are served"
            )
        return tuple(faults)

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
            self._unscanned.discard(bus.name)
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
            if self._core.is_present(number) and self._carried.proven(
                opened.thumbprint, opened.certificate_der, self._trust
            ):
                self._take()
            self._after()

    def _failed(self, number: int, error: Exception) -> None:
        if not isinstance(error, HwkeyError):
            _log.error("a defect in the driver of a security key", exc_info=error)
        with self._lock:
            self._core.failed(number, _fault_of(error), self._here.clock_ns())
            self._after()


def _fault_of(error: Exception) -> Fault:
    """What an error of the driver says about the key."""
    if isinstance(error, (Unplugged, CardAbsent)):
        return Fault(FaultKind.GONE, error.code, str(error))
    if isinstance(error, ProofRejected):
        return Fault(FaultKind.WRONG, error.code, str(error))
    if isinstance(error, HwkeyError):
        return Fault(FaultKind.UNANSWERED, error.code, str(error))
    return Fault(FaultKind.UNANSWERED, "defect", f"the driver failed: {error!r}")


def _log_lists(before: FolderReading, after: FolderReading) -> None:
    known = {one.digest for one in before.revocations.lists}
    for one in after.revocations.lists:
        if one.digest not in known:
            details = {"vendor": one.vendor, "number": one.number, "revoked": len(one.revoked), "file": one.file}
            _log.info("revocation list read", extra={"facts": details})


def _log_notice(notice: PeriodNotice) -> None:
    licence = notice.licence
    details = {"licence": licence.licence_id, "product": licence.product, "seats": licence.seats}
    details |= {"vendor": licence.vendor, "until": day(licence.expires_unix_s) if licence.expires_unix_s else "no end"}
    if notice.kind is NoticeKind.BEGUN:
        _log.info("licence begins to count", extra={"facts": details})
    elif notice.kind is NoticeKind.ENDED:
        _log.warning("licence has ended", extra={"facts": details})
    else:
        _log.warning("licence ends soon", extra={"facts": details | {"left": left_in_words(notice.left_s)}})


def _log_change(change: KeyChange) -> None:
    level, message = _said_of(change)
    details = {"thumbprint": change.thumbprint, "place": change.address, "before": change.before, "after": change.after}
    if change.code:
        details |= {"code": change.code, "cause": change.sentence}
    _log.log(level, message, extra={"facts": details})


def _said_of(change: KeyChange) -> tuple[int, str]:
    """How loud, and in which words. Arrivals and losses are for an admin, and what never gets to be a key; steps are not."""
    if change.after is KeyState.QUARANTINED:
        return logging.ERROR, "security key quarantined: it has a clone"
    if change.after in (KeyState.LOST, KeyState.DISABLED):
        return logging.WARNING, f"security key {change.after}"
    if change.after is KeyState.SUSPECT and not change.thumbprint:
        return logging.WARNING, "security key cannot be used"
    if change.after is KeyState.PRESENT and change.before is not KeyState.SUSPECT:
        return logging.INFO, "security key present"
    return logging.DEBUG, "security key"
