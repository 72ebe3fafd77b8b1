"""The servers that are measured: processes pinned to a processor, each of which counts what it answered.

A peer listens on a free loopback port, prints it, and prints a line of JSON with its count on SIGUSR1. It is ended with its
block: SIGTERM, and SIGKILL if that is not heard. One that ended before is a failure of the bench. Any thread.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from loadtests.bench.processors import running_on
from loadtests.own_broker import ROOT

PEERS = ROOT / "build" / "peers"
STOP_S = 20.0


class ServerFailed(Exception):
    """A server did not start, ended early, or counted otherwise than the client; says which and how."""


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM files of a server's identity, and of the authority that a client trusts."""

    certificate: Path
    private_key: Path
    authority: Path


@dataclass(frozen=True, slots=True)
class Server:
    """A running server. `count` asks it how many requests it has answered since it began."""

    name: str
    pid: int
    port: int
    count: Callable[[], int]
    authority: Path | None = None
    """TLS: what its certificate is signed by."""


@contextmanager
def peer(name: str, command: Sequence[str], processors: Sequence[int | None], tls: Tls | None = None) -> Iterator[Server]:
    """Starts a peer on these processors. Raises ServerFailed when it does not start, or has ended before its block."""
    with running_on(*processors):
        process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said = process.stdout

    def count() -> int:
        process.send_signal(signal.SIGUSR1)
        return int(json.loads(said.readline() or no_answer())["requests"])

    def no_answer() -> str:
        raise ServerFailed(f"{name} ended with status {process.wait(STOP_S)} while it was measured")

    try:
        port = said.readline().strip()
        if not port.isdigit():
            raise ServerFailed(f"{name} did not start: it said {port!r}")
        yield Server(name, process.pid, int(port), count, tls.authority if tls else None)
        count()  # one that has ended does not answer
    finally:
        end(process)
        said.close()


def end(process: subprocess.Popen[str]) -> None:
    """SIGTERM; SIGKILL if that is not heard."""
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def nghttp2_noop(
    processors: Sequence[int | None], *, name: str = "nghttp2_noop", threads: int = 1, tls: Tls | None = None, folder: Path = PEERS
) -> AbstractContextManager[Server]:
    """The bare nghttp2 server; each of its threads runs on one of the processors."""
    words = [str(folder / "nghttp2_noop"), "--threads", str(threads)]
    pinned = [str(number) for number in processors if number is not None]
    if pinned:
        words += ["--processors", ",".join(pinned)]
    if tls:
        words += ["--tls", str(tls.certificate), str(tls.private_key)]
    return peer(name, words, processors, tls)


def grpc_cpp_noop(processors: Sequence[int | None]) -> AbstractContextManager[Server]:
    """The C++ gRPC callback server."""
    return peer("grpc_cpp_noop", [str(PEERS / "grpc_cpp_noop")], processors)


def grpc_aio_noop(processors: Sequence[int | None]) -> AbstractContextManager[Server]:
    """The grpc.aio server."""
    return peer("grpc_aio_noop", [sys.executable, "-m", "loadtests.noop_server"], processors)


def is_built(name: str) -> bool:
    """Whether a compiled peer is here (tools/setup-bench makes them)."""
    return (PEERS / name).exists()
