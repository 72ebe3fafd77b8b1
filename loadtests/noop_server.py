"""A Sessions server that does nothing, on grpc.aio: every Renew is answered with an empty message. For measuring the
measurer, and as a peer of `make bench`.

    python -m loadtests.noop_server      prints its port, serves until SIGTERM

As the compiled peers do, it prints a line of JSON with what it answered so far on SIGUSR1, and once more on SIGTERM.
"""

from __future__ import annotations

import asyncio
import json
import signal
from typing import Any

import grpc
from grpc import aio

RENEW = "/broker.v1.Sessions/Renew"


class Nothing(grpc.GenericRpcHandler):
    """Knows one method, gives it raw bytes, and counts."""

    def __init__(self) -> None:
        self.request_count = 0

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        """The handler of Renew, nothing else."""
        if handler_call_details.method == RENEW:
            return grpc.unary_unary_rpc_method_handler(self.empty)
        return None

    async def empty(self, _: bytes, __: object) -> bytes:
        """An empty RenewResponse."""
        self.request_count += 1
        return b""

    def say_count(self) -> None:
        """The line of JSON."""
        print(json.dumps({"requests": self.request_count}), flush=True)


async def serve() -> None:
    """Serves until SIGTERM."""
    nothing = Nothing()
    server = aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers([nothing])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    loop.add_signal_handler(signal.SIGUSR1, nothing.say_count)
    await ended.wait()
    nothing.say_count()
    await server.stop(0)


if __name__ == "__main__":
    asyncio.run(serve())
