"""An auditor outside of the broker: it knows what clients asked and were answered, and says which promise was broken.

    auditor.asked(login) → the client sends → auditor.granted(login, grant, sent_ns) ...

A `Login` is one request_id for one user of its own, with all that came of it. What the auditor holds to be true of it follows from
answers alone: a grant that arrived stands until its holder sends Close, or may have been silent for a ttl. Requests whose answer did not
arrive are doubtful until a retry with the same request_id is answered. Instants are CLOCK_MONOTONIC, the broker's clock too (one machine).

    lost            an acknowledged session or lease is gone, and nobody gave it back
    duplicate       one request_id, two sessions; one user, two sessions; one session id, two logins
    over_capacity   clients held more seats at one instant than the keys give
    revived         an acknowledged Close or Release is undone
    stranded        seats of nobody: a session that no request explains, seats still charged after everybody fell silent
    wrong           any other answer that cannot be: a fence that goes back, an end without a cause, a status that nobody earned

Threads: a Login belongs to one holder at a time; faults and figures are shared and locked.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from broker.v1 import admin_pb2, types_pb2

NS = 1_000_000_000


class State(Enum):
    """What is known of a login."""

    ASKED = "asked"
    """Sent, not answered: a retry will tell."""
    LIVE = "live"
    CLOSING = "closing"
    """Close was sent and not answered."""
    CLOSED = "closed"
    DENIED = "denied"
    LAPSED = "lapsed"
    """Silent for longer than its ttl, as the client knows itself; found ended."""
    GIVEN_UP = "given_up"
    """Asked, or asked to close, and never asked again: it may stand or not, until its ttl is over."""


ENDED = (State.CLOSED, State.LAPSED)


@dataclass(frozen=True, slots=True)
class Fault:
    """One broken promise."""

    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"


@dataclass(slots=True)
class Hold:
    """A seat that a client has reason to believe in, from an answer that arrived until a request that gives it back is sent (0: not yet)."""

    product: str
    from_ns: int
    until_ns: int = 0


@dataclass(slots=True)
class Login:
    """One request_id and what came of it. `safe_until_ns`: its session cannot have ended by silence before."""

    user: str
    request_id: bytes
    products: tuple[str, ...]
    state: State = State.ASKED
    session_id: bytes = b""
    public_id: str = ""
    safe_until_ns: int = 0
    ended_ns: int = 0
    close_id: bytes = b""
    held: dict[str, Hold] = field(default_factory=dict)
    doubtful: set[str] = field(default_factory=set)
    """Products with an Acquire or Release under way."""

    @property
    def fence(self) -> int:
        """Generation and counter, out of the session id."""
        return int.from_bytes(self.session_id[8:16])


class Auditor:
    """Keeps the books of one data directory over all of its brokers' lives."""

    def __init__(self, capacity: Mapping[str, int], ttl_ns: int) -> None:
        self.capacity = dict(capacity)
        self.logins: list[Login] = []
        self.faults: list[Fault] = []
        self.figures: Counter[str] = Counter()
        self._ttl_ns = ttl_ns
        self._lock = threading.Lock()
        self._by_session: dict[bytes, Login] = {}
        self._holds: list[Hold] = []
        self._fence_max = 0

    # --- what clients tell ----------------------------------------------------------------------------

    def asked(self, login: Login) -> int:
        """A login is about to be sent for the first time; the highest fence acknowledged so far, which its own must be above."""
        with self._lock:
            self.logins.append(login)
            return self._fence_max

    def granted(self, login: Login, grant: types_pb2.Grant, sent_ns: int, now_ns: int, fence_before: int = 0) -> None:
        """An Open was answered by a grant: the first time or again."""
        if login.session_id:
            self._granted_again(login, grant)
            return
        with self._lock:
            other = self._by_session.setdefault(grant.session_id, login)
            login.session_id, login.public_id = grant.session_id, grant.public_id
            login.safe_until_ns = sent_ns + self._ttl_ns
            login.state = State.LIVE
            for product in login.products:
                self._hold(login, product, now_ns)
            self._fence_max = max(self._fence_max, login.fence)
            self.figures["opened"] += 1
            self.figures["opened_by_retry"] += grant.replayed
        if other is not login:
            self.fault("duplicate", f"{login.user} was given the session {grant.public_id} of {other.user}")
        if login.fence <= fence_before and not grant.replayed:
            self.fault("wrong", f"the fence of {login.user}'s session {grant.public_id} is not above {fence_before:#x}, acknowledged before")
        given = sorted(lease.product for lease in grant.leases if lease.state != types_pb2.LEASE_STATE_ENDED)
        if given != sorted(login.products):
            self.fault("wrong", f"{login.user} asked for {login.products}, was given {given}")

    def _granted_again(self, login: Login, grant: types_pb2.Grant) -> None:
        self.count("opens_repeated")
        if grant.session_id != login.session_id:
            self.fault("duplicate", f"{login.user} has {login.public_id}, its request_id now opened {grant.public_id}")
        elif login.state in ENDED:
            self.fault("revived", f"the Open of {login.user}, whose session {login.public_id} is over, is answered by a grant")
        elif not grant.replayed:
            self.fault("wrong", f"a repeated Open of {login.user} does not say that it is repeated")

    def denied(self, login: Login, reason: int) -> None:
        """An Open was denied."""
        if login.session_id:
            self.fault("lost", f"{login.user} has {login.public_id}; its request_id is now denied (reason {reason})")
        login.state = State.DENIED
        self.count("denied")

    def told_ended(self, login: Login, ended: types_pb2.SessionEnded, now_ns: int) -> None:
        """A repeated Open was answered by the end of the session."""
        self.count("ends_repeated")
        if login.state in ENDED:
            return
        if login.state is State.LIVE and now_ns < login.safe_until_ns:
            self.fault("lost", f"{login.user}'s session {login.public_id} is said to have ended: {_reason(ended.end_reason)}")
        self._ended(login, State.LAPSED, now_ns)

    def renewed(self, login: Login, sent_ns: int, changed: Sequence[types_pb2.Lease]) -> None:
        """A Renew was answered with OK."""
        self.count("renewed")
        if login.state in ENDED:
            self.fault("revived", f"{login.user}'s session {login.public_id} is over ({login.state.value}), and could be renewed")
        login.safe_until_ns = max(login.safe_until_ns, sent_ns + self._ttl_ns)
        for lease in changed:
            if lease.state == types_pb2.LEASE_STATE_ENDED and lease.product in login.held and lease.product not in login.doubtful:
                self.fault("lost", f"{login.user}'s {lease.product} in {login.public_id} has ended: {_reason(lease.end_reason)}")

    def not_found(self, login: Login, now_ns: int) -> None:
        """A call for the session was answered with NOT_FOUND."""
        self.count("not_found")
        if login.state in ENDED:
            return
        if now_ns < login.safe_until_ns:
            self.fault("lost", f"{login.user}'s session {login.public_id}, acknowledged and alive, is not found")
        self._ended(login, State.LAPSED, now_ns)

    def closing(self, login: Login, close_id: bytes, now_ns: int) -> None:
        """A Close is about to be sent, for the first time: from now on nobody counts on the session's seats."""
        login.state, login.close_id = State.CLOSING, close_id
        self._give_back(login, tuple(login.held), now_ns)

    def closed(self, login: Login, reason: int, now_ns: int) -> None:
        """A Close was answered."""
        self.count("closed" if login.state is State.CLOSING else "closes_repeated")
        is_early = login.state is State.CLOSING and now_ns < login.safe_until_ns
        if reason != types_pb2.END_REASON_CLOSED and (is_early or login.state is State.CLOSED):
            self.fault("lost", f"{login.user}'s session {login.public_id} had ended before its Close: {_reason(reason)}")
        if login.state is not State.CLOSED:
            self._ended(login, State.CLOSED, now_ns)

    def changing(self, login: Login, product: str, now_ns: int) -> None:
        """An Acquire or Release is about to be sent, for the first time."""
        login.doubtful.add(product)
        self._give_back(login, (product,), now_ns)

    def changed(self, login: Login, product: str, is_held: bool, now_ns: int) -> None:
        """An Acquire or Release was answered: the session now holds the product or not."""
        self.count("acquired" if is_held else "released")
        login.doubtful.discard(product)
        if is_held:
            with self._lock:
                self._hold(login, product, now_ns)

    def given_up(self, login: Login) -> None:
        """Its client is gone: nobody asks again."""
        self.count("given_up")
        login.state = State.GIVEN_UP
        login.held.clear()

    # --- what the broker's lives do ---------------------------------------------------------------------

    def restarted(self, killed_ns: int, started_ns: int) -> None:
        """A broker that had ended by `killed_ns` was started again at `started_ns`: who was alive has a full ttl from its start on."""
        for login in self.logins:
            if login.session_id and login.safe_until_ns >= killed_ns:
                login.safe_until_ns = max(login.safe_until_ns, started_ns + self._ttl_ns)

    def judge_sessions(self, sessions: Iterable[admin_pb2.Session], now_ns: int) -> None:
        """The broker's list of its sessions while no request is under way, against the books."""
        found: dict[str, admin_pb2.Session] = {}
        for session in sessions:
            if found.setdefault(session.holder.user, session) is not session:
                self.fault("duplicate", f"{session.holder.user} has {found[session.holder.user].public_id} and {session.public_id}")
        known = {login.user: login for login in self.logins}
        for login in self.logins:
            self._judge_login(login, found.get(login.user), now_ns)
        for user in found.keys() - known.keys():
            self.fault("stranded", f"session {found[user].public_id} of {user}: nobody asked for it")
        self.figures["sessions_judged"] += len(found)

    def _judge_login(self, login: Login, session: admin_pb2.Session | None, now_ns: int) -> None:
        if session is None:
            if login.state is State.LIVE and now_ns < login.safe_until_ns:
                self.fault("lost", f"{login.user}'s session {login.public_id}, acknowledged and alive, is not among the sessions")
            return
        if login.state in ENDED:
            self.fault("revived", f"{login.user}'s session {login.public_id} is over ({login.state.value}) and among the sessions")
        elif login.state is State.DENIED:
            self.fault("stranded", f"{login.user} was denied and has session {session.public_id}")
        elif login.state is State.LIVE and not login.doubtful:
            self._judge_leases(login, session)

    def _judge_leases(self, login: Login, session: admin_pb2.Session) -> None:
        held = {lease.product for lease in session.leases if lease.state != types_pb2.LEASE_STATE_ENDED}
        if login.public_id != session.public_id:
            self.fault("wrong", f"{login.user} was given {login.public_id} and has {session.public_id}")
        for product in login.held.keys() - held:
            self.fault("lost", f"{login.user}'s {product} in {login.public_id}, acknowledged, is not held")
        for product in held - login.held.keys():
            self.fault("stranded", f"{login.user}'s {product} in {login.public_id} is held though given back or never granted")

    def judge_products(self, products: Mapping[str, admin_pb2.Product], sessions: Sequence[admin_pb2.Session]) -> None:
        """The broker's own sums while no request is under way: every charged seat is some session's, and none is beyond the keys."""
        for product, capacity in self.capacity.items():
            leases = sum(lease.product == product for session in sessions for lease in session.leases)
            said = products[product]
            if said.in_use != leases:
                self.fault("stranded", f"{product}: {said.in_use} seats in use, sessions hold {leases}")
            if said.in_use > capacity:
                self.fault("over_capacity", f"{product}: {said.in_use} seats in use of {capacity}")

    def judge_holds(self, now_ns: int) -> None:
        """At no instant did clients hold more than the keys give. Forgets what cannot overlap with anything to come."""
        with self._lock:
            self._end_lapsed_holds(now_ns)
            for product, capacity in self.capacity.items():
                peak = peak_of([hold for hold in self._holds if hold.product == product], now_ns)
                self.figures[f"peak_{product}"] = max(self.figures[f"peak_{product}"], peak)
                if peak > capacity:
                    self.faults.append(Fault("over_capacity", f"{product}: clients held {peak} seats at once, the keys give {capacity}"))
            self._holds = [hold for hold in self._holds if not hold.until_ns]

    def _end_lapsed_holds(self, now_ns: int) -> None:
        for login in self.logins:
            for hold in login.held.values():
                if now_ns >= login.safe_until_ns:
                    hold.until_ns = login.safe_until_ns

    def judge_silence(self, products: Mapping[str, admin_pb2.Product], sessions: Sequence[admin_pb2.Session]) -> None:
        """Everybody has been silent for longer than a ttl: no session and no seat may be left."""
        for session in sessions:
            self.fault("stranded", f"session {session.public_id} of {session.holder.user} outlives everybody's silence")
        for product in self.capacity:
            if products[product].in_use:
                self.fault("stranded", f"{product}: {products[product].in_use} seats in use after everybody's silence")
        for login in self.logins:
            if login.state not in (State.CLOSED, State.DENIED):
                login.state = State.LAPSED

    def forget_before(self, instant_ns: int) -> None:
        """Drops logins that are over, denied or lapsed since before then: nobody asks about them again."""
        gone = (*ENDED, State.DENIED)
        kept = [one for one in self.logins if one.state not in gone or one.ended_ns > instant_ns]
        self.logins = kept
        self._by_session = {one.session_id: one for one in kept if one.session_id}

    # --- books ----------------------------------------------------------------------------------------------

    def fault(self, kind: str, text: str) -> None:
        """Writes down a broken promise."""
        with self._lock:
            self.faults.append(Fault(kind, text))

    def count(self, figure: str) -> None:
        """One more of something."""
        with self._lock:
            self.figures[figure] += 1

    def live(self) -> list[Login]:
        """All whose session stands, as far as anybody knows."""
        return [login for login in self.logins if login.state is State.LIVE]

    def _hold(self, login: Login, product: str, now_ns: int) -> None:
        hold = Hold(product, now_ns)
        login.held[product] = hold
        self._holds.append(hold)

    def _give_back(self, login: Login, products: Iterable[str], now_ns: int) -> None:
        for product in products:
            hold = login.held.pop(product, None)
            if hold is not None:
                hold.until_ns = hold.until_ns or min(now_ns, login.safe_until_ns)

    def _ended(self, login: Login, state: State, now_ns: int) -> None:
        self._give_back(login, tuple(login.held), now_ns)
        login.doubtful.clear()
        login.state, login.ended_ns = state, now_ns
        self.figures["lapsed"] += state is State.LAPSED


def peak_of(holds: Iterable[Hold], now_ns: int) -> int:
    """The most holds at one instant; one that ends when another begins does not overlap with it."""
    steps: list[tuple[int, int]] = []
    for hold in holds:
        until_ns = hold.until_ns or now_ns
        if until_ns > hold.from_ns:
            steps += [(hold.from_ns, 1), (until_ns, -1)]
    count = peak = 0
    for _, step in sorted(steps):
        count += step
        peak = max(peak, count)
    return peak


def _reason(number: int) -> str:
    return types_pb2.EndReason.Name(number).removeprefix("END_REASON_").lower()  # type: ignore[arg-type]
