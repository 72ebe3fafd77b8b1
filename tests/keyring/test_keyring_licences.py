"""The keyring and its licences: from files and from keys, added up, set aside, revoked, and near their end.

Over the emulated fleet, as in `test_keyring.py`; every wait is for an event.
"""

import dataclasses
import datetime
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from broker.keyring import Keyring, LicenceState
from broker.licence import (
    LicenceFolder,
    LicenceTerms,
    Stacking,
    TrustFile,
    Vendor,
    create_vendor,
    issue_certificate,
    issue_licence,
    issue_revocations,
)
from broker.model.words import EndReason
from hwkey.emulated import EmulatedToken, TokenFleet
from tests.support.waiting import until

from .conftest import NOW_UNIX_S, RecordingSink, WallClock

Put = Callable[..., Path]


def test_a_production_licence_on_an_emulated_key_is_refused_by_name(
    fleet: TokenFleet, sink: RecordingSink, folder: LicenceFolder, vendor: Vendor, licence: Put, run: Callable[..., Keyring]
) -> None:
    thumbprint = fleet.create("a").thumbprint
    licence("L-1", thumbprint, "platform", 5)
    real = create_vendor(vendor.private_path.parent / "real", "Real", ["platform"])
    document = issue_licence(
        real, licence_id="R-1", product="platform", seats=50, thumbprint=thumbprint, issued_unix_s=NOW_UNIX_S - 1
    )
    (folder.path / "R-1.jwt").write_text(document)
    keyring = run(trust=TrustFile((*vendor.trust.entries, *real.trust.entries)))
    assert sink.seats("platform") == 5
    rows = {row.licence_id: row for row in keyring.views().licences}
    assert rows["L-1"].state is LicenceState.COUNTING
    assert (rows["R-1"].state, rows["R-1"].code) == (LicenceState.REFUSED, "emulated_key")
    assert "EMULATED" in rows["R-1"].sentence


def test_a_licence_ends_and_another_begins_by_the_wall_clock(
    fleet: TokenFleet, sink: RecordingSink, licence: Put, run: Callable[..., Keyring], wall: WallClock
) -> None:
    thumbprint = fleet.create("a").thumbprint
    licence("old", thumbprint, "platform", 5, expires_unix_s=NOW_UNIX_S + 10)
    licence("new", thumbprint, "platform", 20, not_before_unix_s=NOW_UNIX_S + 10)
    keyring = run()
    assert sink.seats("platform") == 5
    assert {row.licence_id: row.state for row in keyring.views().licences} == {
        "old": LicenceState.COUNTING,
        "new": LicenceState.NOT_YET_VALID,
    }
    wall.unix_s = NOW_UNIX_S + 10
    sink.await_seats("platform", 20)
    assert sink.causes() == [EndReason.LICENCE_ENDED]
    # The new one counts before the old one goes, so that nobody is turned out in between.
    order = [(call[0], call[1]) for call in sink.calls if call[0] == "lose" or call[:2] == ("prove", 1)]
    assert order.index(("prove", 1)) < order.index(("lose", 0))
    wall.unix_s = NOW_UNIX_S - 1_000
    assert keyring.views().is_clock_suspect
    assert {row.licence_id: row.state for row in keyring.views().licences}["old"] is LicenceState.EXPIRED


def carrying(vendor: Vendor, token: EmulatedToken, **seats: int) -> EmulatedToken:
    """The same token with a certificate that carries a licence a product."""
    documents = [
        issue_licence(
            vendor,
            licence_id=f"on-{token.serial}-{product}-{count}",
            product=product,
            seats=count,
            thumbprint=token.thumbprint,
            issued_unix_s=NOW_UNIX_S - 1,
        )
        for product, count in seats.items()
    ]
    certificate = issue_certificate(vendor, token.public_key, documents, NOW_UNIX_S - 1)
    return dataclasses.replace(token, certificate_der=certificate.public_bytes(Encoding.DER))


def test_licences_on_a_key_count_with_those_in_files_and_wait_for_their_key(
    fleet: TokenFleet, sink: RecordingSink, licence: Put, run: Callable[..., Keyring], vendor: Vendor
) -> None:
    token = carrying(vendor, EmulatedToken.create(serial="a"), platform=20, crm=5)
    fleet.add("a", token)
    licence("in-a-file", token.thumbprint, "platform", 10)
    keyring = run()
    assert (sink.seats("platform"), sink.seats("crm")) == (30, 5)
    assert not sink.starting
    rows = {row.licence_id: row for row in keyring.views().licences}
    assert {row.state for row in rows.values()} == {LicenceState.COUNTING}
    assert rows["on-a-platform-20"].file == f"on key {token.thumbprint[:11]}, 1"
    fleet.unplug("a")
    sink.await_seats("platform", 0)
    assert sink.causes() == [EndReason.KEY_LOST] * 3
    keyring.reload()
    assert {row.state for row in keyring.views().licences} == {LicenceState.KEY_ABSENT}
    fleet.plug("a")
    sink.await_seats("platform", 30)


def test_licences_on_a_key_are_revoked_and_distrusted_as_files_are(
    fleet: TokenFleet, sink: RecordingSink, run: Callable[..., Keyring], vendor: Vendor, folder: LicenceFolder
) -> None:
    fleet.add("a", carrying(vendor, EmulatedToken.create(serial="a"), platform=20, crm=5))
    keyring = run()
    document = issue_revocations(vendor, number=1, revoked=["on-a-crm-5"], issued_unix_s=NOW_UNIX_S)
    (folder.path / "acme.revocations").write_text(document)
    keyring.reload()
    assert (sink.seats("platform"), sink.seats("crm")) == (20, 0)
    keyring.reload(TrustFile())
    assert (sink.seats("platform"), sink.seats("crm")) == (0, 0)
    assert {row.code for row in keyring.views().licences} == {"kid_unknown"}
    keyring.reload(vendor.trust)
    sink.await_seats("platform", 20)


def test_copied_certificate_neither_adds_nor_takes_until_its_key_answers(
    fleet: TokenFleet, sink: RecordingSink, run: Callable[..., Keyring], vendor: Vendor
) -> None:
    """An impostor shows the certificate of another key, or one without its licences, and cannot sign for it."""
    token = carrying(vendor, EmulatedToken.create(serial="a"), platform=20)
    absent = carrying(vendor, EmulatedToken.create(serial="b"), crm=50)
    fleet.add("a", token)
    keyring = run()
    bare = EmulatedToken.create(serial="impostor", algorithm=token.algorithm)
    empty = issue_certificate_without_licences(vendor, token)
    fleet.add("impostor", dataclasses.replace(bare, certificate_der=empty))
    fleet.add("thief", dataclasses.replace(bare, serial="thief", certificate_der=absent.certificate_der))
    until(
        lambda: any(shown.thumbprint == absent.thumbprint and shown.proof_failure_count for shown in keyring.views().keys),
        "the thief to be asked",
    )
    proof_count = keyring.views().keys[0].proof_count
    until(lambda: max(shown.proof_count for shown in keyring.views().keys) >= proof_count + 3, "proofs of the true key")
    assert (sink.seats("platform"), sink.seats("crm")) == (20, 0)
    assert sink.causes() == []
    assert [row.licence_id for row in keyring.views().licences] == ["on-a-platform-20"]


def issue_certificate_without_licences(vendor: Vendor, token: EmulatedToken) -> bytes:
    """What a token without licences holds: the key's name, and nothing else."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bare")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(token.public_key)
    builder = builder.serial_number(1).not_valid_before(datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC))
    builder = builder.not_valid_after(datetime.datetime(2040, 1, 1, tzinfo=datetime.UTC))
    return builder.sign(vendor.private, None).public_bytes(Encoding.DER)


def test_packs_of_every_size_on_one_key_add_up(
    fleet: TokenFleet, sink: RecordingSink, licence: Put, run: Callable[..., Keyring]
) -> None:
    thumbprint = fleet.create("a").thumbprint
    for seats in (1, 5, 10, 20, 50, 100):
        licence(f"pack-{seats}", thumbprint, "platform", seats)
    run()
    assert sink.seats("platform") == 186
    assert len(sink.pools) == 1


def test_an_end_that_is_near_is_warned_of_in_the_view_and_in_the_log(
    fleet: TokenFleet, licence: Put, run: Callable[..., Keyring], wall: WallClock, caplog: pytest.LogCaptureFixture
) -> None:
    thumbprint = fleet.create("a").thumbprint
    licence("near", thumbprint, "platform", 5, expires_unix_s=NOW_UNIX_S + 20 * 86_400)
    licence("far", thumbprint, "platform", 5, expires_unix_s=NOW_UNIX_S + 40 * 86_400)
    licence("for-ever", thumbprint, "platform", 5)
    with caplog.at_level("WARNING", "broker.keyring"):
        keyring = run()
        rows = {row.licence_id: row for row in keyring.views().licences}
        assert {row.state for row in rows.values()} == {LicenceState.COUNTING}
        assert (rows["near"].code, rows["near"].is_ending, rows["near"].ends_in_s) == ("ends_soon", True, 20 * 86_400)
        assert "in 20 days; get a new one from Acme" in rows["near"].sentence
        assert (rows["far"].code, rows["far"].sentence, rows["far"].is_ending) == ("", "", False)
        assert rows["for-ever"].ends_in_s is None
        said = [vars(record)["facts"] for record in caplog.records if record.message == "licence ends soon"]
        assert [(one["licence"], one["left"]) for one in said] == [("near", "20 days")]
        wall.unix_s = NOW_UNIX_S + 20 * 86_400
        until(lambda: "licence has ended" in caplog.messages, "the end to be logged")
    row = next(row for row in keyring.views().licences if row.licence_id == "near")
    assert (row.state, row.is_ending, row.ends_in_s) == (LicenceState.EXPIRED, False, 0)


def test_a_reload_takes_away_and_adds_what_the_folder_says(
    fleet: TokenFleet, sink: RecordingSink, licence: Put, run: Callable[..., Keyring], folder: LicenceFolder
) -> None:
    thumbprint = fleet.create("a").thumbprint
    gone = licence("L-1", thumbprint, "platform", 5)
    keyring = run()
    gone.unlink()
    licence("L-2", thumbprint, "crm", 3)
    (folder.path / "junk.jwt").write_text("junk")
    keyring.reload()
    assert (sink.seats("platform"), sink.seats("crm")) == (0, 3)
    assert sink.causes() == [EndReason.POLICY_CHANGED]
    rows = {row.file: row for row in keyring.views().licences}
    assert rows["junk.jwt"].state is LicenceState.REFUSED
    assert rows["junk.jwt"].code == "malformed"
    assert rows["L-2.jwt"].state is LicenceState.COUNTING


def test_a_revoked_licence_counts_no_more_from_the_reload_on_and_stays_revoked(
    fleet: TokenFleet, sink: RecordingSink, licence: Put, run: Callable[..., Keyring], folder: LicenceFolder, vendor: Vendor
) -> None:
    thumbprint = fleet.create("a").thumbprint
    licence("L-1", thumbprint, "platform", 5)
    licence("L-2", thumbprint, "platform", 10)
    keyring = run()
    assert sink.seats("platform") == 15
    path = folder.path / "acme.revocations"
    path.write_text(issue_revocations(vendor, number=1, revoked=["L-1"], issued_unix_s=NOW_UNIX_S))
    keyring.reload()
    assert sink.seats("platform") == 10
    assert sink.causes() == [EndReason.LICENCE_ENDED]
    (row,) = [row for row in keyring.views().licences if row.licence_id == "L-1"]
    assert (row.state, row.code, row.file) == (LicenceState.REFUSED, "revoked", "L-1.jwt")
    path.unlink()
    keyring.reload()
    assert sink.seats("platform") == 10, "a list that was seen is not undone by taking it away"


def test_only_the_largest_key_of_a_series_counts_and_the_rest_is_told(
    fleet: TokenFleet, sink: RecordingSink, licence: Put, run: Callable[..., Keyring], caplog: pytest.LogCaptureFixture
) -> None:
    terms = LicenceTerms(stacking=Stacking.ONE_PER_HOST)
    small, large = fleet.create("a").thumbprint, fleet.create("b").thumbprint
    licence("small", small, "platform", 5, terms)
    licence("large", large, "platform", 20, terms)
    with caplog.at_level("WARNING", "broker.keyring"):
        keyring = run()
        sink.await_seats("platform", 20)
    views = keyring.views()
    rows = {row.licence_id: row for row in views.licences}
    assert rows["large"].state is LicenceState.COUNTING
    assert (rows["small"].state, rows["small"].code) == (LicenceState.SET_ASIDE, "one_per_host")
    assert large in rows["small"].sentence
    keys = {shown.thumbprint: shown for shown in views.keys}
    assert (keys[small].seats, keys[small].set_aside, keys[small].code) == ({}, {"platform": 5}, "one_per_host")
    assert "5 of platform" in keys[small].sentence
    assert (keys[large].seats, keys[large].set_aside, keys[large].sentence) == ({"platform": 20}, {}, "")
    said = [vars(record)["facts"] for record in caplog.records if record.message.startswith("licence set aside")]
    assert [(one["licence"], one["seats"], one["counts_instead"]) for one in said] == [("small", 5, large)]
    fleet.unplug("b")
    sink.await_seats("platform", 5)
    keys = {shown.thumbprint: shown for shown in keyring.views().keys}
    assert (keys[small].set_aside, keys[small].sentence) == ({}, "")


def test_a_product_without_room_for_its_pool_is_named_and_the_rest_goes_on(
    fleet: TokenFleet, sink: RecordingSink, licence: Put, run: Callable[..., Keyring]
) -> None:
    thumbprint = fleet.create("a").thumbprint
    licence("L-1", thumbprint, "crm", 5)
    licence("L-2", thumbprint, "platform", 5)
    sink.pool_count_max = 1
    keyring = run()
    assert (sink.seats("crm"), sink.seats("platform")) == (5, 0)
    (row,) = [row for row in keyring.views().licences if row.licence_id == "L-2"]
    assert (row.state, row.code) == (LicenceState.REFUSED, "no_room")
    assert "all pools are used" in row.sentence
    sink.pool_count_max = 2
    keyring.reload()
    assert sink.seats("platform") == 5
