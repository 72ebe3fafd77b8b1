"""Ports that systemd holds: found by name or address, refused when they are not what was configured, served from the first connection on."""

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from broker import client
from broker.app.address import Address
from broker.app.socket_activation import PREDECESSOR, SYSTEMD, GivenSocket, GivenSockets, sockets_of_systemd
from broker.client.admin import AdminClient
from broker.errors import AddressInUse, ConfigError
from broker.exit_codes import ExitCode
from tests.support.broker_process import process_environment, serve_command
from tests.support.toml_text import toml_text

LAUNCHER = Path(__file__).with_name("launcher.py")
FLEET = [{"name": "alpha", "seats": {"platform": 5}}]
FREE = "127.0.0.1:0"


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as one:
        yield one


def port_of(one: socket.socket) -> int:
    return int(one.getsockname()[1])


# --- which socket is whose ---------------------------------------------------------------------------------------------


def test_named_socket_goes_to_its_section_whatever_port_it_has(listening: socket.socket) -> None:
    given = GivenSockets([GivenSocket("admin", listening)], SYSTEMD)
    assert given.take("admin", Address("localhost", 0)) is listening
    given.close()


def test_nameless_socket_is_found_by_its_address(listening: socket.socket) -> None:
    given = GivenSockets([GivenSocket("usher.socket", listening)], SYSTEMD)
    assert given.has("http", Address("127.0.0.1", port_of(listening)))
    assert not given.has("http", Address("127.0.0.1", 0))
    assert given.take("http", Address("127.0.0.1", port_of(listening))) is listening


def test_taken_socket_does_not_block(listening: socket.socket) -> None:
    given = GivenSockets([GivenSocket("http", listening)], PREDECESSOR)
    with pytest.raises(BlockingIOError):
        given.take("http", Address("127.0.0.1", 0)).accept()


def test_socket_that_systemd_has_elsewhere_is_refused_with_both_addresses(listening: socket.socket) -> None:
    given = GivenSockets([GivenSocket("clients", listening)], SYSTEMD)
    wanted = rf"clients.address: is 127.0.0.2:7600, and systemd gives a socket on 127.0.0.1:{port_of(listening)}"
    with pytest.raises(ConfigError, match=wanted):
        given.take("clients", Address("127.0.0.2", 7600))


def test_socket_of_systemd_that_nobody_takes_is_refused(listening: socket.socket) -> None:
    given = GivenSockets([GivenSocket("usher.socket", listening)], SYSTEMD)
    with pytest.raises(ConfigError, match="where no listener is configured"):
        given.close()


def test_predecessor_on_another_address_leaves_a_new_socket_to_bind(listening: socket.socket) -> None:
    given = GivenSockets([GivenSocket("clients", listening)], PREDECESSOR)
    with given.take("clients", Address("127.0.0.2", 0)) as bound:
        assert bound.getsockname()[0] == "127.0.0.2"
    given.close()
    assert listening.fileno() == -1


def test_without_given_sockets_a_port_in_use_is_said(listening: socket.socket) -> None:
    with pytest.raises(AddressInUse, match=r"http\.address"):
        GivenSockets().take("http", Address("127.0.0.1", port_of(listening)))


def test_variables_for_another_process_are_taken_away_and_not_believed() -> None:
    environment = {"LISTEN_PID": "1", "LISTEN_FDS": "3", "LISTEN_FDNAMES": "a:b:c", "PATH": "/bin"}
    sockets_of_systemd(environment).close()
    assert environment == {"PATH": "/bin"}


# --- a real process ----------------------------------------------------------------------------------------------------


@contextmanager
def activated(directory: Path, names: str, addresses: Sequence[str], sections: dict[str, dict[str, object]]) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """A broker behind the launcher, and where the launcher listens: from before the broker's first instruction."""
    config = directory / "usher.toml"
    config.write_text(toml_text({"broker": {"data_dir": str(directory / "data")}, "emulation": {"keys": FLEET}, **sections}))
    words = [sys.executable, str(LAUNCHER), names, *addresses, "--", *serve_command(config, arguments=["--json"])]
    environment = process_environment() | {"USHER_TEST_CONFIG": str(config)}
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout
        try:
            yield process, json.loads(process.stdout.readline())
        finally:
            process.kill()


def test_connection_made_before_the_broker_lives_is_served(tmp_path: Path) -> None:
    sections = {name: {"address": f"ADDRESS_{number}"} for number, name in enumerate(("clients", "admin", "http"))}
    with activated(tmp_path, "usher.socket:usher.socket:usher.socket", [FREE] * 3, sections) as (process, where):
        host, port = where[2].split(":")
        with socket.create_connection((host, int(port)), timeout=60) as early:
            early.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert early.recv(100).startswith(b"HTTP/1.1 200")
        assert process.stdout
        endpoints = json.loads(process.stdout.readline())
        assert [endpoints[name] for name in ("clients", "admin", "http")] == where
        with client.open(where[0], user="anna", products=["platform"]) as session:
            assert session.holds("platform")
        token = (tmp_path / "data" / "admin.token").read_text().strip()
        with AdminClient(where[1], token) as admin:
            assert admin.get_broker().session_count == 0
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == ExitCode.DONE


def test_sockets_are_found_by_name_where_each_port_has_a_unit(tmp_path: Path) -> None:
    sections: dict[str, dict[str, object]] = {name: {"address": FREE} for name in ("clients", "admin", "http")}
    with activated(tmp_path, "http:clients:admin", [FREE] * 3, sections) as (process, where):
        assert process.stdout
        endpoints = json.loads(process.stdout.readline())
        assert [endpoints[name] for name in ("http", "clients", "admin")] == where


def test_broker_that_is_given_a_port_which_is_not_configured_says_so_and_ends(tmp_path: Path) -> None:
    sections: dict[str, dict[str, object]] = {name: {"address": FREE} for name in ("clients", "admin", "http")}
    with activated(tmp_path, "usher.socket", [FREE], sections) as (process, where):
        said = process.communicate(timeout=60)[1]
        assert process.returncode == ExitCode.CONFIG
        assert f"systemd gives a socket on {where[0]}, where no listener is configured" in said


def test_grpcio_serves_a_client_port_that_systemd_holds(tmp_path: Path) -> None:
    sections: dict[str, dict[str, object]] = {name: {"address": FREE} for name in ("clients", "admin", "http")}
    sections["clients"] |= {"data_plane": "grpcio"}
    with activated(tmp_path, "clients", [FREE], sections) as (process, where):
        assert process.stdout
        assert json.loads(process.stdout.readline())["clients"] == where[0]
        with client.open(where[0], user="anna", products=["platform"]) as session:
            assert session.holds("platform")
