"""The asyncio client against a real broker: the same promises as the sync one, in one loop."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from broker import client
from broker.client import Notice, NoticeKind
from broker.v1 import admin_pb2
from tests.client.support import WAIT_S, Cable
from tests.support.broker_process import RunningBroker, running_broker
from tests.support.certificates import TestAuthority
from tests.support.waiting import until


def in_use(broker: RunningBroker, *products: str) -> tuple[int, ...]:
    numbers = broker.products()
    return tuple(numbers[product].in_use for product in products)


async def eventually(condition: object, what: str) -> None:
    """Awaits a condition of another process without blocking the loop."""
    await asyncio.to_thread(until, condition, what, within_s=WAIT_S)


async def revoke(broker: RunningBroker, public_id: str) -> None:
    request = admin_pb2.RevokeSessionRequest(public_id=public_id, reason="test")
    await asyncio.to_thread(
        broker.admin_stub().RevokeSession, request, metadata=broker.admin_metadata, timeout=WAIT_S
    )


class Notices:
    """A coroutine callback that keeps what it is told."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Notice] = asyncio.Queue()

    async def __call__(self, notice: Notice) -> None:
        await asyncio.sleep(0)
        self._queue.put_nowait(notice)

    async def next(self) -> Notice:
        async with asyncio.timeout(WAIT_S):
            return await self._queue.get()


async def test_without_a_target_it_is_the_broker_of_this_machine(
    usher: RunningBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.client.target.DEFAULT_PORT", int(usher.clients.rpartition(":")[2]))
    async with client.open_async(user="anna", products=["platform"]) as session:
        assert session.holds("platform")


async def test_the_with_block_holds_the_seats_and_gives_them_back(usher: RunningBroker) -> None:
    async with client.open_async(
        usher.clients, user="anna", products=["platform"], optional=["crm"]
    ) as session:
        assert [lease.product for lease in session.leases] == ["platform", "crm"]
        assert session.is_confirmed
        assert in_use(usher, "platform", "crm") == (1, 1)
        await session.acquire("telephony")
        assert await session.release("crm")
        assert await session.renew() == session.leases
        assert in_use(usher, "platform", "crm", "telephony") == (1, 0, 1)
    assert in_use(usher, "platform", "crm", "telephony") == (0, 0, 0)
    with pytest.raises(client.ClientClosed):
        await session.renew()


async def test_an_opening_can_be_awaited(usher: RunningBroker) -> None:
    session = await client.open_async(usher.clients, user="anna", products=["platform"])
    assert in_use(usher, "platform") == (1,)
    await session.close()
    await session.close()
    assert in_use(usher, "platform") == (0,)


async def test_denials_and_broken_fields_are_raised(usher: RunningBroker) -> None:
    async with client.AsyncClient(usher.clients) as one:
        for index in range(5):
            await one.open(user=f"user-{index}", products=["telephony"])
        with pytest.raises(client.Denied) as denied:
            await one.open(user="late", products=["platform", "telephony"])
        assert (denied.value.product, denied.value.capacity, denied.value.in_use) == ("telephony", 5, 5)
        with pytest.raises(client.InvalidRequest) as refused:
            await one.open(user="u" * 129, products=["platform"])
        assert refused.value.field == "holder.user"
        with pytest.raises(TypeError):
            one.open(users="anna", products=["platform"])
        assert one.session_count == 5
    assert in_use(usher, "telephony") == (0,)


async def test_the_task_keeps_seats_far_past_their_ttl(usher: RunningBroker) -> None:
    async with client.AsyncClient(usher.clients) as one:
        kept = [await one.open(user=f"user-{index}", products=["platform"], ttl_s=1) for index in range(10)]
        for round_count in range(2):
            silent = await one.open(user=f"silent-{round_count}", products=["crm"], ttl_s=1)
            one._renewer.remove(silent._state)
            await eventually(lambda: in_use(usher, "crm") == (0,), "the silent session has expired")
        assert in_use(usher, "platform") == (10,)
        assert all(session.is_confirmed and not session.lost.is_set() for session in kept)


async def test_notices_come_to_coroutines_and_functions(usher: RunningBroker) -> None:
    slow, plain = Notices(), []
    async with client.open_async(usher.clients, user="anna", products=["platform", "telephony"]) as session:
        session.on_notice(slow)
        session.on_notice(plain.append)
        await asyncio.to_thread(usher.unplug, "charlie")
        try:
            notice = await slow.next()
            assert (notice.kind, notice.lease.product) == (NoticeKind.KEY_GRACE, "telephony")
        finally:
            await asyncio.to_thread(usher.plug, "charlie")
        assert (await slow.next()).kind is NoticeKind.HEALED
        assert [one.kind for one in plain][:1] == [NoticeKind.KEY_GRACE]
    await asyncio.to_thread(usher.await_capacity, "telephony", 5)
    await asyncio.to_thread(usher.await_capacity, "crm", 10)


async def test_a_revoked_session_is_lost(usher: RunningBroker) -> None:
    notices = Notices()
    async with client.open_async(
        usher.clients, user="anna", products=["platform"], on_notice=notices
    ) as session:
        await revoke(usher, session.public_id)
        async with asyncio.timeout(WAIT_S):
            await session.lost.wait()
        assert session.end_reason == "revoked"
        assert (await notices.next()).kind is NoticeKind.SESSION_LOST
        with pytest.raises(client.SessionLost):
            await session.acquire("crm")


async def test_a_failing_callback_stops_nothing(usher: RunningBroker) -> None:
    notices = Notices()

    async def clumsy(_notice: Notice) -> None:
        raise ValueError("clumsy")

    async with client.AsyncClient(usher.clients) as one:
        first = await one.open(user="first", products=["platform"], on_notice=clumsy)
        second = await one.open(user="second", products=["platform"], on_notice=notices)
        await revoke(usher, first.public_id)
        await asyncio.wait_for(first.lost.wait(), WAIT_S)
        await revoke(usher, second.public_id)
        assert (await notices.next()).public_id == second.public_id


async def test_a_pulled_cable_is_survived(usher: RunningBroker) -> None:
    with Cable(usher.clients) as cable:
        async with client.open_async(cable.address, user="anna", products=["platform"], ttl_s=30) as session:
            for _ in range(3):
                cable.pull()
                cable.plug()
                await session.renew()
            assert not session.lost.is_set()
            assert in_use(usher, "platform") == (1,)
        assert cable.connection_count >= 2


async def test_a_hundred_logins_at_once_never_over_grant(usher: RunningBroker) -> None:
    async with client.AsyncClient(usher.clients) as one:
        openings = (one.open(user=f"user-{index}", products=["platform", "crm"]) for index in range(100))
        outcomes = await asyncio.gather(*openings, return_exceptions=True)
        granted = [outcome for outcome in outcomes if isinstance(outcome, client.AsyncSession)]
        denied = [outcome for outcome in outcomes if isinstance(outcome, client.Denied)]
        assert (len(granted), len(denied)) == (10, 90)
        assert {one.product for one in denied} == {"crm"}


async def test_cancelling_an_open_or_a_wait_leaves_the_client_usable(usher: RunningBroker) -> None:
    async with client.AsyncClient(usher.clients) as one:
        opening = asyncio.create_task(_open(one))
        await asyncio.sleep(0)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        async with one.open(user="boris", products=["crm"]) as session:
            assert session.holds("crm")
    for session in usher.sessions():  # what was cancelled may have been granted; its ttl would end it
        await revoke(usher, session.public_id)


async def _open(one: client.AsyncClient) -> client.AsyncSession:
    return await one.open(user="anna", products=["platform"])


async def test_no_task_outlives_its_client(usher: RunningBroker) -> None:
    before = asyncio.all_tasks()
    async with client.open_async(usher.clients, user="anna", products=["platform"]):
        names = {task.get_name() for task in asyncio.all_tasks() - before}
        assert "usher-client-renewals" in names
    await asyncio.sleep(0)
    left = {task.get_name() for task in asyncio.all_tasks() - before if not task.done()}
    assert not {name for name in left if name.startswith("usher-client")}


async def test_the_identity_of_mutual_tls_reaches_the_broker(tmp_path: Path) -> None:
    authority = TestAuthority(tmp_path / "certificates")
    ours = authority.client("crm-web.example")
    settings = {"clients": {"tls": authority.server_tls(is_mutual=True)}}
    tls = client.Tls(ca=authority.ca, certificate=ours.certificate, private_key=ours.private_key)
    with running_broker(tmp_path, settings=settings) as broker:
        async with client.open_async(broker.clients, tls=tls, user="anna", products=["platform"]):
            (session,) = broker.sessions()
            assert session.identity == "crm-web.example"


async def test_closing_the_client_amid_an_open_is_said_as_such_and_cancels_nobody() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        one = client.AsyncClient(f"127.0.0.1:{deaf.getsockname()[1]}")
        opening = asyncio.ensure_future(_opened(one))
        await asyncio.sleep(0)  # the call is under way
        await one.close()
        with pytest.raises(client.ClientClosed):
            await opening


async def _opened(one: client.AsyncClient) -> client.AsyncSession:
    return await one.open(user="anna", products=["platform"])
