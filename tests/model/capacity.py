"""The supply side of the ledger model: products, pools, and the sources whose seats they sum.

A source is proven, then lapsed (its seats are gone, its charges may stay), then absent. What a pool holds at any
instant is computed from its sources by a linear scan; nothing is kept that could be summed. Every change of a
pool's capacity is an event at once; ending what no longer fits is left to `advance`.
"""

from __future__ import annotations

from broker.model.terms import PoolTerms
from broker.model.words import EndReason, EventKind
from tests.model.clock import Clock
from tests.model.event_log import POOL_SIZE, EventLog, text_size
from tests.model.records import DenialCount, Pool, Product, Source, SourceState

UNKNOWN_PRODUCT = -1


class Capacity:
    """Products, pools and sources, by number."""

    def __init__(self, clock: Clock, log: EventLog) -> None:
        self._clock = clock
        self._log = log
        self.products: list[Product] = []
        self.pools: list[Pool] = []
        self.sources: dict[int, Source] = {}
        self.unknown_denials = DenialCount(UNKNOWN_PRODUCT)

    def restart(self) -> None:
        """No key has proven itself yet, nothing has been counted."""
        self.sources.clear()
        self.unknown_denials = DenialCount(UNKNOWN_PRODUCT)
        for product in self.products:
            product.denials = DenialCount(product.index)
            product.lease_total = 0
            product.denial_totals = [0] * 16
            product.end_totals = [0] * 13
        for pool in self.pools:
            pool.is_starting = False
            pool.loss_cause = EndReason.KEY_LOST
            pool.key_grace.clear()
            pool.in_use_peak = pool.in_use
            pool.charge_total = 0

    # --- what there is -----------------------------------------------------------------------------------
    def declare_product(self, name: str) -> int:
        known = self.find_product(name)
        if known is None:
            name_size = len(name.encode())
            self._log.need_control(text_size(name_size))
            known = Product(len(self.products), name, DenialCount(len(self.products)))
            self.products.append(known)
            self._log.add(EventKind.PRODUCT_DECLARED, product=known.index, seats=name_size, size=text_size(name_size))
        return known.index

    def declare_pool(self, name: str, terms: PoolTerms, is_emulated: bool) -> int:
        product = self.products[self.declare_product(name)]
        for pool in self.pools_of(product):
            if pool.terms == terms and pool.is_emulated == is_emulated:
                return pool.number
        self._log.need_control(POOL_SIZE)
        pool = Pool(len(self.pools), product, terms, is_emulated)
        self.pools.append(pool)
        self._log.add(EventKind.POOL_DECLARED, pool=pool, seats=terms.weight, size=POOL_SIZE)
        return pool.number

    def find_product(self, name: str) -> Product | None:
        for product in self.products:
            if product.name == name:
                return product
        return None

    def pools_of(self, product: Product) -> list[Pool]:
        """In the order in which they are tried."""
        mine = [pool for pool in self.pools if pool.product is product]
        return sorted(mine, key=lambda pool: (pool.terms.model, pool.number))

    # --- what it amounts to ------------------------------------------------------------------------------
    def seats(self, pool: Pool) -> int:
        """Its capacity."""
        return self._seats_of(pool, SourceState.PROVEN)

    def grace_seats(self, pool: Pool) -> int:
        return self._seats_of(pool, SourceState.LAPSED)

    def _seats_of(self, pool: Pool, state: SourceState) -> int:
        sources = self.sources.values()
        return sum([source.seats for source in sources if source.pool is pool and source.state is state])

    def deficit(self, pool: Pool) -> int:
        return max(0, pool.in_use - self.seats(pool))

    def key_grace_ns(self, pool: Pool) -> int:
        """How long the key grace of its charges surely lasts: until the first of its lapsed sources is given up."""
        instants = [
            source.grace_until_ns
            for source in self.sources.values()
            if source.pool is pool and source.state is SourceState.LAPSED
        ]
        return max(0, min(instants) - self._clock.raw_ns) if instants else 0

    # --- what happens to it ------------------------------------------------------------------------------
    def prove(self, number: int, pool: Pool, seats: int, proven_until_ns: int, grace_until_ns: int) -> None:
        source = self.sources.setdefault(number, Source(pool))
        touched = [pool] if source.pool is pool else [source.pool, pool]
        seats_before = [self.seats(each) for each in touched]
        source.pool = pool
        source.state = SourceState.PROVEN
        source.seats = seats
        source.proven_until_ns = proven_until_ns
        source.grace_until_ns = grace_until_ns
        source.cause = EndReason.KEY_LOST
        for each, before in zip(touched, seats_before, strict=True):
            self._tell_change(each, before, EndReason.NONE)
        for each in touched:
            self.heal(each)
        self.pass_sources()

    def lose(self, number: int, grace_until_ns: int, cause: EndReason) -> None:
        source = self.sources.get(number)
        if source is None or source.state is SourceState.ABSENT:
            return
        before = self.seats(source.pool)
        source.state = SourceState.LAPSED
        source.grace_until_ns = grace_until_ns
        source.cause = cause
        self._tell_change(source.pool, before, cause)
        self._give_up_if_due(source)

    def pass_sources(self) -> None:
        """What the passing of raw time does to them, in the order of their numbers."""
        now_ns = self._clock.raw_ns
        present = [
            number for number, source in self.sources.items() if source.state is not SourceState.ABSENT
        ]
        for number in sorted(present):
            source = self.sources[number]
            if source.state is SourceState.PROVEN and now_ns >= source.proven_until_ns:
                before = self.seats(source.pool)
                source.state = SourceState.LAPSED
                self._tell_change(source.pool, before, source.cause)
            self._give_up_if_due(source)

    def _give_up_if_due(self, source: Source) -> None:
        if source.state is SourceState.LAPSED and self._clock.raw_ns >= source.grace_until_ns:
            source.state = SourceState.ABSENT
            source.pool.loss_cause = source.cause

    def _tell_change(self, pool: Pool, seats_before: int, reason: EndReason) -> None:
        seats = self.seats(pool)
        if seats != seats_before:
            deficit = self.deficit(pool)
            self._log.add(EventKind.CAPACITY_CHANGED, pool=pool, seats=seats, deficit=deficit, reason=reason)

    def heal(self, pool: Pool) -> None:
        """Where all charges are covered the whole key grace ends at once (semantics rule 8)."""
        if pool.key_grace and self.deficit(pool) == 0:
            pool.key_grace.clear()
            self._log.add(EventKind.KEY_GRACE_ENDED, pool=pool)
