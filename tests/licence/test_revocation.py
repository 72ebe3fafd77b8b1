"""Revocation lists: who may revoke what, which list counts, and what each wrong one is refused for."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.licence import (
    LicenceFolder,
    Refusal,
    RefusalReason,
    RevocationFloor,
    RevocationList,
    Revocations,
    TrustFile,
    Vendor,
    VendorError,
    create_vendor,
    inspect_licence,
    issue_revocations,
    read_licence,
    read_revocations,
    revoke_licences,
)
from broker.licence.bounds import REVOCATION_LIST_SIZE_MAX, REVOKED_COUNT_MAX
from broker.licence.compact import REVOCATION_LIST, seal
from broker.licence.revoke import OWN_LIST_FILE

from .conftest import NOW_UNIX_S, plain_claims

Make = Callable[..., str]


@pytest.fixture
def folder(tmp_path: Path, issue: Make) -> LicenceFolder:
    """Holds the licences L-1 and L-2 of Acme."""
    path = tmp_path / "licences"
    path.mkdir()
    for name in ("L-1", "L-2"):
        (path / f"{name}.jwt").write_text(issue(licence_id=name))
    return LicenceFolder(path)


def listed(vendor: Vendor, number: int, *revoked: str) -> str:
    return issue_revocations(vendor, number=number, revoked=revoked, issued_unix_s=NOW_UNIX_S)


def put(folder: LicenceFolder, vendor: Vendor, number: int, *revoked: str) -> Path:
    path = folder.path / f"acme-{number}.revocations"
    path.write_text(listed(vendor, number, *revoked))
    return path


def counted(folder: LicenceFolder, trust: TrustFile, known: Revocations | None = None) -> set[str]:
    return {one.licence_id for one in folder.read(trust, known or Revocations()).accepted}


def test_revoked_licence_counts_no_more_and_says_who_took_it_back(
    folder: LicenceFolder, vendor: Vendor, trust: TrustFile
) -> None:
    digests = {one.licence_id: one.digest for one in folder.read(trust).accepted}
    put(folder, vendor, 7, "L-1", "never-issued")
    reading = folder.read(trust)
    assert [one.licence_id for one in reading.accepted] == ["L-2"]
    (refusal,) = reading.refused
    assert (refusal.reason, refusal.file, refusal.licence_id) == (RefusalReason.REVOKED, "L-1.jwt", "L-1")
    assert "revoked by Acme (list 7 of 2027-01-15" in refusal.sentence
    assert reading.revoked == {digests["L-1"]}


def test_higher_number_stands_for_all_and_the_lower_is_told(
    folder: LicenceFolder, vendor: Vendor, trust: TrustFile
) -> None:
    put(folder, vendor, 1, "L-1")
    put(folder, vendor, 2, "L-2")
    reading = folder.read(trust)
    assert [one.licence_id for one in reading.accepted] == ["L-1"]
    assert [(one.reason, one.file) for one in reading.refused] == [
        (RefusalReason.REVOKED, "L-2.jwt"),
        (RefusalReason.LIST_OUTDATED, "acme-1.revocations"),
    ]


def test_list_that_was_seen_is_not_undone_by_taking_it_away_or_by_an_older_one(
    folder: LicenceFolder, vendor: Vendor, trust: TrustFile
) -> None:
    path = put(folder, vendor, 2, "L-1")
    known = folder.read(trust).revocations
    path.unlink()
    assert counted(folder, trust, known) == {"L-2"}
    put(folder, vendor, 1)
    reading = folder.read(trust, known)
    assert [one.licence_id for one in reading.accepted] == ["L-2"]
    assert RefusalReason.LIST_OUTDATED in {one.reason for one in reading.refused}
    assert reading.revocations == known
    put(folder, vendor, 3)
    assert counted(folder, trust, known) == {"L-1", "L-2"}, "a vendor may change its mind, by a higher number"


def test_number_that_was_seen_in_an_earlier_run_is_a_floor_and_says_what_is_missing(
    folder: LicenceFolder, vendor: Vendor, trust: TrustFile
) -> None:
    path = put(folder, vendor, 7, "L-1")
    before = folder.read(trust)
    path.unlink()
    known = Revocations((), before.revocations.floors, before.revoked)
    reading = folder.read(trust, known)
    assert [one.licence_id for one in reading.accepted] == ["L-2"]
    assert reading.revoked == before.revoked
    assert {one.reason for one in reading.refused} == {RefusalReason.REVOKED, RefusalReason.LIST_MISSING}
    assert "(list 7 of 2027-01-15" in next(one.sentence for one in reading.refused if one.licence_id == "L-1")
    put(folder, vendor, 6)
    assert {one.reason for one in folder.read(trust, known).refused} == {
        RefusalReason.REVOKED,
        RefusalReason.LIST_MISSING,
        RefusalReason.LIST_OUTDATED,
    }
    put(folder, vendor, 7)
    assert counted(folder, trust, known) == {"L-1", "L-2"}, "the list itself, once it is back, says whom it revokes"


def test_floor_of_a_test_vendor_holds_back_no_list_of_its_namesake(
    folder: LicenceFolder, vendor: Vendor, trust: TrustFile
) -> None:
    put(folder, vendor, 3, "L-1")
    known = Revocations((), (RevocationFloor("Acme", True, 9, NOW_UNIX_S),))
    reading = folder.read(trust, known)
    assert [one.licence_id for one in reading.accepted] == ["L-2"]
    assert sorted((one.is_test, one.number) for one in reading.revocations.floors) == [(False, 3), (True, 9)]


def test_what_was_seen_outlives_a_folder_that_cannot_be_read(
    folder: LicenceFolder, vendor: Vendor, trust: TrustFile, tmp_path: Path
) -> None:
    put(folder, vendor, 1, "L-1")
    known = folder.read(trust).revocations
    assert LicenceFolder(tmp_path / "nowhere").read(trust, known).revocations == known


def test_two_lists_with_one_number_are_both_obeyed_and_told(
    folder: LicenceFolder, vendor: Vendor, trust: TrustFile
) -> None:
    (folder.path / "a.revocations").write_text(listed(vendor, 1, "L-1"))
    (folder.path / "b.revocations").write_text(listed(vendor, 1, "L-2"))
    (folder.path / "copy of a.revocations").write_text(listed(vendor, 1, "L-1"))
    reading = folder.read(trust)
    assert reading.accepted == ()
    conflicts = [one.file for one in reading.refused if one.reason is RefusalReason.LIST_CONFLICT]
    assert conflicts == ["a.revocations", "b.revocations", "copy of a.revocations"]


def test_nobody_revokes_the_licences_of_another_vendor(
    folder: LicenceFolder, vendor: Vendor, other_vendor: Vendor, tmp_path: Path
) -> None:
    namesake = create_vendor(tmp_path / "namesake", "Acme", ["platform"], is_test=True)
    trust = TrustFile.load(vendor.trust_path, other_vendor.trust_path, namesake.trust_path)
    put(folder, other_vendor, 9, "L-1")
    put(folder, namesake, 8, "L-2")
    assert counted(folder, trust) == {"L-1", "L-2"}


def test_list_of_a_vendor_that_is_not_trusted_revokes_nothing(
    folder: LicenceFolder, other_vendor: Vendor, vendor: Vendor
) -> None:
    put(folder, other_vendor, 1, "L-1")
    reading = folder.read(vendor.trust)
    assert len(reading.accepted) == 2
    assert [one.reason for one in reading.refused] == [RefusalReason.KID_UNKNOWN]


def test_revocation_goes_before_every_other_fault_of_an_id(
    folder: LicenceFolder, vendor: Vendor, issue: Make, trust: TrustFile
) -> None:
    (folder.path / "L-1 again.jwt").write_text(issue(licence_id="L-1", seats=50))
    (folder.path / "L-2 again.jwt").write_text(issue(licence_id="L-2"))
    put(folder, vendor, 1, "L-1", "L-2")
    assert {one.reason for one in folder.read(trust).refused} == {RefusalReason.REVOKED}


# --- documents --------------------------------------------------------------------------------------------------------


def claims_of(**changes: Any) -> dict[str, Any]:
    claims: dict[str, Any] = {"iss": "Acme", "iat": NOW_UNIX_S, "number": 1, "revoked": ["L-1"]} | changes
    return {name: value for name, value in claims.items() if value is not ...}


def signed(vendor: Vendor, claims: dict[str, Any] | bytes) -> str:
    payload = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
    return seal(payload, vendor.private, vendor.entry.kid, REVOCATION_LIST)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"iss": "Rival"}, RefusalReason.WRONG_VENDOR),
        ({"iss": ...}, RefusalReason.CLAIM_MISSING),
        ({"iat": ...}, RefusalReason.CLAIM_MISSING),
        ({"number": ...}, RefusalReason.CLAIM_MISSING),
        ({"revoked": ...}, RefusalReason.CLAIM_MISSING),
        ({"number": 0}, RefusalReason.CLAIM_WRONG),
        ({"number": True}, RefusalReason.CLAIM_WRONG),
        ({"number": 2**53}, RefusalReason.CLAIM_WRONG),
        ({"number": "1"}, RefusalReason.CLAIM_WRONG),
        ({"iat": -1}, RefusalReason.CLAIM_WRONG),
        ({"revoked": "L-1"}, RefusalReason.CLAIM_WRONG),
        ({"revoked": [1]}, RefusalReason.CLAIM_WRONG),
        ({"revoked": ["a b"]}, RefusalReason.CLAIM_WRONG),
        ({"revoked": ["x"] * (REVOKED_COUNT_MAX + 1)}, RefusalReason.CLAIM_WRONG),
        ({"revoked_products": []}, RefusalReason.CLAIM_UNKNOWN),
        ({"exp": NOW_UNIX_S + 1}, RefusalReason.CLAIM_UNKNOWN),
        ({"env": "test"}, RefusalReason.PRODUCTION_KEY_FOR_TEST),
        ({"env": 3}, RefusalReason.PRODUCTION_KEY_FOR_TEST),
    ],
)
def test_each_wrong_list_has_its_own_refusal(
    vendor: Vendor, trust: TrustFile, changes: dict[str, Any], reason: RefusalReason
) -> None:
    verdict = read_revocations(signed(vendor, claims_of(**changes)), trust)
    assert isinstance(verdict, Refusal)
    assert verdict.reason is reason
    assert verdict.sentence.isprintable()


def test_test_vendors_list_says_so_or_is_refused(test_vendor: Vendor, trust: TrustFile) -> None:
    verdict = read_revocations(signed(test_vendor, claims_of(iss="Emulated Vendor")), trust)
    assert isinstance(verdict, Refusal)
    assert verdict.reason is RefusalReason.TEST_KEY_FOR_PRODUCTION
    read = read_revocations(listed(test_vendor, 1, "L-1"), trust)
    assert isinstance(read, RevocationList)
    assert read.is_test


def test_changed_broken_and_oversized_lists_are_refused(vendor: Vendor, trust: TrustFile) -> None:
    genuine = listed(vendor, 1, "L-1")
    header, _, signature = genuine.split(".")
    other = listed(vendor, 1).split(".")[1]
    for document, reason in (
        (f"{header}.{other}.{signature}", RefusalReason.WRONG_SIGNATURE),
        ("rubbish", RefusalReason.MALFORMED),
        (signed(vendor, b"[]"), RefusalReason.MALFORMED),
        ("x" * (REVOCATION_LIST_SIZE_MAX + 1), RefusalReason.TOO_LARGE),
    ):
        verdict = read_revocations(document, trust)
        assert isinstance(verdict, Refusal)
        assert verdict.reason is reason


def test_licence_is_no_list_and_a_list_is_no_licence(vendor: Vendor, issue: Make, trust: TrustFile) -> None:
    for verdict, remedy in (
        (read_licence(listed(vendor, 1, "L-1"), trust), "*.revocations"),
        (read_revocations(issue(), trust), "*.jwt"),
    ):
        assert isinstance(verdict, Refusal)
        assert verdict.reason is RefusalReason.WRONG_TYPE
        assert remedy in verdict.sentence


def test_longest_list_of_the_longest_ids_fits(vendor: Vendor, trust: TrustFile) -> None:
    ids = [f"{number:064d}" for number in range(REVOKED_COUNT_MAX)]
    read = read_revocations(listed(vendor, 1, *ids), trust)
    assert isinstance(read, RevocationList)
    assert len(read.revoked) == REVOKED_COUNT_MAX


@given(st.binary(max_size=400))
def test_no_bytes_raise(data: bytes) -> None:
    assert isinstance(read_revocations(data, TrustFile()), Refusal)


# --- the vendor's own list --------------------------------------------------------------------------------------------


def test_vendors_list_grows_and_so_does_its_number(vendor: Vendor, trust: TrustFile) -> None:
    assert revoke_licences(vendor, ["L-1"], NOW_UNIX_S).number == 1
    second = revoke_licences(vendor, ["L-2", "L-1"], NOW_UNIX_S)
    assert (second.number, second.revoked) == (2, {"L-1", "L-2"})
    assert revoke_licences(vendor, ["L-1"], NOW_UNIX_S + 1) == second, "nothing new uses no number"
    read = read_revocations((vendor.private_path.parent / OWN_LIST_FILE).read_text(), trust)
    assert read == second


def test_what_no_broker_would_read_is_not_written(vendor: Vendor) -> None:
    with pytest.raises(VendorError, match="no broker would accept"):
        revoke_licences(vendor, ["a b"], NOW_UNIX_S)
    assert not (vendor.private_path.parent / OWN_LIST_FILE).exists()


def test_damaged_own_list_is_not_started_anew(vendor: Vendor) -> None:
    path = vendor.private_path.parent / OWN_LIST_FILE
    path.write_text("rubbish")
    with pytest.raises(VendorError, match="from a backup"):
        revoke_licences(vendor, ["L-1"], NOW_UNIX_S)
    assert path.read_text() == "rubbish"


def test_inspection_of_a_list_shows_what_it_revokes(vendor: Vendor, trust: TrustFile, forge: Make) -> None:
    seen = inspect_licence(listed(vendor, 4, "L-1"), trust, NOW_UNIX_S)
    assert isinstance(seen.verdict, RevocationList)
    assert (seen.claims["number"], seen.claims["revoked"]) == (4, ["L-1"])
    large = inspect_licence(forge(plain_claims(sub="x" * 20_000)), trust, NOW_UNIX_S)
    assert (dict(large.claims), type(large.verdict)) == ({}, Refusal)
