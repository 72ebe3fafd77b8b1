"""Both gRPC servers over a small world, on free ports of loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc
from google.rpc import error_details_pb2, status_pb2
from grpc import aio

from broker.service.admin_server import build_admin_server
from broker.service.client_server import build_client_server
from broker.service.server import GrpcServer
from broker.service.tls import TlsMaterial
from broker.v1 import admin_pb2_grpc, sessions_pb2_grpc
from broker.verbs.commits import OPEN_GATE, Gate
from tests.verbs.world import World

TOKEN = "correct-horse"
CALL_S = 10


@dataclass(slots=True)
class Served:
    """A running server and a channel to it."""

    world: World
    server: GrpcServer
    port: int
    channel: aio.Channel

    @property
    def sessions(self) -> sessions_pb2_grpc.SessionsAsyncStub:
        return sessions_pb2_grpc.SessionsStub(self.channel)

    @property
    def admin(self) -> admin_pb2_grpc.AdminAsyncStub:
        return admin_pb2_grpc.AdminStub(self.channel)


def fields_of(error: aio.AioRpcError) -> tuple[grpc.StatusCode, str, dict[str, str]]:
    """Status, ErrorInfo reason and metadata; the details must say the same as the status."""
    blob = dict(error.trailing_metadata() or ())["grpc-status-details-bin"]
    status = status_pb2.Status.FromString(blob)
    assert (status.code, status.message) == (error.code().value[0], error.details())
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert info.domain == "usher"
    return error.code(), info.reason, dict(info.metadata)


@asynccontextmanager
async def _serving(
    world: World, server: GrpcServer, port: int, credentials: grpc.ChannelCredentials | None
) -> AsyncIterator[Served]:
    await server.start()
    pumping = asyncio.create_task(world.pump.run(interval_s=0.002))
    address = f"localhost:{port}"
    channel = aio.secure_channel(address, credentials) if credentials else aio.insecure_channel(address)
    try:
        yield Served(world, server, port, channel)
    finally:
        pumping.cancel()
        await channel.close()
        await server.stop(0)


@asynccontextmanager
async def client_server(
    world: World,
    tls: TlsMaterial | None = None,
    credentials: grpc.ChannelCredentials | None = None,
    gate: Gate = OPEN_GATE,
) -> AsyncIterator[Served]:
    """The client port."""
    server, port = build_client_server(verbs=world.verbs, stats=world.stats, tls=tls, address="127.0.0.1:0", gate=gate)
    async with _serving(world, server, port, credentials) as served:
        yield served


@asynccontextmanager
async def admin_server(
    world: World, *, has_sessions: bool = False, gate: Gate = OPEN_GATE
) -> AsyncIterator[Served]:
    """The admin port."""
    server, port = build_admin_server(
        verbs=world.admin,
        session_verbs=world.verbs if has_sessions else None,
        stats=world.stats,
        token=TOKEN,
        tls=None,
        address="127.0.0.1:0",
        gate=gate,
    )
    async with _serving(world, server, port, None) as served:
        yield served


RawCall = Callable[[bytes], aio.UnaryUnaryCall[bytes, bytes]]


def raw(channel: aio.Channel, method: str) -> RawCall:
    """A unary method without any codec."""
    return channel.unary_unary(method)
