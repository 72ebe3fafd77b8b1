"""What a client knows of one session: its leases, how long the broker's last word holds, whether it is over.

Pure: messages in, notices out; no I/O, no clock (`now_ns` is a monotonic clock of the caller), no lock (the owner has one).
Sync and asyncio sessions share it. The (standing, input) → standing table:

    standing     renewed      no answer until `confirmed_until_ns`   ended by the broker   closed by the app
    HELD         HELD         UNCONFIRMED, notice                    LOST, notice          CLOSED
    UNCONFIRMED  HELD, notice UNCONFIRMED                            LOST, notice          CLOSED
    LOST         LOST         LOST                                   LOST                  CLOSED
    CLOSED       CLOSED       CLOSED                                 CLOSED                CLOSED

UNCONFIRMED is not LOST: a broker that comes back, or whose clock stood still (semantics rule 20), may still hold the session,
and only it can say. `confirmed_until_ns` counts from when the confirmed request was sent, so it errs on the careful side.

News about leases comes by three ways that may overtake each other: answers to Renew, pushed notices, answers to
Acquire and Release. Each carries the session's change version, which the broker raises when it ends a lease. So:

* an Acquire answer older than the end of a product cannot bring it back (`_ended_at`);
* the end of a product, told with no newer version than its Acquire, may be that of an earlier lease (a notice carries the
  version that its stream last saw): it is doubtful, not believed, and the broker is asked at once (`is_in_doubt`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from enum import Enum, auto

from broker.client.values import (
    Denial,
    Lease,
    Notice,
    NoticeKind,
    denials_of,
    end_reason,
    lease_of,
    leases_of,
    nanoseconds,
    seconds,
)
from broker.v1 import sessions_pb2, types_pb2

RENEW_INTERVAL_NS_MIN = 20_000_000
"""No broker can make a client renew more often than this."""


class Standing(Enum):
    """Where a session stands, as its client knows it."""

    HELD = auto()
    UNCONFIRMED = auto()
    LOST = auto()
    CLOSED = auto()


class SessionState:
    """One granted session."""

    def __init__(self, grant: types_pb2.Grant, sent_ns: int) -> None:
        self.session_id: bytes = grant.session_id
        self.public_id: str = grant.public_id
        self.ttl_ns = nanoseconds(grant.ttl)
        self.renew_grace_ns = nanoseconds(grant.renew_grace)
        self.renew_after_ns = nanoseconds(grant.renew_after)
        self.change_version: int = grant.change_version
        self.unavailable: tuple[Denial, ...] = denials_of(grant.unavailable)
        self.standing = Standing.HELD
        self.end_reason = ""
        self.confirmed_until_ns = sent_ns + self.ttl_ns + self.renew_grace_ns
        self._leases: dict[str, Lease] = {lease.product: lease for lease in leases_of(grant.leases)}
        self._acquired_at: dict[str, int] = {}
        self._ended_at: dict[str, int] = {}
        self.is_in_doubt = False
        """A renewal now would tell what news alone cannot. The keeper clears it."""

    @property
    def leases(self) -> tuple[Lease, ...]:
        """What is held now, key grace included, in the order of granting."""
        return tuple(self._leases.values())

    @property
    def is_over(self) -> bool:
        """Nothing more will become of it."""
        return self.standing in (Standing.LOST, Standing.CLOSED)

    @property
    def renew_interval_ns(self) -> int:
        """From one answer to the next renewal."""
        return max(self.renew_after_ns, RENEW_INTERVAL_NS_MIN)

    def on_renewed(self, answer: sessions_pb2.RenewResponse, sent_ns: int) -> list[Notice]:
        """The broker renewed the session; the request was sent at `sent_ns`."""
        if self.is_over:
            return []
        self.ttl_ns = nanoseconds(answer.ttl)
        self.renew_after_ns = nanoseconds(answer.renew_after)
        confirmed_until_ns = sent_ns + self.ttl_ns + self.renew_grace_ns
        self.confirmed_until_ns = max(self.confirmed_until_ns, confirmed_until_ns)
        notices = self._confirm()
        is_newest = answer.change_version >= self.change_version
        notices += self._on_leases(answer.changed, answer.change_version)
        if is_newest:
            notices += self._heal_all_but({lease.product for lease in answer.changed})
        if answer.HasField("please_release_within"):
            notices.append(self._please_release(seconds(answer.please_release_within), ""))
        return notices

    def on_notice(self, notice: sessions_pb2.Notice) -> list[Notice]:
        """The broker pushed news about the session."""
        if self.is_over:
            return []
        match notice.WhichOneof("news"):
            case "leases_changed":
                change = notice.leases_changed
                return self._on_leases(change.leases, change.change_version)
            case "please_release":
                wish = notice.please_release
                return [self._please_release(seconds(wish.within), wish.message)]
            case "session_ended":
                return self.on_ended(notice.session_ended.end_reason)
            case _:
                return []  # a newer broker's news: nothing that this client could act on

    def on_ended(self, reason: int) -> list[Notice]:
        """The broker says that the session is over; 0: it does not know it."""
        if self.is_over:
            return []
        self.standing = Standing.LOST
        self.end_reason = end_reason(reason)
        self._leases.clear()
        why = self.end_reason or "the broker does not know it"
        text = f"session {self.public_id} is over: {why}; open a new one"
        return [self._notice(NoticeKind.SESSION_LOST, text, end_reason=self.end_reason)]

    def on_silence(self, now_ns: int) -> list[Notice]:
        """The broker does not answer now."""
        if self.standing is not Standing.HELD or now_ns < self.confirmed_until_ns:
            return []
        self.standing = Standing.UNCONFIRMED
        text = f"the broker has not answered for the whole ttl of session {self.public_id}: its seats may be others' by now"
        return [self._notice(NoticeKind.UNCONFIRMED, text)]

    def on_acquired(self, answer: sessions_pb2.Acquired) -> None:
        """Products were added."""
        for lease in leases_of(answer.leases):
            if self._ended_at.get(lease.product, 0) <= answer.change_version:
                self._leases[lease.product] = lease
                self._acquired_at[lease.product] = answer.change_version
        self.is_in_doubt = True

    def on_released(self, product: str) -> None:
        """A product was given back."""
        self._leases.pop(product, None)
        self._acquired_at.pop(product, None)

    def on_closed(self) -> None:
        """The app closed the session: no more news."""
        self.standing = Standing.CLOSED
        self._leases.clear()

    def _on_leases(self, messages: Iterable[types_pb2.Lease], version: int) -> list[Notice]:
        self.change_version = max(self.change_version, version)
        notices: list[Notice] = []
        for message in messages:
            notices += self._on_lease(lease_of(message), version)
        return notices

    def _on_lease(self, lease: Lease, version: int) -> list[Notice]:
        if lease.state == "ended":
            return self._on_lease_ended(lease, version)
        old = self._leases.get(lease.product)
        if old is None:
            return []  # released meanwhile, or an Acquire whose answer is still to come
        self._leases[lease.product] = lease
        if lease.state == old.state:
            return []
        if lease.state == "key_grace":
            left = "" if lease.key_grace_s is None else f" in {lease.key_grace_s:.0f} s"
            text = f"the security key behind {lease.product} is gone; unless it returns, the seat ends{left}"
            return [self._notice(NoticeKind.KEY_GRACE, text, lease)]
        return [self._healed(lease)]

    def _on_lease_ended(self, lease: Lease, version: int) -> list[Notice]:
        if lease.product in self._leases and version <= self._acquired_at.get(lease.product, -1):
            self.is_in_doubt = True
            return []
        self._ended_at[lease.product] = max(self._ended_at.get(lease.product, 0), version)
        if self._leases.pop(lease.product, None) is None:
            return []
        text = f"the seat of {lease.product} is over: {lease.end_reason}"
        return [self._notice(NoticeKind.LEASE_ENDED, text, lease, lease.end_reason)]

    def _heal_all_but(self, named: set[str]) -> list[Notice]:
        """An answer to Renew names every lease in key grace: those it does not name are out of it."""
        notices = []
        for product, lease in self._leases.items():
            if lease.state == "key_grace" and product not in named:
                self._leases[product] = replace(lease, state="active", key_grace_s=None)
                notices.append(self._healed(self._leases[product]))
        return notices

    def _confirm(self) -> list[Notice]:
        if self.standing is not Standing.UNCONFIRMED:
            return []
        self.standing = Standing.HELD
        return [self._notice(NoticeKind.CONFIRMED, f"the broker still holds session {self.public_id}")]

    def _healed(self, lease: Lease) -> Notice:
        return self._notice(NoticeKind.HEALED, f"{lease.product} stands on a security key again", lease)

    def _please_release(self, within_s: float, message: str) -> Notice:
        text = (
            message
            or f"the broker asks for session {self.public_id} to be given back within {within_s:.0f} s"
        )
        return self._notice(NoticeKind.PLEASE_RELEASE, text, within_s=within_s)

    def _notice(
        self,
        kind: NoticeKind,
        message: str,
        lease: Lease | None = None,
        end_reason: str = "",
        within_s: float | None = None,
    ) -> Notice:
        return Notice(kind, self.public_id, message, lease, end_reason, within_s)
