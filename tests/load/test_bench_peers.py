"""The bare nghttp2 server of the bench, asked by a gRPC client that was not made for it: it must serve, not only be fast."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from broker.v1.sessions_pb2 import RenewRequest, RenewResponse
from broker.v1.sessions_pb2_grpc import SessionsStub
from loadtests.bench.certificates import loopback_tls
from loadtests.bench.servers import Server, ServerFailed, grpc_aio_noop, nghttp2_noop, peer
from tests.house.source_tree import ROOT

CALL_S = 20.0
ANSWER = RenewResponse(change_version=1)
ANSWER.ttl.seconds = 60
ANSWER.renew_after.seconds = 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the peer is compiled, as tools/setup-bench does it."""
    if shutil.which("cc") is None or shutil.which("pkg-config") is None:
        pytest.skip("no C compiler here")
    target = tmp_path_factory.mktemp("peers")
    flags = subprocess.run(
        ["pkg-config", "--cflags", "--libs", "libnghttp2", "openssl"], check=True, capture_output=True, text=True
    ).stdout.split()
    source = ROOT / "loadtests" / "peers" / "nghttp2_noop.c"
    words = ["cc", "-O1", "-Wall", "-Wextra", "-Werror", "-o", str(target / "nghttp2_noop"), str(source), *flags, "-pthread"]
    subprocess.run(words, check=True)
    return target


@pytest.fixture(params=["nghttp2", "nghttp2 with two threads", "nghttp2 over TLS", "grpc.aio"])
def server(request: pytest.FixtureRequest, folder: Path, tmp_path: Path) -> Iterator[Server]:
    """A running peer."""
    started = {
        "nghttp2": lambda: nghttp2_noop((), folder=folder),
        "nghttp2 with two threads": lambda: nghttp2_noop((), threads=2, folder=folder),
        "nghttp2 over TLS": lambda: nghttp2_noop((), tls=loopback_tls(tmp_path), folder=folder),
        "grpc.aio": lambda: grpc_aio_noop(()),
    }[request.param]()
    with started as running:
        yield running


def channel_to(server: Server) -> grpc.Channel:
    """A channel with connections of its own."""
    target, options = f"127.0.0.1:{server.port}", [("grpc.use_local_subchannel_pool", 1)]
    if server.authority is None:
        return grpc.insecure_channel(target, options)
    return grpc.secure_channel(target, grpc.ssl_channel_credentials(server.authority.read_bytes()), options)


def test_peer_answers_a_renewal_that_grpcio_understands_and_counts_it(server: Server) -> None:
    before = server.count()
    with channel_to(server) as channel:
        answer = SessionsStub(channel).Renew(RenewRequest(session_id=bytes(32)), timeout=CALL_S)
    assert answer == ANSWER
    assert server.count() == before + 1


def test_peer_answers_many_calls_at_once_on_several_connections(server: Server) -> None:
    with channel_to(server) as one, channel_to(server) as other:
        stubs = [SessionsStub(one), SessionsStub(other)]
        calls = [stub.Renew.future(RenewRequest(session_id=bytes(32)), timeout=CALL_S) for stub in stubs for _ in range(200)]
        assert [call.result() for call in calls] == [ANSWER] * 400
    assert server.count() == 400


def test_peer_that_is_killed_while_it_is_measured_is_a_failure(folder: Path) -> None:
    with pytest.raises(ServerFailed, match="ended with status -9"), nghttp2_noop((), folder=folder) as server:
        os.kill(server.pid, signal.SIGKILL)


def test_peer_that_does_not_start_is_a_failure() -> None:
    with pytest.raises(ServerFailed, match="did not start"), peer("nobody", ["false"], ()):
        pytest.fail("it started")


def test_peer_with_a_wrong_argument_says_what_it_takes(folder: Path) -> None:
    answer = subprocess.run([folder / "nghttp2_noop", "--threads", "0"], capture_output=True, text=True, check=False)
    assert answer.returncode == 2
    assert "--threads 1..16" in answer.stderr
