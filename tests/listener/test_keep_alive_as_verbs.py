"""The same messages to a KeepAlive stream of the data plane and of the verbs, over twin ledgers: the same bytes, the same end.

Twins have one broker id, secret and generation, and get the same calls in the same order, so that even session ids are the
same. What is said of time (how long key grace lasts) is left out of the comparison, since the listener's clock runs on.
"""

from __future__ import annotations

import random
import time
from dataclasses import replace
from typing import Any

import grpc
import pytest

from broker._ledger import Ledger
from broker.model.views import Counters
from broker.model.words import EndReason
from broker.service.methods import parse
from broker.v1 import sessions_pb2
from broker.verbs.errors import VerbError, to_rpc_status
from broker.verbs.keep_alive import KeepAliveStream
from tests.listener.harness import Served, serving
from tests.listener.streams import DETAILS_METADATA, KeepAlive, ask, lose
from tests.verbs.world import World
from tests.wire.material import MAKERS, damaged

SEATS = {"platform": 40, "crm": 6, "phone": 2}
SETTINGS: dict[str, Any] = {"sessions_max": 4096, "leases_max": 8192, "charges_max": 8192, "requests_max": 8192, "denials_max": 1024}
STREAMS = 25
STEPS = 12

End = tuple[int, str, bytes]


class Twins:
    """A world of the verbs and a served listener, and what has been opened on both."""

    def __init__(self, served: Served, seed: int) -> None:
        self.world = World(seats=SEATS)
        self.served = served
        self.chance = random.Random(seed)
        self.session_ids: list[bytes] = [bytes(32), b"\x07" * 32]

    def open(self) -> None:
        fields: dict[str, Any] = {
            "request_id": self.chance.randbytes(16),
            "user": b"ada",
            "host": b"host",
            "products": [(product, False) for product in self.chance.sample([*SEATS], self.chance.randint(1, 2))],
        }
        ours = self.served.ledger.open(time.monotonic_ns(), **fields)
        theirs = self.world.ledger.open(self.world.clock(), **fields)
        assert ours.session_id == theirs.session_id
        if ours.session_id:
            self.session_ids.append(ours.session_id)

    def end(self) -> None:
        session_id = self.chance.choice(self.session_ids)
        fence = self.world.ledger.session_fence(session_id)
        for ledger, now_ns in ((self.served.ledger, time.monotonic_ns()), (self.world.ledger, self.world.clock())):
            ledger.revoke(now_ns, fence, EndReason.REVOKED)

    def request(self) -> bytes:
        """A message: mostly a good one."""
        chance = self.chance
        ids = [chance.choice(self.session_ids[-30:]) for _ in range(chance.choice((0, 1, 2, 5, 40)))]
        message = ask(*ids, forget=tuple(chance.sample(self.session_ids, chance.choice((0, 0, 1)))))
        for renewal in message.renewals:
            renewal.change_version = chance.randrange(4)
            if chance.random() < 0.3:
                renewal.active = chance.random() < 0.5
        data = message.SerializeToString()
        kind = chance.random()
        if kind < 0.03:
            return damaged(chance, data, data)
        return MAKERS["KeepAliveRequest"](chance).SerializeToString() if kind < 0.06 else data


def ask_verbs(stream: KeepAliveStream, data: bytes) -> tuple[list[bytes], End | None]:
    """What the reference says to one message, and how it ends the stream if it does."""
    try:
        answers = stream.answer(parse(sessions_pb2.KeepAliveRequest, data))
    except VerbError as error:
        return [], (error.code, error.message, to_rpc_status(error).SerializeToString(deterministic=True))
    return [answer.SerializeToString(deterministic=True) for answer in answers], None


def end_of(stream: KeepAlive) -> End:
    """How the listener ended the stream; notices may come before."""
    assert not any(sessions_pb2.KeepAliveResponse.FromString(data).results for data in stream.rest())
    details = dict(stream.call.trailing_metadata()).get(DETAILS_METADATA, b"")
    return (stream.call.code().value[0], stream.call.details(), details)


def compare_stream(twins: Twins, channel: grpc.Channel) -> bool:
    """One stream on both, message by message; whether it ended early."""
    reference = twins.world.verbs.keep_alive_stream()
    with KeepAlive(twins.served, channel) as stream:
        for _ in range(STEPS):
            twins.open()
            if twins.chance.random() < 0.2:
                twins.end()
            data = twins.request()
            theirs, end = ask_verbs(reference, data)
            stream.send_bytes(data)
            if end is not None:
                assert end_of(stream) == end, data.hex()
                reference.close()
                return True
            for answer in theirs:
                assert next_answer(stream) == answer, data.hex()
    reference.close()
    return False


def next_answer(stream: KeepAlive) -> bytes:
    """The next message that holds results: notices come on their own."""
    while True:
        data = stream.message()
        if sessions_pb2.KeepAliveResponse.FromString(data).results:
            return data


@pytest.mark.parametrize("seed", range(3))
def test_a_stream_of_the_data_plane_says_what_one_of_the_verbs_says(seed: int) -> None:
    with serving(seats=SEATS, **SETTINGS) as served:
        twins = Twins(served, seed)
        channel = served.channel()
        ends = [compare_stream(twins, channel) for _ in range(STREAMS)]
        assert counts(served.ledger) == counts(twins.world.ledger)
    assert set(ends) == {True, False}, "some streams must have been refused, some not"


def counts(ledger: Ledger) -> Counters:
    """All but the events: denials are gathered into one a second, and the listener's clock runs on."""
    return replace(ledger.counters(), event_total=0, event_size=0)


def timeless(notice: sessions_pb2.Notice) -> bytes:
    """Without how long key grace lasts."""
    for lease in notice.leases_changed.leases:
        lease.ClearField("key_grace")
    return notice.SerializeToString(deterministic=True)


def test_notices_say_what_those_of_the_verbs_say() -> None:
    with serving(seats=SEATS, **SETTINGS) as served:
        twins = Twins(served, 1)
        world = twins.world
        for _ in range(40):
            twins.open()
        ids = twins.session_ids[2:]
        reference = world.verbs.keep_alive_stream()
        with KeepAlive(served) as stream:
            stream.renew(*ids)
            ask_verbs(reference, ask(*ids).SerializeToString())
            for source in (0, 1):
                lose(served, source)
                world.lose(source)
                compare_notices(world, reference, stream)
            for source, product in enumerate(("platform", "crm")):
                now_ns, pool = time.monotonic_ns(), world.pools[product]
                served.ledger.prove_source(now_ns, source, pool, SEATS[product], 2**62, 2**62)
                world.add_seats(source, product, SEATS[product])
                world.settle()
                compare_notices(world, reference, stream)
            lose(served, 1, grace_s=0, cause=EndReason.LICENCE_ENDED)
            world.lose(1, grace_s=0, cause=EndReason.LICENCE_ENDED)
            compare_notices(world, reference, stream)
            for session_id in ids:
                fence = world.ledger.session_fence(session_id)
                assert served.ledger.revoke(time.monotonic_ns(), fence, EndReason.REVOKED)
                assert world.ledger.revoke(world.clock(), fence, EndReason.REVOKED)
            world.settle()
            compare_notices(world, reference, stream)


def compare_notices(world: World, reference: KeepAliveStream, stream: KeepAlive) -> None:
    """All notices that the reference has waiting, in whichever order the sessions come."""
    theirs = list(reference._waiting)
    reference._waiting.clear()
    assert theirs
    assert sorted(map(timeless, stream.notices(len(theirs)))) == sorted(map(timeless, theirs))
    assert not stream.has_unread
