"""A gRPC listener of the broker: one address, its services, health and reflection.

Made and run on the event loop's thread (grpc.aio allows one loop a process). Health says SERVING from `start` on, until told
otherwise. `stop` first ends the streams that would live for ever, so that it takes no longer than unary calls do.

SO_REUSEPORT is off: with it two brokers would share a port in silence. Keepalive: a client may ping every 10 s even without
calls, the broker pings after 30 s of silence; this frees dead connections and says nothing of sessions, which live by Renew.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Sequence

import grpc
from grpc import aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from broker.service.tls import ServerTls

_REFLECTION_V1 = "grpc.reflection.v1.ServerReflection"
_HEALTH = "grpc.health.v1.Health"

CONNECTIONS_MAX = 20_000
STREAMS_PER_CONNECTION_MAX = 1_024
METADATA_SIZE_MAX = 16 * 1024


def server_options(
    receive_size_max: int,
    send_size_max: int,
    *,
    connections_max: int = CONNECTIONS_MAX,
    streams_max: int = STREAMS_PER_CONNECTION_MAX,
) -> list[tuple[str, int]]:
    """Options of grpc.aio.server for a listener of ours; `streams_max` is of one connection."""
    return [
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", receive_size_max),
        ("grpc.max_send_message_length", send_size_max),
        ("grpc.max_metadata_size", METADATA_SIZE_MAX),
        ("grpc.absolute_max_metadata_size", 2 * METADATA_SIZE_MAX),
        ("grpc.max_concurrent_streams", streams_max),
        ("grpc.max_allowed_incoming_connections", connections_max),
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.http2.max_pings_without_data", 0),
    ]


class GrpcServer:
    """One listener. `stopping` is the event that its streams end by."""

    def __init__(self, server: aio.Server, services: Sequence[str], stopping: asyncio.Event) -> None:
        self._server = server
        self._services = ("", *services)
        self._stopping = stopping
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        _add_reflection(server, (*services, _HEALTH, reflection.SERVICE_NAME))

    async def start(self) -> None:
        """Serves from now on."""
        await self.set_serving(True)
        await self._server.start()

    async def set_serving(self, is_serving: bool) -> None:
        """What health answers for the server and for each of its services; calls are served either way."""
        words = health_pb2.HealthCheckResponse
        for service in self._services:
            await self._health.set(service, words.SERVING if is_serving else words.NOT_SERVING)

    async def stop(self, grace_s: float) -> None:
        """Takes no new calls, ends the streams, lets the other calls finish for so long, and closes the port."""
        await self.set_serving(False)
        self._stopping.set()
        await self._server.stop(grace_s)


def bind(server: aio.Server, address: str, tls: ServerTls | None) -> int:
    """Listens on "HOST:PORT" and gives the port, which the kernel chooses for 0. OSError if that cannot be."""
    try:
        if tls is None:
            return server.add_insecure_port(address)
        return server.add_secure_port(address, tls.server_credentials())
    except RuntimeError as error:
        raise _bind_error(address) from error


def _bind_error(address: str) -> OSError:
    """Why the address cannot be listened on: gRPC does not say, so the kernel is asked once more."""
    host, _, port = address.rpartition(":")
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind | socket.SOCK_CLOEXEC, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
            probe.listen()
    except OSError as error:
        return error
    # Free again by now: it was in use a moment ago.
    return OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def _add_reflection(server: aio.Server, services: Sequence[str]) -> None:
    """Reflection under both of its names: the messages of v1 are those of v1alpha, and newer tools ask for v1 first."""
    reflection.enable_server_reflection(services, server)
    servicer = reflection.aio.ReflectionServicer(services)
    method = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    handler = grpc.method_handlers_generic_handler(_REFLECTION_V1, {"ServerReflectionInfo": method})
    server.add_generic_rpc_handlers((handler,))
