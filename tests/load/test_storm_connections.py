"""Connections that end under a storm: what was not processed goes out again, what is uncertain is counted, nothing is lost."""

from __future__ import annotations

import threading
from typing import Any

from loadtests.storm import StormPlan, StormResult, background_storm, run_storm
from tests.load.storm_servers import FrameConnection, FrameServer
from tests.support.waiting import until

STREAMS = 4


def noop(server: FrameServer, **fields: Any) -> StormPlan:
    """No-ops on one connection, four at a time."""
    wanted = {"cycle": "noop", "connections": 1, "streams": STREAMS, "duration_s": 0.3, "warmup_s": 0.0, "patience_s": 0.3}
    return StormPlan(port=server.port, **(wanted | fields))


def assert_sums(result: StormResult) -> None:
    """Every request is in exactly one of them."""
    assert result.sent == result.answered + result.retried_unprocessed + result.cut + result.unanswered_at_end
    assert result.answered == sum(result.answers.values())


def answer_all(connection: FrameConnection, calls: list[int]) -> None:
    """An ordinary server."""
    for stream_id in calls:
        connection.answer(stream_id)


def goes_away(connection: FrameConnection, calls: list[int]) -> None:
    """The first connection answers two calls of four and goes; later ones stay."""
    if connection.number:
        answer_all(connection, calls)
    elif len(calls) == STREAMS:
        answer_all(connection, calls[:2])
        connection.goaway(calls[1])


def test_calls_above_the_last_of_a_goaway_are_sent_again_on_a_new_connection() -> None:
    with FrameServer(goes_away) as server:
        result = run_storm(noop(server))
    assert result.goaways == 1
    assert result.connects == 2
    assert result.retried_unprocessed >= 2
    assert result.cut == 0
    assert result.error_examples == ()
    assert result.answered == sum(one.answered_count for one in server.connections)
    assert_sums(result)


def refuses_every_third(connection: FrameConnection, calls: list[int]) -> None:
    """Some are told that they were not processed."""
    for stream_id in calls:
        if stream_id % 3 == 0:
            connection.refuse(stream_id)
        else:
            connection.answer(stream_id)


def test_refused_streams_are_sent_again_on_the_same_connection() -> None:
    with FrameServer(refuses_every_third) as server:
        result = run_storm(noop(server))
    assert result.connects == 1
    assert result.retried_unprocessed > 0
    assert result.error_examples == ()
    assert_sums(result)


def cuts(connection: FrameConnection, calls: list[int]) -> None:
    """The first connection ends without a word, with calls in flight."""
    if connection.number:
        answer_all(connection, calls)
    elif len(calls) == STREAMS:
        connection.answer(calls[0])
        connection.cut()


def test_a_connection_that_ends_without_a_word_is_an_error_and_its_calls_go_out_again() -> None:
    with FrameServer(cuts) as server:
        result = run_storm(noop(server))
    assert 3 <= result.cut <= STREAMS
    assert [(fault.kind, fault.count) for fault in result.faults] == [("cut", result.cut)]
    assert result.answered == sum(one.answered_count for one in server.connections)
    assert_sums(result)


def test_a_server_that_stops_ends_the_storm_and_loses_no_answer() -> None:
    answered_50 = threading.Event()

    def stops(connection: FrameConnection, calls: list[int]) -> None:
        answer_all(connection, calls)
        if connection.answered_count > 50 and not answered_50.is_set():
            answered_50.set()
            server.stop_listening()
            connection.goaway(calls[-1])

    with FrameServer(stops) as server:
        result = run_storm(noop(server, duration_s=30, ends_with_server=True))
    assert result.is_server_gone
    assert result.error_examples == ()
    assert result.answered == server.connections[0].answered_count
    assert result.requests == result.answered  # there was no warm-up
    assert_sums(result)


def test_a_server_that_is_not_there_is_an_error_and_nothing_is_sent() -> None:
    with FrameServer(answer_all) as server:
        pass
    result = run_storm(noop(server, connect_limit_s=0.2))
    assert result.sent == 0
    assert {fault.kind for fault in result.faults} == {"connect"}
    assert "refused" in result.faults[0].example


def test_bytes_that_are_no_http2_end_the_storm_with_an_error() -> None:
    def babbles(connection: FrameConnection, calls: list[int]) -> None:
        connection.babble(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 20)

    with FrameServer(babbles) as server:
        result = run_storm(noop(server, connect_limit_s=0.3))
    assert {"protocol", "cut"} & {fault.kind for fault in result.faults}
    assert not result.is_good


def test_idle_connections_that_the_server_ends_are_an_error() -> None:
    def silent(connection: FrameConnection, calls: list[int]) -> None:
        return

    with FrameServer(silent) as server:
        with background_storm(noop(server, cycle="idle", connections=5, duration_s=60)) as storm:
            for connection in list(server.connections):
                connection.cut()
            until(lambda: storm.progress()[2] == 5, "the storm misses five connections")
        result = storm.result
    assert [(fault.kind, fault.count) for fault in result.faults] == [("link_lost", 5)]
