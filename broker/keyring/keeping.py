"""The keeper: what the keyring writes into its memory, and when.

A value is written when it is another one than the last: a key that stands has one and the same however often it proves itself.
Only time that is being spent changes a value by itself: it is written ahead (`grace.py`), and again when half of that is
over, so that the next writing has as long to become durable. Watchers pass here at each scan, so what is ahead is longer
than a few scans. What finds no room is tried again at the next pass; beyond the bounds of `remembered.py` a key or licence
is not remembered, which is said: a key then has its grace anew after a restart, and charges of a licence none.
Pure but for the memory; called under the keyring's lock.
"""

from collections.abc import Collection, Iterable, Mapping

from broker.keyring import remembered
from broker.keyring.capacity import Given
from broker.keyring.memory import Memory, MemoryFull
from broker.keyring.records import KeyRecord
from broker.keyring.remembered import LicenceMemory, Remembered, read_remembered
from broker.keyring.settings import KeyringSettings
from broker.licence import FolderReading
from broker.model.words import EndReason

_COUNT_MAX: Mapping[bytes, int] = {
    remembered.OF_KEY: remembered.KEY_COUNT_MAX,
    remembered.OF_LICENCE: remembered.LICENCE_COUNT_MAX,
    remembered.OF_REVOCATIONS: remembered.REVOCATION_COUNT_MAX,
    remembered.OF_REVOKED: remembered.REVOKED_COUNT_MAX,
}


class Keeper:
    """The one who writes. `recalled` is what was there at the beginning."""

    def __init__(self, memory: Memory, settings: KeyringSettings) -> None:
        kept = memory.all()
        self._memory = memory
        self._kept = {name: value for name, value in kept.items() if _kind(name) in _COUNT_MAX}
        self._counts = {kind: sum(_kind(name) == kind for name in self._kept) for kind in _COUNT_MAX}
        self._unwritten: dict[bytes, bytes] = {}
        self._due_ns: dict[str, int] = {}
        self._spent_ahead_ns = settings.spent_ahead_ns + 2 * settings.scan_interval_ns
        self._awaited_ahead_ns = settings.awaited_ahead_ns + 2 * settings.scan_interval_ns
        self._left_out: set[bytes] = set()
        # Licences that are kept as ended; all that were kept before may be.
        self._ended = {name for name in self._kept if _kind(name) == remembered.OF_LICENCE}
        self.recalled: Remembered = read_remembered(kept)

    def keys(self, records: Mapping[str, KeyRecord | None], now_ns: int, *, is_end: bool = False) -> None:
        """These keys may be other than what was kept; None: forgotten."""
        for thumbprint, record in records.items():
            self._key_of(thumbprint, record, now_ns, is_end)

    def due(self, now_ns: int) -> list[str]:
        """The keys whose grace has nearly been spent as far as it was written."""
        return [thumbprint for thumbprint, due_ns in self._due_ns.items() if due_ns <= now_ns]

    def licences(self, digests: Iterable[str], given: Mapping[str, Given]) -> None:
        """The ledger was told of these licences."""
        for digest in digests:
            name, told = remembered.licence_name(digest), given.get(digest)
            if told is None:
                self._put(name, b"")
            elif told.is_lost or name not in self._kept or name in self._ended:
                self._licence_of(name, told)

    def _licence_of(self, name: bytes, told: Given) -> None:
        is_ended = told.is_lost and told.cause is not EndReason.KEY_LOST
        (self._ended.add if is_ended else self._ended.discard)(name)
        memory = LicenceMemory(told.licence, told.cause if is_ended else None)
        self._put(name, remembered.licence_text(memory))

    def revocations(self, reading: FolderReading) -> None:
        """The folder was read: numbers only rise, and a licence that counts again is no longer held to be revoked."""
        for floor in reading.revocations.floors:
            self._put(remembered.floor_name(floor), remembered.floor_text(floor))
        for digest in reading.revoked:
            self._put(remembered.revoked_name(digest), remembered.revoked_text())
        for licence in reading.accepted:
            if (name := remembered.revoked_name(licence.digest)) in self._kept:
                self._put(name, b"")

    def retry(self) -> None:
        """Tries again what found no room."""
        for name, value in list(self._unwritten.items()):
            self._put(name, value)

    @property
    def left_out(self) -> Collection[bytes]:
        """What is not remembered because there is too much of its kind."""
        return self._left_out

    @property
    def unwritten_count(self) -> int:
        """What waits for room."""
        return len(self._unwritten)

    def _key_of(self, thumbprint: str, record: KeyRecord | None, now_ns: int, is_end: bool) -> None:
        self._due_ns.pop(thumbprint, None)
        ahead_ns = 0
        if record is not None and record.budget.is_spending and not is_end:
            is_awaited = record.budget.awaited_since_ns is not None
            ahead_ns = self._awaited_ahead_ns if is_awaited else self._spent_ahead_ns
            if is_awaited or record.budget.remaining_ns(now_ns) > 0:
                self._due_ns[thumbprint] = now_ns + ahead_ns // 2
        memory = record.remembered(now_ns, ahead_ns, is_end=is_end) if record is not None else None
        self._put(remembered.key_name(thumbprint), remembered.key_text(memory) if memory is not None else b"")

    def _put(self, name: bytes, value: bytes) -> None:
        if self._kept.get(name, b"") == value:
            self._unwritten.pop(name, None)
            return
        kind = _kind(name)
        if value and name not in self._kept and self._counts[kind] >= _COUNT_MAX[kind]:
            self._left_out.add(name)
            return
        try:
            self._memory.put(name, value)
        except MemoryFull:
            self._unwritten[name] = value
            return
        self._unwritten.pop(name, None)
        self._counts[kind] += bool(value) - (name in self._kept)
        self._left_out.discard(name)
        if value:
            self._kept[name] = value
        else:
            del self._kept[name]


def _kind(name: bytes) -> bytes:
    return name.partition(b"/")[0] + b"/"
