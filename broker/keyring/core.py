"""The keyring's logic without its threads: what happens to keys goes in, what to do with each connection comes out.

Inputs are scans of a bus, and the results of opening and proving a connection; each carries its instant. `work` then says
what a connection's worker has to do, and `standings` what the keys are good for. No I/O, no clock, no random source but
the jitter that is passed in: the same inputs give the same outputs, so a simulation can drive it. Not thread-safe: the
shell (`keyring.py`) calls it under its lock.

Proofs (`semantics.md` 30). A proof is good from the instant its nonce was made for `proof_ttl_ns`. Capacity ends when the
key is unplugged, when it answers wrongly, or when its last proof ends. A key that merely fails to answer is suspect: it
is asked again at once, and after `attempt_count_max` failures it is lost, whatever its last proof was good for.

Clones (`semantics.md` 31). An attachment that claims the identity of a connected key says nothing by that: certificates
can be copied, and a hub that re-enumerates shows one key twice for a moment. So the challenger waits, and the incumbent is
asked first. If it answers, and then the challenger answers a nonce of its own while both connections are still open, there
are two private keys: both are quarantined until an admin enables the key again. If the incumbent is gone, the challenger
takes its place and nothing has happened.

A flapping hub makes a key come and go many times a minute. Its loss is a loss at once each time, but beyond a few its return is
put off for some seconds, by the place, so that sessions are not told of key grace and health in turns.

Over a restart (`grace.py`) keys are recalled before anything is plugged in; `stale` names those whose memory may be other than
what was kept. A disabled or quarantined key stays so; one that stood is awaited until the first tries are over.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from broker.keyring.capacity import KeyStanding
from broker.keyring.grace import GraceBudget
from broker.keyring.records import Attachment, Fault, FaultKind, Identity, KeyRecord
from broker.keyring.remembered import KeyMemory, Stand
from broker.keyring.settings import KeyringSettings
from broker.keyring.states import IDLE_STATES, KeyInput, KeyState
from hwkey import KeyPort

_LOSSES: Final = {
    FaultKind.UNANSWERED: KeyInput.GAVE_UP,
    FaultKind.GONE: KeyInput.UNPLUGGED,
    FaultKind.WRONG: KeyInput.REJECTED,
}


_RECALLED: Final = {
    Stand.STOOD: KeyState.LOST,
    Stand.LOST: KeyState.LOST,
    Stand.DISABLED: KeyState.DISABLED,
    Stand.QUARANTINED: KeyState.QUARANTINED,
}
_AWAITED_SENTENCE: Final = "it stood when the broker last ended, and has not proven itself since it started"
_NOT_BACK_SENTENCE: Final = "it stood when the broker last ended, and did not prove itself when it started again"


class WorkKind(Enum):
    """What a worker does next."""

    OPEN = auto()  # at `due_ns`; closes what it has open first
    PROVE = auto()  # at `due_ns`
    IDLE = auto()  # until woken
    STOP = auto()


@dataclass(frozen=True, slots=True)
class Work:
    """One step of a worker, and when; `due_ns` has no meaning for IDLE and STOP."""

    kind: WorkKind
    due_ns: int = 0


@dataclass(frozen=True, slots=True)
class KeyChange:
    """A key came from one state to another, for the log. `thumbprint` is empty for a key that has not said who it is."""

    thumbprint: str
    address: str
    before: KeyState
    after: KeyState
    code: str
    sentence: str


class KeyringCore:
    """All keys of one broker. After each input: `changes` and `woken` hold what is to be logged and whom to wake; the
    shell empties them. `is_capacity_changed` says whether a decision is due."""

    def __init__(self, settings: KeyringSettings, jitter: Callable[[int, int], int]) -> None:
        self._settings = settings
        self._jitter = jitter
        self._records: dict[str, KeyRecord] = {}
        self._attachments: dict[int, Attachment] = {}
        self._attached_count = 0
        self._licensed: frozenset[str] = frozenset()
        self._crowded: frozenset[tuple[str, str]] = frozenset()
        self._flaps: dict[tuple[str, str], tuple[int, int]] = {}  # by bus and place: how often in a row, and when last
        self.changes: list[KeyChange] = []
        self.woken: set[int] = set()
        self.stale: set[str] = set()
        self.is_capacity_changed = True

    # --- over a restart -----------------------------------------------------------------------------------------------

    def recall(self, keys: Mapping[str, KeyMemory], now_ns: int) -> None:
        """What an earlier run remembers; before the first scan."""
        for thumbprint, memory in keys.items():
            record = self._record_of(thumbprint)
            record.budget = record.budget.recalled(memory.budget, now_ns, self._settings.starting_ns_max)
            record.was_licensed, record.is_recalled = True, True
            record.is_emulated = memory.is_emulated
            record.state, record.code, record.sentence = _RECALLED[memory.stand], memory.code, memory.sentence
            if record.budget.awaited_since_ns is not None:
                record.code, record.sentence = "awaited", _AWAITED_SENTENCE
            elif memory.stand is not Stand.LOST:
                self._say(record, KeyState.ABSENT, record.state)
            self.stale.add(thumbprint)

    def start_wait_ns(self, thumbprint: str, now_ns: int) -> int | None:
        """How long charges may wait for the first try of a key that is recalled; None for one that is not."""
        record = self._records.get(thumbprint)
        if record is None or not record.is_recalled:
            return None
        if record.state in IDLE_STATES:
            return 0
        return record.budget.start_wait_ns(now_ns, self._settings.starting_ns_max)

    def end_start(self, *, is_over: bool) -> bool:
        """The first tries are over: who is still awaited is lost since its last proof. Unless all of the time for them is over,
        one that is connected, and failed once, is still awaited; whether there is one."""
        awaited = [one for one in self._records.values() if one.budget.awaited_since_ns is not None]
        connected = [] if is_over else [one for one in awaited if one.attachment is not None]
        for record in awaited:
            if record not in connected:
                record.budget = record.budget.lost()
                record.code, record.sentence = "not_back", _NOT_BACK_SENTENCE
                self._say(record, KeyState.PRESENT, KeyState.LOST)
                self.stale.add(record.thumbprint)
                self.is_capacity_changed = True
        return bool(connected)

    def find(self, thumbprint: str) -> KeyRecord | None:
        """The record of an identity."""
        return self._records.get(thumbprint)

    # --- what is there ------------------------------------------------------------------------------------------------

    def licensed(self, thumbprints: Iterable[str]) -> None:
        """The keys that licences name: they are shown even if absent, and their grace is never forgotten."""
        self._licensed = frozenset(thumbprints)
        for thumbprint in self._licensed:
            record = self._record_of(thumbprint)
            if not record.was_licensed:
                record.was_licensed = True
                self.stale.add(thumbprint)
        self.is_capacity_changed = True

    def scanned(self, bus: str, ports: Sequence[KeyPort], now_ns: int) -> list[Attachment]:
        """A scan of one bus; the new attachments, which need a worker each. Those that are gone get work STOP."""
        present = {(port.attach_point, port.generation): port for port in ports}
        for attachment in [one for one in self._attachments.values() if one.bus == bus]:
            place = (attachment.port.attach_point, attachment.port.generation)
            if present.pop(place, None) is None:
                self._detach(attachment, now_ns)
        room_count = self._settings.attachment_count_max - len(self._attachments)
        fitting = list(present.values())
        self._crowded = frozenset((bus, port.attach_point) for port in fitting[room_count:]) | frozenset(
            one for one in self._crowded if one[0] != bus
        )
        return [self._attach(bus, port, now_ns) for port in fitting[:room_count]]

    @property
    def unserved_count(self) -> int:
        """Attached keys beyond `attachment_count_max`, which are left alone."""
        return len(self._crowded)

    def _attach(self, bus: str, port: KeyPort, now_ns: int) -> Attachment:
        self._attached_count += 1
        record = self._nameless(port)
        flap_count, last_ns = self._flaps.get((bus, port.usb_path), (0, 0))
        flap_count = flap_count if now_ns - last_ns < self._settings.flap_window_ns else 0
        hold_ns = self._settings.flap_hold_ns(flap_count)
        attachment = Attachment(self._attached_count, bus, port, record, due_ns=now_ns + hold_ns)
        record.attachment = attachment
        self._attachments[attachment.number] = attachment
        self._move(record, KeyInput.PLUGGED)
        if hold_ns:
            sentence = (
                f"it has come and gone {flap_count} times in a row and is left alone for {hold_ns / 1e9:g} s: look after its"
                " hub, cable and power"
            )
            self._move(record, KeyInput.FAILED, "flapping", sentence)
        return attachment

    def _flapped(self, place: tuple[str, str], now_ns: int) -> None:
        """Something left its place; places that have been quiet are forgotten."""
        since_ns = now_ns - self._settings.flap_window_ns
        self._flaps = {one: flap for one, flap in self._flaps.items() if flap[1] > since_ns}
        self._flaps[place] = (self._flaps.get(place, (0, 0))[0] + 1, now_ns)

    def _detach(self, attachment: Attachment, now_ns: int) -> None:
        del self._attachments[attachment.number]
        self._flapped((attachment.bus, attachment.port.usb_path), now_ns)
        self.woken.add(attachment.number)
        record = attachment.record
        if attachment.is_challenger:
            record.challengers.remove(attachment)
            return
        record.attachment = None
        if record.thumbprint:
            self._lose(record, KeyInput.UNPLUGGED, "unplugged", "it was unplugged")
            self._promote(record, now_ns)

    # --- what a worker has to do --------------------------------------------------------------------------------------

    def work(self, number: int) -> Work:
        """The next step for an attachment's worker."""
        attachment = self._attachments.get(number)
        if attachment is None:
            return Work(WorkKind.STOP)
        if not attachment.is_open:
            return Work(WorkKind.OPEN, attachment.due_ns)
        is_waiting = attachment.is_challenger and not attachment.may_prove
        if is_waiting or attachment.record.state in IDLE_STATES:
            return Work(WorkKind.IDLE)
        return Work(WorkKind.PROVE, attachment.due_ns)

    # --- what came of it ----------------------------------------------------------------------------------------------

    def opened(self, number: int, identity: Identity, now_ns: int) -> None:
        """The attachment is claimed and names itself."""
        attachment = self._attachments.get(number)
        if attachment is None:
            return
        attachment.is_open, attachment.may_prove = True, False
        attachment.opened_ns = attachment.due_ns = now_ns
        record = self._record_of(identity.thumbprint)
        if attachment.record is not record:
            self._leave(attachment, now_ns)
            attachment.record = record
        incumbent = record.attachment
        if incumbent is None or incumbent is attachment or not incumbent.is_open:
            self._seat(record, attachment, identity)
        else:
            record.challengers.append(attachment)
            self._hurry(incumbent, now_ns)

    def proved(self, number: int, asked_ns: int, now_ns: int) -> None:
        """The attachment has signed a fresh nonce that was made at `asked_ns`."""
        attachment = self._attachments.get(number)
        if attachment is None or not attachment.is_open:
            return
        attachment.is_settled, attachment.failure_count = True, 0
        record = attachment.record
        if attachment.is_challenger:
            incumbent = record.attachment
            if attachment.may_prove and incumbent is not None and incumbent.is_open:
                self._quarantine(record, incumbent, attachment)
            return
        if self._move(record, KeyInput.PROVED) is not KeyState.PRESENT:
            return
        record.proven_until_ns = asked_ns + self._settings.proof_ttl_ns
        record.budget = record.budget.proved(asked_ns)
        self.stale.add(record.thumbprint)
        record.last_proof_ns, record.proof_latency_ns = asked_ns, now_ns - asked_ns
        record.proof_count += 1
        attachment.due_ns = now_ns + self._jitter(
            self._settings.reproof_ns_min, self._settings.reproof_ns_max
        )
        self.is_capacity_changed = True
        self._admit_challengers(record, asked_ns, now_ns)

    def is_present(self, number: int) -> bool:
        """Whether an attachment is the one that its key stands on, and has proven itself."""
        attachment = self._attachments.get(number)
        return (
            attachment is not None
            and not attachment.is_challenger
            and attachment.record.state is KeyState.PRESENT
        )

    def failed(self, number: int, fault: Fault, now_ns: int) -> None:
        """The attachment could not be opened, or did not prove itself."""
        attachment = self._attachments.get(number)
        if attachment is None:
            return
        record = attachment.record
        attachment.is_settled = True
        attachment.failure_count += 1
        attachment.due_ns = now_ns + self._settings.retry_ns(attachment.failure_count)
        if attachment.is_challenger:
            self._leave(attachment, now_ns)
            self._move(attachment.record, KeyInput.FAILED, fault.code, fault.sentence)
            return
        record.failure_count += 1
        is_patient = (
            fault.kind is FaultKind.UNANSWERED and attachment.failure_count < self._settings.attempt_count_max
        )
        if is_patient or not record.thumbprint:
            self._move(record, KeyInput.FAILED, fault.code, fault.sentence)
            return
        self._lose(record, _LOSSES[fault.kind], fault.code, fault.sentence)
        self._yield_seat(record, now_ns)

    def tick(self, now_ns: int) -> None:
        """Time has passed: proofs end, and what is left of a lost key is forgotten."""
        for record in list(self._records.values()):
            if record.proven_until_ns and record.proven_until_ns <= now_ns:
                self._lose(
                    record, KeyInput.GAVE_UP, "proof_ended", "its last proof ended before it gave another"
                )
                self._yield_seat(record, now_ns)
            is_over = record.attachment is None and record.budget.deadline_ns(now_ns) <= now_ns
            if record.state is KeyState.LOST and is_over:
                self._move(record, KeyInput.FORGOTTEN, record.code, record.sentence)
            if record.state is KeyState.ABSENT and record.attachment is None and self._is_forgettable(record):
                del self._records[record.thumbprint]
                self.stale.add(record.thumbprint)

    # --- what an admin wants ------------------------------------------------------------------------------------------

    def set_enabled(self, thumbprint: str, is_enabled: bool, now_ns: int) -> bool:
        """Stops or resumes counting a key; enabling also ends a quarantine. False for a key that is not known."""
        record = self._records.get(thumbprint)
        if record is None:
            return False
        if not is_enabled:
            self._lose(record, KeyInput.DISABLED, "disabled", "an admin stopped counting it")
            self.stale.add(thumbprint)
        elif record.state in IDLE_STATES:
            self._move(record, KeyInput.ENABLED)
            self.stale.add(thumbprint)
            if record.attachment is not None:
                self._connect(record, record.attachment)
                self._hurry(record.attachment, now_ns)
                self._make_wait(record, now_ns)
        return True

    def doubt(self, thumbprint: str, now_ns: int) -> bool:
        """Has a key proven again at once. False for a key that is not connected."""
        record = self._records.get(thumbprint)
        if record is None or record.attachment is None:
            return False
        self._hurry(record.attachment, now_ns)
        return True

    # --- what follows -------------------------------------------------------------------------------------------------

    def standings(self, now_ns: int) -> Mapping[str, KeyStanding]:
        """What each identified key is good for."""
        return {thumbprint: record.standing(now_ns) for thumbprint, record in self._records.items()}

    def records(self) -> list[KeyRecord]:
        """All keys: the identified by thumbprint, then those that have not said who they are by place."""
        named = [self._records[thumbprint] for thumbprint in sorted(self._records)]
        return named + [one.record for one in self._attachments.values() if not one.record.thumbprint]

    def unsettled_count(self) -> int:
        """Attachments that have neither been proven nor failed yet, and will be: a key that an admin has disabled is not asked."""
        return sum(
            not (one.is_settled or (one.is_open and one.record.state in IDLE_STATES))
            for one in self._attachments.values()
        )

    # --- inside -------------------------------------------------------------------------------------------------------

    def _record_of(self, thumbprint: str) -> KeyRecord:
        if thumbprint not in self._records:
            self._records[thumbprint] = KeyRecord(thumbprint, self._full_budget())
        return self._records[thumbprint]

    def _is_forgettable(self, record: KeyRecord) -> bool:
        """No licence names it, and none has while it was here: else taking a licence out and in would refill its grace."""
        has_spent = record.was_licensed and record.budget.last_proof_ns is not None
        return record.thumbprint not in self._licensed and not has_spent

    def _nameless(self, port: KeyPort) -> KeyRecord:
        record = KeyRecord("", self._full_budget())
        record.describe(Identity("", port.product, port.usb_path, port.is_emulated))
        return record

    def _full_budget(self) -> GraceBudget:
        return GraceBudget.full(
            limit_ns=self._settings.grace_ns,
            refill_ns=self._settings.grace_refill_ns,
            proof_ttl_ns=self._settings.proof_ttl_ns,
        )

    def _seat(self, record: KeyRecord, attachment: Attachment, identity: Identity) -> None:
        """Makes an open attachment the one that its record stands on."""
        former = record.attachment
        record.attachment = attachment
        record.describe(identity)
        if former is not None and former is not attachment:
            # Not open any more: whatever is plugged in there has to say anew who it is.
            former.record = self._nameless(former.port)
            former.record.attachment = former
            self._move(former.record, KeyInput.PLUGGED)
        self._connect(record, attachment)

    def _connect(self, record: KeyRecord, attachment: Attachment) -> None:
        self._move(record, KeyInput.PLUGGED)
        if attachment.is_open:
            self._move(record, KeyInput.OPENED)

    def _leave(self, attachment: Attachment, now_ns: int) -> None:
        """The attachment does not speak for its record any more: it failed as a challenger, or names another key now."""
        record = attachment.record
        if attachment.is_challenger:
            record.challengers.remove(attachment)
            attachment.is_open = attachment.may_prove = False
        elif record.thumbprint:
            record.attachment = None
            self._lose(record, KeyInput.UNPLUGGED, "unplugged", "another key answers in its place")
            self._promote(record, now_ns)
        else:
            return
        attachment.record = self._nameless(attachment.port)
        attachment.record.attachment = attachment
        self._move(attachment.record, KeyInput.PLUGGED)

    def _lose(self, record: KeyRecord, word: KeyInput, code: str, sentence: str) -> None:
        """The key's proof is worth nothing any more. Except for an admin's word its connection is opened anew."""
        self._move(record, word, code, sentence)
        is_awaited = record.budget.awaited_since_ns is not None
        if record.proven_until_ns or record.budget.present_since_ns is not None or is_awaited:
            record.budget = record.budget.lost()
            self.stale.add(record.thumbprint)
            self.is_capacity_changed = True
        record.proven_until_ns = 0
        if record.attachment is not None and word is not KeyInput.DISABLED:
            record.attachment.is_open = False
            self.woken.add(record.attachment.number)

    def _yield_seat(self, record: KeyRecord, now_ns: int) -> None:
        """A connection that failed gives way to a challenger, if there is one."""
        former = record.attachment
        if former is None or not record.challengers:
            return
        former.record = self._nameless(former.port)
        former.record.attachment = former
        self._move(former.record, KeyInput.PLUGGED)
        record.attachment = None
        self._promote(record, now_ns)

    def _promote(self, record: KeyRecord, now_ns: int) -> None:
        """The first challenger takes the place of an incumbent that is gone."""
        if record.challengers:
            attachment = record.challengers.pop(0)
            record.attachment = attachment
            self._connect(record, attachment)
            self._hurry(attachment, now_ns)
            self._make_wait(record, now_ns)

    def _make_wait(self, record: KeyRecord, now_ns: int) -> None:
        """Challengers answer only once the incumbent has been asked and proven from now on."""
        for challenger in record.challengers:
            challenger.may_prove, challenger.opened_ns = False, now_ns

    def _admit_challengers(self, record: KeyRecord, asked_ns: int, now_ns: int) -> None:
        """The incumbent has answered: those that were connected before it was asked may answer now."""
        for challenger in record.challengers:
            if challenger.opened_ns <= asked_ns and not challenger.may_prove:
                challenger.may_prove = True
                self._hurry(challenger, now_ns)

    def _quarantine(self, record: KeyRecord, incumbent: Attachment, challenger: Attachment) -> None:
        places = f"{incumbent.port.usb_path} and {challenger.port.usb_path}"
        sentence = f"two devices answer as this key, at {places}: one is a clone; remove it, then enable the key again"
        self._move(record, KeyInput.CLONE_PROVEN, "clone", sentence)
        record.proven_until_ns = 0
        record.budget = record.budget.lost()
        self.stale.add(record.thumbprint)
        self.is_capacity_changed = True

    def _hurry(self, attachment: Attachment, now_ns: int) -> None:
        attachment.due_ns = min(attachment.due_ns, now_ns)
        self.woken.add(attachment.number)

    def _move(self, record: KeyRecord, word: KeyInput, code: str = "", sentence: str = "") -> KeyState:
        before = record.state
        kept = (record.code, record.sentence)
        after = record.apply(word, code, sentence)
        if after is before and after in IDLE_STATES:
            # A late result must not paint over why the key is not asked any more.
            record.code, record.sentence = kept
        if after is not before:
            self._say(record, before, after)
        return after

    def _say(self, record: KeyRecord, before: KeyState, after: KeyState) -> None:
        change = KeyChange(record.thumbprint, record.address, before, after, record.code, record.sentence)
        self.changes.append(change)
