"""The keyring with its threads over several runs of a broker: what one run writes into the memory, the next one acts by.

Over the emulated fleet, as in `test_keyring.py`; every wait is for an event.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from broker.keyring import Keyring, KeyState, LicenceState, VolatileMemory
from broker.licence import LicenceFolder, Vendor, issue_certificate, issue_licence, issue_revocations
from broker.model.words import EndReason
from hwkey.emulated import EmulatedToken, Fault, FaultKind, TokenFleet
from tests.support.waiting import until

from .conftest import NOW_UNIX_S, SETTINGS, RecordingSink, S, WallClock

Put = Callable[..., Path]
Run = Callable[..., Keyring]


@pytest.fixture
def memory() -> VolatileMemory:
    return VolatileMemory()


def listed(vendor: Vendor, number: int, *revoked: str) -> str:
    return issue_revocations(vendor, number=number, revoked=revoked, issued_unix_s=NOW_UNIX_S)


def codes(keyring: Keyring) -> dict[str, str]:
    return {row.licence_id or row.file: row.code for row in keyring.views().licences}


def test_a_key_that_is_there_again_heals_what_stood_and_spends_next_to_nothing(
    fleet: TokenFleet, licence: Put, run: Run, memory: VolatileMemory
) -> None:
    thumbprint = fleet.create("a").thumbprint
    licence("L-1", thumbprint, "platform", 5)
    run(memory=memory).stop()
    after = RecordingSink()
    keyring = run(memory=memory, into=after)
    assert [call[0] for call in after.calls][:3] == ["starting", "lapse", "prove"]
    assert after.seats("platform") == 5
    (row,) = keyring.views().keys
    assert row.state is KeyState.PRESENT
    assert 280 * S < row.grace_left_ns < 300 * S


def test_a_key_that_is_gone_after_the_start_is_said_and_its_charges_have_what_is_left(
    fleet: TokenFleet, licence: Put, run: Run, memory: VolatileMemory, caplog: pytest.LogCaptureFixture
) -> None:
    thumbprint = fleet.create("a").thumbprint
    licence("L-1", thumbprint, "platform", 5)
    run(memory=memory).stop()
    fleet.unplug("a")
    after = RecordingSink()
    keyring = run(memory=memory, into=after)
    assert after.seats("platform") == 0
    assert [cause for _, cause in after.lost.values()] == [EndReason.KEY_LOST]
    assert not after.starting
    (row,) = keyring.views().keys
    assert (row.state, row.code) == (KeyState.LOST, "not_back")
    assert "security key lost" in caplog.messages
    fleet.plug("a")
    after.await_seats("platform", 5)


def test_a_start_waits_for_a_key_that_is_slow_and_not_for_one_that_never_answers(
    fleet: TokenFleet, licence: Put, run: Run, memory: VolatileMemory
) -> None:
    token = fleet.create("a")
    licence("L-1", token.thumbprint, "platform", 5)
    run(memory=memory).stop()
    token.faults.append(Fault(FaultKind.STALL, repeat_count=1_000_000))
    after = RecordingSink()
    short = dataclasses.replace(SETTINGS, starting_ns_max=S // 10, awaited_ahead_ns=S // 100)
    keyring = run(settings=short, memory=memory, into=after)
    assert not keyring.is_starting
    assert after.seats("platform") == 0
    token.faults.clear()
    after.await_seats("platform", 5)


def test_an_admins_word_outlives_the_broker(
    fleet: TokenFleet, licence: Put, run: Run, memory: VolatileMemory
) -> None:
    thumbprint = fleet.create("a").thumbprint
    licence("L-1", thumbprint, "platform", 5)
    before = run(memory=memory)
    assert before.set_enabled(thumbprint, False)
    before.stop()
    after = RecordingSink()
    keyring = run(memory=memory, into=after)
    assert after.seats("platform") == 0
    assert keyring.views().keys[0].state is KeyState.DISABLED
    assert keyring.set_enabled(thumbprint, True)
    after.await_seats("platform", 5)


def test_licences_on_a_key_that_is_gone_still_give_their_charges_grace(
    fleet: TokenFleet, vendor: Vendor, run: Run, memory: VolatileMemory
) -> None:
    token = EmulatedToken.create(serial="a")
    document = issue_licence(
        vendor, licence_id="on-key", product="crm", seats=7, thumbprint=token.thumbprint, issued_unix_s=NOW_UNIX_S - 1
    )
    certificate = issue_certificate(vendor, token.public_key, [document], NOW_UNIX_S - 1)
    fleet.add("a", dataclasses.replace(token, certificate_der=certificate.public_bytes(Encoding.DER)))
    run(memory=memory).stop()
    fleet.unplug("a")
    after = RecordingSink()
    keyring = run(memory=memory, into=after)
    (row,) = keyring.views().licences
    assert (row.licence_id, row.state, row.file) == ("on-key", LicenceState.KEY_ABSENT, "on its key")
    assert after.pools == [("crm", after.pools[0][1], True)]
    assert [(after.sources[source][1], cause) for source, (_, cause) in after.lost.items()] == [(7, EndReason.KEY_LOST)]
    fleet.plug("a")
    after.await_seats("crm", 7)
    assert set(after.sources) == {0}, "the same source"
    (row,) = keyring.views().licences
    assert row.state is LicenceState.COUNTING


def test_a_revocation_list_is_not_undone_by_a_restart_without_it_or_with_an_older_one(
    fleet: TokenFleet, licence: Put, run: Run, memory: VolatileMemory, folder: LicenceFolder, vendor: Vendor
) -> None:
    thumbprint = fleet.create("a").thumbprint
    for name in ("L-1", "L-2"):
        licence(name, thumbprint, "platform", 5)
    path = folder.path / "acme.revocations"
    path.write_text(listed(vendor, 7, "L-1"))
    run(memory=memory).stop()
    path.unlink()
    after = RecordingSink()
    keyring = run(memory=memory, into=after)
    assert after.seats("platform") == 5
    assert codes(keyring) == {"": "list_missing", "L-1": "revoked", "L-2": ""}
    keyring.stop()
    path.write_text(listed(vendor, 6))
    after = RecordingSink()
    keyring = run(memory=memory, into=after)
    assert after.seats("platform") == 5
    assert codes(keyring)["acme.revocations"] == "list_outdated"
    outdated = next(row for row in keyring.views().licences if row.code == "list_outdated")
    assert "list 6 of Acme is older than list 7" in outdated.sentence
    path.write_text(listed(vendor, 8, "L-2"))
    keyring.reload()
    assert codes(keyring) == {"L-1": "", "L-2": "revoked"}
    after.await_seats("platform", 5)
    keyring.stop()
    path.unlink()
    keyring = run(memory=memory, into=RecordingSink())
    assert codes(keyring) == {"": "list_missing", "L-1": "", "L-2": "revoked"}


def test_a_clock_that_is_behind_the_last_run_revives_nothing_and_begins_nothing(
    fleet: TokenFleet, licence: Put, run: Run, wall: WallClock, memory: VolatileMemory, caplog: pytest.LogCaptureFixture
) -> None:
    thumbprint = fleet.create("a").thumbprint
    licence("old", thumbprint, "platform", 5, expires_unix_s=NOW_UNIX_S + 10)
    licence("new", thumbprint, "crm", 3, not_before_unix_s=NOW_UNIX_S + 2_000)
    wall.unix_s = NOW_UNIX_S + 1_000
    before = run(memory=memory)
    assert before.wall_unix_s() == NOW_UNIX_S + 1_000
    before.stop()
    wall.unix_s = NOW_UNIX_S
    after = RecordingSink()
    keyring = run(memory=memory, into=after, wall_high_unix_s=NOW_UNIX_S + 1_000)
    assert keyring.wall_unix_s() == NOW_UNIX_S + 1_000
    views = keyring.views()
    assert views.is_clock_suspect
    assert {row.licence_id: row.state for row in views.licences} == {
        "old": LicenceState.EXPIRED,
        "new": LicenceState.NOT_YET_VALID,
    }
    assert any(message.startswith("the wall clock stepped back") for message in caplog.messages)
    wall.unix_s = NOW_UNIX_S + 999
    assert keyring.views().is_clock_suspect, "until it has caught up"
    wall.unix_s = NOW_UNIX_S + 2_000
    after.await_seats("crm", 3)
    assert not keyring.views().is_clock_suspect
    until(lambda: any("has caught up" in message for message in caplog.messages), "the end of the doubt to be logged")
