"""An HTTP port over a small world: uvicorn in a thread of its own, on a free port of loopback."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvicorn
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from broker.web.app import Health, build_http
from broker.web.door import JsonDoor
from tests.verbs.world import World

CALL_S = 10


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer."""

    code: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> tuple[int, int, str, dict[str, str]]:
        """HTTP code, gRPC code, reason and metadata of an error."""
        assert self.headers["content-type"] == "application/json"
        (info,) = self.json["details"]
        assert (info["@type"], info["domain"]) == ("type.googleapis.com/google.rpc.ErrorInfo", "usher")
        assert self.json["message"]
        return self.code, self.json["code"], info["reason"], info.get("metadata", {})


@dataclass(slots=True)
class Site:
    """The running port."""

    world: World
    port: int
    health: list[Health] = field(default_factory=lambda: [Health(True, "serving")])

    def send(self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> Reply:
        """One request on a connection of its own, sent as it is."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=CALL_S)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            named = {name.lower(): value for name, value in answer.getheaders()}
            return Reply(answer.status, named, answer.read())
        finally:
            connection.close()

    def post(self, verb: str, body: Any, **headers: str) -> Reply:
        """A verb; `body` as JSON unless it is bytes."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        named = {"content-type": "application/json"} | {name.replace("_", "-"): value for name, value in headers.items()}
        return self.send("POST", f"/v1/sessions:{verb}", data, named)


async def metrics(_request: Request) -> Response:
    return PlainTextResponse("usher_sessions 0\n")


class Stage:
    """An ASGI application that is whichever one the running test has put on it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.application: ASGIApp = PlainTextResponse("nothing is on stage", 500)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.application(scope, receive, send)


@pytest.fixture(scope="session")
def stage() -> Iterator[Stage]:
    """One uvicorn for all tests: starting and stopping it takes longer than they do."""
    listener = socket.create_server(("127.0.0.1", 0))
    running = Stage(listener.getsockname()[1])
    server = uvicorn.Server(uvicorn.Config(running, lifespan="off", log_config=None, access_log=False))
    # The listener queues connections until uvicorn takes them, so nobody has to wait for its start.
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])), name="uvicorn")
    thread.start()
    try:
        yield running
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


@pytest.fixture
def site(stage: Stage) -> Site:
    """A port with five seats of platform, answering also as broker.example."""
    world = World(seats={"platform": 5})
    built = Site(world, stage.port)
    door = JsonDoor(verbs=world.verbs, stats=world.stats, hosts=["Broker.Example"])
    stage.application = build_http(door=door, health=lambda: built.health[0], metrics=metrics)
    return built
