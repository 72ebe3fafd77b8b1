"""What Python's ssl module cannot do: a KeyUpdate and a renegotiation, asked for by the openssl program."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread, Timer

import pytest

from broker._tls import ServerContext, ServerTls
from broker.model.tls import TlsState
from tests.tls.peers import feed_all, write_all

SOCKET_S = 20.0


class Echo(Thread):
    """One connection on a real socket: sends back what it reads, until there is nothing more to read."""

    def __init__(self, context: ServerContext) -> None:
        super().__init__()
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.listening.settimeout(SOCKET_S)
        self.server = ServerTls(context)
        self.port: int = self.listening.getsockname()[1]

    def run(self) -> None:
        with self.listening, self.listening.accept()[0] as connection:
            connection.settimeout(SOCKET_S)
            while self.server.state in (TlsState.HANDSHAKE, TlsState.OPEN) and (cipher := connection.recv(65536)):
                plain = feed_all(self.server, cipher)
                connection.sendall(self.server.output() + write_all(self.server, plain))


class Program:
    """openssl s_client: what is typed goes over the wire, but K and R at the start of a line are commands."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.said = b""

    def type(self, text: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text)
        self.process.stdin.flush()

    def wait_for(self, text: bytes) -> None:
        """Until it has said this since the last time; a watchdog ends a program that never does."""
        assert self.process.stdout is not None
        while text not in self.said:
            part = os.read(self.process.stdout.fileno(), 65536)
            assert part, f"it ended without {text!r}: {self.said[-500:]!r}"
            self.said += part
        self.said = self.said.partition(text)[2]


@contextmanager
def s_client(port: int, authority_file: Path, version: str) -> Iterator[Program]:
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-CAfile", str(authority_file), "-alpn", "h2", version]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        watchdog = Timer(SOCKET_S, process.kill)
        watchdog.start()
        try:
            yield Program(process)
        finally:
            watchdog.cancel()
            process.kill()


@pytest.fixture
def echo(context: ServerContext) -> Iterator[Echo]:
    one = Echo(context)
    one.start()
    yield one
    one.join(SOCKET_S)
    assert not one.is_alive()


def test_key_update_is_answered_and_bytes_go_on(echo: Echo, authority_file: Path) -> None:
    with s_client(echo.port, authority_file, "-tls1_3") as program:
        program.wait_for(b"Verify return code: 0 (ok)")
        for turn in range(3):
            sent = echo.server.sizes.sent
            program.type(b"K\n")
            program.wait_for(b"KEYUPDATE")
            program.type(b"hello %d\n" % turn)
            program.wait_for(b"hello %d" % turn)
            assert echo.server.sizes.sent - sent > 2 * 22 + len("hello 0\n"), "a record of the KeyUpdate besides the echo's"
        assert echo.server.state == TlsState.OPEN


def test_renegotiation_is_refused(echo: Echo, authority_file: Path) -> None:
    with s_client(echo.port, authority_file, "-tls1_2") as program:
        program.wait_for(b"Verify return code: 0 (ok)")
        program.type(b"hello\n")
        program.wait_for(b"hello")
        program.type(b"R\n")
        program.wait_for(b"no renegotiation")
