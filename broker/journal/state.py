"""What a broker knows to have committed, beside its log and outside of it: how a restored backup is noticed.

A log that was put back as it was an hour ago verifies from end to end. So generation and committed position are written down at each
start, snapshot and clean stop: in the log's directory, where it notices a log that lost its end, and, if the configuration names a place, outside,
where it survives a restore of the whole data directory (semantics rule 22). A line of JSON:

    {"broker": "0102030405060708", "committed": 123456, "generation": 7, "version": 1}

The state lags behind the log, never ahead of it: it is written when what it says is on the disk. Called by one thread at a time.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from broker._journal import LogDisk, RealDisk
from broker.errors import DataDirectoryError

STATE_NAME = "state"
STATE_VERSION = 1


@dataclass(frozen=True, slots=True)
class LogState:
    """What was so at the least: the broker has been started so often, and its log reached this position."""

    broker_id: bytes
    generation: int
    committed: int

    def joined(self, other: LogState) -> LogState:
        """The most of both."""
        return LogState(self.broker_id, max(self.generation, other.generation), max(self.committed, other.committed))


class RestoredBackup(DataDirectoryError):
    """What lies here is older than what this broker has committed. `seen` says what it has; nothing was changed."""

    def __init__(self, path: Path, seen: LogState, *, generation: int, position: int | None = None) -> None:
        now = f"this is only start {generation}" if position is None else f"the log here ends at {position}"
        super().__init__(
            path,
            f"the broker had been started {seen.generation} times and committed up to position {seen.committed}, but {now}:"
            " a backup was restored, or the end of the log is gone",
            "put back the newest state, or start once with --accept-restored: sessions opened since then are lost, their clients open anew",
        )
        self.seen = seen


@dataclass(frozen=True, slots=True)
class StatePlace:
    """A file in a directory."""

    disk: LogDisk
    name: str

    @property
    def path(self) -> Path:
        """For people."""
        return Path(self.disk.name) / self.name

    def read(self, broker_id: bytes) -> LogState | None:
        """None: nothing was written yet. DataDirectoryError: it cannot be read, or is of another broker."""
        try:
            text = self.disk.load(self.name)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise DataDirectoryError(self.path, f"cannot be read: {error.strerror}", "make it readable for the broker's user") from error
        state = _decoded(text, self.path)
        if state.broker_id != broker_id:
            raise DataDirectoryError(
                self.path, f"is of another broker ({state.broker_id.hex()})", "give each broker a data directory and a state file of its own"
            )
        return state

    def write(self, state: LogState) -> None:
        """Durable when it returns. OSError."""
        self.disk.store(self.name, _encoded(state))


def outside_place(path: Path) -> StatePlace:
    """The file that the configuration names; its directory is made if need be."""
    return StatePlace(RealDisk(path.parent), path.name)


def read_all(places: tuple[StatePlace, ...], broker_id: bytes) -> LogState:
    """The most that any place knows; zeros if none knows anything."""
    state = LogState(broker_id, 0, 0)
    for place in places:
        found = place.read(broker_id)
        state = state if found is None else state.joined(found)
    return state


def generation_seen(folder: Path, state_file: Path | None, broker_id: bytes) -> int:
    """The latest start that the state of this log directory, or the file outside, knows: a directory that was restored must begin behind it. 0 if
    nothing is known. Makes no directory."""
    paths = [folder / STATE_NAME, *([state_file] if state_file else [])]
    places = tuple(outside_place(path) for path in paths if path.exists())
    return read_all(places, broker_id).generation


def _encoded(state: LogState) -> bytes:
    facts = {"version": STATE_VERSION, "broker": state.broker_id.hex(), "generation": state.generation, "committed": state.committed}
    return (json.dumps(facts, sort_keys=True) + "\n").encode()


def _decoded(text: bytes, path: Path) -> LogState:
    try:
        facts = json.loads(text)
        version, broker_id = facts["version"], bytes.fromhex(facts["broker"])
        generation, committed = int(facts["generation"]), int(facts["committed"])
    except (ValueError, KeyError, TypeError) as error:
        raise DataDirectoryError(path, f"is damaged ({error!r})", "restore it, or delete it: restored backups go unnoticed once") from None
    if version != STATE_VERSION:
        raise DataDirectoryError(path, f"has the format {version} of a newer version", "start that version, or one newer than it")
    return LogState(broker_id, generation, committed)
