"""The same bytes to the data plane and to the verbs, over twin ledgers: the same statuses, details and response bytes.

Twins have one broker id, secret and generation, and get the same calls in the same order, so that even session ids are the
same. Only the ttl of an answer that is repeated differs: the listener's clock runs on.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message

from broker.service.methods import parse
from broker.v1 import sessions_pb2, types_pb2
from broker.verbs.errors import VerbError, to_rpc_status
from tests.listener.harness import serving
from tests.verbs.world import World, open_request
from tests.wire.material import MAKERS, damaged

CALL_S = 10.0
STEPS = 400
SEATS = {"platform": 4, "crm": 2, "phone": 1}
PRODUCTS = (*SEATS, "nowhere")

Said = bytes | tuple[int, str, bytes]
"""A response, or the code, sentence and details of a refusal."""

REQUESTS: dict[str, type[Message]] = {
    "Open": sessions_pb2.OpenRequest,
    "Renew": sessions_pb2.RenewRequest,
    "Acquire": sessions_pb2.AcquireRequest,
    "Release": sessions_pb2.ReleaseRequest,
    "Close": sessions_pb2.CloseRequest,
    "OpenWaiting": sessions_pb2.OpenWaitingRequest,
}


class Chances:
    """Requests of a few people as bytes: good ones, random ones, damaged ones, and ones sent before."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.session_ids = [bytes(32)]
        self._sent: list[tuple[str, bytes]] = []

    def next(self) -> tuple[str, bytes]:
        """A method and its bytes."""
        chance = self.chance
        kind = chance.random()
        if kind < 0.1 and self._sent:
            return chance.choice(self._sent[-20:])
        method = chance.choice(("Open", "Open", "Renew", "Renew", *REQUESTS))
        data = self._good(method).SerializeToString()
        if kind < 0.3:
            data = MAKERS[f"{method}Request"](chance).SerializeToString()
        if kind < 0.2:
            data = damaged(chance, data, self._good(method).SerializeToString())
        self._sent.append((method, data))
        return method, data

    def _good(self, method: str) -> Message:
        chance = self.chance
        session_id, request_id = chance.choice(self.session_ids[-12:]), chance.randbytes(16)
        if method == "Renew":
            return sessions_pb2.RenewRequest(session_id=session_id, change_version=chance.randrange(4))
        if method == "Acquire":
            wanted = [types_pb2.ProductRequest(product=chance.choice(PRODUCTS), optional=chance.random() < 0.5)]
            return sessions_pb2.AcquireRequest(session_id=session_id, request_id=request_id, products=wanted)
        if method == "Release":
            return sessions_pb2.ReleaseRequest(session_id=session_id, request_id=request_id, product=chance.choice(PRODUCTS))
        if method == "Close":
            return sessions_pb2.CloseRequest(session_id=session_id, request_id=request_id)
        opening = self._open(request_id)
        return opening if method == "Open" else sessions_pb2.OpenWaitingRequest(open=opening)

    def _open(self, request_id: bytes) -> sessions_pb2.OpenRequest:
        chance = self.chance
        names = chance.sample(PRODUCTS, chance.randint(1, 3))
        fields: dict[str, Any] = {"instance_id": chance.choice(("", "", "a", "b"))}
        if chance.random() < 0.3:
            fields |= {"client_nonce": chance.randbytes(8), "machine_identifiers": ["m1", "m2"]}
        request = open_request(*names[:1], optional=names[1:], user=chance.choice("abc"), request_id=request_id, **fields)
        if chance.random() < 0.1:
            request.wait_limit.seconds = 3
        return request

    def note(self, method: str, said: Said) -> None:
        """Remembers the session that an Open has opened."""
        if method == "Open" and isinstance(said, bytes):
            session_id = sessions_pb2.OpenResponse.FromString(said).grant.session_id
            if session_id:
                self.session_ids.append(session_id)


def ask_verbs(world: World, method: str, data: bytes) -> Said:
    """What the reference says."""
    verbs = world.verbs
    asked: dict[str, Callable[[Any], Message]] = {
        "Open": lambda request: verbs.open(request, ""),
        "Renew": verbs.renew,
        "Acquire": verbs.acquire,
        "Release": verbs.release,
        "Close": verbs.close,
        "OpenWaiting": verbs.open_waiting,
    }
    try:
        return asked[method](parse(REQUESTS[method], data)).SerializeToString(deterministic=True)
    except VerbError as error:
        return (error.code, error.message, to_rpc_status(error).SerializeToString(deterministic=True))


def ask_listener(channel: Any, method: str, data: bytes) -> Said:
    """What the data plane says, in raw bytes."""
    path = f"/broker.v1.Sessions/{method}"
    try:
        if method == "OpenWaiting":
            (said,) = channel.unary_stream(path)(data, timeout=CALL_S)
            return bytes(said)
        return bytes(channel.unary_unary(path)(data, timeout=CALL_S))
    except grpc.RpcError as error:
        given: Any = error
        details = dict(given.trailing_metadata()).get("grpc-status-details-bin", b"")
        return (given.code().value[0], given.details(), details)


def without_time(method: str, said: Said) -> Said:
    """Without what is left of the ttl, in the answer to an Open that was sent before."""
    if method != "Open" or not isinstance(said, bytes):
        return said
    response = sessions_pb2.OpenResponse.FromString(said)
    if not response.grant.replayed:
        return said
    response.grant.ClearField("ttl")
    response.grant.ClearField("renew_after")
    return response.SerializeToString(deterministic=True)


@pytest.mark.parametrize("seed", range(4))
def test_the_data_plane_says_what_the_verbs_say(seed: int) -> None:
    world, chances = World(seats=SEATS), Chances(seed)
    kinds = set()
    with serving(seats=SEATS) as served:
        channel = served.channel()
        for step in range(STEPS):
            method, data = chances.next()
            theirs = ask_verbs(world, method, data)
            ours = ask_listener(channel, method, data)
            assert without_time(method, ours) == without_time(method, theirs), f"seed {seed}, step {step}: {method} {data.hex()}"
            chances.note(method, theirs)
            kinds.add((method, isinstance(theirs, bytes)))
        assert served.ledger.counters() == world.ledger.counters()
    assert len(kinds) == 2 * len(REQUESTS), "every method must have been answered and refused"
