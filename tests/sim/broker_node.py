"""The broker as a node of the world: it is started, serves, holds its answers until they are committed, is stopped, crashes, and is started again.

What the app and the listener do in production is played here, after the same rules (`semantics.md` 25-28): an answer leaves when what it says
is committed, denials at once; the first failure of the log ends the process; a started one serves what it recovered.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from random import Random

from broker._journal import SimulatedDisk
from broker.errors import DataDirectoryError
from broker.journal.compaction import compact, retire
from broker.model.answers import Answer
from broker.model.words import Status
from tests.sim.agenda import MS, Agenda, S
from tests.sim.auditor import Auditor
from tests.sim.calls import Call
from tests.sim.course import UNIX_S, Course
from tests.sim.key_workers import STARTING_NS_MAX, KeyWorkers
from tests.sim.life import Life, Parts
from tests.sim.rack import Rack
from tests.sim.trail import Trail

TICK_NS_MAX = 900 * MS
"""Less than the ledger takes for a stopped process."""
MARK_INTERVAL_NS = 5 * S
_UNAVAILABLE = frozenset({Status.EVENTS_FULL, Status.OVERLOADED, Status.DRAINING, Status.NOT_WRITABLE})
Reply = Callable[[Call, Answer | None], None]


class BrokerNode:
    """One broker on one disk over all its lives. `reply` gives an answer to the network; None is UNAVAILABLE."""

    def __init__(
        self, course: Course, agenda: Agenda, disk: SimulatedDisk, rack: Rack, chance: Random, auditor: Auditor, trail: Trail, parts: Parts, reply: Reply
    ) -> None:
        self.life: Life | None = None
        self.life_count = 0
        self.is_supervised = False
        """It has ended, and nobody has seen to it yet."""
        self.is_slow = False
        self.wall_offset_ns = 0
        self.paused_until_ns = 0
        self.proved: Callable[[str, int, bool], None] = lambda thumbprint, asked_ns, is_present: None
        self._course = course
        self._agenda = agenda
        self._disk = disk
        self._rack = rack
        self._chance = chance
        self._auditor = auditor
        self._trail = trail
        self._parts = parts
        self._reply = reply
        self._boot_ns = 0
        self._workers: KeyWorkers | None = None
        self._held: deque[tuple[int, Call, Answer, int]] = deque()
        """Log position, what was asked, the answer, when it was decided."""
        self._proofs: dict[str, int] = {}
        """By key that has proven itself in this life: the position up to which the log must be committed for the next one to know, or 0: not known yet."""
        self.forgotten: frozenset[str] = frozenset()
        """Keys of whose first proof in its life the last broker wrote down too late."""
        self._is_commit_planned = False
        self._tick_ns = 0
        self._is_holding = course.durability == "strict" and parts.is_holding
        self._snapshot: Generator[int, None, None] | None = None
        self._past: list[Life] = []
        """Kept to the end: what a freed one still does to the disk must not depend on when it is freed."""

    # --- lives --------------------------------------------------------------------------------------------------------

    def start(self) -> bool:
        """A new process; False: it has ended at once. Whatever it does not survive it leaves to the next one."""
        self.life_count += 1
        now_ns = self._agenda.now_ns
        try:
            life = Life(
                self._course, self._agenda, self._disk, self._chance, self._parts,
                generation=self.life_count, boot_ns=self._boot_ns, unix_ns=self.unix_ns, pool_declared=self._auditor.pool_declared,
            )  # fmt: skip
        except (OSError, DataDirectoryError) as error:
            # What the disk does not give is nobody's fault; a log that is refused is.
            if not isinstance(error, OSError) and not isinstance(error.__cause__, OSError) and not self._disk.is_off:
                raise
            self._trail.say(now_ns, "broker", "cannot start", type(error).__name__)
            self._disk.close()
            return False
        self._trail.say(now_ns, "broker", "starts", life.generation, "clean" if life.was_clean else "unclean")
        self._serve(life)
        return True

    def _serve(self, life: Life) -> None:
        now_ns = self._agenda.now_ns
        self.life = life
        self._is_commit_planned = False
        self._auditor.started(life.generation, now_ns, now_ns + STARTING_NS_MAX)
        if self._course.durability == "relaxed" and not life.was_clean and life.generation > 1 and self._parts.is_learning:
            life.ledger.set_learning(life.clock_ns(), life.clock_ns() + self._course.ttl_ns)
        self._workers = KeyWorkers(
            life.engine, self._course, self._agenda, self._rack, life.clock_ns, lambda: self.unix_ns() // S, self._key_proved, lambda: self._followed(life)
        )
        self._plan_tick(life, 0)
        self._agenda.after(MARK_INTERVAL_NS, self._mark, life)
        self._agenda.after(self._course.snapshot_interval_ns, self._begin_snapshot, life)

    def unix_ns(self) -> int:
        """The machine's wall clock."""
        return UNIX_S * S + self._agenda.now_ns + self.wall_offset_ns

    def die(self, *, is_power_lost: bool) -> None:
        """The process ends where it stands; with the power, what was not synced is up to chance."""
        self._trail.say(self._agenda.now_ns, "broker", "loses power" if is_power_lost else "is killed", self._position())
        self._abandon_snapshot()
        self._end()
        self._auditor_crashed()
        if is_power_lost:
            self._lose_power()
        else:
            self._disk.close()

    def _abandon_snapshot(self) -> None:
        """The process that wrote it is gone, and does not tidy up: nothing that it still tries happens."""
        snapshot, self._snapshot = self._snapshot, None
        if snapshot is not None:
            was_off = self._disk.is_off
            self._disk.power_off_after(0)
            snapshot.close()
            if not was_off:
                self._disk.mend()

    def stop(self) -> None:
        """A clean stop: all is committed and told."""
        life = self.life
        assert life is not None
        self._trail.say(self._agenda.now_ns, "broker", "stops")
        if self._snapshot is not None:
            self._snapshot.close()
            self._snapshot = None
        life.engine.end(life.clock_ns())
        life.ledger.end_run(life.clock_ns())
        self._commit(life)
        if self.life is life:
            if life.store is not None:
                life.store.close()
            self._end()
            if self._disk.is_off:
                self._lose_power()
            if self._course.durability == "none":
                self._auditor_crashed()

    def _lose_power(self) -> None:
        self._disk.crash()
        self._boot_ns = self._agenda.now_ns

    def _auditor_crashed(self) -> None:
        if self._course.durability != "strict":
            self._auditor.crashed(self._agenda.now_ns)

    def _end(self) -> None:
        assert self.life is not None
        committed = 0 if self.life.store is None else self.life.store.committed
        self.forgotten = frozenset(name for name, position in self._proofs.items() if position == 0 or position > committed)
        self._proofs.clear()
        self._past.append(self.life)
        self.life = None
        self.is_supervised = True
        self._held.clear()
        self._auditor.ended(self._agenda.now_ns)
        if self._workers is not None:
            self._workers.end()

    # --- requests -----------------------------------------------------------------------------------------------------

    def receive(self, call: Call) -> None:
        """An attempt arrives."""
        life = self.life
        if life is None:
            self._reply(call, None)
            return
        if self._agenda.now_ns < self.paused_until_ns:
            self._agenda.at(self.paused_until_ns, self.receive, call)
            return
        answer = life.execute(call)
        now_ns = self._agenda.now_ns
        self._trail.say(now_ns, "broker", call.holder_number, call.verb.name, call.number, answer.status.name, answer.fence, answer.end_reason.name)
        if answer.status in _UNAVAILABLE:
            self._reply(call, None)
        elif not self._is_holding or answer.status is Status.DENIED or not life.is_writable:
            self._tell(call, answer, now_ns, is_durable=life.is_writable)
        else:
            self._held.append((self._position(), call, answer, now_ns))
        self._plan_commit(life)
        if now_ns + TICK_NS_MAX < self._tick_ns:
            self._plan_tick(life, 0)

    def revoke(self, fence: int) -> None:
        """An admin ends a session."""
        if self.life is not None:
            self._auditor.revoked(fence)
            self.life.ledger.revoke(self.life.clock_ns(), fence)
            self._plan_commit(self.life)

    def pause(self, duration_ns: int) -> None:
        """The process is stopped for a while, and knows nothing of it."""
        self.paused_until_ns = self._agenda.now_ns + duration_ns
        if self._workers is not None:
            self._workers.paused_until_ns = self.paused_until_ns
        self._auditor.doubted(self.paused_until_ns)

    def _key_proved(self, thumbprint: str, asked_ns: int, is_present: bool) -> None:
        self._proofs.setdefault(thumbprint, 0)
        self.proved(thumbprint, asked_ns, is_present)

    def _followed(self, life: Life) -> None:
        """Whatever came of keys is written down as anything else; the app wakes the committer for it."""
        for thumbprint, position in self._proofs.items():
            if position == 0:
                self._proofs[thumbprint] = self._position()
        self._plan_commit(life)

    def enable_keys(self) -> None:
        """An admin ends all quarantines."""
        if self._workers is not None and self.life is not None:
            self._workers.enable_all()

    def _tell(self, call: Call, answer: Answer, executed_ns: int, *, is_durable: bool = True) -> None:
        self._auditor.told(call, answer, executed_ns, is_durable=is_durable)
        self._reply(call, answer)

    # --- time ---------------------------------------------------------------------------------------------------------

    def _plan_tick(self, life: Life, delay_ns: int) -> None:
        self._tick_ns = self._agenda.now_ns + delay_ns
        self._agenda.after(delay_ns, self._tick, life, self._tick_ns)

    def _tick(self, life: Life, planned_ns: int) -> None:
        if self.life is not life or planned_ns != self._tick_ns:
            return
        now_ns = self._agenda.now_ns
        if now_ns < self.paused_until_ns:
            self._plan_tick(life, self.paused_until_ns - now_ns)
            return
        due_ns, _ = life.ledger.tick(life.clock_ns())
        self._plan_commit(life)
        self._plan_tick(life, max(MS, min(TICK_NS_MAX, due_ns - life.clock_ns())))

    def _mark(self, life: Life) -> None:
        if self.life is life and life.store is not None:
            life.ledger.mark_wall(life.clock_ns(), self.unix_ns())
            self._plan_commit(life)
            self._agenda.after(MARK_INTERVAL_NS, self._mark, life)

    # --- the committer ------------------------------------------------------------------------------------------------

    def _position(self) -> int:
        """Log position behind all that has happened."""
        life = self.life
        return life.ledger.position + life.store.journal.base if life is not None and life.store is not None and life.is_writable else 0

    def _plan_commit(self, life: Life) -> None:
        if life.store is None or not life.is_writable or self._is_commit_planned or (not self._held and self._position() == life.store.journal.committed):
            return
        self._is_commit_planned = True
        delay_ns = int(self._chance.random() ** 2 * self._course.sync_ns_max) + (S if self.is_slow else 0)
        self._agenda.after(delay_ns, self._commit_planned, life)

    def _commit_planned(self, life: Life) -> None:
        if self.life is not life:
            return
        if self._agenda.now_ns < self.paused_until_ns:
            self._agenda.at(self.paused_until_ns, self._commit_planned, life)
            return
        self._is_commit_planned = False
        self._commit(life)

    def _commit(self, life: Life) -> None:
        """The committer's rounds until all is committed, and one for what can wait; then answers leave. A failure is the end."""
        if life.store is None or not life.is_writable:
            return
        journal, target = life.store.journal, self._position()
        while journal.committed < target and journal.step():
            pass
        if journal.committed >= target:
            journal.step()
        self._release(journal.committed)
        if journal.failure is not None:
            self._trail.say(self._agenda.now_ns, "broker", "log failed", journal.failure.step.name, journal.failure.errno)
            self.die(is_power_lost=self._disk.is_off)

    def _release(self, committed: int) -> None:
        held = self._held
        while held and held[0][0] <= committed:
            _, call, answer, executed_ns = held.popleft()
            self._tell(call, answer, executed_ns)

    # --- snapshots ----------------------------------------------------------------------------------------------------

    def _begin_snapshot(self, life: Life) -> None:
        """In production when the log has grown; here when it is time."""
        if self.life is not life or life.store is None or not life.is_writable:
            return
        self._trail.say(self._agenda.now_ns, "broker", "begins a snapshot", life.store.committed)
        self._snapshot = compact(life.store, life.make_shadow)
        self._step_snapshot(life)

    def _step_snapshot(self, life: Life) -> None:
        """One bounded piece of it."""
        if self.life is not life or self._snapshot is None:
            return
        assert life.store is not None
        try:
            if next(self._snapshot, None) is not None:
                self._agenda.after(int(self._chance.random() * 300 * MS), self._step_snapshot, life)
                return
            life.store.write_state()
            retire(life.store, None)
        except OSError as error:
            self._trail.say(self._agenda.now_ns, "broker", "could not write a snapshot", type(error).__name__)
        self._snapshot = None
        if self._disk.is_off:
            self.die(is_power_lost=True)
            return
        self._plan_commit(life)
        self._agenda.after(self._course.snapshot_interval_ns, self._begin_snapshot, life)
