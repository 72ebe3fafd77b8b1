"""The shell around the keyring's logic in one life of a broker: what its threads do in production is done here by the agenda.

One worker for each attachment does what `core.work` says; a scan comes after each change of the rack and, as in production, at
intervals. Whatever comes back after its broker's end is thrown away.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from broker.keyring.core import WorkKind
from broker.keyring.engine import KeyringEngine
from broker.keyring.records import Attachment, Fault, FaultKind, Identity
from broker.keyring.settings import KeyringSettings
from broker.licence import FolderContent
from broker.licence.document import Authorship, Examination
from tests.sim.agenda import MS, Agenda, S
from tests.sim.course import Course
from tests.sim.rack import Manner, Rack

BUS = "usb"
STARTING_NS_MAX = 3 * S
_SILENT = Fault(FaultKind.UNANSWERED, "not_answering", "no answer")
_FALSE = Fault(FaultKind.WRONG, "proof_rejected", "not its signature")
_GONE = Fault(FaultKind.GONE, "unplugged", "it has been unplugged")


def keyring_settings(course: Course) -> KeyringSettings:
    """In the proportions of production."""
    return KeyringSettings(
        broker_id="simulate",
        proof_ttl_ns=course.proof_ttl_ns,
        reproof_ns_min=course.proof_ttl_ns // 3,
        reproof_ns_max=course.proof_ttl_ns * 2 // 3,
        retry_ns_min=200 * MS,
        retry_ns_max=2 * S,
        grace_ns=course.grace_ns,
        grace_refill_ns=course.grace_refill_ns,
        starting_ns_max=STARTING_NS_MAX,
        spent_ahead_ns=1 * S // course.pace,
        awaited_ahead_ns=200 * MS // course.pace,
        scan_interval_ns=course.scan_interval_ns,
        attachment_count_max=16,
        source_count_max=64,
    )


@lru_cache(maxsize=1)
def _folder(course: Course) -> FolderContent:
    """The folder of licences, as it reads; the same at each start."""
    return FolderContent(
        tuple(
            (f"{one.licence_id}.jwt", Examination(one, Authorship(one.vendor, one.licence_id, one.digest)))
            for one in course.licences
        )
    )


class KeyWorkers:
    """One life's. `clock_ns` is the broker's monotonic clock, `unix_s` its wall clock; `proved` is told of each good answer to a challenge:
    the thumbprint, the world's instant of the challenge, and whether the key counts by it; `followed` when what follows of anything is in the ledger."""

    def __init__(
        self,
        engine: KeyringEngine,
        course: Course,
        agenda: Agenda,
        rack: Rack,
        clock_ns: Callable[[], int],
        unix_s: Callable[[], int],
        proved: Callable[[str, int, bool], None],
        followed: Callable[[], None],
    ) -> None:
        self._engine = engine
        self._scan_interval_ns = course.scan_interval_ns
        self._agenda = agenda
        self._rack = rack
        self._clock_ns = clock_ns
        self._unix_s = unix_s
        self._proved = proved
        self._followed = followed
        self._attachments: dict[int, Attachment] = {}
        self._planned: dict[int, int] = {}
        """By number of an attachment that is at rest: when it will be looked at."""
        self._busy: set[int] = set()
        self._is_over = False
        self.paused_until_ns = 0
        """Until then the process does not run."""
        engine.begin(_folder(course), (BUS,), clock_ns(), unix_s())
        agenda.after(5 * MS, self._scan)

    def end(self) -> None:
        """The process is gone."""
        self._is_over = True

    def follow(self) -> None:
        """After every input: what follows of it, and who has something to do."""
        self._engine.follow(self._clock_ns(), self._unix_s())
        self._engine.core.woken.clear()
        for number in list(self._attachments):
            self._look(number)
        self._followed()

    def enable_all(self) -> None:
        """An admin enables the keys that were quarantined."""
        for record in self._engine.core.records():
            if record.thumbprint:
                self._engine.core.set_enabled(record.thumbprint, True, self._clock_ns())
        self.follow()

    def _is_late(self, happens: Callable[..., None], *arguments: object) -> bool:
        """Whether the process is gone, or does not run now: then it comes later."""
        if self._agenda.now_ns < self.paused_until_ns:
            self._agenda.at(self.paused_until_ns, happens, *arguments)
            return True
        return self._is_over

    def _scan(self) -> None:
        if self._is_late(self._scan):
            return
        self._engine.unscanned.discard(BUS)
        for attachment in self._engine.core.scanned(BUS, self._rack.ports(), self._clock_ns()):
            self._attachments[attachment.number] = attachment
        self.follow()
        self._agenda.after(self._scan_interval_ns, self._scan)

    # --- one attachment -----------------------------------------------------------------------------------------------

    def _look(self, number: int) -> None:
        """Plans the next step of an attachment that is at rest."""
        if number in self._busy:
            return
        work = self._engine.core.work(number)
        if work.kind is WorkKind.STOP:
            del self._attachments[number]
        elif work.kind is not WorkKind.IDLE and self._planned.get(number) != work.due_ns:
            self._planned[number] = work.due_ns
            self._agenda.after(max(0, work.due_ns - self._clock_ns()), self._step, number, work.due_ns)

    def _step(self, number: int, due_ns: int) -> None:
        if self._is_late(self._step, number, due_ns) or number in self._busy or self._planned.get(number) != due_ns:
            return
        del self._planned[number]
        attachment = self._attachments.get(number)
        if attachment is None:
            return
        work = self._engine.core.work(number)
        if work.kind in (WorkKind.STOP, WorkKind.IDLE) or work.due_ns > self._clock_ns():
            self._look(number)
            return
        token = self._rack.at(attachment.port)
        self._busy.add(number)
        latency_ns = token.latency_ns if token else MS
        self._agenda.after(latency_ns, self._done, attachment, work.kind, self._agenda.now_ns, self._clock_ns())

    def _done(self, attachment: Attachment, kind: WorkKind, asked_world_ns: int, asked_ns: int) -> None:
        """Opening or proving has come to its end."""
        if self._is_late(self._done, attachment, kind, asked_world_ns, asked_ns):
            return
        number, core, now_ns = attachment.number, self._engine.core, self._clock_ns()
        self._busy.discard(number)
        token = self._rack.at(attachment.port)
        if token is None:
            core.failed(number, _GONE, now_ns)
        elif token.manner is Manner.MUTE:
            core.failed(number, _SILENT, now_ns)
        elif kind is WorkKind.OPEN:
            core.opened(number, Identity(token.thumbprint, "Key", attachment.port.usb_path, True), now_ns)
        elif token.manner is Manner.FALSE:
            core.failed(number, _FALSE, now_ns)
        else:
            core.proved(number, asked_ns, now_ns)
            self._proved(token.thumbprint, asked_world_ns, core.is_present(number))
        self.follow()
