"""Random requests, whole and damaged, and random answers of the ledger: all from one seeded source of chance."""

from __future__ import annotations

import random
from collections.abc import Callable

from google.protobuf.duration_pb2 import Duration

from broker.model.answers import Answer, DenialView, LeaseView
from broker.model.words import Bound, DenialReason, EndReason, InvalidField, LeaseState, Status
from broker.v1 import sessions_pb2, types_pb2

Requests = (
    sessions_pb2.OpenRequest
    | sessions_pb2.OpenWaitingRequest
    | sessions_pb2.RenewRequest
    | sessions_pb2.AcquireRequest
    | sessions_pb2.ReleaseRequest
    | sessions_pb2.CloseRequest
    | sessions_pb2.KeepAliveRequest
)

LETTERS = "abcdefg-/.0123ÄжИ中💡\x00"


def text(chance: random.Random, size_max: int) -> str:
    """Mostly short; now and then around the bound or over it."""
    if chance.random() < 0.9:
        return "".join(chance.choices(LETTERS, k=chance.randint(0, 8)))
    return "x" * chance.randint(max(0, size_max - 1), size_max + 2)


def sized(chance: random.Random, size: int) -> bytes:
    """Mostly of the right size."""
    return chance.randbytes(size if chance.random() < 0.95 else chance.randint(0, size + 2))


def duration(chance: random.Random) -> Duration:
    """Any duration, a good one or not."""
    seconds = chance.choice((0, 0, 1, 60, 604_800, 604_801, 2**62, -1, -(2**63), 9_223_372_037))
    return Duration(seconds=seconds, nanos=chance.choice((0, 0, 1, 10**9 - 1, 10**9, -1, 2**31 - 1)))


def products(chance: random.Random) -> list[types_pb2.ProductRequest]:
    """A few, seldom too many."""
    count = chance.randint(1, 4) if chance.random() < 0.95 else chance.choice((0, 15, 16, 17, 18))
    return [types_pb2.ProductRequest(product=text(chance, 32), optional=chance.random() < 0.3) for _ in range(count)]


def open_request(chance: random.Random) -> sessions_pb2.OpenRequest:
    request = sessions_pb2.OpenRequest(
        request_id=sized(chance, 16),
        holder=types_pb2.Holder(
            user=text(chance, 128) or "u", host=text(chance, 128) or "h", app=text(chance, 64), label=text(chance, 64)
        ),
        products=products(chance),
        instance_id=text(chance, 64),
    )
    if chance.random() < 0.2:
        request.wait_limit.CopyFrom(duration(chance))
    if chance.random() < 0.3:
        request.ttl.CopyFrom(duration(chance))
    if chance.random() < 0.3:
        request.client_nonce = chance.randbytes(chance.choice((0, 1, 31, 32, 33)))
    if chance.random() < 0.3:
        request.machine_identifiers.extend(text(chance, 64) for _ in range(chance.choice((1, 2, 8, 9))))
    return request


def open_waiting_request(chance: random.Random) -> sessions_pb2.OpenWaitingRequest:
    return sessions_pb2.OpenWaitingRequest(open=open_request(chance))


def renew_request(chance: random.Random) -> sessions_pb2.RenewRequest:
    version = chance.choice((0, 1, 127, 128, 2**63 - 1, chance.getrandbits(31), -1))
    request = sessions_pb2.RenewRequest(session_id=sized(chance, 32), change_version=version)
    if chance.random() < 0.5:
        request.active = chance.random() < 0.5
    return request


def acquire_request(chance: random.Random) -> sessions_pb2.AcquireRequest:
    return sessions_pb2.AcquireRequest(
        session_id=sized(chance, 32),
        request_id=sized(chance, 16),
        products=products(chance),
        client_nonce=chance.randbytes(chance.choice((0, 0, 1, 32, 33))),
    )


def release_request(chance: random.Random) -> sessions_pb2.ReleaseRequest:
    return sessions_pb2.ReleaseRequest(session_id=sized(chance, 32), request_id=sized(chance, 16), product=text(chance, 32))


def close_request(chance: random.Random) -> sessions_pb2.CloseRequest:
    return sessions_pb2.CloseRequest(session_id=sized(chance, 32), request_id=sized(chance, 16))


def keep_alive_request(chance: random.Random) -> sessions_pb2.KeepAliveRequest:
    count = chance.randint(0, 3) if chance.random() < 0.99 else chance.choice((255, 256, 257))
    return sessions_pb2.KeepAliveRequest(
        renewals=[renew_request(chance) for _ in range(count)],
        forget=[sized(chance, 32) for _ in range(chance.randint(0, 2))],
    )


MAKERS: dict[str, Callable[[random.Random], Requests]] = {
    "OpenRequest": open_request,
    "OpenWaitingRequest": open_waiting_request,
    "RenewRequest": renew_request,
    "AcquireRequest": acquire_request,
    "ReleaseRequest": release_request,
    "CloseRequest": close_request,
    "KeepAliveRequest": keep_alive_request,
}


# --- damage -------------------------------------------------------------------------------------------------

NASTY = (
    b"\xff\xff\xff\xff\x0f",
    b"\xff\xff\xff\xff\x7f",
    b"\x80\x80\x80\x80\x00",
    b"\xff" * 9 + b"\x01",
    b"\xff" * 9 + b"\x7f",
    b"\x80" * 10 + b"\x01",
    b"\x0b\x0c",
    b"\x0b",
    b"\x0c",
    b"\x13\x0b\x0c\x14",
    b"\x0d1234",
    b"\x091234567\x80",
    b"\x00",
    b"\x07",
    b"\x8a\x00\x00",
    b"\x0a\x80\x00",
    b"\x12\x02\x0a\x00",
    b"\x1a\x00",
    b"\x2a\x02\x08\x01",
    b"\x32\x0b\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    b"\x32\x04\x10\x01\x08\x05",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\xc0\xaf",
)


def damaged(chance: random.Random, data: bytes, other: bytes) -> bytes:
    """The bytes with a few faults: flips, cuts, insertions, joins."""
    out = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        place = chance.randrange(len(out) + 1)
        kind = chance.randrange(6)
        if kind == 0 and out:
            out[place % len(out)] = chance.randrange(256)
        elif kind == 1 and out:
            out[place % len(out)] ^= 1 << chance.randrange(8)
        elif kind == 2:
            del out[place:]
        elif kind == 3:
            out[place:place] = chance.choice(NASTY)
        elif kind == 4:
            out += other
        else:
            del out[place : place + chance.randint(1, 4)]
    return bytes(out)


# --- answers ------------------------------------------------------------------------------------------------

NAMES = ("platform", "crm", "p", "x" * 32, "телефония")
INT32 = (0, 1, 2, 15, 100, 2**31 - 1, -1, -(2**31))


def fence(chance: random.Random) -> int:
    """As the ledger makes them: generation and counter, below 2**63."""
    return chance.choice((1, 3, 2**23 - 1)) << 40 | chance.choice((0, 1, 1042, 2**40 - 1, chance.getrandbits(20)))


def nanoseconds(chance: random.Random) -> int:
    """A duration of an answer."""
    return chance.choice((0, 10**9, 5 * 10**9, 500_000_000, 60 * 10**9, 604_800 * 10**9, chance.getrandbits(50), chance.getrandbits(20)))


def lease(chance: random.Random) -> LeaseView:
    return LeaseView(
        product=chance.choice(NAMES),
        state=chance.choice((LeaseState.ACTIVE, LeaseState.KEY_GRACE, LeaseState.ENDED)),
        end_reason=chance.choice(tuple(EndReason)),
        seats=chance.choice((0, 1, 5, 1000)),
        is_shared=chance.random() < 0.5,
        is_emulated=chance.random() < 0.5,
        fence=fence(chance),
        pool=0,
        key_grace_ns=nanoseconds(chance),
    )


def denial(chance: random.Random) -> DenialView:
    return DenialView(
        reason=chance.choice(tuple(DenialReason)),
        product=chance.choice(NAMES),
        capacity=_count(chance),
        in_use=_count(chance),
        reserved=_count(chance),
        withheld=_count(chance),
        deficit=_count(chance),
        waiters=_count(chance),
        retry_after_ns=nanoseconds(chance),
    )


def _count(chance: random.Random) -> int:
    return chance.choice(INT32) if chance.random() < 0.3 else chance.randint(0, 120)


def answer(chance: random.Random, status: Status) -> Answer:
    """Any answer with this status, as the ledger would fill it."""
    detail = chance.choice((0, 1))
    if status is Status.INVALID:
        detail = chance.choice(tuple(InvalidField)[1:])
    elif status is Status.OVERLOADED:
        detail = chance.choice(tuple(Bound)[1:])
    return Answer(
        status=status,
        session_id=chance.randbytes(32) if status is Status.GRANTED else b"",
        fence=fence(chance),
        ttl_ns=nanoseconds(chance),
        change_version=chance.choice((0, 1, 2**32 - 1)),
        is_replayed=chance.random() < 0.5,
        leases=tuple(lease(chance) for _ in range(chance.choice((0, 1, 2, 32)))),
        unavailable=tuple(denial(chance) for _ in range(chance.choice((0, 0, 1, 15)))),
        denial=denial(chance) if status is Status.DENIED else None,
        end_reason=chance.choice(tuple(EndReason)),
        detail=detail,
    )
