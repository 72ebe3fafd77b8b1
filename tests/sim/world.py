"""One simulated world: a broker, its disk and keys, holders, the network, fate and the auditor, made of one seed; run until it is judged.

    faults    holders do what they like and fate strikes; every answer is held against every promise
    calm      faults stop. Whoever asks is answered; keys prove themselves; all holders want in, and are told
    empty     half of the holders close, half fall silent: all seats are free when their time is over
    full      so many new holders come as there are seats: each gets one, and the next is denied

A broken promise is a `Failure`, which says how to see it again.
"""

from __future__ import annotations

from random import Random

from broker._journal import SimulatedDisk
from broker.errors import BrokerError
from broker.model.answers import Answer
from broker.model.words import Status
from tests.sim.agenda import Agenda
from tests.sim.auditor import Accusation, Auditor
from tests.sim.broker_node import BrokerNode
from tests.sim.calls import Call, Person
from tests.sim.course import Course, Scale, course_of, scale_of
from tests.sim.fate import Fate
from tests.sim.holder import Holder, Wanted
from tests.sim.life import Parts
from tests.sim.network import Network
from tests.sim.rack import Rack
from tests.sim.trail import Trail

STEPS_MAX = 60_000
"""A course that has not come to its end by then runs in circles."""
PROPER = Parts()


class Failure(AssertionError):
    """A seed whose course broke a promise: which, how to run it again, and its last steps."""

    def __init__(self, course: Course, trail: Trail, accusation: str) -> None:
        lines = "\n".join(trail.lines())
        super().__init__(f"{lines}\nseed {course.seed}, step {trail.step_count}: {accusation}\nreplay: {replay_of(course)}")
        self.seed = course.seed
        self.accusation = accusation


class World:
    """All of one seed. `run` once."""

    def __init__(self, course: Course, parts: Parts = PROPER, *, is_digested: bool = True) -> None:
        self.course = course
        self.agenda = Agenda()
        self.trail = Trail(is_digested=is_digested)
        chance = Random(course.seed ^ 0x5EED)
        self.chance = chance
        self.disk = SimulatedDisk(course.seed, writes_short=chance.random() < 0.3)
        self.rack = Rack(course.thumbprints)
        self.auditor = Auditor(course)
        self.network = Network(self.agenda, course, chance)
        self.node = BrokerNode(
            course, self.agenda, self.disk, self.rack, chance, self.auditor, self.trail, parts, self._reply
        )
        self.fate = Fate(
            course, self.agenda, self.network, self.disk, self.rack, self.node, self.auditor, self.trail, chance
        )
        self.holders: list[Holder] = []
        for number in range(course.holder_count):
            instance_id = b"i%d" % number if chance.random() < course.instance_share else b""
            self._add_holder(Person(b"u%d" % (number // 2), b"h%d" % (number // 3), instance_id))

    def _add_holder(self, person: Person) -> Holder:
        holder = Holder(len(self.holders), person, self.course, self.agenda, self.chance, self.trail, self._send)
        self.holders.append(holder)
        return holder

    # --- messages -----------------------------------------------------------------------------------------------------

    def _send(self, call: Call) -> None:
        self.auditor.asked(call, self.agenda.now_ns)
        self.network.carry(call.holder_number, self.node.receive, call)

    def _reply(self, call: Call, answer: Answer | None) -> None:
        self.network.carry(call.holder_number, self.holders[call.holder_number].hear, call, answer)

    # --- the course ---------------------------------------------------------------------------------------------------

    def run(self) -> int:
        """To its end; the digest of all that happened. Raises Failure."""
        try:
            self._pass(self.course.duration_ns)
            self._calm()
            self._empty()
            self._fill()
        except (Accusation, BrokerError, ValueError, RuntimeError) as error:
            raise Failure(self.course, self.trail, f"{type(error).__name__}: {error}") from error
        return self.trail.digest

    def _pass(self, duration_ns: int) -> None:
        """Time goes on, at least so long."""
        agenda, node, watch = self.agenda, self.node, self.fate.watch
        until_ns = agenda.now_ns + duration_ns
        agenda.at(until_ns, _nothing)
        while agenda.now_ns < until_ns:
            agenda.step()
            if node.life is None:
                watch()
            self.trail.step_count += 1
        if self.trail.step_count > STEPS_MAX:
            raise Accusation(f"{self.trail.step_count} steps, and no end")

    def _calm(self) -> None:
        self.trail.say(self.agenda.now_ns, "calm")
        self.fate.calm()
        for holder in self.holders:
            holder.want(Wanted.IN)
        course = self.course
        self._pass(course.calm_ns + (course.ttl_ns if course.durability == "relaxed" else 0))
        for holder in self.holders:
            if holder.call is not None and holder.call.give_up_ns < self.agenda.now_ns:
                raise Accusation(f"holder {holder.number} asked {holder.call.verb.name} and is not answered")
            if holder.last_status is Status.NONE:
                raise Accusation(f"holder {holder.number} never heard a word")

    def _empty(self) -> None:
        course = self.course
        self.trail.say(self.agenda.now_ns, "holders leave")
        for holder in self.holders:
            holder.want(Wanted.OUT if self.chance.random() < 0.5 else Wanted.SILENT)
        lingers_ns = max(one.terms.pool.linger_ns + one.terms.pool.min_hold_ns for one in course.licences)
        self._pass(course.ttl_ns + course.renew_grace_ns + lingers_ns + course.settling_ns)

    def _fill(self) -> None:
        """Each seat of each pool is asked for by somebody new, and one more."""
        for product in self.course.products:
            licences = [one for one in self.course.licences if one.product == product]
            count = sum(one.seats // one.terms.pool.weight for one in licences)
            people = [Person(b"new%d" % len(self.holders), b"%s%d" % (product.encode(), number)) for number in range(count + 1)]
            comers = [self._add_holder(Person(b"%s-%d" % (person.user, number), person.host)) for number, person in enumerate(people)]
            for comer in comers[:-1]:
                comer.want(Wanted.IN, ((product, False),))
            comers[-1].want(Wanted.OUT)
            self._pass(self.course.coming_ns)
            comers[-1].want(Wanted.IN, ((product, False),))
            self._pass(self.course.coming_ns)
            granted = sum(comer.last_status is Status.GRANTED for comer in comers)
            if granted != count or comers[-1].last_status is not Status.DENIED:
                raise Accusation(f"{granted} of {count} seats of {product} can be had: {[one.last_status.name for one in comers]}")


def _nothing() -> None:
    """Time alone."""


def replay_of(course: Course) -> str:
    """The command that runs it again."""
    scale = "" if course.scale is scale_of(course.seed) else f" --scale {course.scale.value}"
    return f"python -m tests.sim --start {course.seed} --seeds 1{scale}"


def run_seed(seed: int, scale: Scale | None = None) -> int:
    """One course, of the seed's own scale or of another one; its digest."""
    return World(course_of(seed, scale)).run()
