"""What is remembered over a restart as text: it comes back as it was, it fits, and what is broken is never kind."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.keyring import VolatileMemory
from broker.keyring.grace import BudgetMemory
from broker.keyring.keeping import Keeper
from broker.keyring.memory import NAME_SIZE_MAX, VALUE_SIZE_MAX
from broker.keyring.remembered import (
    KEY_COUNT_MAX,
    LICENCE_COUNT_MAX,
    REVOCATION_COUNT_MAX,
    REVOKED_COUNT_MAX,
    SPENT,
    KeyMemory,
    LicenceMemory,
    Stand,
    floor_name,
    floor_text,
    key_name,
    key_text,
    licence_name,
    licence_text,
    read_remembered,
    revoked_name,
    revoked_text,
)
from broker.keyring.settings import KeyringSettings
from broker.licence import LicenceTerms, RevocationFloor, Stacking, bounds
from broker.limits import LIMITS
from broker.model.terms import PoolTerms
from broker.model.words import EndReason, Sharing

from .lives import Lives
from .test_capacity import a_licence

THUMBPRINT = "k" * 43
DIGEST = "d" * 64
spans = st.none() | st.integers(0, 10**15)


@given(st.sampled_from(list(Stand)), st.integers(0, 300 * 10**9), spans, spans, st.text(max_size=400))
def test_a_key_comes_back_and_rounding_is_never_in_its_favour(
    stand: Stand, left_ns: int, age_ns: int | None, awaited_ns: int | None, sentence: str
) -> None:
    text = key_text(KeyMemory(stand, BudgetMemory(left_ns, age_ns, awaited_ns), "clone", sentence))
    (back,) = read_remembered({key_name(THUMBPRINT): text}).keys.values()
    assert back.stand is stand
    assert left_ns - 10**6 < back.budget.left_ns <= left_ns
    for before, after in ((age_ns, back.budget.proof_age_ns), (awaited_ns, back.budget.awaited_ns)):
        assert (after is None) == (before is None)
        assert before is None or after is None or before <= after < before + 10**6


def test_the_longest_licence_a_vendor_can_write_fits() -> None:
    terms = LicenceTerms(
        PoolTerms(sharing=Sharing.USER_HOST, share_max=65_000, weight=1_000, linger_ns=604_800 * 10**9, min_hold_ns=604_800 * 10**9),
        Stacking.ONE_PER_HOST,
    )
    licence = a_licence(
        "L" * 64,
        THUMBPRINT,
        65_000,
        vendor="\U0001f511" * bounds.VENDOR_LENGTH_MAX,
        product="p" * 32,
        digest=DIGEST,
        terms=terms,
        not_before_unix_s=bounds.UNIX_S_MAX,
        expires_unix_s=bounds.UNIX_S_MAX,
        issued_unix_s=bounds.UNIX_S_MAX,
        is_carried=True,
    )
    text = licence_text(LicenceMemory(licence, EndReason.OVERDRAFT_ENDED))
    assert len(text) <= VALUE_SIZE_MAX
    assert len(licence_name(DIGEST)) <= NAME_SIZE_MAX
    (back,) = read_remembered({licence_name(DIGEST): text}).licences.values()
    assert back.ended is EndReason.OVERDRAFT_ENDED
    for name in ("licence_id", "vendor", "product", "seats", "thumbprint", "terms", "expires_unix_s", "is_test", "is_carried"):
        assert getattr(back.licence, name) == getattr(licence, name)


def test_a_vendors_highest_list_and_what_it_revoked_come_back() -> None:
    floor = RevocationFloor("V" * 64, True, bounds.REVOCATION_NUMBER_MAX, bounds.UNIX_S_MAX)
    assert len(floor_name(floor)) <= NAME_SIZE_MAX
    kept = {floor_name(floor): floor_text(floor), revoked_name(DIGEST): revoked_text()}
    back = read_remembered(kept)
    assert (back.floors, back.revoked, back.broken) == ((floor,), {DIGEST}, ())


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b'{"v":1}', b'{"v":2,"stand":"stood"}', b"\xff", key_text(SPENT).replace(b'"left_ms":0', b'"left_ms":-1')]
)
def test_a_memory_that_cannot_be_read_is_that_of_a_key_without_grace(text: bytes) -> None:
    back = read_remembered({key_name("T"): text, licence_name("d"): text})
    assert back.keys == {"T": SPENT}
    assert back.licences == {}
    assert back.broken == ("key T", "licence d")


@given(st.binary(max_size=200) | st.recursive(st.none() | st.integers() | st.text(max_size=5), st.lists).map(lambda x: json.dumps(x).encode()))
def test_whatever_lies_there_is_read_without_an_error(text: bytes) -> None:
    names = [key_name("T"), licence_name("d"), b"revocations/x", revoked_name("r"), b"\xff/\xff", b""]
    read_remembered(dict.fromkeys(names, text))


def test_all_that_the_keyring_remembers_fits_the_ledgers_bound_on_notes() -> None:
    most = KEY_COUNT_MAX + LICENCE_COUNT_MAX + REVOCATION_COUNT_MAX + REVOKED_COUNT_MAX
    assert most < LIMITS["NOTES_MAX"]
    assert LIMITS["NOTE_NAME_SIZE_MAX"] >= NAME_SIZE_MAX
    assert LIMITS["NOTE_VALUE_SIZE_MAX"] >= VALUE_SIZE_MAX


def test_more_keys_than_are_remembered_are_counted_and_leave_the_others_alone() -> None:
    memory = VolatileMemory({key_name(str(number)): key_text(SPENT) for number in range(KEY_COUNT_MAX)})
    lives = Lives([a_licence("L-1", "T")], memory=memory)
    lives.plug("T")
    lives.step(0)
    assert key_name("T") not in memory.kept
    assert len(memory.kept) == KEY_COUNT_MAX + 1, "its licence is"
    assert "more than can be remembered" in lives.engine.views(lives.now_ns, lives.wall_unix_s, {}).faults[0]


def test_a_keeper_leaves_the_words_of_others_alone() -> None:
    memory = VolatileMemory({b"broker/x": b"1"})
    keeper = Keeper(memory, KeyringSettings(broker_id="b"))
    keeper.retry()
    assert memory.kept == {b"broker/x": b"1"}
