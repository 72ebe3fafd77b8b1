"""Damaged logs and snapshots for the replay: whatever stands in a file, it is refused by name or gives a ledger that is in order.

    python -m tests.ledger.hostile --kind NAME --count N --seed S

Single bytes, and whole fields of one event with numbers that break something: neighbours, bounds, other events' values. What is
accepted must pass the audit of its dump, and must bear a run: resume, time, a few commands.
"""

from __future__ import annotations

import argparse
import secrets
from random import Random

from tests.ledger.histories import History, history_of
from tests.ledger.sides import dump_of
from tests.ledger.state_audit import audit_state
from tests.ledger.test_replay_of_events import event_ends

OPERATION_COUNT = 250
FIELDS = ((0, 4), (4, 2), (6, 1), (7, 1), (8, 8), (16, 8), (24, 8), (32, 8), (40, 4), (44, 4), (48, 4), (52, 4), (56, 8), (64, 8), (72, 8), (80, 8))
"""Offset and size of a header's fields, and of words of the bodies."""


def damaged(rng: Random, data: bytes) -> bytes:
    """One to three changes."""
    changed = bytearray(data)
    starts = [0, *event_ends(data)][:-1]
    for _ in range(rng.choice((1, 1, 2, 3))):
        start = rng.choice(starts)
        if rng.random() < 0.3:
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
        elif rng.random() < 0.1:
            end = rng.choice([at for at in [*starts, len(changed)] if at > start][:4])
            del changed[start:end]
            return bytes(changed)
        else:
            offset, size = rng.choice(FIELDS)
            _put(rng, changed, start + offset, size, rng.choice(starts) + offset)
    return bytes(changed)


def _put(rng: Random, changed: bytearray, at: int, size: int, other: int) -> None:
    now = int.from_bytes(changed[at : at + size], "little")
    values = (0, 1, now + 1, now - 1, now ^ (1 << rng.randrange(8 * size)), (1 << (8 * size)) - 1, 1 << (8 * size - 1), rng.randrange(40))
    value = rng.choice(values) % (1 << (8 * size))
    if rng.random() < 0.3:
        value = int.from_bytes(changed[other : other + size], "little")
    changed[at : at + size] = value.to_bytes(size, "little")[: len(changed) - at]


def bear(history: History, *parts: bytes) -> bool:
    """Whether it was accepted; then it is in order."""
    ledger = history.new()
    try:
        for part in parts:
            ledger.replay(part)
        ledger.resume(1, 0)
    except ValueError:
        return False
    audit_state(dump_of(ledger), are_fences_genuine=False)
    for now_ns in (1, 2 * 10**9, 3 * 10**9, 200 * 10**9):
        ledger.open(now_ns, request_id=now_ns.to_bytes(16, "big"), user=b"ann", host=b"desk", products=[("product-0", False)])
        while ledger.advance(now_ns):
            pass
    audit_state(dump_of(ledger), are_fences_genuine=False)
    return True


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.ledger.hostile")
    parser.add_argument("--kind", default="everyday")
    parser.add_argument("--count", type=int, default=1_000)
    parser.add_argument("--seed", type=int)
    told = parser.parse_args()
    seed = secrets.randbits(32) if told.seed is None else told.seed
    print(f"seed {seed}", flush=True)
    rng = Random(seed)
    history = history_of(f"hostile/{told.kind}", told.kind, OPERATION_COUNT)
    snapshot = dump_of(history.ledger)
    accepted_count = 0
    for number in range(told.count):
        source = snapshot if number % 2 else history.events
        accepted_count += bear(history, damaged(rng, source))
    print(f"{told.count} damaged, {accepted_count} of them unnoticed and in order")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
