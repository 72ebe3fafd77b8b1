"""A holder: an app that logs in, works, logs out, is killed, falls silent; over the rules of the client library.

    out ──open──► asking ──granted──► in ──close──► leaving ──closed──► out
     ▲               │ denied, ended, given up │ NOT_FOUND: lost         │
     └───────────────┴─────────────────────────┴─────────────────────────┘

One call of the app is under way at a time, and beside it at most one renewal. An attempt that is not answered in time is sent again with the same
request_id after a pause. What it does next, and when, is chance; while the world is calm it does what it is told (`wanted`).
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from random import Random

from broker.model.answers import Answer
from broker.model.words import LeaseState, Status
from tests.sim.agenda import Agenda, S
from tests.sim.calls import CALL_NS_MAX, PAUSE_NS_MAX, PAUSE_NS_MIN, Call, Person, Verb
from tests.sim.course import Course
from tests.sim.trail import Trail

_NEVER = 2**62


class Wanted(Enum):
    """What a holder is after: chance, to be in, to be out, or nothing any more: not even to renew."""

    CHANCE = auto()
    IN = auto()
    OUT = auto()
    SILENT = auto()


class Holder:
    """One app. `send` gives an attempt to the network; `is_answered` says whether nothing is asked that was not answered."""

    def __init__(
        self, number: int, person: Person, course: Course, agenda: Agenda, chance: Random, trail: Trail, send: Callable[[Call], None]
    ) -> None:
        self.number = number
        self.person = person
        self.wanted = Wanted.CHANCE
        self.products: tuple[tuple[str, bool], ...] = ()
        self.session_id = b""
        self.fence = 0
        self.held: set[str] = set()
        self.call: Call | None = None
        self.last_status = Status.NONE
        self._renewal: Call | None = None
        self._version = 0
        self._renew_ns = _NEVER
        self._silent_until_ns = 0
        self._planned_ns = _NEVER
        self._call_count = 0
        self._course = course
        self._agenda = agenda
        self._chance = chance
        self._trail = trail
        self._send = send
        self._wish_ns = int(chance.random() * 3 * S) // course.pace
        self._plan()

    # --- time ---------------------------------------------------------------------------------------------------------

    def want(self, wanted: Wanted, products: tuple[tuple[str, bool], ...] = ()) -> None:
        """From now on, at once."""
        self.wanted = wanted
        self.products = products or self.products
        self._silent_until_ns = _NEVER if wanted is Wanted.SILENT else 0
        if wanted is Wanted.SILENT:
            self._forget()
        self._wish_ns = self._agenda.now_ns
        self._plan()

    @property
    def is_answered(self) -> bool:
        """Nothing is under way."""
        return self.call is None and self._renewal is None

    def _plan(self) -> None:
        due_ns = min(self._wish_ns, self._renew_ns)
        if self.call is not None:
            due_ns = min(due_ns, self.call.due_ns)
        if self._renewal is not None:
            due_ns = min(due_ns, self._renewal.due_ns)
        due_ns = max(due_ns, self._silent_until_ns, self._agenda.now_ns)
        if due_ns != self._planned_ns:
            self._planned_ns = due_ns
            if due_ns < _NEVER:
                self._agenda.at(due_ns, self._wake, due_ns)

    def _wake(self, planned_ns: int) -> None:
        if planned_ns != self._planned_ns:
            return
        self._planned_ns = _NEVER
        now_ns = self._agenda.now_ns
        if self.call is not None and self.call.due_ns <= now_ns:
            self.call = self._go_on(self.call)
        if self._renewal is not None and self._renewal.due_ns <= now_ns:
            self._renewal = self._go_on(self._renewal)
            if self._renewal is None:
                self._renew_ns = now_ns
        if self._renew_ns <= now_ns:
            self._renew_ns = _NEVER
            self._renewal = self._ask(Verb.RENEW)
        if self._wish_ns <= now_ns:
            self._wish()
        self._plan()

    def _go_on(self, call: Call) -> Call | None:
        """The attempt is given up, or the pause is over. None: the call is given up."""
        now_ns = self._agenda.now_ns
        if now_ns >= call.give_up_ns:
            self._trail.say(now_ns, "holder", self.number, "gives up", call.verb.name, call.number)
            return None
        if call.is_sent:
            self._pause(call)
        else:
            self._attempt(call)
        return call

    def _pause(self, call: Call) -> None:
        bound_ns = min(PAUSE_NS_MAX, PAUSE_NS_MIN << min(call.attempt_count, 10))
        call.is_sent = False
        call.due_ns = self._agenda.now_ns + int(self._chance.random() * bound_ns)

    def _attempt(self, call: Call) -> None:
        call.is_sent = True
        call.attempt_count += 1
        call.due_ns = self._agenda.now_ns + self._course.patience_ns
        self._send(call)

    def _ask(self, verb: Verb, products: tuple[tuple[str, bool], ...] = ()) -> Call:
        self._call_count += 1
        now_ns = self._agenda.now_ns
        request_id = b"" if verb is Verb.RENEW else self._chance.randbytes(16)
        call = Call(self._call_count, self.number, verb, self.person, request_id, products, self.session_id, self.fence, self._version)
        call.give_up_ns = now_ns + CALL_NS_MAX // self._course.pace
        self._attempt(call)
        return call

    # --- wishes -------------------------------------------------------------------------------------------------------

    def _wish(self) -> None:
        """What the app wants now. While one call is under way it waits, or is killed."""
        if self.wanted is not Wanted.CHANCE:
            self._do_as_wanted()
            is_content = self.call is None and (self.wanted is not Wanted.IN or (self.products and self.fence == 0))
            self._wish_ns = _NEVER if is_content else self._agenda.now_ns + 1 * S
            return
        self._wish_ns = self._agenda.now_ns + int(self._chance.expovariate(0.7) * S) // self._course.pace
        draw = self._chance.random()
        if draw < 0.05:
            self._trail.say(self._agenda.now_ns, "holder", self.number, "is killed")
            self._forget()
        elif draw < 0.1:
            self._fall_silent()
        elif self.call is None and not self.fence:
            self.call = self._ask(Verb.OPEN, self._choice())
        elif self.call is None:
            self.call = self._something(draw)

    def _do_as_wanted(self) -> None:
        if self.call is not None:
            return
        if self.wanted is Wanted.IN and not self.fence:
            self.call = self._ask(Verb.OPEN, self.products or self._choice())
        elif self.wanted is Wanted.OUT and self.fence:
            self.call = self._ask(Verb.CLOSE)

    def _fall_silent(self) -> None:
        now_ns = self._agenda.now_ns
        self._silent_until_ns = now_ns + int(self._chance.random() * 2 * (self._course.ttl_ns + self._course.renew_grace_ns))
        self._trail.say(now_ns, "holder", self.number, "is silent until", self._silent_until_ns)

    def _something(self, draw: float) -> Call | None:
        """A call within the session, or none."""
        if draw < 0.25:
            return self._ask(Verb.ACQUIRE, self._choice())
        if draw < 0.4 and self.held:
            return self._ask(Verb.RELEASE, ((self._chance.choice(sorted(self.held)), False),))
        return self._ask(Verb.CLOSE) if draw < 0.7 else None

    def _choice(self) -> tuple[tuple[str, bool], ...]:
        """Products to ask for: the first one is required."""
        products = self._course.products
        chosen = self._chance.sample(products, min(len(products), self._chance.choice((1, 1, 2, 3))))
        return tuple((product, index > 0 and self._chance.random() < 0.4) for index, product in enumerate(chosen))

    def _forget(self) -> None:
        self.call = self._renewal = None
        self._over()

    def _over(self) -> None:
        self.session_id, self.fence, self._version = b"", 0, 0
        self.held.clear()
        self._renew_ns = _NEVER

    # --- answers ------------------------------------------------------------------------------------------------------

    def hear(self, call: Call, answer: Answer | None) -> None:
        """An answer to a call arrives; None: UNAVAILABLE. One for a call that is over is thrown away, as is any to a silent one's ears."""
        if self._agenda.now_ns < self._silent_until_ns or (call is not self.call and call is not self._renewal):
            return
        if answer is None:
            if call.is_sent:
                self._pause(call)
        elif call is self._renewal:
            self._renewal = None
            self._heard_renewal(answer)
        else:
            self.call = None
            self.last_status = answer.status
            self._heard(call, answer)
        self._plan()

    def _heard_renewal(self, answer: Answer) -> None:
        if answer.status is not Status.RENEWED:
            self._over()
            return
        self._version = answer.change_version
        for lease in answer.leases:
            if lease.state is LeaseState.ENDED:
                self.held.discard(lease.product)
        self._renew_ns = self._agenda.now_ns + self._course.ttl_ns // 3

    def _heard(self, call: Call, answer: Answer) -> None:
        match answer.status:
            case Status.GRANTED:
                self.session_id, self.fence, self._version = answer.session_id, answer.fence, answer.change_version
                self.held = {lease.product for lease in answer.leases}
                self._renew_ns = self._agenda.now_ns + self._course.ttl_ns // 3
            case Status.ACQUIRED:
                self.held |= {lease.product for lease in answer.leases}
            case Status.RELEASED:
                self.held.discard(call.products[0][0])
            case Status.CLOSED | Status.NOT_FOUND:
                self._renewal = None
                self._over()
