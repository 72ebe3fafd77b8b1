"""The auditor: holds design section 4 against what holders were answered, and what keys have proven. It sees nothing of the broker's inside.

    nothing acknowledged is lost    a session that was granted or renewed answers until its time is over, unless somebody ended it
    once                            one request_id opens one session and gets one kind of answer; a session ends once, for one reason
    all or nothing                  a grant has all that was required
    never over-granted              seats that are surely taken, and a new charge, fit into what keys have proven to this process
    no longer than grace            seats that were confirmed stand on keys that are proven, or within what their grace can be at most
    none taken without cause        no lease ends for its key's sake while no key was touched

It errs on the broker's side: what could be otherwise for a reason that it knows (a call under way, a key being pulled) is not counted.
All instants are of the world's clock; an answer counts from when it left the broker, `executed_ns` is when it was decided.
"""

from __future__ import annotations

from broker.model.answers import Answer, LeaseView
from broker.model.words import EndReason, LeaseState, Status
from tests.sim.agenda import S
from tests.sim.calls import Call, Person, Verb
from tests.sim.course import Course
from tests.sim.promises import Accusation, KeyKept, LeaseKept, SessionKept, demand

__all__ = ["Accusation", "Auditor"]

SETTLING_NS = 2 * S
"""How long the broker may take to act on what has become due: its tick, a commit, a proof under way."""
_FINAL = {Verb.OPEN: Status.GRANTED, Verb.ACQUIRE: Status.ACQUIRED, Verb.RELEASE: Status.RELEASED, Verb.CLOSE: Status.CLOSED}
_FORCED = frozenset({EndReason.KEY_LOST, EndReason.LICENCE_ENDED, EndReason.POLICY_CHANGED})


class Auditor:
    """One world's. Told of each attempt (`asked`), each answer that leaves (`told`), each proof, and each thing done to keys and broker."""

    def __init__(self, course: Course) -> None:
        self._course = course
        self._sessions: dict[int, SessionKept] = {}
        self._by_call: dict[tuple[int, int], tuple[Status, int, int]] = {}
        """The final answer to each call: status, fence, detail."""
        self._opens: dict[Person, dict[int, int]] = {}
        """Of who names an instance: each Open that was asked for, and when last."""
        self._charges: set[int] = set()
        self._pools: dict[int, tuple[str, object]] = {}
        self._keys = {
            name: KeyKept(
                tuple(one for one in course.licences if one.thumbprint == name), course.grace_ns, course.grace_refill_ns, course.proof_ttl_ns
            )
            for name in course.thumbprints
        }
        self._touched_ns: dict[int, int] = {}
        """By pool: until when leases may have been ended for a key's sake."""
        self._generation = 0
        self._started_ns = 0
        self._settled_ns = 0
        self._ended_ns = 0
        self._unserved_ns = 0
        """Of the world's time: no broker ran."""
        self.answer_count = 0

    # --- what was done ------------------------------------------------------------------------------------------------

    def pool_declared(self, number: int, product: str, terms: object) -> None:
        """The broker counts these terms of a product under a number; the same one after every start."""
        known = self._pools.setdefault(number, (product, terms))
        demand(known == (product, terms), "pool {} was {} and is {} now", number, known, (product, terms))

    def proved(self, thumbprint: str, asked_ns: int) -> None:
        """A key has answered a challenge made at that instant."""
        self._keys[thumbprint].proved(asked_ns, asked_ns - self._unserved_ns)

    def touched(self, thumbprint: str, now_ns: int) -> None:
        """Somebody does something to a key from now on."""
        self._keys[thumbprint].is_troubled = True
        self._touch(now_ns)

    def healed(self, thumbprint: str, now_ns: int) -> None:
        """A key is itself again, and has proven it."""
        self._touch(now_ns + SETTLING_NS)
        self._keys[thumbprint].is_troubled = False

    def doubted(self, now_ns: int) -> None:
        """The broker cannot attend to its keys up to then."""
        self._settled_ns = max(self._settled_ns, now_ns)
        for number in self._pools:
            self._touched_ns[number] = max(now_ns + SETTLING_NS, self._touched_ns.get(number, 0))

    def started(self, generation: int, now_ns: int, settled_ns: int) -> None:
        """A broker has begun; from `settled_ns` on it has tried its keys, or has given up to."""
        self._generation = generation
        self._started_ns, self._settled_ns = now_ns, settled_ns
        self._unserved_ns += now_ns - self._ended_ns
        for security_key in self._keys.values():
            security_key.is_restarted = True

    def ended(self, now_ns: int) -> None:
        """A broker has stopped, or crashed."""
        self._ended_ns = now_ns

    def has_proven(self, thumbprint: str) -> bool:
        """Whether a key has proven itself to the broker that runs, or ran last."""
        return (self._keys[thumbprint].last_proof_ns or -1) >= self._started_ns

    def crashed(self, now_ns: int) -> None:
        """A broker that acknowledges before it commits is gone: what it said holds no more, but its holders do not know."""
        if self._course.durability == "none":
            self._sessions.clear()
            self._pools.clear()
        for session in self._sessions.values():
            # What of its leases was recovered is not known: renewals after an unclean relaxed start do not tell of an Acquire that was lost.
            session.was_unsafe, session.believed_until_ns = True, session.surely_until_ns
        self._by_call.clear()

    def revoked(self, fence: int) -> None:
        """An admin has ended a session."""
        if fence in self._sessions:
            self._sessions[fence].excuses.add(EndReason.REVOKED)

    def asked(self, call: Call, now_ns: int) -> None:
        """An attempt is on its way: from now on it may be done."""
        session = self._sessions.get(call.fence)
        if call.verb is Verb.OPEN and call.person.instance_id:
            self._asked_for_instance(call, now_ns)
        elif session is None:
            return
        elif call.verb is Verb.CLOSE:
            session.excuses.add(EndReason.CLOSED)
        elif call.verb is Verb.RELEASE and (lease := session.leases.get(call.products[0][0])):
            lease.is_release_asked = True

    def _asked_for_instance(self, call: Call, now_ns: int) -> None:
        """It ends whatever session of its instance there is when it comes to be done."""
        opens = self._opens.setdefault(call.person, {})
        opens[call.number] = now_ns
        for session in self._sessions.values():
            if session.person == call.person and session.call_number[1] != call.number:
                session.excuses.add(EndReason.SUPERSEDED)

    def _touch(self, until_ns: int) -> None:
        troubled = {one.product for security_key in self._keys.values() if security_key.is_troubled for one in security_key.licences}
        for number, (product, _) in self._pools.items():
            if product in troubled:
                self._touched_ns[number] = max(until_ns, self._touched_ns.get(number, 0))

    # --- what was answered --------------------------------------------------------------------------------------------

    def told(self, call: Call, answer: Answer, executed_ns: int, *, is_durable: bool = True) -> None:
        """An answer leaves the broker. Raises Accusation. Not durable: by a broker that cannot write, and has said so; what it takes back then
        may be there again after its next start."""
        self.answer_count += 1
        if not is_durable and answer.status is not Status.RENEWED and (session := self._sessions.get(call.fence)):
            session.was_unsafe = True
        self._hold_against_first(call, answer)
        match answer.status:
            case Status.GRANTED:
                self._told_grant(call, answer, executed_ns)
            case Status.RENEWED:
                self._told_renewal(answer, executed_ns)
            case Status.ACQUIRED:
                self._demand_all(call, answer)
                session = self._living(answer.fence)
                self._take(session, answer.leases, executed_ns)
            case Status.RELEASED:
                self._living(answer.fence).leases.pop(call.products[0][0], None)
            case Status.CLOSED | Status.ENDED:
                self._told_end(answer.fence, answer.end_reason, executed_ns)
            case Status.NOT_FOUND:
                self._told_end(call.fence, answer.end_reason, executed_ns)
            case Status.DENIED:
                pass
            case _:
                raise Accusation(f"an answer that nobody asked for: {answer.status.name}")

    def _hold_against_first(self, call: Call, answer: Answer) -> None:
        """Once there was a final answer to a request_id, no retry gets another one."""
        name = (call.holder_number, call.number)
        first = self._by_call.get(name)
        if answer.status is _FINAL.get(call.verb) or answer.status is Status.ENDED:
            fact = (answer.status, answer.fence, answer.detail)
            first = self._by_call.setdefault(name, fact)
            is_same = first[1:] == fact[1:] or answer.status is Status.ENDED
            demand(is_same and first[1] == answer.fence, "{} {} was answered {} first, and {} now", call.verb.name, name, first, fact)
        elif first is not None and answer.status is not Status.NOT_FOUND:
            raise Accusation(f"{call.verb.name} {name} was answered {first} first, and {answer.status.name} now")

    def _demand_all(self, call: Call, answer: Answer) -> None:
        named = {lease.product for lease in answer.leases}
        required = {product for product, is_optional in call.products if not is_optional}
        demand(answer.is_replayed or required <= named, "a grant of {} without all of {}", named, required)

    def _told_grant(self, call: Call, answer: Answer, executed_ns: int) -> None:
        self._demand_all(call, answer)
        session = self._sessions.get(answer.fence)
        if session is None:
            session = self._new_session(call, answer, executed_ns)
        demand(session.call_number == (call.holder_number, call.number), "session {:x} was granted to another request", answer.fence)
        demand(session.ended is None, "session {:x} was told to have ended, and is granted", answer.fence)
        session.surely_until_ns = max(session.surely_until_ns, executed_ns + answer.ttl_ns)
        named = {view.product for view in answer.leases}
        for product in [product for product in session.leases if product not in named]:
            # A grant told again names all that is held now.
            self._left_out(session, product, session.leases.pop(product))
        self._take(session, answer.leases, executed_ns)

    def _left_out(self, session: SessionKept, product: str, lease: LeaseKept) -> None:
        has_cause = lease.is_release_asked or self._may_have_gone(lease)
        demand(has_cause, "the lease of {} in session {:x} is not there any more, without a cause", product, session.fence)

    def _may_have_gone(self, lease: LeaseKept) -> bool:
        """For its key's sake."""
        return self._touched_ns.get(lease.pool, -1) >= lease.confirmed_ns or self._is_troubled(lease.pool)

    def _new_session(self, call: Call, answer: Answer, executed_ns: int) -> SessionKept:
        name = (call.holder_number, call.number)
        session = SessionKept(answer.fence, answer.session_id, call.person, name, 0, executed_ns)
        late_ns = executed_ns - 3 * self._course.delay_ns_max - SETTLING_NS
        others = self._opens.get(call.person, {})
        if any(asked_ns >= late_ns for number, asked_ns in others.items() if number != call.number):
            session.excuses.add(EndReason.SUPERSEDED)
        for other in self._sessions.values() if call.person.instance_id else ():
            if other.person == call.person and other.ended is None:
                other.excuses.add(EndReason.SUPERSEDED)
        self._sessions[answer.fence] = session
        return session

    def _told_renewal(self, answer: Answer, executed_ns: int) -> None:
        session = self._living(answer.fence)
        session.surely_until_ns = max(session.surely_until_ns, executed_ns + answer.ttl_ns)
        for view in answer.leases:
            if view.state is LeaseState.ENDED and (lease := session.leases.pop(view.product, None)):
                self._told_lease_end(session, view, lease)
        for lease in session.leases.values():
            lease.confirmed_ns = max(lease.confirmed_ns, executed_ns)
        for pool in {lease.pool for lease in session.leases.values()}:
            self._audit_grace(pool, executed_ns)

    def _told_lease_end(self, session: SessionKept, view: LeaseView, lease: LeaseKept) -> None:
        demand(
            view.end_reason in _FORCED and self._may_have_gone(lease),
            "the lease of {} in session {:x} ended as {} without a cause",
            view.product, session.fence, view.end_reason.name,
        )  # fmt: skip

    def _told_end(self, fence: int, reason: EndReason, executed_ns: int) -> None:
        session = self._sessions.get(fence)
        if session is None or session.was_unsafe:
            return
        is_over = executed_ns >= session.surely_until_ns
        allowed = session.excuses | ({EndReason.EXPIRED} if is_over else set())
        if reason is EndReason.NONE:
            demand(bool(allowed) or session.ended is not None, "session {:x} is lost: it was promised until {}", fence, session.surely_until_ns)
            return
        demand(reason in allowed or session.ended is reason, "session {:x} ended as {} without a cause", fence, reason.name)
        demand(session.ended in (None, reason), "session {:x} ended as {}, and then as {}", fence, session.ended, reason)
        session.ended = reason
        session.leases.clear()

    def _living(self, fence: int) -> SessionKept:
        """The session of an answer that says that it lives."""
        session = self._sessions.get(fence)
        if session is None:
            raise Accusation(f"an answer for session {fence:x}, which nobody was told of")
        demand(session.ended is None or session.was_unsafe, "session {:x} had ended as {}, and answers again", fence, session.ended)
        return session

    # --- seats --------------------------------------------------------------------------------------------------------

    def _take(self, session: SessionKept, views: tuple[LeaseView, ...], executed_ns: int) -> None:
        fresh = []
        for view in views:
            lease = session.leases.get(view.product)
            if lease is None or lease.charge != view.fence:
                session.leases[view.product] = LeaseKept(view.fence, view.pool, self._weight(view), executed_ns)
            else:
                lease.confirmed_ns = max(lease.confirmed_ns, executed_ns)
            if view.fence not in self._charges:
                self._charges.add(view.fence)
                # One of an earlier start was recovered, though nobody had been told of it.
                fresh += [view] if view.fence >> 40 == self._generation else []
        for pool in {view.pool for view in fresh}:
            taken, capacity = self._surely_taken(pool, executed_ns), self._proven(pool, executed_ns)
            demand(taken <= capacity, "{} seats of pool {} are taken, and {} are proven", taken, pool, capacity)

    def _weight(self, view: LeaseView) -> int:
        demand(view.pool in self._pools, "pool {} is not known", view.pool)
        terms = self._pools[view.pool][1]
        return int(getattr(terms, "weight", 1))

    def _surely_taken(self, pool: int, now_ns: int) -> int:
        """Seats of charges under sessions that cannot have ended, told since a key was last touched."""
        if self._is_troubled(pool):
            return 0
        return self._confirmed_since(pool, self._touched_ns.get(pool, -1) + 1, now_ns)

    def _confirmed_since(self, pool: int, since_ns: int, now_ns: int) -> int:
        taken: dict[int, int] = {}
        for session in self._sessions.values():
            until_ns = session.believed_until_ns if session.was_unsafe else session.surely_until_ns
            if until_ns > now_ns and session.ended is None and not session.excuses:
                for lease in session.leases.values():
                    if lease.pool == pool and lease.confirmed_ns >= since_ns and not lease.is_release_asked:
                        taken[lease.charge] = lease.seats
        return sum(taken.values())

    def _proven(self, pool: int, now_ns: int) -> int:
        """Seats of keys that have proven themselves to the process that runs."""
        return sum(
            licence.seats
            for security_key in self._keys.values()
            if (proof_ns := security_key.last_proof_ns) is not None and self._started_ns <= proof_ns and now_ns < proof_ns + security_key.proof_ttl_ns
            for licence in security_key.licences
            if self._pools[pool] == (licence.product, licence.terms.pool)
        )

    def _audit_grace(self, pool: int, now_ns: int) -> None:
        """What has been confirmed since seats last had to go is no more than what may still stay."""
        stays, dropped_ns = 0, 0
        for security_key in self._keys.values():
            for licence in security_key.licences:
                if self._pools[pool] != (licence.product, licence.terms.pool):
                    continue
                stays_until_ns = security_key.stays_until_ns + self._unserved_ns
                if stays_until_ns > now_ns:
                    stays += licence.seats
                else:
                    dropped_ns = max(dropped_ns, stays_until_ns)
        since_ns = max(dropped_ns, self._settled_ns) + SETTLING_NS
        if dropped_ns and since_ns <= now_ns:
            taken = self._confirmed_since(pool, since_ns, now_ns)
            demand(taken <= stays, "{} seats of pool {} stay, and grace allows {}", taken, pool, stays)

    def _is_troubled(self, pool: int) -> bool:
        product = self._pools[pool][0]
        return any(
            security_key.is_troubled and any(licence.product == product for licence in security_key.licences)
            for security_key in self._keys.values()
        )
