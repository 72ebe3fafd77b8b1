"""Fate: what goes wrong in a world, one stroke after the other, and how it is put right when calm comes.

Each stroke is one of a table and ends by itself; at the instants in between chance has its way. `calm` ends all of them.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from random import Random

from broker._journal import SimulatedDisk
from tests.sim.agenda import MS, Agenda, S
from tests.sim.auditor import Auditor
from tests.sim.broker_node import BrokerNode
from tests.sim.course import Course
from tests.sim.network import Network
from tests.sim.rack import PROMPT_NS, Manner, Rack, Token
from tests.sim.trail import Trail

DISK_SIZE_MAX = 1 << 30


class Fate:
    """One world's. `well_ns` by thumbprint: when trouble with a key ended; the first good proof from then on heals it."""

    def __init__(
        self, course: Course, agenda: Agenda, network: Network, disk: SimulatedDisk, rack: Rack, node: BrokerNode, auditor: Auditor, trail: Trail, chance: Random
    ) -> None:
        self.is_over = False
        self._course = course
        self._agenda = agenda
        self._network = network
        self._disk = disk
        self._rack = rack
        self._node = node
        self._auditor = auditor
        self._trail = trail
        self._chance = chance
        self._well_ns: dict[str, int] = {}
        self._strokes: tuple[tuple[int, Callable[[], None]], ...] = (
            (4, self._kill),
            (4, self._lose_power),
            (3, self._lose_power_amid_writes),
            (2, self._stop),
            (3, self._fail_disk),
            (1, self._fill_disk),
            (2, self._slow_disk),
            (2, self._pause),
            (3, self._cut_off),
            (1, self._set_clock),
            (6, self._trouble_key),
            (1, self._show_clone),
        )
        if course.mood == "crashes":
            self._strokes = tuple(one for one in self._strokes if one[1] not in (self._trouble_key, self._show_clone))
        elif course.mood == "keys":
            # A key is carried away, and the broker is started anew again and again.
            self._strokes = ((3, self._kill), (2, self._stop), (1, self._lose_power))
            agenda.at(int(chance.random() * 15 * S) // course.pace, self._carry_away)
        self._weights = [weight for weight, _ in self._strokes]
        node.proved = self.proved
        agenda.at(0, self._start_broker)
        self._next()

    def calm(self) -> None:
        """From now on nothing goes wrong, and what did is put right."""
        self.is_over = True
        self._disk.mend()
        self._disk.size_max = DISK_SIZE_MAX
        self._node.is_slow = False
        self._network.is_calm = True
        self._network.cut.clear()
        self._rack.heal()
        for thumbprint in self._course.thumbprints:
            self._well(thumbprint)
        self._node.enable_keys()
        self._agenda.after(2 * S, self._node.enable_keys)
        if self._node.life is None:
            self._start_broker()
        elif not self._node.life.is_writable:
            self._node.stop()

    def proved(self, thumbprint: str, asked_ns: int, is_present: bool) -> None:
        """A key has answered."""
        self._auditor.proved(thumbprint, asked_ns)
        if is_present and thumbprint in self._well_ns and asked_ns >= self._well_ns[thumbprint]:
            del self._well_ns[thumbprint]
            self._auditor.healed(thumbprint, self._agenda.now_ns)

    def _next(self) -> None:
        wait_ns = int(self._chance.expovariate(1.0) * self._course.fault_interval_ns)
        self._agenda.after(wait_ns, self._strike)

    def _strike(self) -> None:
        if not self.is_over:
            self._chance.choices(self._strokes, self._weights)[0][1]()
            self._next()

    def _say(self, *words: object) -> None:
        self._trail.say(self._agenda.now_ns, "fate", *words)

    # --- the broker ---------------------------------------------------------------------------------------------------

    def _start_broker(self) -> None:
        """Tried again until it succeeds, as a supervisor does."""
        if self._node.life is None and not self._node.start():
            if self._disk.is_off:
                self._disk.crash()
            self._agenda.after(300 * MS if self.is_over else int(self._chance.random() * 2 * S) // self._course.pace, self._start_broker)

    def watch(self) -> None:
        """After each step: a broker that has ended is started again, sooner or later."""
        if self._node.life is None and self._node.is_supervised:
            self._node.is_supervised = False
            self._doubt_unproven()
            wait_ns = 300 * MS if self.is_over else int(self._chance.random() ** 3 * (3 if self._course.mood == "keys" else 12) * S) // self._course.pace
            self._agenda.after(wait_ns, self._start_broker)

    def _doubt_unproven(self) -> None:
        """A start waits for a key only so long, and not at each start anew: one that was not asked in time may be held to be gone."""
        now_ns = self._agenda.now_ns
        for thumbprint in self._course.thumbprints:
            if not self._auditor.has_proven(thumbprint) or thumbprint in self._node.forgotten:
                self._auditor.touched(thumbprint, now_ns)
                if self._rack.is_well(thumbprint):
                    self._well(thumbprint)

    def _kill(self) -> None:
        if self._node.life is not None:
            self._node.die(is_power_lost=False)

    def _lose_power(self) -> None:
        if self._node.life is not None:
            self._node.die(is_power_lost=True)

    def _lose_power_amid_writes(self) -> None:
        """While the log, a snapshot or the next recovery is being written."""
        count = self._chance.randrange(1, 40)
        self._say("power ends after", count, "operations of the disk")
        self._disk.power_off_after(count)

    def _stop(self) -> None:
        if self._node.life is not None:
            self._node.stop()

    def _pause(self) -> None:
        duration_ns = int(self._chance.random() * 6 * S) // self._course.pace
        self._say("the broker is stopped for", duration_ns)
        self._node.pause(duration_ns)

    def _set_clock(self) -> None:
        """An admin, or a bad time server."""
        step_ns = self._chance.choice((-1000 * S, -10 * S, 10 * S, 1000 * S))
        self._say("the wall clock is set by", step_ns)
        self._node.wall_offset_ns += step_ns

    # --- the disk -----------------------------------------------------------------------------------------------------

    def _fail_disk(self) -> None:
        operation = self._chance.choice(("write", "sync", "sync_names", "rename", "allocate", "open"))
        self._say("the disk fails at", operation)
        self._disk.fail(operation, errno.EIO, after=self._chance.randrange(6), is_lasting=self._chance.random() < 0.3)
        self._agenda.after(int(self._chance.random() * 3 * S) // self._course.pace, self._mend_disk)

    def _fill_disk(self) -> None:
        self._say("the disk is full")
        self._disk.size_max = 0
        self._agenda.after(int(self._chance.random() * 6 * S) // self._course.pace, self._mend_disk)

    def _slow_disk(self) -> None:
        self._say("the disk is slow")
        self._node.is_slow = True
        self._agenda.after(int(self._chance.random() * 5 * S) // self._course.pace, self._mend_disk)

    def _mend_disk(self) -> None:
        self._say("the disk is well")
        if not self._disk.is_off:
            self._disk.mend()
        self._disk.size_max = DISK_SIZE_MAX
        self._node.is_slow = False
        if self._node.life is not None and not self._node.life.is_writable:
            self._node.stop()

    # --- the network --------------------------------------------------------------------------------------------------

    def _cut_off(self) -> None:
        holders = {number for number in range(self._course.holder_count) if self._chance.random() < 0.5}
        self._say("cut off:", *sorted(holders))
        self._network.cut |= holders
        self._agenda.after(int(self._chance.random() * 8 * S) // self._course.pace, self._network.cut.clear)

    # --- keys ---------------------------------------------------------------------------------------------------------

    def _trouble_key(self) -> None:
        token = self._chance.choice(self._rack.tokens)
        trouble = self._chance.choice(("pulled", "pulled", "slow", "mute", "false"))
        self._begin_trouble(token, trouble)
        if trouble == "pulled":
            self._rack.pull(token)
        elif trouble == "slow":
            token.latency_ns = int(self._chance.random() * self._course.proof_ttl_ns)
        else:
            token.manner = Manner.MUTE if trouble == "mute" else Manner.FALSE
        duration_ns = int(self._chance.random() ** 2 * 3 * (self._course.proof_ttl_ns + self._course.grace_ns))
        self._agenda.after(duration_ns, self._end_trouble, token)

    def _carry_away(self) -> None:
        """A key is pulled, and does not come back before all is calm."""
        token = self._chance.choice(self._rack.tokens)
        self._begin_trouble(token, "carried away")
        self._rack.pull(token)

    def _show_clone(self) -> None:
        token = self._chance.choice(self._rack.clones)
        self._begin_trouble(token, "cloned")
        self._rack.plug(token)
        self._agenda.after(int(self._chance.random() * 20 * S) // self._course.pace, self._end_trouble, token)

    def _begin_trouble(self, token: Token, trouble: str) -> None:
        self._say(token.thumbprint, "is", trouble)
        self._well_ns.pop(token.thumbprint, None)
        self._auditor.touched(token.thumbprint, self._agenda.now_ns)

    def _end_trouble(self, token: Token) -> None:
        if self.is_over:
            return
        if token.is_clone:
            self._rack.pull(token)
            self._agenda.after(S, self._node.enable_keys)
        else:
            token.manner, token.latency_ns = Manner.HONEST, PROMPT_NS
            self._rack.plug(token)
        if self._rack.is_well(token.thumbprint):
            self._say(token.thumbprint, "is well")
            self._well(token.thumbprint)

    def _well(self, thumbprint: str) -> None:
        self._well_ns[thumbprint] = self._agenda.now_ns
