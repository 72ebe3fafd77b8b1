"""The keyring without its threads: keys, licences, memory and decisions behind one face, under a clock of the caller's.

    begin ── what an earlier run remembers: pools are starting, sources that stood lapse, their keys are awaited
    inputs of `core` (scans, openings, proofs, failures), `take`, `set_enabled`, `doubt` ── each followed by `follow`
    follow ── time passes · what is remembered · decisions → sink · the end of the start
    end ── a stop in good order: exact ages are remembered

Order matters at two places. What a restart must not forget is written before the ledger is told of what follows from it; and at
the start pools are starting before anything lapses, so that nothing is granted or ended in between. The start is over when
every attached key has been tried once, for a pool at the latest when what its keys may be waited for is over
(`grace.py`): at most `starting_ns_max`.
No I/O but sink, memory and log; no clock, no random source but the jitter that is passed in: a simulation can drive it.
Not thread-safe: `keyring.py` calls it under its lock.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from broker.keyring.book import CapacityBook
from broker.keyring.capacity import Decision, PoolIdentity, decide, loss_cause, pool_of
from broker.keyring.carried import CarriedLicences
from broker.keyring.core import KeyringCore
from broker.keyring.keeping import Keeper
from broker.keyring.memory import Memory
from broker.keyring.periods import PeriodNotices
from broker.keyring.remembered import Remembered
from broker.keyring.sayings import say_change, say_clock, say_notice, say_reading, say_recalled, say_set_aside
from broker.keyring.settings import KeyringSettings
from broker.keyring.sink import CapacitySink
from broker.keyring.views import KeyringViews, key_views, licence_views
from broker.keyring.wall import WallMark
from broker.licence import FolderContent, FolderReading, Licence, Revocations, TrustFile


class KeyringEngine:
    """All that the keyring decides. `begin` once, `end` at most once."""

    def __init__(
        self,
        *,
        settings: KeyringSettings,
        sink: CapacitySink,
        memory: Memory,
        jitter: Callable[[int, int], int],
        wall_high_unix_s: int = 0,
    ) -> None:
        self._settings = settings
        self.core = KeyringCore(settings, jitter)
        self.book = CapacityBook(sink, settings.source_count_max)
        self.wall = WallMark(wall_high_unix_s)
        self.reading = FolderReading()
        self.unscanned: set[str] = set()
        self.is_started = False
        self._is_awaiting = True  # of the keys that stood, some may still be lost since before the start
        self._keeper = Keeper(memory, settings)
        self._periods = PeriodNotices(settings.ending_warnings_s)
        recalled = self._keeper.recalled
        self._content = FolderContent(revocations=Revocations((), recalled.floors, recalled.revoked))
        self._carried = CarriedLicences(settings.carried_count_max)
        self._decision = Decision((), {}, 0, 0)
        self._starting_until_ns = 0

    # --- life ---------------------------------------------------------------------------------------------------------

    @property
    def revocations(self) -> Revocations:
        """What is known of revocations: for the next reading of the folder."""
        return self._content.revocations

    def begin(self, content: FolderContent, bus_names: Iterable[str], now_ns: int, wall_unix_s: int) -> None:
        """The run begins, with such licences in the folder, read with `revocations`."""
        now_unix_s = self.see_wall(wall_unix_s)
        recalled = self._keeper.recalled
        say_recalled(recalled)
        self.unscanned = set(bus_names)
        self._starting_until_ns = now_ns + self._settings.starting_ns_max
        self.core.recall(recalled.keys, now_ns)
        self.take(content, now_ns)
        self._recall_licences(recalled, now_ns, now_unix_s)
        self.follow(now_ns, wall_unix_s)

    def end(self, now_ns: int) -> None:
        """The run ends in good order; nothing follows. The ledger is told nothing: what was proven ends by itself."""
        records = {record.thumbprint: record for record in self.core.records() if record.thumbprint}
        self._keeper.keys(records, now_ns, is_end=True)
        self._keeper.retry()

    def _recall_licences(self, recalled: Remembered, now_ns: int, now_unix_s: int) -> None:
        standings = self.core.standings(now_ns)
        accepted = {licence.digest: licence for licence in self.reading.accepted}
        for digest, memory in recalled.licences.items():
            licence = accepted.get(digest, memory.licence)
            standing = standings.get(licence.thumbprint)
            cause = memory.ended or loss_cause(
                licence,
                standing,
                is_revoked=self.reading.revocations.naming(licence) is not None,
                # What lies on its key is not seen before the key has proven itself.
                is_withdrawn=digest not in accepted and not licence.is_carried,
                is_key_live=False,
                now_unix_s=now_unix_s,
            )
            has_grace = memory.ended is None and standing is not None
            grace_until_ns = max(now_ns, standing.grace_until_ns) if has_grace and standing else now_ns
            self.book.recall(licence, grace_until_ns, cause)
        self._keeper.licences(recalled.licences, self.book.given)

    # --- inputs beside those of the core ---------------------------------------------------------------------------------

    def take(self, content: FolderContent | None, now_ns: int) -> None:
        """Judges all licences anew: those of the folder, other ones if given, and those that keys carry."""
        self._content = content if content is not None else self._content
        before, self.reading = self.reading, self._content.judged(self._carried.all())
        say_reading(before, self.reading)
        self._keeper.revocations(self.reading)
        self._periods.forget_others(self.reading.accepted)
        self.core.licensed(licence.thumbprint for licence in self.reading.accepted)
        self.book.declare(self.reading.accepted)
        if not self.is_started:
            recalled = (memory.licence for memory in self._keeper.recalled.licences.values())
            self.book.begin_starting(self._waits([*self.reading.accepted, *recalled], now_ns))

    def trust_changed(self, trust: TrustFile) -> None:
        """Looks at what keys carry again; `take` follows."""
        self._carried.trust_changed(trust)

    def carried(self, number: int, thumbprint: str, certificate_der: bytes, trust: TrustFile, now_ns: int) -> None:
        """An attachment has proven itself, with such a certificate."""
        if self.core.is_present(number) and self._carried.proven(thumbprint, certificate_der, trust):
            self.take(None, now_ns)

    def see_wall(self, unix_s: int) -> int:
        """The instant to judge licences by, given what the clock says."""
        was_suspect = self.wall.is_suspect
        high_unix_s = self.wall.see(unix_s)
        if self.wall.is_suspect is not was_suspect:
            say_clock(unix_s, high_unix_s, self.wall.is_suspect)
        return high_unix_s

    # --- what follows -------------------------------------------------------------------------------------------------

    def follow(self, now_ns: int, wall_unix_s: int) -> None:
        """What follows every input. `core.woken` is then for the caller, who empties it."""
        now_unix_s = self.see_wall(wall_unix_s)
        self.core.tick(now_ns)
        for change in self.core.changes:
            say_change(change)
        self.core.changes.clear()
        for notice in self._periods.due(self.reading.accepted, now_unix_s):
            say_notice(notice)
        self._keep(now_ns)
        stands = now_ns < self._decision.stands_until_ns and now_unix_s < self._decision.stands_until_unix_s
        if self.core.is_capacity_changed or not stands:
            self._decide(now_ns, now_unix_s)
        self._end_starting(now_ns, wall_unix_s)

    def _keep(self, now_ns: int) -> None:
        self._keeper.retry()
        stale = self.core.stale.union(self._keeper.due(now_ns))
        self._keeper.keys({thumbprint: self.core.find(thumbprint) for thumbprint in stale}, now_ns)
        self.core.stale.clear()

    def _decide(self, now_ns: int, now_unix_s: int) -> None:
        self.core.is_capacity_changed = False
        before, reading = self._decision.set_aside, self.reading
        standings = self.core.standings(now_ns)
        self._decision = decide(
            now_ns, now_unix_s, reading.accepted, standings, self.book.given, reading.revoked
        )
        self.book.apply(self._decision.commands)
        self._keeper.licences(
            dict.fromkeys(command.licence.digest for command in self._decision.commands), self.book.given
        )
        say_set_aside(reading.accepted, before, self._decision.set_aside)

    def _waits(self, licences: Iterable[Licence], now_ns: int) -> Mapping[PoolIdentity, int]:
        """Until when pools may be starting: as long as the best of their recalled keys may be waited for. A pool of none of which
        anything is recalled has no charges that could gain by it."""
        waits: dict[PoolIdentity, list[int]] = {}
        for licence in licences:
            wait_ns = self.core.start_wait_ns(licence.thumbprint, now_ns)
            waits.setdefault(pool_of(licence), []).extend([] if wait_ns is None else [wait_ns])
        return {
            pool: now_ns + max(known) if known else self._starting_until_ns for pool, known in waits.items()
        }

    def _end_starting(self, now_ns: int, wall_unix_s: int) -> None:
        is_over = now_ns >= self._starting_until_ns
        if self.is_started:
            if self._is_awaiting and is_over:
                self._is_awaiting = self.core.end_start(is_over=True)
            return
        is_tried = not self.unscanned and not self.core.unsettled_count()
        if not is_tried and not is_over:
            self.book.end_starting(now_ns)
            return
        self.is_started = True
        self._is_awaiting = self.core.end_start(is_over=is_over)
        self.follow(now_ns, wall_unix_s)
        self.book.end_starting()

    # --- what it shows ------------------------------------------------------------------------------------------------

    def views(self, now_ns: int, wall_unix_s: int, bus_faults: Mapping[str, str]) -> KeyringViews:
        """All keys and licences as they are now."""
        now_unix_s = self.see_wall(wall_unix_s)
        records = self.core.records()
        named = {record.thumbprint: record for record in records if record.thumbprint}
        warned_s = max(self._settings.ending_warnings_s, default=0)
        set_aside = self._decision.set_aside
        reading = replace(self.reading, accepted=(*self.reading.accepted, *self._unread()))
        aside = [one for one in self.reading.accepted if one.digest in set_aside]
        return KeyringViews(
            keys=key_views(records, self.book.given, aside, now_ns),
            licences=licence_views(reading, named, self.book, set_aside, now_unix_s, warned_s),
            is_starting=not self.is_started,
            is_clock_suspect=self.wall.is_suspect,
            faults=self._faults(bus_faults),
        )

    def _unread(self) -> list[Licence]:
        """Licences on keys that are recalled and have not been read in this run."""
        accepted = {licence.digest for licence in self.reading.accepted}
        recalled = (memory.licence for memory in self._keeper.recalled.licences.values())
        given = self.book.given
        return [one for one in recalled if one.is_carried and one.digest in given and one.digest not in accepted]

    def _faults(self, bus_faults: Mapping[str, str]) -> tuple[str, ...]:
        faults = [f"{bus}: {sentence}" for bus, sentence in sorted(bus_faults.items())]
        if count := self.core.unserved_count:
            faults.append(
                f"{count} more keys are attached than the {self._settings.attachment_count_max} that are served"
            )
        if count := len(self._keeper.left_out):
            faults.append(f"{count} keys or licences more than can be remembered over a restart; remove old licences")
        return tuple(faults)
