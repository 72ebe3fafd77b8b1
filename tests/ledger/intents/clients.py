"""What clients intend: to open, renew, acquire, release and close; rightly, wrongly, late, and in key grace."""

from __future__ import annotations

from typing import Any

from broker.model.words import EndReason
from tests.ledger.episodes import SECOND_NS
from tests.ledger.intents.desk import Desk, Items, nobody
from tests.ledger.operations import NOBODY
from tests.model.records import Holder, Session

REVOKE_REASONS = (EndReason.REVOKED, EndReason.POLICY_CHANGED)


class ClientIntents:
    """First requests; retries are in retries.py."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._rng = desk.rng

    # --- Open ------------------------------------------------------------------------------------------------
    def open_arguments(self, holder: Holder | None = None, items: Items | None = None) -> dict[str, Any]:
        rng, desk = self._rng, self._desk
        return {
            "request_id": desk.request_id(),
            **(holder or desk.holder())._asdict(),
            "products": items or desk.products(),
            "ttl_ns": rng.choice((0, 0, 0, 1, SECOND_NS, 1_500_600_000, 9 * SECOND_NS)),
            "priority": rng.choice((0, 0, 1, 3, 7)),
            "salt": rng.choice((b"", b"", b"nonce")),
        }

    def open(self) -> None:
        self._desk.put("open", self.open_arguments())

    def open_partly(self) -> None:
        holder = self._desk.holder()
        self._desk.put("open", self.open_arguments(holder, self._desk.partly(nobody(holder))))

    def reopen(self) -> None:
        """The same instance again, for other products as well."""
        named = [each for each in self._desk.model.live.values() if each.holder.instance_id]
        if named:
            self._desk.put("open", self.open_arguments(self._rng.choice(named).holder))

    def open_wrong(self) -> None:
        rng, arguments = self._rng, self.open_arguments()
        wrongs: dict[str, list[Any]] = {
            "user": [b"", b"u" * 129],
            "host": [b"", b"h" * 129],
            "app": [b"a" * 65],
            "label": [b"l" * 65],
            "instance_id": [b"i" * 65],
            "identity": [b"d" * 129],
            "products": self._wrong_products(),
            "ttl_ns": [-1],
            "priority": [-1, 8],
        }
        for part in rng.sample(list(wrongs), rng.choice((1, 1, 2))):
            arguments[part] = rng.choice(wrongs[part])
        self._desk.put("open", arguments)

    def _wrong_products(self) -> list[Items]:
        name = self._desk.episode.products[0]
        return [
            [],
            [(name, True)],
            [(name, False), (name, True)],
            [("", False)],
            [("p" * 33, False)],
            [(f"many-{number}", False) for number in range(17)],
        ]

    # --- inside a session --------------------------------------------------------------------------------------
    def renew(self) -> None:
        opened_by, session = self._desk.somebody()
        self._renew(opened_by, session)

    def renew_forged(self) -> None:
        opened_by, _ = self._desk.somebody()
        self._desk.put("renew", {"change_version": 0}, opened_by, is_forged=True)

    def renew_told(self) -> None:
        """Somebody whose lease was ended hears of it."""
        sessions = [
            session
            for session in self._desk.model.live.values()
            if any(not lease.is_active for lease in session.leases)
        ]
        if sessions:
            session = self._rng.choice(sessions)
            heard = self._rng.choice((0, session.change_version - 1))
            self._desk.put("renew", {"change_version": heard}, self._desk.opener_of(session))

    def _renew(self, opened_by: int, session: Session | None) -> None:
        version = 0 if session is None else session.change_version
        heard = self._rng.choice((0, max(0, version - 1), version, version, version + 5))
        self._desk.put("renew", {"change_version": heard}, opened_by)

    def acquire(self) -> None:
        opened_by, session = self._desk.somebody()
        self._acquire(opened_by, self._desk.products(besides=session), is_forged=self._rng.random() < 0.04)

    def acquire_partly(self) -> None:
        if session := self._desk.live_session():
            self._acquire(self._desk.opener_of(session), self._desk.partly(session))

    def acquire_many(self) -> None:
        """As many as one request may name, by the session with the most records."""
        if sessions := list(self._desk.model.live.values()):
            session = max(sessions, key=lambda each: len(each.leases))
            items = self._desk.products(least=self._desk.episode.item_count_max - 2)
            self._acquire(self._desk.opener_of(session), items)

    def acquire_wrong(self) -> None:
        opened_by, _ = self._desk.somebody()
        self._acquire(opened_by, self._rng.choice(self._wrong_products()))

    def _acquire(self, opened_by: int, items: Items, is_forged: bool = False) -> None:
        arguments = {"request_id": self._desk.request_id(), "products": items, "salt": b""}
        self._desk.put("acquire", arguments, opened_by, is_forged)

    def release(self) -> None:
        opened_by, session = self._desk.somebody()
        names = list(self._desk.episode.products)
        if session is not None and session.leases and self._rng.random() < 0.6:
            names = [lease.pool.product.name for lease in session.leases]
        arguments = {"request_id": self._desk.request_id(), "product": self._rng.choice(names)}
        self._desk.put("release", arguments, opened_by, is_forged=self._rng.random() < 0.05)

    def close(self) -> None:
        opened_by, _ = self._desk.somebody()
        arguments = {"request_id": self._desk.request_id()}
        self._desk.put("close", arguments, opened_by, is_forged=self._rng.random() < 0.07)

    def revoke(self) -> None:
        opened_by, _ = self._desk.somebody()
        self._desk.put("revoke", {"reason": self._rng.choice(REVOKE_REASONS)}, opened_by)

    # --- at special moments --------------------------------------------------------------------------------------
    def late(self) -> None:
        """Somebody comes back at the very instant at which the session is over, before advance has seen it."""
        desk, clock = self._desk, self._desk.model.clock
        if not desk.model.live:
            return
        session = min(desk.model.live.values(), key=lambda each: each.deadline_ns)
        over_ns = session.deadline_ns + clock.skipped_ns
        if clock.stall_ns and over_ns - clock.raw_ns > clock.stall_ns:
            return
        desk.now_ns = max(over_ns, desk.raw_ns)
        opened = desk.openers[session.fence]
        name = self._rng.choice(("open", "renew", "renew", "acquire", "release", "close", "revoke"))
        if name == "open":
            is_again = not session.holder.instance_id or self._rng.random() < 0.3
            desk.put("open", opened.arguments if is_again else self.open_arguments(session.holder))
        else:
            desk.put(name, self._late_arguments(name), opened.number)

    def _late_arguments(self, name: str) -> dict[str, Any]:
        request_id = {"request_id": self._desk.request_id()}
        arguments: dict[str, dict[str, Any]] = {
            "renew": {"change_version": 0},
            "acquire": request_id | {"products": self._desk.products(), "salt": b""},
            "release": request_id | {"product": self._desk.episode.products[0]},
            "close": request_id,
            "revoke": {"reason": EndReason.REVOKED},
        }
        return arguments[name]

    def ask_in_key_grace(self) -> None:
        """Who is in key grace renews, asks for what it has, twice, and repeats its Open."""
        desk = self._desk
        short = [pool for pool in desk.model.capacity.pools if pool.key_grace]
        leases = [lease for pool in short for charge in pool.key_grace for lease in charge.leases]
        if leases:
            lease = self._rng.choice(leases)
            opened = desk.openers[lease.session.fence]
            items = [(lease.pool.product.name, False)]
            asked = {"request_id": desk.request_id(), "products": items, "salt": b""}
            self._renew(opened.number, lease.session)
            desk.put("acquire", asked, opened.number)
            desk.put("acquire", asked, opened.number)
            desk.put("open", opened.arguments, NOBODY)

    def leave_key_grace(self) -> None:
        """All who stand on one charge of a pool with a deficit leave it; mostly one that is not itself in key grace."""
        short = [pool for pool in self._desk.model.capacity.pools if pool.key_grace]
        long = [pool for pool in short if len(pool.key_grace) > 1]
        charges = [charge for pool in long or short for charge in pool.charges if charge.leases]
        others = [charge for charge in charges if charge not in charge.pool.key_grace]
        if charges:
            for lease in self._rng.choice(others or charges).leases:
                opened_by = self._desk.opener_of(lease.session)
                self._desk.put("revoke", {"reason": self._rng.choice(REVOKE_REASONS)}, opened_by)
