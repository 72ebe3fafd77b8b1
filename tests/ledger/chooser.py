"""What a lockstep run does next: random, seeded, and aware of the state, so that every rule is met often.

The model is read (never changed) to choose what is likely to matter: a session that lives, the instant at which something is
due, a product that is held. An intent of the episode's weights becomes one operation, or a burst of them; a retry
is an operation done before with the same arguments, a changed one has the same request_id and something else different.
"""

from __future__ import annotations

from collections import deque
from random import Random
from typing import Any

from broker.model.answers import Answer
from broker.model.words import EndReason, Status
from tests.ledger.episodes import SECOND_NS, Episode, random_terms
from tests.ledger.operations import NOBODY, Operation
from tests.model.ledger_model import LedgerModel
from tests.model.records import Session

HISTORY_COUNT = 40
DRAIN_SIZE_MIN = 688
"""Of one SESSION_OPENED with texts of full length: a smaller drain is refused."""
STORM_COUNT = (101, 106)
LOSS_CAUSES = (EndReason.KEY_LOST, EndReason.KEY_LOST, EndReason.LICENCE_ENDED, EndReason.POLICY_CHANGED)
REVOKE_REASONS = (EndReason.REVOKED, EndReason.REVOKED, EndReason.POLICY_CHANGED)


class Chooser:
    """One episode's source of operations."""

    def __init__(self, rng: Random, episode: Episode, model: LedgerModel) -> None:
        self._rng = rng
        self._episode = episode
        self._model = model
        self._intents = list(episode.weights)
        self._weights = list(episode.weights.values())
        self._now_ns = episode.settings.arguments["start_ns"]
        self._number = 0
        self._coming: deque[Operation] = deque()
        self._asked: dict[bytes, Operation] = {}
        """By request_id: the first operation that had it."""
        self._openers: dict[int, Operation] = {}
        """By fence: the Open."""
        self._past_openers: deque[int] = deque([NOBODY], maxlen=HISTORY_COUNT)
        if episode.is_stocked:
            self._prove_all()

    def next(self) -> Operation:
        while not self._coming:
            self._now_ns = self._next_instant_ns()
            (intent,) = self._rng.choices(self._intents, self._weights)
            getattr(self, f"_{intent}")()
        return self._coming.popleft()

    def saw(self, operation: Operation, answer: Answer) -> None:
        """What came of an Open."""
        if answer.status is Status.GRANTED and not answer.is_replayed:
            self._openers[answer.fence] = operation
            self._past_openers.append(operation.number)

    def _put(
        self, name: str, arguments: dict[str, Any], opened_by: int = NOBODY, is_forged: bool = False
    ) -> None:
        operation = Operation(self._number, name, self._now_ns, arguments, opened_by, is_forged)
        self._coming.append(operation)
        self._number += 1
        if "request_id" in arguments:
            self._asked.setdefault(arguments["request_id"], operation)

    # --- time ------------------------------------------------------------------------------------------------
    def _next_instant_ns(self) -> int:
        rng, share = self._rng, self._rng.random()
        episode = self._episode
        if share < episode.still_share:
            return self._now_ns
        if share < episode.still_share + episode.jump_share:
            return self._jump_ns()
        stall_ns = self._model.clock.stall_ns
        if share > 0.997 and stall_ns:
            return self._now_ns + stall_ns + rng.choice((0, 1, rng.randrange(3 * SECOND_NS)))
        if share > 0.99:
            return max(0, self._now_ns - rng.randrange(SECOND_NS))
        return self._now_ns + rng.randrange(1, episode.step_ns_max)

    def _jump_ns(self) -> int:
        """To an instant at which something is due, or a nanosecond beside it; without making it a stall."""
        raw_ns, stall_ns = self._model.clock.raw_ns, self._model.clock.stall_ns
        instants = self._instants_ns()
        if not instants:
            return raw_ns + self._rng.randrange(SECOND_NS)
        target_ns = max(raw_ns, self._rng.choice(instants) + self._rng.choice((-1, 0, 0, 1)))
        return min(target_ns, raw_ns + (stall_ns or 2 * SECOND_NS))

    def _instants_ns(self) -> list[int]:
        """The first of each sort, in raw time."""
        model = self._model
        stalled_ns = model.clock.stalled_ns
        ends = [session.deadline_ns for session in model.live.values()]
        lingering = [charge.free_at_ns or 0 for charge in model.charges.lingering()]
        memories = [entry.forget_at_ns or 0 for entry in model.memory.requests_to_forget[:1]]
        denials = [entry.forget_at_ns or 0 for entry in model.memory.denials_to_forget[:1]]
        second_ns = (model.clock.ledger_ns // SECOND_NS + 1) * SECOND_NS
        found = [min(sort) + stalled_ns for sort in (ends, lingering, memories, denials, [second_ns]) if sort]
        sources = list(model.capacity.sources.values())
        found += [min(source.proven_until_ns for source in sources)] if sources else []
        found += [min(source.grace_until_ns for source in sources)] if sources else []
        return found

    # --- whom and what ---------------------------------------------------------------------------------------
    def _live_session(self) -> Session | None:
        """Some session that has not ended, though perhaps its deadline has passed."""
        return self._rng.choice(list(self._model.live.values())) if self._model.live else None

    def _somebody(self) -> tuple[int, Session | None]:
        """A session that lives, by the Open that opened it; now and then one that does not."""
        session = self._live_session()
        if session is None or self._rng.random() < 0.08:
            return self._rng.choice(self._past_openers), None
        return self._openers[session.fence].number, session

    def _products(self, count_max: int, least: int = 1) -> list[tuple[str, bool]]:
        rng, episode = self._rng, self._episode
        declared, ghost = episode.products[:-1], episode.products[-1]
        count = min(rng.randint(least, count_max), len(declared))
        names = rng.sample(declared, count)
        if rng.random() < 0.06:
            names[rng.randrange(count)] = ghost
        items = [(name, rng.random() < episode.optional_share) for name in names]
        if all(is_optional for _, is_optional in items):
            items[0] = (names[0], False)
        return items

    def _request_id(self) -> bytes:
        return self._rng.randbytes(16)

    def _holder(self) -> dict[str, bytes]:
        rng, episode = self._rng, self._episode
        return {
            "user": rng.choice(episode.users),
            "host": rng.choice(episode.hosts),
            "app": rng.choice(episode.apps),
            "label": rng.choice(episode.labels),
            "identity": rng.choice(episode.identities),
            "instance_id": rng.choice(episode.instance_ids),
        }

    # --- Open ------------------------------------------------------------------------------------------------
    def _open_arguments(self) -> dict[str, Any]:
        rng = self._rng
        return {
            "request_id": self._request_id(),
            **self._holder(),
            "products": self._products(self._episode.item_count_max),
            "ttl_ns": rng.choice((0, 0, 0, 1, SECOND_NS, 1_500_600_000, 9 * SECOND_NS)),
            "priority": rng.choice((0, 0, 1, 3, 7)),
            "salt": rng.choice((b"", b"", b"nonce")),
        }

    def _open(self) -> None:
        self._put("open", self._open_arguments())

    def _open_wrong(self) -> None:
        rng, arguments = self._rng, self._open_arguments()
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
        self._put("open", arguments)

    def _wrong_products(self) -> list[list[tuple[str, bool]]]:
        name = self._episode.products[0]
        return [
            [],
            [(name, True)],
            [(name, False), (name, True)],
            [("", False)],
            [("p" * 33, False)],
            [(f"many-{number}", False) for number in range(17)],
        ]

    # --- Renew, Acquire, Release, Close ------------------------------------------------------------------------
    def _renew(self) -> None:
        opened_by, session = self._somebody()
        version = 0 if session is None else session.change_version
        heard = self._rng.choice((0, max(0, version - 1), version, version, version + 5))
        self._put("renew", {"change_version": heard}, opened_by)

    def _renew_forged(self) -> None:
        opened_by, _ = self._somebody()
        self._put("renew", {"change_version": 0}, opened_by, is_forged=True)

    def _acquire(self) -> None:
        opened_by, _ = self._somebody()
        items = self._products(self._episode.item_count_max)
        arguments = {"request_id": self._request_id(), "products": items, "salt": b""}
        self._put("acquire", arguments, opened_by, is_forged=self._rng.random() < 0.02)

    def _acquire_many(self) -> None:
        """As many as one request may name, by the session with the most records."""
        if sessions := list(self._model.live.values()):
            session = max(sessions, key=lambda each: len(each.leases))
            items = self._products(self._episode.item_count_max, least=self._episode.item_count_max - 2)
            arguments = {"request_id": self._request_id(), "products": items, "salt": b""}
            self._put("acquire", arguments, self._openers[session.fence].number)

    def _acquire_wrong(self) -> None:
        opened_by, _ = self._somebody()
        items = self._rng.choice(self._wrong_products())
        self._put("acquire", {"request_id": self._request_id(), "products": items, "salt": b""}, opened_by)

    def _release(self) -> None:
        opened_by, session = self._somebody()
        names = list(self._episode.products)
        if session is not None and session.leases and self._rng.random() < 0.8:
            names = [lease.pool.product.name for lease in session.leases]
        arguments = {"request_id": self._request_id(), "product": self._rng.choice(names)}
        self._put("release", arguments, opened_by)

    def _close(self) -> None:
        opened_by, _ = self._somebody()
        arguments = {"request_id": self._request_id()}
        self._put("close", arguments, opened_by, is_forged=self._rng.random() < 0.02)

    # --- retries ---------------------------------------------------------------------------------------------
    def _remembered(self) -> Operation | None:
        """An operation whose request the ledger remembers, however it ended."""
        memory = self._model.memory
        recent = [*memory.requests_to_forget[-HISTORY_COUNT:], *memory.denials_to_forget[-5:]]
        living = list(self._model.live)
        if recent and (not living or self._rng.random() < 0.8):
            return self._asked[self._rng.choice(recent).request_id]
        return self._openers[self._rng.choice(living)] if living else None

    def _again(self) -> None:
        if old := self._remembered():
            self._put(old.name, old.arguments, old.opened_by)

    def _changed(self) -> None:
        """One request_id with something else in it; inside a session also with another verb."""
        old = self._remembered()
        if old is not None and old.name == "open":
            self._put("open", self._changed_open(old.arguments))
        elif old is not None:
            request_id = old.arguments["request_id"]
            name = self._rng.choice(("acquire", "release", "close"))
            arguments: dict[str, dict[str, Any]] = {
                "acquire": {"products": [(self._episode.products[0], False)], "salt": b"other"},
                "release": {"product": "another"},
                "close": {},
            }
            self._put(name, {"request_id": request_id} | arguments[name], old.opened_by)

    def _changed_open(self, told: dict[str, Any]) -> dict[str, Any]:
        changed = {
            "products": [*told["products"][::-1], ("another", True)][-16:],
            "ttl_ns": told["ttl_ns"] + 1,
            "priority": (told["priority"] + 1) % 8,
            "salt": told["salt"] + b"?",
            "instance_id": told["instance_id"] + b"?",
        }
        part = self._rng.choice(list(changed))
        return told | {part: changed[part]}

    def _revoke(self) -> None:
        opened_by, _ = self._somebody()
        self._put("revoke", {"reason": self._rng.choice(REVOKE_REASONS)}, opened_by)

    # --- time and keys -----------------------------------------------------------------------------------------
    def _advance(self) -> None:
        self._put("advance", {})

    def _silence(self) -> None:
        """Everybody is silent for so long that all sessions and what lingers of them are due; then they are forgotten."""
        for _ in range(3):
            self._now_ns += 5 * SECOND_NS
            for _ in range(3):
                self._put("advance", {})

    def _prove(self) -> None:
        rng, count = self._rng, self._episode.source_count
        source = rng.randrange(count)
        pools = self._model.capacity.pools
        if pools:
            pool = source % len(pools) if rng.random() < 0.8 else rng.randrange(len(pools))
            self._prove_one(source, pool, rng.randint(0, self._episode.seats_max))

    def _prove_one(self, source: int, pool: int, seats: int) -> None:
        rng, span_ns = self._rng, self._episode.proof_ns_max
        raw_ns = max(self._now_ns, self._model.clock.raw_ns)
        proven_until_ns = raw_ns + rng.choice(
            (0, rng.randrange(span_ns), rng.randrange(span_ns), span_ns, span_ns)
        )
        grace_until_ns = proven_until_ns + rng.choice((-1, 0, rng.randrange(span_ns), rng.randrange(span_ns)))
        arguments = {
            "source": source,
            "pool": pool,
            "seats": seats,
            "proven_until_ns": proven_until_ns,
            "grace_until_ns": grace_until_ns,
        }
        self._put("prove_source", arguments)

    def _prove_all(self) -> None:
        for source in range(self._episode.source_count):
            pool = source % len(self._model.capacity.pools)
            self._prove_one(
                source, pool, self._rng.randint(self._episode.seats_max // 2, self._episode.seats_max)
            )

    def _lose(self) -> None:
        self._lose_one(self._rng.randrange(self._episode.source_count))

    def _lose_all(self) -> None:
        for source in range(self._episode.source_count):
            self._lose_one(source)

    def _lose_one(self, source: int) -> None:
        raw_ns = max(self._now_ns, self._model.clock.raw_ns)
        grace_ns = self._rng.choice(
            (0, self._rng.randrange(2 * SECOND_NS), self._rng.randrange(8 * SECOND_NS))
        )
        arguments = {
            "source": source,
            "grace_until_ns": raw_ns + grace_ns,
            "cause": self._rng.choice(LOSS_CAUSES),
        }
        self._put("lose_source", arguments)

    def _set_starting(self) -> None:
        if pools := self._model.capacity.pools:
            arguments = {"pool": self._rng.randrange(len(pools)), "is_starting": self._rng.random() < 0.4}
            self._put("set_starting", arguments)

    def _declare(self) -> None:
        """A pool more, or one that is there."""
        rng, pools = self._rng, self._model.capacity.pools
        if pools and (len(pools) > 12 or rng.random() < 0.5):
            known = rng.choice(pools)
            arguments = {
                "product": known.product.name,
                "terms": known.terms,
                "is_emulated": known.is_emulated,
            }
        else:
            name = rng.choice(self._episode.products[:-1])
            arguments = {"product": name, "terms": random_terms(rng), "is_emulated": rng.random() < 0.2}
        self._put("declare_pool", arguments)

    # --- bursts and readings -------------------------------------------------------------------------------------
    def _denial_storm(self) -> None:
        """More denials of one product than are told singly, in one second; if it is not full the first ones fill it."""
        rng = self._rng
        name = rng.choice(self._episode.products)
        holder = self._holder() | {"instance_id": b""}
        opened_by, _ = self._somebody()
        for _ in range(rng.randint(*STORM_COUNT)):
            items = [(name, False)]
            if rng.random() < 0.15:
                arguments = {"request_id": self._request_id(), "products": items, "salt": b""}
                self._put("acquire", arguments, opened_by)
            else:
                self._put("open", self._open_arguments() | holder | {"products": items})
        self._now_ns += SECOND_NS
        if rng.random() < 0.5:
            self._put("advance", {})

    def _drain(self) -> None:
        whole = self._episode.drain_size_max
        self._put(
            "drain", {"size_max": self._rng.choice((whole, whole, DRAIN_SIZE_MIN + self._rng.randrange(700)))}
        )

    def _read(self) -> None:
        self._put("read", {})
