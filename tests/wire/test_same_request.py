"""One ledger, two codecs: random lives of sessions are told in the same bytes, and a request is the same over both."""

from __future__ import annotations

import random
from typing import Any

import pytest

from broker import _wire
from broker._ledger import siphash
from broker.model.answers import Answer
from broker.model.words import Status
from broker.v1 import sessions_pb2, types_pb2
from broker.verbs import requests
from broker.verbs.errors import VerbError, to_rpc_status
from tests.verbs.world import RENEW_GRACE_NS, World, open_request

SECRET = b"s" * 16
"""The ledger's of `World`."""


class WireDoor:
    """Requests by the codec, over the ledger of a world. What the wire cannot give back of a salt, its bytes, is given beside."""

    def __init__(self, world: World) -> None:
        self._world = world

    def ask(self, message: str, data: bytes, salt: bytes = b"") -> Any:
        """The response's bytes, or (code, sentence, details)."""
        try:
            command = _wire.decode(message, data, secret=SECRET)
            assert command[8] == (siphash(SECRET, salt) if salt else bytes(16)), "another salt, another request"
            given = self._execute(command, salt)
            fence = self._world.ledger.session_fence(command[4]) if message != "OpenRequest" else 0
            return _wire.encode(message, given, renew_grace_ns=RENEW_GRACE_NS, fence=fence)
        except _wire.Refused as refused:
            return (refused.code, refused.message, refused.details)

    def _execute(self, command: _wire.DecodedCommand, salt: bytes) -> Answer:
        ledger, now_ns = self._world.ledger, self._world.clock()
        verb, _, texts, products, session_id, request_id, version, ttl_ns, *_ = command
        if verb == 1:
            user, host, app, label, instance_id, identity = texts
            return ledger.open(
                now_ns, request_id=request_id, user=user, host=host, app=app, label=label, instance_id=instance_id,
                identity=identity, products=products, ttl_ns=ttl_ns, salt=salt,
            )  # fmt: skip
        if verb == 2:
            return ledger.renew(now_ns, session_id, version)
        if verb == 3:
            return ledger.acquire(now_ns, session_id, request_id, products, salt)
        if verb == 4:
            return ledger.release(now_ns, session_id, request_id, products[0][0])
        return ledger.close(now_ns, session_id, request_id)


def ask_verbs(world: World, request: Any) -> Any:
    """The same by the verbs."""
    method = type(request).__name__.removesuffix("Request").lower()
    try:
        arguments = (request, "") if method == "open" else (request,)
        return getattr(world.verbs, method)(*arguments).SerializeToString(deterministic=True)
    except VerbError as error:
        return (error.code, error.message, to_rpc_status(error).SerializeToString(deterministic=True))


def salt_of(request: Any) -> bytes:
    if isinstance(request, sessions_pb2.OpenRequest):
        return requests.open_salt(request)
    return requests.acquire_salt(request) if isinstance(request, sessions_pb2.AcquireRequest) else b""


PRODUCTS = ("platform", "crm", "phone", "nowhere")


class Life:
    """Random requests of a few people, and the session ids that they got."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.session_ids = [bytes(32)]

    def request(self) -> Any:
        chance = self.chance
        session_id, request_id = chance.choice(self.session_ids[-12:]), chance.randbytes(16)
        kind = chance.randrange(10)
        if kind < 4:
            return self._open(request_id)
        if kind < 7:
            return sessions_pb2.RenewRequest(session_id=session_id, change_version=chance.randrange(4))
        if kind == 7:
            wanted = [types_pb2.ProductRequest(product=chance.choice(PRODUCTS), optional=chance.random() < 0.5)]
            return sessions_pb2.AcquireRequest(session_id=session_id, request_id=request_id, products=wanted, client_nonce=chance.randbytes(3))
        if kind == 8:
            return sessions_pb2.ReleaseRequest(session_id=session_id, request_id=request_id, product=chance.choice(PRODUCTS))
        return sessions_pb2.CloseRequest(session_id=session_id, request_id=request_id)

    def _open(self, request_id: bytes) -> sessions_pb2.OpenRequest:
        chance = self.chance
        names = chance.sample(PRODUCTS, chance.randint(1, 3))
        fields: dict[str, Any] = {"instance_id": chance.choice(("", "a", "b"))}
        if chance.random() < 0.3:
            fields |= {"client_nonce": chance.randbytes(8), "machine_identifiers": ["m1", "m2"]}
        return open_request(*names[:1], optional=names[1:], user=chance.choice("abc"), request_id=request_id, **fields)

    def note(self, response: Any) -> None:
        """Remembers the session that an Open has opened."""
        if isinstance(response, bytes):
            opened = sessions_pb2.OpenResponse.FromString(response)
            if opened.grant.session_id:
                self.session_ids.append(opened.grant.session_id)


def make_world() -> World:
    return World(seats={"platform": 3, "crm": 2, "phone": 1})


@pytest.mark.parametrize("seed", range(8))
def test_a_random_life_is_told_in_the_same_bytes_by_both_data_planes(seed: int) -> None:
    by_verbs, by_wire = make_world(), make_world()
    door, life = WireDoor(by_wire), Life(seed)
    kinds = set()
    for step in range(300):
        request = life.request()
        theirs = ask_verbs(by_verbs, request)
        ours = door.ask(type(request).__name__, request.SerializeToString(), salt_of(request))
        assert ours == theirs, f"seed {seed}, step {step}: {request}"
        if isinstance(request, sessions_pb2.OpenRequest):
            life.note(theirs)
        kinds.add((type(request).__name__, isinstance(theirs, bytes)))
        for world in (by_verbs, by_wire):
            _let_time_pass(world, step)
    assert len(kinds) >= 7


def _let_time_pass(world: World, step: int) -> None:
    world.clock.advance_s((step * 7) % 11 / 2)
    if step == 150:
        world.lose(0, grace_s=60)
    world.settle()


@pytest.mark.parametrize("is_wire_first", [True, False])
def test_a_retry_over_the_other_data_plane_is_the_same_request(is_wire_first: bool) -> None:
    world = make_world()
    door = WireDoor(world)
    request = open_request("platform", optional=["crm"], client_nonce=b"n" * 5, machine_identifiers=["pc"], instance_id="i")
    request.ttl.seconds = 30
    ask = [
        lambda: door.ask("OpenRequest", request.SerializeToString(), salt_of(request)),
        lambda: ask_verbs(world, request),
    ]
    first, second = (ask[not is_wire_first](), ask[is_wire_first]())
    granted, repeated = (sessions_pb2.OpenResponse.FromString(data).grant for data in (first, second))
    assert granted.session_id == repeated.session_id
    assert (granted.replayed, repeated.replayed) == (False, True)


def test_another_nonce_is_another_request_over_the_other_data_plane_too() -> None:
    world = make_world()
    request = open_request("platform", client_nonce=b"one")
    ask_verbs(world, request)
    request.client_nonce = b"two"
    code, _, details = WireDoor(world).ask("OpenRequest", request.SerializeToString(), salt_of(request))
    assert code == 3
    assert b"REQUEST_ID_REUSED" in details


def test_what_the_ledger_finds_invalid_is_said_alike_with_every_fault_at_once() -> None:
    chance = random.Random(9)
    for _ in range(400):
        world_request = open_request(
            chance.choice(("", "p", "p" * 33)), optional=chance.choice(([], ["p"], ["q"])),
            user=chance.choice(("", "u", "u" * 129)), host=chance.choice(("", "h", "h" * 129)),
            app="a" * chance.choice((1, 65)), label="l" * chance.choice((1, 65)), instance_id="i" * chance.choice((1, 65)),
        )  # fmt: skip
        theirs = ask_verbs(_WORLD, world_request)
        if isinstance(theirs, bytes):
            continue
        command = _wire.decode("OpenRequest", world_request.SerializeToString(), secret=SECRET)
        found = command[1] or 7  # the rest, twice the same and only optional ones, is found by the ledger's sealing
        with pytest.raises(_wire.Refused) as caught:
            _wire.encode("OpenRequest", Answer(status=Status.INVALID, detail=found))
        assert (caught.value.code, caught.value.message, caught.value.details) == theirs


_WORLD = make_world()
