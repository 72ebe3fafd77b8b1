"""A Sessions server that does nothing: every Renew is answered with an empty message. For measuring the measurer.

    python -m loadtests.noop_server      prints its port, serves until SIGTERM
"""

from __future__ import annotations

import asyncio
import signal
from typing import Any

import grpc
from grpc import aio

RENEW = "/broker.v1.Sessions/Renew"


class Nothing(grpc.GenericRpcHandler):
    """Knows one method, and gives it raw bytes."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        """The handler of Renew, nothing else."""
        if handler_call_details.method == RENEW:
            return grpc.unary_unary_rpc_method_handler(empty)
        return None


async def empty(_: bytes, __: object) -> bytes:
    """An empty RenewResponse."""
    return b""


async def serve() -> None:
    """Serves until SIGTERM."""
    server = aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers([Nothing()])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()
    await server.stop(0)


if __name__ == "__main__":
    asyncio.run(serve())
