"""The emulated fleet of a data directory: made once, licensed, moved, made anew when its configuration changes."""

from pathlib import Path

import pytest

from broker.app.emulated_keys import DEMO_FLEET, EmulatedKeySettings, EmulatedLicence
from broker.app.emulation import EmulatedFleet, fleet_trust_files
from broker.errors import DataDirectoryError
from broker.licence import FolderReading, LicenceFolder, TrustFile

NOW_UNIX_S = 1_800_000_000


def prepared(directory: Path, keys: tuple[EmulatedKeySettings, ...] = DEMO_FLEET) -> EmulatedFleet:
    return EmulatedFleet.prepare(directory, directory / "licences", keys, NOW_UNIX_S)


def read(directory: Path) -> FolderReading:
    return LicenceFolder(directory / "licences").read(TrustFile.load(*fleet_trust_files(directory)))


def test_first_start_makes_keys_and_licences_bound_to_them(tmp_path: Path) -> None:
    fleet = prepared(tmp_path)
    thumbprints = {one.name: one.thumbprint for one in fleet.emulated_keys()}
    reading = read(tmp_path)
    assert not reading.refused
    assert sorted((one.product, one.seats, one.thumbprint) for one in reading.accepted) == sorted(
        [
            ("platform", 5, thumbprints["alpha"]),
            ("platform", 10, thumbprints["bravo"]),
            ("crm", 10, thumbprints["charlie"]),
            ("telephony", 5, thumbprints["charlie"]),
        ]
    )


def test_everything_of_the_fleet_is_for_tests_only(tmp_path: Path) -> None:
    prepared(tmp_path)
    assert all(licence.is_test for licence in read(tmp_path).accepted)
    assert all(entry.is_test for entry in TrustFile.load(*fleet_trust_files(tmp_path)).entries)


def test_restart_changes_nothing(tmp_path: Path) -> None:
    before = prepared(tmp_path).emulated_keys()
    files = {path: path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file()}
    assert prepared(tmp_path).emulated_keys() == before
    assert {path: path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file()} == files


def test_key_that_was_pulled_stays_pulled_over_a_restart(tmp_path: Path) -> None:
    prepared(tmp_path).set_plugged("alpha", False)
    plugged = {one.name: one.is_plugged for one in prepared(tmp_path).emulated_keys()}
    assert plugged == {"alpha": False, "bravo": True, "charlie": True}


def test_changed_fleet_is_licensed_anew_and_its_old_licences_are_gone(tmp_path: Path) -> None:
    before = {one.name: one.thumbprint for one in prepared(tmp_path).emulated_keys()}
    other = (EmulatedKeySettings("alpha", (EmulatedLicence("fax", 3),)),)
    fleet = prepared(tmp_path, other)
    (licence,) = read(tmp_path).accepted
    assert (licence.product, licence.seats, licence.thumbprint) == ("fax", 3, before["alpha"])
    assert {one.name for one in fleet.emulated_keys()} == set(before)


def test_licence_that_was_deleted_is_issued_again(tmp_path: Path) -> None:
    prepared(tmp_path)
    next((tmp_path / "licences").glob("emulated-bravo*")).unlink()
    prepared(tmp_path)
    assert len(read(tmp_path).accepted) == 4


def test_start_that_was_interrupted_is_done_again(tmp_path: Path) -> None:
    prepared(tmp_path)
    (tmp_path / "emulated" / "issued.json").write_text('{"half')
    prepared(tmp_path)
    assert len(read(tmp_path).accepted) == 4
    assert not read(tmp_path).refused


def test_licences_of_real_vendors_in_the_folder_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "licences").mkdir()
    other = tmp_path / "licences" / "acme.jwt"
    other.write_text("not ours")
    prepared(tmp_path)
    prepared(tmp_path, ())
    assert other.read_text() == "not ours"


def test_fleet_without_licences_trusts_nobody(tmp_path: Path) -> None:
    fleet = prepared(tmp_path, (EmulatedKeySettings("bare"),))
    prepared(tmp_path, (EmulatedKeySettings("bare"),))
    assert [one.name for one in fleet.emulated_keys()] == ["bare"]
    assert fleet_trust_files(tmp_path) == ()


def test_moving_says_how_the_key_is_now(tmp_path: Path) -> None:
    fleet = prepared(tmp_path)
    assert fleet.set_plugged("alpha", False).is_plugged is False
    assert fleet.set_plugged("alpha", False).is_plugged is False
    assert len(fleet.bus().scan()) == 2
    assert fleet.set_plugged("alpha", True).is_plugged is True
    assert len(fleet.bus().scan()) == 3


def test_moving_a_key_that_is_not_there_is_a_lookup_error(tmp_path: Path) -> None:
    with pytest.raises(LookupError):
        prepared(tmp_path).set_plugged("zulu", True)


def test_damaged_key_is_named_with_what_to_do(tmp_path: Path) -> None:
    prepared(tmp_path)
    (tmp_path / "emulated" / "tokens" / "alpha" / "private.pem").write_text("rubbish")
    with pytest.raises(DataDirectoryError, match=r"private\.pem.*delete this directory to have it made anew"):
        prepared(tmp_path)
