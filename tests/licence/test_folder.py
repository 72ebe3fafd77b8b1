"""Licence folders: many documents judged together, and nothing in a folder that could make a reading fail."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from broker.licence import LicenceFolder, RefusalReason, TrustFile, Vendor, judge
from broker.licence.folder import FolderReading

from .conftest import NOW_UNIX_S, plain_claims

Make = Callable[..., str]


def reasons(reading: FolderReading) -> dict[str, RefusalReason]:
    return {refusal.file: refusal.reason for refusal in reading.refused}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "licences"
    path.mkdir()
    return path


def test_licences_are_accepted_with_their_file_names(folder: Path, issue: Make, trust: TrustFile) -> None:
    (folder / "b.jwt").write_text(issue(licence_id="L-2"))
    (folder / "a.jwt").write_text(issue(licence_id="L-1") + "\n")
    reading = LicenceFolder(folder).read(trust)
    assert [(licence.file, licence.licence_id) for licence in reading.accepted] == [
        ("a.jwt", "L-1"),
        ("b.jwt", "L-2"),
    ]
    assert reading.refused == ()


def test_periods_are_not_judged_by_a_reading(folder: Path, issue: Make, trust: TrustFile) -> None:
    (folder / "old.jwt").write_text(issue(issued_unix_s=1, expires_unix_s=2))
    assert len(LicenceFolder(folder).read(trust).accepted) == 1


def test_a_copy_of_a_licence_counts_once(issue: Make, trust: TrustFile) -> None:
    document = issue().encode()
    reading = judge([("z.jwt", document), ("a.jwt", document + b"\n"), ("m.jwt", document)], trust)
    assert [licence.file for licence in reading.accepted] == ["a.jwt"]
    assert reasons(reading) == {"m.jwt": RefusalReason.COPY, "z.jwt": RefusalReason.COPY}
    assert "a.jwt" in reading.refused[0].sentence


def test_two_bodies_under_one_id_are_both_refused(issue: Make, trust: TrustFile) -> None:
    reading = judge([("a.jwt", issue(seats=10).encode()), ("b.jwt", issue(seats=20).encode())], trust)
    assert reading.accepted == ()
    assert reasons(reading) == {"a.jwt": RefusalReason.ID_CONFLICT, "b.jwt": RefusalReason.ID_CONFLICT}
    assert "b.jwt" in reading.refused[0].sentence
    assert "a.jwt" in reading.refused[1].sentence


def test_a_signed_body_that_is_refused_still_conflicts(issue: Make, forge: Make, trust: TrustFile) -> None:
    reading = judge([("a.jwt", issue().encode()), ("b.jwt", forge(plain_claims(seats=0)).encode())], trust)
    assert reading.accepted == ()
    assert set(reasons(reading).values()) == {RefusalReason.ID_CONFLICT}


def test_a_forgery_under_the_id_of_a_licence_does_not_push_it_out(issue: Make, trust: TrustFile) -> None:
    genuine = issue()
    header, payload, _ = issue(seats=11).split(".")
    forgery = f"{header}.{payload}.{genuine.split('.')[2]}"
    reading = judge([("a.jwt", forgery.encode()), ("b.jwt", genuine.encode())], trust)
    assert [licence.file for licence in reading.accepted] == ["b.jwt"]
    assert reasons(reading) == {"a.jwt": RefusalReason.WRONG_SIGNATURE}


def test_two_vendors_may_use_one_id(issue: Make, other_vendor: Vendor, trust: TrustFile) -> None:
    documents = [("a.jwt", issue().encode()), ("b.jwt", issue(other_vendor, product="fax").encode())]
    assert len(judge(documents, trust).accepted) == 2


def test_other_files_hidden_files_and_folders_are_ignored_or_named(
    folder: Path, issue: Make, trust: TrustFile
) -> None:
    (folder / "readme.txt").write_text("no licence")
    (folder / ".half-written.jwt").write_text(issue()[:20])
    (folder / "licence.jwt.tmp").write_text(issue()[:20])
    (folder / "folder.jwt").mkdir()
    os.mkfifo(folder / "fifo.jwt")
    (folder / "dangling.jwt").symlink_to(folder / "nothing")
    (folder / "big.jwt").write_bytes(b"x" * 100_000)
    (folder / "bell\x07.jwt").write_bytes(b"\x00")
    os.symlink("0.jwt", os.path.join(os.fsencode(folder), b"\xff.jwt"))
    (folder / "0.jwt").write_text(issue())
    reading = LicenceFolder(folder).read(trust)
    assert [licence.file for licence in reading.accepted] == ["0.jwt"]
    assert reasons(reading) == {
        "folder.jwt": RefusalReason.UNREADABLE,
        "fifo.jwt": RefusalReason.UNREADABLE,
        "dangling.jwt": RefusalReason.UNREADABLE,
        "big.jwt": RefusalReason.TOO_LARGE,
        "bell\\x07.jwt": RefusalReason.MALFORMED,
        "\\udcff.jwt": RefusalReason.COPY,
    }


def test_a_missing_folder_is_said_and_not_raised(tmp_path: Path, trust: TrustFile) -> None:
    (refusal,) = LicenceFolder(tmp_path / "nowhere").read(trust).refused
    assert refusal.reason is RefusalReason.UNREADABLE
    assert "nowhere" in refusal.sentence


def test_an_unknown_vendor_is_refused_by_an_empty_trust_file(issue: Make) -> None:
    reading = judge([("a.jwt", issue(expires_unix_s=NOW_UNIX_S + 1).encode())], TrustFile())
    assert reasons(reading) == {"a.jwt": RefusalReason.KID_UNKNOWN}


def test_files_beyond_the_bound_are_named(
    folder: Path, issue: Make, trust: TrustFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.licence.bounds.FOLDER_FILE_COUNT_MAX", 2)
    for name in ("a", "b", "c"):
        (folder / f"{name}.jwt").write_text(issue(licence_id=name))
    reading = LicenceFolder(folder).read(trust)
    assert len(reading.accepted) == 2
    assert reasons(reading) == {"c.jwt": RefusalReason.TOO_MANY}
