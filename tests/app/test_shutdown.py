"""The shutdown: its steps in order, whatever some of them do; and what makes a broker stop."""

import asyncio
import threading

import pytest

from broker.app.broker import StopRequest
from broker.app.shutdown import Step, at_once, in_thread, shut_down
from broker.errors import InternalFault


async def test_steps_are_taken_in_order_though_some_fail_or_hang() -> None:
    taken: list[str] = []

    async def fail() -> None:
        taken.append("fails")
        raise OSError("broken")

    async def hang() -> None:
        taken.append("hangs")
        await asyncio.Event().wait()

    steps = (
        Step("first", at_once(lambda: taken.append("first")), 1),
        Step("fails", fail, 1),
        Step("hangs", hang, 0.02),
        Step("in a thread", in_thread(lambda: taken.append(threading.current_thread().name)), 1),
        Step("last", at_once(lambda: taken.append("last")), 1),
    )
    assert await shut_down(steps) == ("fails", "hangs")
    assert taken[:3] == ["first", "fails", "hangs"]
    assert taken[3] != threading.main_thread().name
    assert taken[4] == "last"


def test_step_that_never_ends_keeps_no_event_loop() -> None:
    released = threading.Event()
    steps = (Step("a stuck thread", in_thread(lambda: _wait_for(released)), 0.02),)
    failed: list[tuple[str, ...]] = []
    loop_thread = threading.Thread(target=lambda: failed.append(asyncio.run(shut_down(steps))), daemon=True)
    loop_thread.start()
    loop_thread.join(10)
    was_stuck = loop_thread.is_alive()
    released.set()
    assert not was_stuck
    assert failed == [("a stuck thread",)]


async def test_error_of_a_blocking_step_is_that_of_the_step() -> None:
    def fail() -> None:
        raise OSError("broken")

    with pytest.raises(OSError, match="broken"):
        await in_thread(fail)()


def _wait_for(event: threading.Event) -> None:
    event.wait(60)


async def test_first_cause_of_a_stop_counts() -> None:
    stop = StopRequest(asyncio.get_running_loop())
    stop._stop("SIGTERM")
    stop._stop("SIGINT")
    assert await stop.cause() == "SIGTERM"
    assert stop.failure is None


async def test_failure_told_by_another_thread_stops_the_broker_as_our_bug() -> None:
    stop = StopRequest(asyncio.get_running_loop())
    error = RuntimeError("a defect")
    await asyncio.to_thread(stop.fail, "the clock thread", error)
    assert await stop.cause() == "the clock thread failed"
    assert isinstance(stop.failure, InternalFault)
    assert "the clock thread failed: RuntimeError('a defect')" in str(stop.failure)


async def test_task_that_ends_by_itself_stops_the_broker() -> None:
    async def end() -> None:
        return

    stop = StopRequest(asyncio.get_running_loop())
    task = asyncio.create_task(end())
    await task
    stop.ended("the event pump", task)
    assert await stop.cause() == "the event pump failed"
    assert isinstance(stop.failure, InternalFault)


async def test_task_that_ends_while_the_broker_stops_is_no_failure() -> None:
    async def end() -> None:
        return

    stop = StopRequest(asyncio.get_running_loop())
    stop._stop("SIGTERM")
    task = asyncio.create_task(end())
    await task
    stop.ended("the HTTP listener", task)
    assert stop.failure is None
