"""The two sides of a lockstep run, the model and the compiled ledger, behind one seam.

Each side keeps for itself which session an Open opened, so that one wrong fence shows as a difference and not as
another operation. The ledger's side also holds its session ids against its own word: genuine, of the fence that the answer
says, and the same again in a replay; what it hands on carries the model's plain id in their place.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from broker.model.answers import Answer
from broker.model.events import FLAG_LAST, Event, EventsFull, decode_events
from broker.model.words import Status
from tests.ledger.operations import Operation, Settings
from tests.model.ledger_model import LedgerModel, session_id_of
from tests.model.readings import counters_of, pools_of, products_of, sessions_of

BROKER_ID = b"lockstep"
SECRET = b"sixteen bytes!!!"
GENERATION = 3
FORGED_ID = b"\x5a" * 32
WHOLE_RING = 1 << 30

Readings = dict[str, list[Any]]
Result = Answer | bool | int | None


class Side(Protocol):
    """What does operations and can be asked for events and numbers."""

    def apply(self, operation: Operation) -> Result: ...
    def drain(self, size_max: int) -> list[Event]: ...
    def restart(self, operation: Operation) -> None:
        """A new ledger, of the events so far."""
    def next_due_ns(self, now_ns: int) -> int: ...
    def readings(self, now_ns: int) -> Readings:
        """Products, pools, counters and sessions; the model's views are dictionaries."""


class SessionBook:
    """Which fence each Open opened, by the operation's number."""

    def __init__(self) -> None:
        self.fences: dict[int, int] = {}

    def note(self, operation: Operation, answer: Answer) -> None:
        if answer.status is Status.GRANTED and not answer.is_replayed:
            self.fences[operation.number] = answer.fence

    def fence_of(self, operation: Operation) -> int:
        return self.fences.get(operation.opened_by, 0)


class ModelSide:
    """The specification."""

    def __init__(self, settings: Settings, make: type[LedgerModel] = LedgerModel) -> None:
        self.generation = GENERATION
        self.model = make(generation=GENERATION, **settings.arguments)
        self.book = SessionBook()
        for pool in settings.pools:
            self.model.declare_pool(pool.product, pool.terms, pool.is_emulated)

    def apply(self, operation: Operation) -> Result:
        fence = 0 if operation.is_forged else self.book.fence_of(operation)
        result = _call(self.model, operation, session_id_of(fence), fence)
        if operation.name == "open":
            self.book.note(operation, result)
        return result  # type: ignore[no-any-return]

    def restart(self, operation: Operation) -> None:
        self.generation += 1
        self.model.restart(operation.now_ns, operation.arguments["wall_ns"], self.generation)

    def drain(self, size_max: int) -> list[Event]:
        return self.model.drain(size_max)

    def next_due_ns(self, now_ns: int) -> int:
        return self.model.next_due_ns(now_ns)

    def readings(self, now_ns: int) -> Readings:
        self.model.pass_time(now_ns)
        return {
            "products": products_of(self.model),
            "pools": pools_of(self.model),
            "counters": [counters_of(self.model)],
            "sessions": sessions_of(self.model),
        }


class LedgerSide:
    """The compiled ledger. `extension` is the module to test, in the place of the built one."""

    def __init__(self, settings: Settings, extension: Path | None = None) -> None:
        self._make = ledger_class(extension)
        self._arguments = settings.arguments
        self._generation = GENERATION
        self._snapshot = b""
        self._log = bytearray()
        """All events behind the snapshot."""
        self.ledger = self._new()
        self.book = SessionBook()
        self._ids: dict[int, bytes] = {}
        for pool in settings.pools:
            self.ledger.declare_pool(pool.product, pool.terms, pool.is_emulated)

    def apply(self, operation: Operation) -> Result:
        session_id, fence = self.session_of(operation)
        result = _call(self.ledger, operation, session_id, fence)
        return self.noted(operation, result) if isinstance(result, Answer) else result

    def session_of(self, operation: Operation) -> tuple[bytes, int]:
        """The id and the fence of the session that an operation is about."""
        fence = self.book.fence_of(operation)
        session_id = self._ids.get(fence, FORGED_ID)
        return (_forge(session_id), 0) if operation.is_forged else (session_id, fence)

    def noted(self, operation: Operation, answer: Answer) -> Answer:
        """An answer with the model's session id, after a look at its own."""
        if answer.status is not Status.GRANTED:
            return answer
        self.book.note(operation, answer)
        session_id = self._ids.setdefault(answer.fence, answer.session_id)
        assert answer.session_id == session_id, "a replay gave another session id"
        assert self.ledger.session_fence(session_id) == answer.fence, "an id that is not of its fence"
        return dataclasses.replace(answer, session_id=session_id_of(answer.fence))

    def _new(self) -> Any:
        return self._make(broker_id=BROKER_ID, secret=SECRET, generation=self._generation, **self._arguments)

    def drain(self, size_max: int) -> list[Event]:
        data = self.ledger.drain_events(size_max)
        self._log += data
        return list(decode_events(data))

    def restart(self, operation: Operation) -> None:
        """From the log alone, or, compacted first, from a snapshot in its middle and the rest; everything has been drained."""
        if share := operation.arguments["compacted_share"]:
            self._compact(share)
        self._generation += 1
        self.ledger = self._new()
        for events in (self._snapshot, bytes(self._log)):
            self.ledger.replay(events)
        self.ledger.resume(operation.now_ns, operation.arguments["wall_ns"])

    def _compact(self, share: float) -> None:
        """The older commands of the log become a snapshot, by a shadow of the ledger."""
        shadow, cut = self._new(), command_end(self._log, int(len(self._log) * share))
        shadow.replay(self._snapshot)
        shadow.replay(bytes(self._log[:cut]))
        self._snapshot = dump_of(shadow)
        del self._log[:cut]

    def next_due_ns(self, now_ns: int) -> int:
        return self.ledger.next_due_ns(now_ns)  # type: ignore[no-any-return]

    def readings(self, now_ns: int) -> Readings:
        sessions = self._sessions(now_ns)  # first: of the readings only this one lets time pass
        return {
            "products": self.ledger.products(),
            "pools": self.ledger.pools(),
            "counters": [self.ledger.counters()],
            "sessions": sessions,
        }

    def _sessions(self, now_ns: int) -> list[Any]:
        """All pages, which come in no stated order, by fence; and each session as it is found by itself."""
        page, cursor = self.ledger.sessions(now_ns, 0, 7)
        found = list(page)
        while cursor:
            page, cursor = self.ledger.sessions(now_ns, cursor, 7)
            found += page
        for view in found:
            place = self.ledger.session_place(self._ids[view.fence])
            assert self.ledger.find_session(now_ns, view.fence, place) == view, "found otherwise than listed"
        return sorted(found, key=lambda view: view.fence)


def command_end(events: bytes | bytearray, position: int) -> int:
    """Where the last command ends that lies wholly before the position."""
    at = end = 0
    while at < len(events):
        size = int.from_bytes(events[at : at + 4], "little")
        if at + size > position:
            break
        is_last = events[at + 7] & FLAG_LAST
        at += size
        end = at if is_last else end
    return end


def dump_of(ledger: Any, size_max: int = 1 << 20) -> bytes:
    """All state records of a ledger."""
    parts, cursor = [], 0
    while not parts or cursor:
        part, cursor = ledger.dump(cursor, size_max)
        parts.append(part)
    return b"".join(parts)


_classes: dict[Path | None, Any] = {}


def ledger_class(extension: Path | None = None) -> Any:
    """`broker._ledger.Ledger`, or the one of a module built elsewhere; one process loads one of them only."""
    if extension not in _classes:
        if extension is not None:
            spec = importlib.util.spec_from_file_location("broker._ledger", extension)
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            sys.modules["broker._ledger"] = module
            spec.loader.exec_module(module)
        _classes[extension] = importlib.import_module("broker._ledger").Ledger
    return _classes[extension]


def _forge(session_id: bytes) -> bytes:
    """The last bit of the MAC turned over."""
    return session_id[:-1] + bytes([session_id[-1] ^ 1])


_Caller = Callable[[Any, Operation, bytes, int], Any]


def _on_ledger(ledger: Any, operation: Operation, _session_id: bytes, _fence: int) -> Any:
    return getattr(ledger, operation.name)(operation.now_ns, **operation.arguments)


def _on_session(ledger: Any, operation: Operation, session_id: bytes, _fence: int) -> Any:
    return getattr(ledger, operation.name)(operation.now_ns, session_id, **operation.arguments)


def _on_fence(ledger: Any, operation: Operation, _session_id: bytes, fence: int) -> Any:
    return ledger.revoke(operation.now_ns, fence, **operation.arguments)


def _declare(ledger: Any, operation: Operation, _session_id: bytes, _fence: int) -> Any:
    """Its number; -1: no room for the event, not even in the reserve."""
    try:
        return ledger.declare_pool(**operation.arguments)
    except EventsFull:
        return -1


def _write(ledger: Any, operation: Operation, _session_id: bytes, _fence: int) -> Any:
    """Whether there was room for the event of the control plane."""
    try:
        getattr(ledger, operation.name)(operation.now_ns, **operation.arguments)
    except EventsFull:
        return False
    return True


_CALLERS: dict[str, _Caller] = {
    "note": _write,
    "mark_wall": _write,
    "set_writable": _on_ledger,
    "set_learning": _on_ledger,
    "open": _on_ledger,
    "advance": _on_ledger,
    "set_starting": _on_ledger,
    "set_admitting": _on_ledger,
    "prove_source": _on_ledger,
    "lose_source": _on_ledger,
    "renew": _on_session,
    "acquire": _on_session,
    "release": _on_session,
    "close": _on_session,
    "revoke": _on_fence,
    "declare_pool": _declare,
}


def _call(ledger: Any, operation: Operation, session_id: bytes, fence: int) -> Any:
    return _CALLERS[operation.name](ledger, operation, session_id, fence)
