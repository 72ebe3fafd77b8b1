"""The unary calls of Sessions over the data plane: each answer, each refusal with its ErrorInfo, and what is counted of it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2

from broker.v1 import sessions_pb2, sessions_pb2_grpc, types_pb2
from broker.verbs.bounds import MESSAGE_SIZE_MAX
from broker.verbs.stats import BUCKET_BOUNDS_SECONDS, OUTCOMES
from tests.listener.harness import Served, serving
from tests.listener.many_calls import calls, read_ends, window_setting
from tests.verbs.world import fresh_id, open_request

CALL_S = 10.0
NOWHERE_ID = bytes(32)


@pytest.fixture
def served() -> Iterator[Served]:
    """Three seats of platform, one of crm."""
    with serving(seats={"platform": 3, "crm": 1}) as one:
        yield one


class Client:
    """Calls on one connection, with the answers or refusals that come."""

    def __init__(self, served: Served) -> None:
        self.channel: Any = served.channel()
        self.stub: Any = sessions_pb2_grpc.SessionsStub(self.channel)

    def open(self, *products: str, **fields: Any) -> Any:
        return self.stub.Open(open_request(*products, **fields), timeout=CALL_S)

    def grant(self, *products: str, **fields: Any) -> Any:
        answer = self.open(*products, **fields)
        assert answer.WhichOneof("result") == "grant", answer
        return answer.grant

    def renew(self, session_id: bytes) -> Any:
        return self.stub.Renew(sessions_pb2.RenewRequest(session_id=session_id), timeout=CALL_S)

    def close(self, session_id: bytes, request_id: bytes | None = None) -> Any:
        request = sessions_pb2.CloseRequest(session_id=session_id, request_id=request_id or fresh_id())
        return self.stub.Close(request, timeout=CALL_S)


@pytest.fixture
def client(served: Served) -> Client:
    """A client on a connection of its own."""
    return Client(served)


Refusal = tuple[grpc.StatusCode, str, dict[str, str]]


def refusal(call: Callable[[], object]) -> Refusal:
    """Status, reason and metadata of a call that must fail; the details must say the same as the status."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    error: Any = caught.value
    status = status_pb2.Status.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"])
    assert (status.code, status.message) == (error.code().value[0], error.details())
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert info.domain == "usher"
    return error.code(), info.reason, dict(info.metadata)


# --- answers ------------------------------------------------------------------------------------------------


def test_a_session_lives_from_open_to_close(served: Served, client: Client) -> None:
    grant = client.grant("platform", optional=["crm"])
    assert [lease.product for lease in grant.leases] == ["platform", "crm"]
    assert (grant.ttl.seconds, grant.renew_grace.seconds) == (60, 10)
    assert client.renew(grant.session_id).ttl.seconds == 60
    assert client.close(grant.session_id).end_reason == types_pb2.END_REASON_CLOSED
    assert served.ledger.counters().session_count == 0


def test_products_are_acquired_and_released_inside_a_session(client: Client) -> None:
    session_id = client.grant("platform").session_id
    wanted = [types_pb2.ProductRequest(product="crm")]
    acquire = sessions_pb2.AcquireRequest(session_id=session_id, request_id=fresh_id(), products=wanted)
    assert [lease.product for lease in client.stub.Acquire(acquire, timeout=CALL_S).acquired.leases] == ["crm"]
    assert client.stub.Acquire(acquire, timeout=CALL_S).acquired.replayed
    release = sessions_pb2.ReleaseRequest(session_id=session_id, request_id=fresh_id(), product="crm")
    assert client.stub.Release(release, timeout=CALL_S).released.was_held


def test_a_full_product_is_denied_with_its_numbers(client: Client) -> None:
    client.grant("crm")
    denial = client.open("crm", user="bob").denial
    assert (denial.reason, denial.capacity, denial.in_use) == (types_pb2.DENIAL_REASON_NO_FREE_SEATS, 1, 1)
    assert denial.message.startswith("The only seat of crm is in use")


def test_an_open_sent_again_is_the_same_session(served: Served, client: Client) -> None:
    request = open_request("platform")
    first, second = (client.stub.Open(request, timeout=CALL_S).grant for _ in range(2))
    assert (first.session_id, first.replayed, second.replayed) == (second.session_id, False, True)
    assert served.ledger.counters().session_count == 1


def test_an_open_sent_again_after_its_session_has_ended_says_so(client: Client) -> None:
    request = open_request("platform")
    client.close(client.stub.Open(request, timeout=CALL_S).grant.session_id)
    assert client.stub.Open(request, timeout=CALL_S).ended.end_reason == types_pb2.END_REASON_CLOSED


@pytest.mark.parametrize("is_streamed", [False, True])
def test_an_open_that_would_wait_is_denied_with_the_products_numbers(client: Client, is_streamed: bool) -> None:
    client.grant("platform")
    request = open_request("platform", optional=["crm"], wait_limit=Duration(seconds=5))
    if is_streamed:
        answers = list(client.stub.OpenWaiting(sessions_pb2.OpenWaitingRequest(open=request), timeout=CALL_S))
        assert [answer.HasField("denial") for answer in answers] == [True]
        denial = answers[0].denial
    else:
        denial = client.stub.Open(request, timeout=CALL_S).denial
    assert denial.reason == types_pb2.DENIAL_REASON_WAITING_UNSUPPORTED
    assert (denial.product, denial.capacity, denial.in_use, denial.deficit) == ("platform", 3, 1, 0)


def test_many_calls_of_many_connections_are_each_answered(served: Served) -> None:
    clients = [Client(served) for _ in range(4)]
    session_id = clients[0].grant("platform").session_id
    request = sessions_pb2.RenewRequest(session_id=session_id)
    calls = [client.stub.Renew.future(request, timeout=CALL_S) for _ in range(150) for client in clients]
    assert {call.result().ttl.seconds for call in calls} == {60}
    counters = served.listener.counters()
    assert counters.calls["Sessions/Renew", "ok"].bucket_counts != ()
    assert sum(counters.calls["Sessions/Renew", "ok"].bucket_counts) == 600
    assert counters.batched_commands == 601


# --- refusals ---------------------------------------------------------------------------------------------------

INVALID, NOT_FOUND = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND
FIELD = "INVALID_FIELD"


def test_bytes_that_are_no_message_are_refused(client: Client) -> None:
    for method in ("Open", "Renew", "Acquire", "Release", "Close"):
        call = partial(client.channel.unary_unary(f"/broker.v1.Sessions/{method}"), b"\x07\x01", timeout=CALL_S)
        assert refusal(call) == (INVALID, FIELD, {"field": "message"})


def test_bad_fields_are_named(client: Client) -> None:
    assert refusal(lambda: client.renew(b"short")) == (INVALID, FIELD, {"field": "session_id"})
    assert refusal(lambda: client.open("platform", user="")) == (INVALID, FIELD, {"field": "holder.user"})
    assert refusal(lambda: client.open("platform", request_id=b"1")) == (INVALID, FIELD, {"field": "request_id"})
    assert refusal(lambda: client.close(NOWHERE_ID, b"1")) == (INVALID, FIELD, {"field": "request_id"})
    waiting = open_request(wait_limit=Duration(seconds=5))
    assert refusal(lambda: client.stub.Open(waiting, timeout=CALL_S)) == (INVALID, FIELD, {"field": "products"})


def test_sessions_that_are_none_are_not_found(client: Client) -> None:
    ended = client.grant("platform").session_id
    client.close(ended)
    product = [types_pb2.ProductRequest(product="crm")]
    acquire = sessions_pb2.AcquireRequest(session_id=ended, request_id=fresh_id(), products=product)
    release = sessions_pb2.ReleaseRequest(session_id=ended, request_id=fresh_id(), product="crm")
    for call in (
        lambda: client.renew(NOWHERE_ID),
        lambda: client.renew(ended),
        lambda: client.close(ended),
        lambda: client.stub.Acquire(acquire, timeout=CALL_S),
        lambda: client.stub.Release(release, timeout=CALL_S),
    ):
        assert refusal(call) == (NOT_FOUND, "SESSION_NOT_FOUND", {})


def test_a_session_not_found_is_told_how_it_ended(client: Client) -> None:
    ended = client.grant("platform").session_id
    client.close(ended)
    with pytest.raises(grpc.RpcError, match="was closed by its holder"):
        client.renew(ended)


def test_a_request_id_used_for_another_request_is_refused(client: Client) -> None:
    request = open_request("platform")
    client.stub.Open(request, timeout=CALL_S)
    request.ttl.seconds = 30
    assert refusal(lambda: client.stub.Open(request, timeout=CALL_S)) == (INVALID, "REQUEST_ID_REUSED", {})


def test_a_full_ledger_is_overloaded_and_says_by_what() -> None:
    with serving(seats={"platform": 9}, sessions_max=2) as served:
        client = Client(served)
        client.grant("platform")
        client.grant("platform")
        assert refusal(lambda: client.open("platform")) == (
            grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED", {"bound": "sessions"},
        )  # fmt: skip


def test_a_draining_ledger_lets_nobody_in_and_renews(served: Served, client: Client) -> None:
    request = open_request("platform")
    session_id = client.stub.Open(request, timeout=CALL_S).grant.session_id
    served.ledger.set_admitting(time.monotonic_ns(), False)
    draining: Refusal = (grpc.StatusCode.UNAVAILABLE, "DRAINING", {})
    assert refusal(lambda: client.open("platform", user="bob")) == draining
    assert refusal(lambda: client.open("platform", wait_limit=Duration(seconds=5))) == draining
    waiting = sessions_pb2.OpenWaitingRequest(open=open_request("platform"))
    assert refusal(lambda: next(client.stub.OpenWaiting(waiting, timeout=CALL_S))) == draining
    assert client.stub.Open(request, timeout=CALL_S).grant.replayed
    assert client.renew(session_id).ttl.seconds == 60


@pytest.mark.parametrize(("excess", "code"), [(0, INVALID), (1, grpc.StatusCode.RESOURCE_EXHAUSTED)])
def test_a_message_over_its_bound_is_turned_away_unread(client: Client, excess: int, code: grpc.StatusCode) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        client.channel.unary_unary("/broker.v1.Sessions/Renew")(b"\x07" * (MESSAGE_SIZE_MAX + excess), timeout=CALL_S)
    assert caught.value.code() is code


def test_a_method_that_is_none_is_unimplemented(client: Client) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        client.channel.unary_unary("/broker.v1.Sessions/Nothing")(b"", timeout=CALL_S)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_who_does_not_read_answers_is_refused_more_of_them_and_the_rest_arrives() -> None:
    count, products = 8_000, [f"{index:02}-a-product-with-a-long-name" for index in range(16)]
    with serving(seats=dict.fromkeys(products, 1), streams_max=16_384) as served:
        request = open_request(*products)
        assert len(Client(served).stub.Open(request, timeout=CALL_S).grant.leases) == 16
        with served.connect() as peer, peer.makefile("rb") as stream:
            peer.sendall(calls(b"/broker.v1.Sessions/Open", request.SerializeToString(), count, window_size=0))
            assert read_ends(stream, 1) == 0, "nobody gave room for an answer"
            peer.sendall(window_setting(65535))
            answered = read_ends(stream, count - 1)
        assert count // 4 < answered < count
        outcomes = counted(served)
        assert outcomes["Sessions/Open", "granted"] == answered + 1
        assert 0 < outcomes["Sessions/Open", "overloaded"] <= count - answered  # HTTP/2 turns some away before they are asked
        assert Client(served).stub.Open(request, timeout=CALL_S).grant.replayed


# --- what is counted --------------------------------------------------------------------------------------------------


def counted(served: Served) -> dict[tuple[str, str], int]:
    """Calls by method and outcome; each histogram holds as many as it must, and every name is one of the statistics."""
    calls = served.listener.counters().calls
    assert {outcome for _, outcome in calls} <= set(OUTCOMES)
    assert {len(one.bucket_counts) for one in calls.values()} <= {len(BUCKET_BOUNDS_SECONDS) + 1}
    return {pair: sum(one.bucket_counts) for pair, one in calls.items()}


def test_the_counters_say_what_was_asked_and_how_it_ended(served: Served, client: Client) -> None:
    asked: Counter[tuple[str, str]] = Counter()

    def ask(method: str, outcome: str, call: Callable[[], object]) -> Any:
        asked[f"Sessions/{method}", outcome] += 1
        try:
            return call()
        except grpc.RpcError:
            assert outcome in ("invalid", "not_found", "unavailable")

    request = open_request("crm")
    session_id = ask("Open", "granted", lambda: client.stub.Open(request, timeout=CALL_S)).grant.session_id
    ask("Open", "denied", lambda: client.open("crm", user="bob"))
    ask("Open", "denied", lambda: client.open("crm", wait_limit=Duration(seconds=1)))
    ask("Open", "invalid", lambda: client.open("platform", user=""))
    ask("Open", "invalid", lambda: client.open("platform", request_id=b""))
    ask("Renew", "ok", lambda: client.renew(session_id))
    ask("Renew", "not_found", lambda: client.renew(NOWHERE_ID))
    ask("Renew", "invalid", lambda: client.renew(b""))
    wanted = [types_pb2.ProductRequest(product="platform")]
    acquire = sessions_pb2.AcquireRequest(session_id=session_id, request_id=fresh_id(), products=wanted)
    ask("Acquire", "granted", lambda: client.stub.Acquire(acquire, timeout=CALL_S))
    release = sessions_pb2.ReleaseRequest(session_id=session_id, request_id=fresh_id(), product="platform")
    ask("Release", "ok", lambda: client.stub.Release(release, timeout=CALL_S))
    waiting = sessions_pb2.OpenWaitingRequest(open=open_request("crm"))
    ask("OpenWaiting", "denied", lambda: list(client.stub.OpenWaiting(waiting, timeout=CALL_S)))
    ask("Close", "ok", lambda: client.close(session_id))
    ask("Close", "not_found", lambda: client.close(session_id))
    ask("Open", "ended", lambda: client.stub.Open(request, timeout=CALL_S))
    served.ledger.set_admitting(time.monotonic_ns(), False)
    ask("Open", "unavailable", lambda: client.open("platform"))
    assert counted(served) == asked


def test_each_loop_counts_and_the_sum_is_told() -> None:
    with serving(seats={"platform": 3}, thread_count=2) as served:
        clients = [Client(served) for _ in range(6)]
        session_id = clients[0].grant("platform").session_id
        for client in clients:
            client.renew(session_id)
        assert counted(served) == {("Sessions/Open", "granted"): 1, ("Sessions/Renew", "ok"): 6}


def test_latencies_are_measured(served: Served, client: Client) -> None:
    client.grant("platform")
    assert 0 < served.listener.counters().calls["Sessions/Open", "granted"].sum_ns < CALL_S * 1e9
