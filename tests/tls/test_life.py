"""Beginnings and ends: every state, close_notify both ways, nothing left behind, and what an idle connection weighs."""

from __future__ import annotations

import ctypes
import gc
import itertools
import re
import ssl
from enum import IntEnum
from pathlib import Path

import pytest
import trustme

from broker._tls import TRANSITIONS, ServerContext, ServerTls
from broker.limits import LIMITS
from broker.model.tls import IdentityStatus, TlsError, TlsState, TlsStep
from tests.tls.peers import Client, Files, client_context, connected, settle, write_all

RECORDS = Path(__file__).resolve().parents[2] / "ext" / "tls" / "tls_records.pxd"

HANDSHAKES = 2_000

IDLE_CONNECTIONS = 200

PLAIN_SIZE = 2000
"""Of the buffers that only the Python face has."""

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


class MallocInfo(ctypes.Structure):
    """struct mallinfo2 of glibc: `in_use` counts bytes handed out."""

    _fields_ = (
        *((name, ctypes.c_size_t) for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks")),
        ("in_use", ctypes.c_size_t),
        ("fordblks", ctypes.c_size_t),
        ("keepcost", ctypes.c_size_t),
    )


def bytes_in_use() -> int:
    """What malloc has handed out, large blocks included."""
    gc.collect()
    ask = ctypes.CDLL(None).mallinfo2
    ask.restype = MallocInfo
    info = ask()
    return int(info.in_use + info.hblkhd)


@pytest.mark.parametrize(
    ("words", "prefix"),
    [(TlsState, "TLS_"), (TlsError, "TLS_ERROR_"), (TlsStep, "TLS_STEP_"), (IdentityStatus, "IDENTITY_")],
)
def test_words_are_those_of_the_compiled_part(words: type[IntEnum], prefix: str) -> None:
    body = re.search(rf"^cdef enum:  # {words.__name__}\n((?:    .*\n)+)", RECORDS.read_text(), re.MULTILINE)
    assert body is not None
    found = {name.removeprefix(prefix): int(number) for name, number in re.findall(r"^    (\w+) = (\d+)", body[1], re.MULTILINE)}
    found = {name: number for name, number in found.items() if name not in ("STATE_COUNT", "COUNT", "NONE")}
    assert found == {one.name: one.value for one in words}


def test_table_of_states_is_whole_and_ends_stay_ends() -> None:
    named = {(TlsState(state), TlsStep(step)): TlsState(to) for (state, step), to in TRANSITIONS.items()}
    assert {state for state, _ in named} == set(TlsState)
    for state, step in itertools.product(TlsState, (TlsStep.OWN_CLOSE, TlsStep.GONE)):
        assert (state, step) in named, "a listener may close, and a transport end, at any time"
    for state in (TlsState.CLOSED, TlsState.FAILED):
        assert {to for (start, _), to in named.items() if start == state} == {state}
    assert [state for (state, step) in named if step == TlsStep.ESTABLISHED] == [TlsState.HANDSHAKE]


def in_state(context: ServerContext, authority: trustme.CA, state: TlsState) -> ServerTls:
    """A server that has got there by real bytes."""
    if state == TlsState.HANDSHAKE:
        return ServerTls(context)
    server, client = connected(context, client_context(authority))
    if state in (TlsState.PEER_CLOSED, TlsState.CLOSED):
        close_of(client)
        settle(server, client)
    if state in (TlsState.OWN_CLOSED, TlsState.CLOSED):
        server.close()
    if state == TlsState.FAILED:
        server.feed(b"no record of TLS")
    return server


def close_of(client: Client) -> None:
    """Has the client say close_notify."""
    with pytest.raises((ssl.SSLWantReadError, ssl.SSLSyscallError, ssl.SSLZeroReturnError)):
        client.tls.unwrap()


@pytest.mark.parametrize("state", TlsState)
def test_every_state_takes_every_call_and_follows_the_table(context: ServerContext, authority: trustme.CA, state: TlsState) -> None:
    assert in_state(context, authority, state).state == state
    closed, gone = in_state(context, authority, state), in_state(context, authority, state)
    assert closed.close()
    assert closed.state == TRANSITIONS[state, TlsStep.OWN_CLOSE]
    gone.peer_gone()
    assert gone.state == TRANSITIONS[state, TlsStep.GONE]
    for server in (closed, gone):
        assert server.feed(b"") == 0
        assert server.write(b"x") == (1 if server.state in (TlsState.OPEN, TlsState.PEER_CLOSED) else 0)
        assert server.read() == b""
        assert (server.error is None) == (server.state != TlsState.FAILED)


@pytest.mark.parametrize("version", VERSIONS)
def test_close_by_the_client_lets_the_server_finish_its_sentence(
    context: ServerContext, authority: trustme.CA, version: ssl.TLSVersion
) -> None:
    server, client = connected(context, client_context(authority, version=version))
    client.tls.write(b"last question")
    close_of(client)
    assert settle(server, client) == b"last question"
    assert (server.state, server.error) == (TlsState.PEER_CLOSED, None)
    assert server.write(b"last answer") == len(b"last answer")
    assert server.close()
    assert server.state == TlsState.CLOSED
    client.incoming.write(server.output())
    assert client.read() == b"last answer"
    assert client.is_closed, "and the client has seen our close_notify"
    server.peer_gone()
    assert server.error is None


@pytest.mark.parametrize("version", VERSIONS)
def test_close_by_the_server_still_reads_what_the_client_was_saying(
    context: ServerContext, authority: trustme.CA, version: ssl.TLSVersion
) -> None:
    server, client = connected(context, client_context(authority, version=version))
    client.tls.write(b"was saying")
    assert server.close()
    assert (server.state, server.write(b"x")) == (TlsState.OWN_CLOSED, 0)
    client.incoming.write(server.output())
    client.tls.unwrap()
    assert settle(server, client) == b"was saying"
    assert (server.state, server.error) == (TlsState.CLOSED, None)


def test_transport_that_ends_in_an_open_connection_is_a_truncation(context: ServerContext, authority: trustme.CA) -> None:
    server, _ = connected(context, client_context(authority))
    server.peer_gone()
    assert server.error is not None
    assert (server.error.error, server.error.reason) == (TlsError.TRUNCATED, "the connection ended without a close_notify")


def test_sizes_are_those_of_the_bytes_that_went_through(context: ServerContext, authority: trustme.CA) -> None:
    server, client = ServerTls(context), Client(client_context(authority))
    received = sent = 0
    for _ in range(4):
        client.shake()
        to_server = client.outgoing.read()
        server.feed(to_server)
        to_client = server.output()
        client.incoming.write(to_client)
        received, sent = received + len(to_server), sent + len(to_client)
    client.tls.write(b"question")
    cipher = client.outgoing.read()
    server.feed(cipher)
    answer = write_all(server, b"ok")
    sizes = server.sizes
    assert (sizes.received, sizes.sent, sizes.read, sizes.written) == (received + len(cipher), sent + len(answer), 8, 2)


def test_two_thousand_handshakes_leave_nothing_behind(mutual: ServerContext, authority: trustme.CA, client_files: Files) -> None:
    good, refused = client_context(authority, own=client_files), client_context(authority, protocols=("http/1.1",))

    def many(count: int) -> None:
        for turn in range(count):
            server = connected(mutual, refused if turn % 8 == 0 else good)[0]
            assert server.state == (TlsState.FAILED if turn % 8 == 0 else TlsState.OPEN)

    many(HANDSHAKES // 4)
    before = bytes_in_use()
    many(HANDSHAKES - HANDSHAKES // 4)
    left = bytes_in_use() - before
    assert mutual.connection_count == 0
    assert left < 50 * HANDSHAKES, "an SSL object alone has thousands of bytes"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", ["context", "mutual"])
def test_idle_connection_weighs_less_than_its_bound(
    request: pytest.FixtureRequest, kind: str, authority: trustme.CA, client_files: Files, version: ssl.TLSVersion, capsys: pytest.CaptureFixture[str]
) -> None:
    def idle() -> ServerTls:
        server = ServerTls(server_context, plain_size_max=PLAIN_SIZE, output_size_max=LIMITS["TLS_OUTPUT_ROOM_MIN"])
        client = Client(context)
        settle(server, client)
        client.tls.write(b"x" * 20_000)
        settle(server, client)
        return server

    server_context: ServerContext = request.getfixturevalue(kind)
    context = client_context(authority, own=client_files, version=version)
    warm = [idle() for _ in range(8)]
    before = bytes_in_use()
    servers = [idle() for _ in range(IDLE_CONNECTIONS)]
    size = (bytes_in_use() - before) / IDLE_CONNECTIONS - PLAIN_SIZE - LIMITS["TLS_OUTPUT_ROOM_MIN"]
    with capsys.disabled():
        print(f" {version.name}{', mutual' * server_context.is_mutual}: {size / 1024:.1f} KiB an idle connection ", end="")
    assert {server.state for server in [*warm, *servers]} == {TlsState.OPEN}
    assert 1024 < size < 40 * 1024
