"""The USB/IP server as its peers meet it: the production driver over it, many keys, pulls, and hostile bytes."""

from __future__ import annotations

import secrets
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from hwkey import Proof, SecurityKey, Unplugged, verify_signature
from hwkey.emulated import PROFILES, Fault, FaultKind, TokenFleet
from hwkey.emulated.usbip_attach import list_remote
from hwkey.emulated.usbip_server import UsbipServer
from tests.hwkey.usbip_host import UsbipHost, open_over_usbip

Prove = Callable[[SecurityKey], Proof]
SOUND = sorted(name for name, profile in PROFILES.items() if not profile.flaky_per_mille)
PLACE = "101-1.1"


@pytest.fixture
def server(fleet: TokenFleet) -> Iterator[UsbipServer]:
    with UsbipServer(fleet) as serving:
        yield serving


@pytest.mark.parametrize("profile", SOUND)
def test_key_of_each_profile_is_proven_over_usbip(fleet: TokenFleet, server: UsbipServer, prove: Prove, profile: str) -> None:
    token = fleet.create("only", profile=profile)
    opened = open_over_usbip(server.address, PLACE, PROFILES[profile])
    proof = prove(opened)
    assert opened.thumbprint == token.thumbprint
    verify_signature(proof.challenge, proof.signature, token.public_key)
    opened.close()


def test_list_names_every_key_and_its_interfaces(fleet: TokenFleet, server: UsbipServer) -> None:
    for number in range(12):
        fleet.create(f"key-{number}", profile=SOUND[number % len(SOUND)])
    fleet.unplug("key-3")
    listed = list_remote(*server.address)
    assert [one.bus_id for one in listed] == [f"101-{1 + n // 10}.{1 + n % 10}" for n in range(12) if n != 3]
    assert all((0x0B, 0, 0) in one.interfaces for one in listed)


def test_eight_keys_are_proven_at_once(fleet: TokenFleet, server: UsbipServer, prove: Prove) -> None:
    tokens = [fleet.create(f"key-{number}") for number in range(8)]

    def run(number: int) -> str:
        opened = open_over_usbip(server.address, f"101-1.{number + 1}", tokens[number].profile)
        prove(opened)
        opened.close()
        return opened.thumbprint

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(run, range(8))) == [token.thumbprint for token in tokens]


def test_key_is_given_to_one_host_at_a_time(fleet: TokenFleet, server: UsbipServer) -> None:
    fleet.create("only", profile="nitrokey3-like")
    opened = open_over_usbip(server.address, PLACE, PROFILES["nitrokey3-like"])
    assert server.imported() == [PLACE]
    second = UsbipHost(server.address)
    assert "attached elsewhere" in str(second.import_device(PLACE))
    second.close()
    opened.close()


def test_unknown_place_is_refused(server: UsbipServer) -> None:
    host = UsbipHost(server.address)
    assert "no such device" in str(host.import_device("1-1"))
    host.close()


@pytest.mark.parametrize("by", ["fleet", "fault"])
def test_pulled_key_hangs_up_and_can_be_imported_again(
    fleet: TokenFleet, server: UsbipServer, prove: Prove, by: str
) -> None:
    token = fleet.create("only", profile="nitrokey3-like")
    opened = open_over_usbip(server.address, PLACE, token.profile)
    if by == "fleet":
        fleet.unplug("only")
    else:
        token.faults.append(Fault(FaultKind.UNPLUG))
    with pytest.raises(Unplugged):
        prove_until_pulled(opened, prove)
    opened.close()
    plug_until_importable(fleet)
    again = open_over_usbip(server.address, PLACE, token.profile)
    assert again.thumbprint == opened.thumbprint
    prove(again)
    again.close()


def prove_until_pulled(opened: SecurityKey, prove: Prove) -> None:
    for _ in range(1000):
        prove(opened)


def plug_until_importable(fleet: TokenFleet) -> None:
    """The server pulls the token after it has hung up: plugging before that would be undone."""
    seen_count = fleet.count
    while fleet.devices():
        assert fleet.wait_beyond(seen_count, 10.0), "the token was never pulled"
        seen_count = fleet.count
    fleet.plug("only")


def test_waiting_read_ends_when_the_key_is_pulled(fleet: TokenFleet, server: UsbipServer) -> None:
    fleet.create("only", profile="nitrokey3-like")
    host = UsbipHost(server.address)
    host.import_device(PLACE)
    host.submit(1, size=64)
    threading.Timer(0.01, fleet.unplug, ("only",)).start()
    with pytest.raises(Unplugged):
        host.reply()
    host.close()


def test_hostile_peers_are_hung_up_on_and_others_go_on(fleet: TokenFleet, server: UsbipServer, prove: Prove) -> None:
    fleet.create("only", profile="nitrokey3-like")
    opened = open_over_usbip(server.address, PLACE, PROFILES["nitrokey3-like"])
    for data in (b"GET / HTTP/1.1\r\n\r\n", bytes(48), secrets.token_bytes(4096), bytes.fromhex("01118003") + bytes(400)):
        with socket.create_connection(server.address, 10.0) as hostile:
            hostile.sendall(data)
            assert ends(hostile)
        prove(opened)
    opened.close()


def ends(connection: socket.socket) -> bool:
    """Whether the peer hangs up, whatever it says before."""
    try:
        while connection.recv(4096):
            pass
    except ConnectionError:
        pass
    return True


def test_address_that_others_reach_is_refused_unless_insisted_on(fleet: TokenFleet) -> None:
    with pytest.raises(ValueError, match="lets anybody in"):
        UsbipServer(fleet, host="0.0.0.0")
    UsbipServer(fleet, host="0.0.0.0", is_open_to_network=True).close()


def test_close_hangs_up_and_may_be_called_twice(fleet: TokenFleet) -> None:
    fleet.create("only", profile="nitrokey3-like")
    server = UsbipServer(fleet)
    host = UsbipHost(server.address)
    host.import_device(PLACE)
    server.close()
    server.close()
    with pytest.raises(Unplugged):
        host.reply()
    host.close()
