"""Who is told of what: the ledger's events as news to the KeepAlive streams that speak for the sessions.

A stream watches sessions. The board follows which charges the leases of watched sessions stand on, and which charges are in key
grace, because key grace begins and ends for charges. One block of events becomes at most one piece of news a session:

* SESSION_ENDED: the session is over; nothing else about it is told;
* LEASE_ENDED, unless its holder gave it back: that lease, as ended;
* KEY_GRACE_STARTED / ENDED of a charge, or ENDED of a whole pool: the session's leases in that pool, as they are now.

While nobody watches anything the board hears nothing, and an event costs it nothing: what it must know of a charge it asks of the
ledger when the first session on it is watched. Where events were lost (a lossy ring, durability none) it asks for all of them again.

Event loop's thread only. Sessions that nobody watches cost one look-up an event.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from broker.model.answers import LeaseView
from broker.model.events import Event
from broker.model.views import PoolView, ProductView
from broker.model.words import EndReason, EventKind, LeaseState
from broker.verbs.events import EventPump
from broker.verbs.names import Names
from broker.verbs.seams import Clock


class SessionSource(Protocol):
    """The part of the ledger that the board uses."""

    def session_place(self, session_id: bytes) -> int: ...
    def peek_session(self, now_ns: int, fence: int, place: int) -> tuple[tuple[LeaseView, ...] | None, EndReason]: ...
    def products(self) -> list[ProductView]: ...
    def pools(self) -> list[PoolView]: ...


@dataclass(frozen=True, slots=True)
class News:
    """What became of one session: over, or these leases changed. `end_reason` NONE: it lives."""

    fence: int
    end_reason: EndReason
    leases: tuple[LeaseView, ...]


class NewsReader(Protocol):
    """A stream that watches sessions."""

    def hear(self, news: News) -> None:
        """Takes one piece of news; must be quick and must not raise."""


@dataclass(slots=True)
class _Watched:
    place: int
    """Where the ledger keeps the session, so that finding it is no search."""
    readers: list[NewsReader]
    charges: set[int] = field(default_factory=set)


@dataclass(slots=True)
class _Change:
    """What one block of events says about one session."""

    end_reason: EndReason = EndReason.NONE
    ended_leases: list[LeaseView] = field(default_factory=list)
    grace_pools: set[int] = field(default_factory=set)


class NoticeBoard:
    """All watched sessions. Listens to the pump from its making on."""

    def __init__(self, *, ledger: SessionSource, clock_ns: Clock, pump: EventPump) -> None:
        self._ledger = ledger
        self._clock_ns = clock_ns
        self._names = Names(ledger)
        self._watched: dict[int, _Watched] = {}
        self._fences_by_charge: dict[int, set[int]] = {}
        self._grace_charges: dict[int, set[int]] = {}
        """Charges of watched sessions that are in key grace, by pool."""
        pump.listen(self)

    def __repr__(self) -> str:
        return f"<NoticeBoard: {len(self._watched)} sessions watched>"

    @property
    def watched_count(self) -> int:
        """Sessions that some stream watches."""
        return len(self._watched)

    @property
    def is_listening(self) -> bool:
        """Whether any session is watched."""
        return bool(self._watched)

    def watch(self, fence: int, session_id: bytes, reader: NewsReader) -> None:
        """Tells the reader of this session from now on. Once for each reader and session. The id says where the ledger keeps it."""
        watched = self._watched.get(fence)
        if watched is not None:
            watched.readers.append(reader)
            return
        place = self._ledger.session_place(session_id)
        self._watched[fence] = _Watched(place, [reader])
        for lease in self._held(fence):
            self._add_lease(fence, lease)

    def unwatch(self, fence: int, reader: NewsReader) -> None:
        """Tells the reader no more of this session. Unknown ones are ignored."""
        watched = self._watched.get(fence)
        if watched is None or reader not in watched.readers:
            return
        watched.readers.remove(reader)
        if not watched.readers:
            self._forget(fence)

    def miss(self) -> None:
        """Events were overwritten before they came here: looks at every watched session as it is now, and tells what may be new."""
        before, self._grace_charges = self._grace_charges, {}
        for fence, watched in tuple(self._watched.items()):
            leases, reason = self._ledger.peek_session(self._clock_ns(), fence, watched.place)
            if leases is None:
                # Its time is over, if nobody has recorded an end yet.
                self._deliver(News(fence, reason or EndReason.EXPIRED, ()))
                continue
            for charge in tuple(watched.charges):
                self._remove_charge(fence, charge)
            news = [lease for lease in leases if self._may_be_news(lease, before)]
            for lease in leases:
                if lease.state is not LeaseState.ENDED:
                    self._add_lease(fence, lease)
            if news:
                self._deliver(News(fence, EndReason.NONE, tuple(news)))

    @staticmethod
    def _may_be_news(lease: LeaseView, grace_before: dict[int, set[int]]) -> bool:
        return lease.state is not LeaseState.ACTIVE or lease.fence in grace_before.get(lease.pool, ())

    def _held(self, fence: int) -> list[LeaseView]:
        """The leases that a watched session has now."""
        leases, _ = self._ledger.peek_session(self._clock_ns(), fence, self._watched[fence].place)
        return [lease for lease in leases or () if lease.state is not LeaseState.ENDED]

    def _add_lease(self, fence: int, lease: LeaseView) -> None:
        """What events said of its charge before this instant is in its state; what they say after it comes."""
        self._add_charge(fence, lease.fence)
        if lease.state is LeaseState.KEY_GRACE:
            self._grace_charges.setdefault(lease.pool, set()).add(lease.fence)

    def _add_charge(self, fence: int, charge: int) -> None:
        self._watched[fence].charges.add(charge)
        self._fences_by_charge.setdefault(charge, set()).add(fence)

    def _remove_charge(self, fence: int, charge: int) -> None:
        self._watched[fence].charges.discard(charge)
        fences = self._fences_by_charge.get(charge, set())
        fences.discard(fence)
        if not fences:
            self._fences_by_charge.pop(charge, None)
            for in_grace in self._grace_charges.values():
                in_grace.discard(charge)

    def _forget(self, fence: int) -> None:
        for charge in tuple(self._watched[fence].charges):
            self._remove_charge(fence, charge)
        del self._watched[fence]

    def hear(self, events: Sequence[Event]) -> None:
        """Works through one drained block."""
        changes: dict[int, _Change] = {}
        for event in events:
            if event.kind in _GRACE_KINDS:
                self._note_grace(event, changes)
            elif event.fence in self._watched:
                self._note_session(event, changes)
        for fence, change in changes.items():
            self._tell(fence, change)

    def _note_session(self, event: Event, changes: dict[int, _Change]) -> None:
        """An event of a watched session."""
        match event.kind:
            case EventKind.LEASE_STARTED if event.charge in self._fences_by_charge:
                self._add_charge(event.fence, event.charge)
            case EventKind.LEASE_STARTED:  # perhaps on a charge that is in key grace: others have held it
                for lease in self._held(event.fence):
                    self._add_lease(event.fence, lease)
            case EventKind.LEASE_ENDED:
                self._remove_charge(event.fence, event.charge)
                if event.reason is not EndReason.CLOSED:
                    changes.setdefault(event.fence, _Change()).ended_leases.append(self._ended_lease(event))
            case EventKind.SESSION_ENDED:
                changes.setdefault(event.fence, _Change()).end_reason = EndReason(event.reason)

    def _note_grace(self, event: Event, changes: dict[int, _Change]) -> None:
        """An event that moves charges into key grace or out of it."""
        if event.charge and event.charge not in self._fences_by_charge:
            return
        in_grace = self._grace_charges.setdefault(event.pool, set())
        concerned: Iterable[int] = (event.charge,)
        match event.kind:
            case EventKind.KEY_GRACE_STARTED:
                in_grace.add(event.charge)
            case EventKind.KEY_GRACE_ENDED if event.charge:
                in_grace.discard(event.charge)
            case _:  # the whole pool is healed
                concerned, self._grace_charges[event.pool] = in_grace, set()
        for charge in concerned:
            for fence in self._fences_by_charge.get(charge, ()):
                changes.setdefault(fence, _Change()).grace_pools.add(event.pool)

    def _tell(self, fence: int, change: _Change) -> None:
        watched = self._watched.get(fence)
        news = self._news(fence, change)
        if watched is not None and news is not None:
            self._deliver(news)

    def _deliver(self, news: News) -> None:
        for reader in tuple(self._watched[news.fence].readers):
            reader.hear(news)
        if news.end_reason is not EndReason.NONE and news.fence in self._watched:
            self._forget(news.fence)

    def _news(self, fence: int, change: _Change) -> News | None:
        if change.end_reason is not EndReason.NONE:
            return News(fence, change.end_reason, ())
        leases = list(change.ended_leases)
        watched = self._watched.get(fence)
        if change.grace_pools and watched is not None:
            leases += [lease for lease in self._held(fence) if lease.pool in change.grace_pools]
        return News(fence, EndReason.NONE, tuple(leases)) if leases else None

    def _ended_lease(self, event: Event) -> LeaseView:
        return LeaseView(
            product=self._names.product(event.product),
            state=LeaseState.ENDED,
            end_reason=EndReason(event.reason),
            seats=0,
            is_shared=False,
            is_emulated=self._names.is_emulated(event.pool),
            fence=0,
            pool=event.pool,
            key_grace_ns=0,
        )


_GRACE_KINDS = frozenset((EventKind.KEY_GRACE_STARTED, EventKind.KEY_GRACE_ENDED))
