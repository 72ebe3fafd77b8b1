"""The keyring's memory: where it keeps what a restart must not change.

Names and values are bytes, a value is at most `VALUE_SIZE_MAX` of them; what they say is `remembered.py`. The broker keeps them
in the ledger's journal, so that they are exactly as durable as the sessions that stand on the keys; tests and a broker
without durability keep them in a dict. Called under the keyring's lock, from any of its threads; must not call back.
"""

from collections.abc import Mapping
from typing import Final, Protocol

NAME_SIZE_MAX: Final = 96
VALUE_SIZE_MAX: Final = 1024


class MemoryFull(Exception):
    """There is no room for it now; what was kept before stands. It is tried again at the keyring's next input."""


class Memory(Protocol):
    """What outlives the process."""

    def put(self, name: bytes, value: bytes) -> None:
        """Keeps a value instead of any earlier one of that name; an empty one forgets it. MemoryFull."""

    def all(self) -> Mapping[bytes, bytes]:
        """All that is kept, by name."""


class VolatileMemory:
    """A memory that ends with the process, or with the test."""

    def __init__(self, kept: Mapping[bytes, bytes] | None = None) -> None:
        self.kept: dict[bytes, bytes] = dict(kept or {})

    def put(self, name: bytes, value: bytes) -> None:
        """Keeps or forgets."""
        assert 0 < len(name) <= NAME_SIZE_MAX, name
        assert len(value) <= VALUE_SIZE_MAX, name
        if value:
            self.kept[name] = value
        else:
            self.kept.pop(name, None)

    def all(self) -> Mapping[bytes, bytes]:
        """A copy."""
        return dict(self.kept)
