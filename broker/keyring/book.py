"""The capacity book: what was told to the sink, and under which numbers.

Numbers are small and used again: a licence gets a source id when it first counts and gives it back when the grace after
its loss is over. What the sink has no room for (pools, sources) is kept here as a sentence for the admin, and tried again
at the next decision; it never stops the rest. Called under the keyring's lock.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from broker.keyring.capacity import Command, Given, LoseSource, PoolIdentity, ProveSource, pool_of
from broker.keyring.sink import CapacitySink
from broker.licence import Licence
from broker.model.words import EndReason


class CapacityBook:
    """The one who talks to the sink. `given` is by a licence's digest."""

    def __init__(self, sink: CapacitySink, source_count_max: int) -> None:
        self._sink = sink
        self._source_count_max = source_count_max
        self._source_ids: dict[str, int] = {}
        self._free_ids: list[int] = []
        self._used_count = 0
        self._pools: dict[PoolIdentity, int] = {}
        self._starting: dict[int, int] = {}
        self._refused_pools: dict[PoolIdentity, str] = {}
        self._without_source: set[str] = set()
        self.given: dict[str, Given] = {}

    def declare(self, licences: Iterable[Licence]) -> None:
        """Makes the licences' pools known."""
        self._refused_pools.clear()
        for pool in dict.fromkeys(pool_of(licence) for licence in licences):
            self._pool_id(pool)

    def begin_starting(self, waits: Mapping[PoolIdentity, int]) -> None:
        """These pools are starting, each at most until its instant."""
        for pool, until_ns in waits.items():
            number = self._pool_id(pool)
            if number is not None and number not in self._starting:
                self._starting[number] = until_ns
                self._sink.set_starting(number, True)

    def end_starting(self, now_ns: int | None = None) -> None:
        """Lets pools serve what their keys have proven: those whose time has come, or all of them."""
        for number, until_ns in list(self._starting.items()):
            if now_ns is None or until_ns <= now_ns:
                del self._starting[number]
                self._sink.set_starting(number, False)

    def recall(self, licence: Licence, grace_until_ns: int, cause: EndReason) -> None:
        """A licence gave seats when the last run ended. Before any command, while its pool is starting."""
        pool, source = self._pool_id(pool_of(licence)), self._source_id(licence.digest)
        if pool is None or source is None:
            return
        self._sink.lapse_source(source, pool, licence.seats, grace_until_ns, cause)
        self.given[licence.digest] = Given(licence, 0, grace_until_ns, is_lost=True, cause=cause)

    def apply(self, commands: Iterable[Command]) -> None:
        """Tells the sink, in order."""
        for command in commands:
            if isinstance(command, ProveSource):
                self._prove(command)
            elif isinstance(command, LoseSource):
                self._lose(command)
            else:
                self._remove(command.licence.digest)

    def refusal(self, licence: Licence) -> str:
        """Why the ledger does not take the licence; empty if it does."""
        if licence.digest in self._without_source:
            return f"more than {self._source_count_max} licences would count at once; remove old ones"
        return self._refused_pools.get(pool_of(licence), "")

    def _prove(self, command: ProveSource) -> None:
        licence = command.licence
        pool, source = self._pool_id(pool_of(licence)), self._source_id(licence.digest)
        if pool is None or source is None:
            return
        self._sink.prove_source(source, pool, licence.seats, command.proven_until_ns, command.grace_until_ns)
        self.given[licence.digest] = Given(licence, command.proven_until_ns, command.grace_until_ns)

    def _lose(self, command: LoseSource) -> None:
        digest = command.licence.digest
        self._sink.lose_source(self._source_ids[digest], command.grace_until_ns, command.cause)
        told = self.given[digest]
        self.given[digest] = replace(
            told, grace_until_ns=command.grace_until_ns, is_lost=True, cause=command.cause
        )

    def _remove(self, digest: str) -> None:
        source = self._source_ids.pop(digest)
        del self.given[digest]
        self._free_ids.append(source)
        self._sink.remove_source(source)

    def _pool_id(self, pool: PoolIdentity) -> int | None:
        if pool not in self._pools and pool not in self._refused_pools:
            try:
                self._pools[pool] = self._sink.declare_pool(pool.product, pool.terms, pool.is_emulated)
            except ValueError as error:
                self._refused_pools[pool] = f"there is no room for a pool of its own terms: {error}"
        return self._pools.get(pool)

    def _source_id(self, digest: str) -> int | None:
        if digest not in self._source_ids:
            self._without_source.discard(digest)
            if self._free_ids:
                self._source_ids[digest] = self._free_ids.pop()
            elif self._used_count < self._source_count_max:
                self._source_ids[digest] = self._used_count
                self._used_count += 1
            else:
                self._without_source.add(digest)
                return None
        return self._source_ids[digest]
