"""The ledger's last commands, as `Ledger.recent_commands` gives them: their decoder, for people and for the replay by the model.

A dump is a head (what the ledger was made with) and records in the order of the mutex, drawn in ext/ledger/trail.pxi. It holds names of
users and request ids, but no session id: what it names is fences.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from broker.model.terms import PoolTerms
from broker.model.words import EndReason, LicenceModel, Sharing, Status

COMMAND_DUMP_MAGIC = b"ushertr1"
COMMAND_DUMP_HEAD = "<8s??6x13q"
_DUMP_HEAD = struct.Struct(COMMAND_DUMP_HEAD)
_SETTING_NAMES = (
    "generation",
    "start_ns",
    "ttl_ns",
    "renew_grace_ns",
    "request_window_ns",
    "denial_window_ns",
    "stall_ns",
    "sessions_max",
    "leases_max",
    "charges_max",
    "requests_max",
    "denials_max",
    "event_ring_size",
)
_HEAD = struct.Struct("<BBHIQ")
_SIGNED = struct.Struct("<q")
_POOL = struct.Struct("<BBBxiqq")
_PROOF = struct.Struct("<qqq")
_ASKED_SIZE = 48
_OPEN_SIZE = 64
_TEXT_PARTS = 6


class CommandKind(IntEnum):
    """What was asked of the ledger; the first five are the verbs of clients."""

    OPEN = 1
    RENEW = 2
    ACQUIRE = 3
    RELEASE = 4
    CLOSE = 5
    TIME = 6
    ADVANCE = 7
    PRODUCT = 8
    POOL = 9
    STARTING = 10
    PROVE = 11
    LOSE = 12
    ADMITTING = 13
    REVOKE = 14
    DRAIN = 15
    WRITABLE = 16
    LEARNING = 17
    CONTROL = 18


@dataclass(frozen=True, slots=True)
class PoolDeclaration:
    """A pool as it was declared."""

    product: int
    terms: PoolTerms
    is_emulated: bool


@dataclass(frozen=True, slots=True)
class Command:
    """One record. `time_ns` is raw; -1 before the first time that the dump knows. The rest as far as the kind has it:

    verbs: status; fence (0: no genuine id; of an Open: what it was answered with), request_id, salt (its hash), products;
    OPEN: texts (user, host, app, label, instance id, identity), ttl_ns, priority; RENEW: number is the echoed change version;
    ADVANCE: number of items done; PRODUCT: texts, its id; POOL: pool; STARTING: number of the pool, is_on; ADMITTING: is_on;
    PROVE: number of the source, pool_number, seats, until_ns, grace_until_ns; LOSE: number of the source, grace_until_ns, reason;
    REVOKE: fence, reason; DRAIN: size, bytes of events; WRITABLE: is_on; LEARNING: until_ns; CONTROL: number of the event's kind, size.
    """

    kind: CommandKind
    time_ns: int
    status: Status = Status.NONE
    reason: EndReason = EndReason.NONE
    number: int = 0
    fence: int = 0
    request_id: bytes = b""
    salt: bytes = b""
    products: tuple[tuple[str, bool], ...] = ()
    texts: tuple[bytes, ...] = ()
    ttl_ns: int = 0
    priority: int = 0
    pool: PoolDeclaration | None = None
    pool_number: int = 0
    seats: int = 0
    until_ns: int = 0
    grace_until_ns: int = 0
    is_on: bool = False
    size: int = 0


@dataclass(frozen=True, slots=True)
class CommandDump:
    """The commands of one ledger. `is_whole`: from its making on, so that they can be done again; else the older ones were
    overwritten, and it can only be shown. `settings` are the arguments that the ledger was made with, but for broker id and secret."""

    is_whole: bool
    settings: dict[str, int]
    commands: tuple[Command, ...]


def decode_commands(dump: bytes) -> CommandDump:
    """All of a dump. ValueError if it is none."""
    if len(dump) < _DUMP_HEAD.size or not dump.startswith(COMMAND_DUMP_MAGIC):
        raise ValueError("this is no dump of a ledger's commands")
    _, is_whole, is_lossy, *numbers = _DUMP_HEAD.unpack_from(dump)
    settings = dict(zip(_SETTING_NAMES, numbers, strict=True)) | {"is_lossy": is_lossy}
    time_ns = settings["start_ns"] if is_whole else -1
    return CommandDump(is_whole, settings, tuple(_commands(dump[_DUMP_HEAD.size :], time_ns)))


def _commands(data: bytes, time_ns: int) -> Iterator[Command]:
    position = 0
    while position < len(data):
        kind, status, size, number, value = _HEAD.unpack_from(data, position)
        if size < _HEAD.size or size % 8 or position + size > len(data):
            raise ValueError(f"a record of {size} bytes at byte {position} of {len(data)}")
        if kind == CommandKind.TIME:
            time_ns = value
        body = data[position : position + size]
        yield _command(CommandKind(kind), time_ns, status, number, value, body)
        position += size


def _command(kind: CommandKind, time_ns: int, status: int, number: int, value: int, body: bytes) -> Command:
    match kind:
        case CommandKind.OPEN | CommandKind.ACQUIRE | CommandKind.RELEASE | CommandKind.CLOSE:
            return _asked(kind, time_ns, Status(status), number, value, body)
        case CommandKind.RENEW:
            return Command(kind, time_ns, status=Status(status), number=number, fence=value)
        case CommandKind.PRODUCT:
            return Command(kind, time_ns, texts=(body[_HEAD.size : _HEAD.size + number],))
        case CommandKind.POOL:
            return Command(kind, time_ns, pool=_pool(number, value, body))
        case CommandKind.PROVE:
            seats, until_ns, grace_until_ns = _PROOF.unpack_from(body, _HEAD.size)
            return Command(
                kind, time_ns, number=number, pool_number=value, seats=seats, until_ns=until_ns, grace_until_ns=grace_until_ns
            )
        case CommandKind.LOSE:
            (grace_until_ns,) = _SIGNED.unpack_from(body, 8)
            return Command(kind, time_ns, number=number, grace_until_ns=grace_until_ns, reason=EndReason(status))
        case CommandKind.REVOKE:
            return Command(kind, time_ns, fence=value, reason=EndReason(status))
        case CommandKind.DRAIN:
            return Command(kind, time_ns, size=value)
        case CommandKind.CONTROL:
            return Command(kind, time_ns, number=number, size=value)
        case CommandKind.LEARNING:
            return Command(kind, time_ns, until_ns=value)
    return Command(kind, time_ns, number=number, is_on=bool(value) and kind is not CommandKind.TIME)


def _asked(kind: CommandKind, time_ns: int, status: Status, number: int, fence: int, body: bytes) -> Command:
    texts: tuple[bytes, ...] = ()
    ttl_ns, priority, position = 0, 0, _ASKED_SIZE
    if kind is CommandKind.OPEN:
        (ttl_ns,) = _SIGNED.unpack_from(body, _ASKED_SIZE)
        priority = body[_OPEN_SIZE - 2]
        texts, position = _texts(body, body[_ASKED_SIZE + 8 : _ASKED_SIZE + 8 + _TEXT_PARTS])
    return Command(
        kind,
        time_ns,
        status=status,
        fence=fence,
        request_id=body[16:32],
        salt=body[32:48].removesuffix(bytes(16)),
        products=_products(body, position, number),
        texts=texts,
        ttl_ns=ttl_ns,
        priority=priority,
    )


def _texts(body: bytes, sizes: bytes) -> tuple[tuple[bytes, ...], int]:
    """The six texts of an Open, and where they end."""
    texts, position = [], _OPEN_SIZE
    for size in sizes:
        texts.append(body[position : position + size])
        position += size
    return tuple(texts), position


def _products(body: bytes, position: int, number: int) -> tuple[tuple[str, bool], ...]:
    """Number: a bit for each that is optional, and their count << 16."""
    products = []
    for index in range(number >> 16):
        size = body[position]
        products.append((body[position + 1 : position + 1 + size].decode(), bool(number >> index & 1)))
        position += 1 + size
    return tuple(products)


def _pool(product: int, share_max: int, body: bytes) -> PoolDeclaration:
    model, sharing, is_emulated, weight, linger_ns, min_hold_ns = _POOL.unpack_from(body, _HEAD.size)
    terms = PoolTerms(
        model=LicenceModel(model),
        sharing=Sharing(sharing),
        share_max=share_max,
        weight=weight,
        linger_ns=linger_ns,
        min_hold_ns=min_hold_ns,
    )
    return PoolDeclaration(product, terms, bool(is_emulated))
