"""What the owner of the keys does: proves and loses sources, starts pools, declares more of them."""

from __future__ import annotations

from broker.model.words import EndReason
from tests.ledger.episodes import SECOND_NS, random_terms
from tests.ledger.intents.desk import Desk
from tests.model.records import Pool, SourceState

LOSS_CAUSES = (
    EndReason.KEY_LOST,
    EndReason.LICENCE_ENDED,
    EndReason.LICENCE_ENDED,
    EndReason.POLICY_CHANGED,
)


class KeyIntents:
    """Sources by number; most belong to one pool, some change it."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._rng = desk.rng

    # --- proofs ----------------------------------------------------------------------------------------------
    def prove(self) -> None:
        rng, pool_count = self._rng, len(self._desk.model.capacity.pools)
        if pool_count:
            source = rng.randrange(self._desk.episode.source_count)
            pool = source % pool_count if rng.random() < 0.8 else rng.randrange(pool_count)
            self.prove_one(source, pool, rng.randint(0, self._desk.episode.seats_max))

    def prove_all(self) -> None:
        pool_count, seats_max = len(self._desk.model.capacity.pools), self._desk.episode.seats_max
        for source in range(self._desk.episode.source_count if pool_count else 0):
            self.prove_one(source, source % pool_count, self._rng.randint(seats_max // 2, seats_max))

    def prove_one(self, source: int, pool: int, seats: int, proof_ns: int | None = None) -> None:
        rng, span_ns = self._rng, self._desk.episode.proof_ns_max
        if proof_ns is None:
            proof_ns = rng.choice((0, rng.randrange(span_ns), rng.randrange(span_ns), span_ns, span_ns))
        proven_until_ns = self._desk.raw_ns + proof_ns
        grace_until_ns = proven_until_ns + rng.choice((-1, 0, rng.randrange(span_ns), rng.randrange(span_ns)))
        arguments = {
            "source": source,
            "pool": pool,
            "seats": seats,
            "proven_until_ns": proven_until_ns,
            "grace_until_ns": grace_until_ns,
        }
        self._desk.put("prove_source", arguments)

    def heal_some(self) -> None:
        """A little capacity for a pool whose deficit is larger, and what it does to the key grace."""
        short = [pool for pool in self._desk.model.capacity.pools if len(pool.key_grace) > 1]
        if short:
            pool = self._rng.choice(short)
            more = self._rng.randint(1, max(1, self._desk.model.capacity.deficit(pool) - 1))
            self._prove_spare(pool, more)
            self._desk.put("advance", {})

    def _prove_spare(self, pool: Pool, more: int) -> None:
        """So many seats more, by a source that is used for nothing else."""
        number = self._desk.episode.source_count + pool.number
        spare = self._desk.model.capacity.sources.get(number)
        seats = spare.seats if spare is not None and spare.state is SourceState.PROVEN else 0
        self.prove_one(number, pool.number, seats + more, self._desk.episode.proof_ns_max)

    # --- losses ----------------------------------------------------------------------------------------------
    def lose(self) -> None:
        self._lose_one(self._rng.randrange(self._desk.episode.source_count), self._some_grace_ns())

    def lose_all(self) -> None:
        for source in range(self._desk.episode.source_count):
            self._lose_one(source, self._some_grace_ns())

    def gather(self) -> None:
        """All keys are back and people come, before the next siege."""
        self.prove_all()
        self._desk.plans.extend([*["open"] * 7, "long_siege"])

    def siege(self) -> None:
        """The pool with most charges loses its keys for good; its holders hear of it."""
        if pool := self._most_used():
            self._lose_pool(pool, grace_ns=0)
            self._desk.put("advance", {})
            self._desk.plans.extend(["renew_told", "renew_told"])

    def long_siege(self) -> None:
        """It keeps some of its seats, the rest is under key grace; then people come, ask and leave, and keys return."""
        pool = self._most_used()
        if pool is None:
            return
        self._lose_pool(pool, grace_ns=8 * SECOND_NS)
        left = self._rng.choice(
            (self._rng.randrange(pool.in_use), max(0, pool.in_use - 2 * pool.terms.weight))
        )
        number = self._desk.episode.source_count + pool.number
        self.prove_one(number, pool.number, left, 8 * SECOND_NS)
        self._desk.put("advance", {})
        steps = [
            "ask_in_key_grace",
            "heal_some",
            "heal_some",
            "open",
            "open_partly",
            "acquire",
            "acquire_partly",
        ]
        self._rng.shuffle(steps)
        self._desk.plans.extend(["leave_key_grace", *steps, "leave_key_grace", "leave_key_grace"])

    def _most_used(self) -> Pool | None:
        used = [pool for pool in self._desk.model.capacity.pools if len(pool.charges) > 1]
        return max(used, key=lambda each: len(each.charges), default=None)

    def _lose_pool(self, pool: Pool, grace_ns: int) -> None:
        cause = self._rng.choice(LOSS_CAUSES)
        for number, source in self._desk.model.capacity.sources.items():
            if source.pool is pool and source.state is not SourceState.ABSENT:
                self._lose_one(number, grace_ns, cause)

    def _some_grace_ns(self) -> int:
        return self._rng.choice((0, self._rng.randrange(2 * SECOND_NS), self._rng.randrange(8 * SECOND_NS)))

    def _lose_one(self, source: int, grace_ns: int, cause: EndReason | None = None) -> None:
        arguments = {
            "source": source,
            "grace_until_ns": self._desk.raw_ns + grace_ns,
            "cause": cause or self._rng.choice(LOSS_CAUSES),
        }
        self._desk.put("lose_source", arguments)

    # --- pools -----------------------------------------------------------------------------------------------
    def set_starting(self) -> None:
        if pools := self._desk.model.capacity.pools:
            arguments = {"pool": self._rng.randrange(len(pools)), "is_starting": self._rng.random() < 0.3}
            self._desk.put("set_starting", arguments)

    def declare(self) -> None:
        """A pool more, or one that is there."""
        rng, pools = self._rng, self._desk.model.capacity.pools
        if pools and (len(pools) > 12 or rng.random() < 0.5):
            known = rng.choice(pools)
            product, terms, is_emulated = known.product.name, known.terms, known.is_emulated
        else:
            product = rng.choice(self._desk.episode.products[:-1])
            terms, is_emulated = random_terms(rng), rng.random() < 0.2
        arguments = {"product": product, "terms": terms, "is_emulated": is_emulated}
        self._desk.put("declare_pool", arguments)
