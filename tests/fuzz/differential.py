"""The codec against google.protobuf and the verbs, for as long as one likes: `python -m tests.fuzz.differential --seconds 60`.

The same comparison as tests/wire, with a fresh seed each time: random and damaged requests decode to the same command or the
same refusal; random outcomes are written as the same bytes. A difference is printed with its bytes, which belong into a
test of tests/wire then. Exit status 1: there was one.
"""

from __future__ import annotations

import argparse
import random
import secrets
import sys
import time
from collections.abc import Iterator

from tests.wire.material import MAKERS, NASTY, answer, damaged, fence
from tests.wire.reference import decoded, decoded_by_wire
from tests.wire.test_encode import REQUESTS, SUCCESSES, can_fail_with, told_by_verbs, told_by_wire

MESSAGES = tuple(MAKERS)
IDENTITIES = (b"", b"", b"CN=ann", b"i" * 128, b"i" * 129)
POOL_SIZE = 300
ROUND_SIZE = 2000
ANSWERS_OF_ROUND = 200


def request_differences(chance: random.Random) -> Iterator[str]:
    """One round of requests, whole and damaged."""
    pools = {message: [MAKERS[message](chance).SerializeToString() for _ in range(POOL_SIZE)] for message in MESSAGES}
    for _ in range(ROUND_SIZE):
        message = chance.choice(MESSAGES)
        data = chance.choice(pools[message])
        kind = chance.random()
        if kind < 0.7:
            data = damaged(chance, data, chance.choice(pools[message]))
        elif kind < 0.75:
            data = chance.randbytes(chance.randrange(60))
        elif kind < 0.8:
            data = chance.choice(pools[chance.choice(MESSAGES)]) + chance.choice(NASTY)
        identity = chance.choice(IDENTITIES)
        if decoded_by_wire(message, data, identity) != decoded(message, data, identity):
            yield f"{message} {data.hex()} identity {identity.hex()}"


def answer_differences(chance: random.Random) -> Iterator[str]:
    """One round of answers and failures."""
    for _ in range(ANSWERS_OF_ROUND):
        message = chance.choice(tuple(REQUESTS))
        status = chance.choice(SUCCESSES[message] if chance.random() < 0.8 else can_fail_with(message))
        given, asked = answer(chance, status), chance.choice((0, fence(chance)))
        if told_by_wire(message, given, asked) != told_by_verbs(message, given, asked):
            yield f"{message} fence {asked} {given}"


def compare(seed: int, *, round_count_max: int | None = None, seconds: float | None = None) -> tuple[int, list[str]]:
    """Rounds until one of the bounds; how many cases there were, and the differences (of one round, the last)."""
    chance = random.Random(seed)
    end = None if seconds is None else time.monotonic() + seconds
    round_count = 0
    while (round_count_max is None or round_count < round_count_max) and (end is None or time.monotonic() < end):
        round_count += 1
        if found := [*request_differences(chance), *answer_differences(chance)]:
            return round_count * (ROUND_SIZE + ANSWERS_OF_ROUND), found
    return round_count * (ROUND_SIZE + ANSWERS_OF_ROUND), []


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.differential")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=None)
    told = parser.parse_args()
    seed = secrets.randbits(32) if told.seed is None else told.seed
    print(f"seed {seed}", flush=True)
    count, found = compare(seed, seconds=told.seconds)
    print(f"{count} cases, {len(found)} differences")
    for one in found[:20]:
        print(one, file=sys.stderr)
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
