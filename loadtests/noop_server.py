"""A Sessions server that does nothing, on grpc.aio: every Renew is answered with the same message.

For measuring the measurer, and as a peer of `make bench`.

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
ANSWER = bytes([0x0A, 2, 8, 60, 0x12, 2, 8, 20, 0x18, 1])
"""RenewResponse{ttl 60 s, renew_after 20 s, change_version 1}: what a broker's answer weighs."""


class Nothing(grpc.GenericRpcHandler):
    """Knows one method, gives it raw bytes, and counts."""

    def __init__(self) -> None:
        self.request_count = 0

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        """The handler of Renew, nothing else."""
        if handler_call_details.method == RENEW:
            return grpc.unary_unary_rpc_method_handler(self.answer)
        return None

    async def answer(self, _: bytes, __: object) -> bytes:
        """The same to all."""
        self.request_count += 1
        return ANSWER

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
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    loop.add_signal_handler(signal.SIGUSR1, nothing.say_count)
    print(port, flush=True)
    await ended.wait()
    nothing.say_count()
    await server.stop(0)


if __name__ == "__main__":
    asyncio.run(serve())
