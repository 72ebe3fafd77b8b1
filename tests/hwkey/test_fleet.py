"""Emulated tokens on disk and in fleets: what survives, what two processes share, what is refused."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from hwkey import Proof, SecurityKey, SigningAlgorithm, TokenStoreError
from hwkey.emulated import EmulatedToken, TokenFleet, emulated_bus

Prove = Callable[[SecurityKey], Proof]


@pytest.mark.parametrize("algorithm", list(SigningAlgorithm), ids=lambda algorithm: algorithm.value)
def test_saved_token_is_loaded_with_the_same_identity(tmp_path: Path, algorithm: SigningAlgorithm) -> None:
    token = EmulatedToken.create(serial="S-7", profile="nitrokey3-like", algorithm=algorithm)
    token.save(tmp_path / "t")
    loaded = EmulatedToken.load(tmp_path / "t")
    assert (loaded.serial, loaded.profile.name, loaded.thumbprint) == ("S-7", "nitrokey3-like", token.thumbprint)
    assert loaded.certificate_der == token.certificate_der


def test_private_file_is_readable_by_its_owner_alone(tmp_path: Path) -> None:
    EmulatedToken.create(serial="S-7").save(tmp_path / "t")
    assert stat.S_IMODE((tmp_path / "t" / "private.pem").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("private.pem", b"garbage"),
        ("certificate.der", b"garbage"),
        ("token.json", b"garbage"),
        ("token.json", b"[]"),
        ("token.json", b'{"serial": "S", "profile": "no-such-profile"}'),
        ("token.json", b'{"serial": 7, "profile": "yubikey5-like"}'),
        ("private.pem", None),
    ],
)
def test_broken_token_is_refused_and_the_file_named(tmp_path: Path, name: str, content: bytes | None) -> None:
    EmulatedToken.create(serial="S").save(tmp_path)
    if content is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(TokenStoreError) as caught:
        EmulatedToken.load(tmp_path)
    assert caught.value.path.endswith(name)


def test_certificate_of_another_private_key_is_refused(tmp_path: Path) -> None:
    EmulatedToken.create(serial="S").save(tmp_path)
    (tmp_path / "certificate.der").write_bytes(EmulatedToken.create(serial="S").certificate_der)
    with pytest.raises(TokenStoreError, match="another private key"):
        EmulatedToken.load(tmp_path)


@pytest.mark.parametrize("wrong", [{"profile": "no-such"}, {"serial": ""}, {"serial": "x" * 65}, {"serial": "a\nb"}])
def test_unusable_token_is_not_made(wrong: dict[str, str]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  each has its own sentence
        EmulatedToken.create(**({"serial": "S"} | wrong))


def test_fleet_is_the_same_after_a_restart(tmp_path: Path, prove: Prove) -> None:
    fleet = TokenFleet(tmp_path)
    in_token, out_token = fleet.create("in"), fleet.create("out", is_plugged=False)
    again = TokenFleet(tmp_path)
    assert [(entry.name, entry.is_plugged) for entry in again.entries()] == [("in", True), ("out", False)]
    bus = emulated_bus(again)
    (port,) = bus.scan()
    opened = bus.open(port)
    assert opened.thumbprint == in_token.thumbprint != out_token.thumbprint
    prove(opened)


def test_plugging_in_another_process_reaches_a_running_bus(tmp_path: Path) -> None:
    running = TokenFleet(tmp_path)
    bus = emulated_bus(running)
    assert bus.scan() == []
    other = TokenFleet(tmp_path)
    other.create("one")
    assert bus.wait_change(30) is True
    (port,) = bus.scan()
    other.unplug("one")
    assert bus.wait_change(30) is True
    assert bus.scan() == []
    other.plug("one")
    assert bus.wait_change(30) is True
    assert [found.generation for found in bus.scan()] == [port.generation + 1]


def test_remade_marker_is_a_replug(tmp_path: Path) -> None:
    running, other = TokenFleet(tmp_path), TokenFleet(tmp_path)
    other.create("one")
    (before,) = running.devices()
    marker = tmp_path / "plugged" / "one"
    marker.unlink()
    marker.touch()
    os.utime(marker, ns=(1, 1))  # a moment of its own, whatever the file system's clock
    (after,) = running.devices()
    assert after.address != before.address


def test_token_broken_while_running_is_left_out_and_the_others_go_on(tmp_path: Path) -> None:
    running, other = TokenFleet(tmp_path), TokenFleet(tmp_path)
    other.create("good")
    broken = tmp_path / "tokens" / "broken"
    broken.mkdir()
    (broken / "token.json").write_text("{}")
    assert [entry.name for entry in running.entries()] == ["good"]
    with pytest.raises(TokenStoreError):
        TokenFleet(tmp_path)


def test_unfinished_token_is_waited_for(tmp_path: Path) -> None:
    running = TokenFleet(tmp_path)
    token = EmulatedToken.create(serial="S")
    token.save(tmp_path / "aside")
    (tmp_path / "aside" / "token.json").rename(tmp_path / "last")
    (tmp_path / "aside").rename(tmp_path / "tokens" / "slow")
    assert running.entries() == []
    (tmp_path / "last").rename(tmp_path / "tokens" / "slow" / "token.json")
    assert [entry.name for entry in running.entries()] == ["slow"]


def test_token_is_found_by_name_and_by_serial(fleet: TokenFleet) -> None:
    token = fleet.create("by-name", serial="BY-SERIAL")
    assert fleet.token("by-name") is fleet.token("BY-SERIAL") is token
    fleet.unplug("BY-SERIAL")
    assert not fleet.entries()[0].is_plugged
    for call in (fleet.plug, fleet.unplug, fleet.token):
        with pytest.raises(KeyError):
            call("neither")


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "..", "x" * 65, "a b"])
def test_name_that_could_leave_the_directory_is_refused(fleet: TokenFleet, name: str) -> None:
    with pytest.raises(ValueError, match="no name for a token"):
        fleet.add(name, EmulatedToken.create(serial="S"))


def test_name_is_taken_once(fleet: TokenFleet) -> None:
    fleet.create("one")
    with pytest.raises(ValueError, match="already"):
        fleet.create("one")


def test_plugging_twice_changes_nothing(fleet: TokenFleet) -> None:
    fleet.create("one")
    count, (device,) = fleet.count, fleet.devices()
    fleet.plug("one")
    assert (fleet.count, fleet.devices()) == (count, [device])


def test_bus_address_grows_with_each_plug_and_starts_again_after_127(fleet: TokenFleet) -> None:
    fleet.create("stays")
    fleet.create("moves")
    seen = []
    for _ in range(130):
        fleet.unplug("moves")
        fleet.plug("moves")
        seen.append(fleet.devices()[1].address)
    assert seen[:124] == list(range(4, 128))
    assert seen[124:] == [3, 4, 5, 6, 7, 8]  # 2 belongs to the one that stays


def test_clone_answers_with_the_same_identity_from_another_place(fleet: TokenFleet, prove: Prove) -> None:
    fleet.add("copy", fleet.create("original").clone(serial="COPY"))
    bus = emulated_bus(fleet)
    opened = [bus.open(port) for port in bus.scan()]
    assert len({one.thumbprint for one in opened}) == 1
    assert len({one.description.usb_path for one in opened}) == 2
    for one in opened:
        prove(one)
