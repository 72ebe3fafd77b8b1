"""Any sequence of scripted faults, at any packet and command: bounded transfers, typed errors, and the key proves again.

The token is driven by packets under a virtual clock (`packet_link`), so a run with a hundred silent seconds takes a
millisecond, and nothing in it depends on how busy the machine is.
"""

from __future__ import annotations

import secrets
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hwkey import DeviceError, HwkeyError, Proof, SecurityKey, SigningAlgorithm
from hwkey.emulated import PROFILES, EmulatedToken, Fault, FaultKind, FaultScript
from hwkey.emulated.faults import FLAKY_KINDS, LAYER_OF, FaultLayer

from .packet_link import PacketLink

# A sound run takes 20 to 60. Each reset reads away at most 64 times, a flood is 101 extensions, and a run resets three times.
TRANSFER_COUNT_MAX = 2_000
SCRIPTED = [kind for kind, layer in LAYER_OF.items() if layer is not FaultLayer.OPEN]
TOKENS = {name: EmulatedToken.create(serial=name, profile=name) for name in sorted(PROFILES)}

faults = st.builds(
    Fault,
    st.sampled_from(SCRIPTED),
    skip_count=st.integers(0, 30),
    repeat_count=st.sampled_from([1, 1, 1, 2, 5, 200]),
    delay_ms=st.sampled_from([0, 1, 900, 1_500, 20_000]),
)


def prove(opened: SecurityKey) -> Proof:
    return opened.prove(nonce=secrets.token_bytes(32), broker_id="b", purpose="p")


def attach(token: EmulatedToken) -> PacketLink:
    return PacketLink(token, transfer_count_max=TRANSFER_COUNT_MAX)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(sorted(set(PROFILES) - {"flaky"})), st.lists(faults, max_size=6))
def test_any_faults_end_within_bounds_in_typed_errors_and_the_key_proves_afterwards(
    profile: str, script: list[Fault]
) -> None:
    token = replace(TOKENS[profile], faults=FaultScript())
    for fault in script:
        token.faults.append(fault)
    for _ in range(4):
        with suppress(DeviceError):
            opened = attach(token).open_key()
            prove(opened)
            opened.close()
    token.faults.clear()
    prove(attach(token).open_key())


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(sorted(set(PROFILES) - {"flaky"})), st.lists(faults, max_size=6))
def test_key_that_stays_open_through_any_faults_proves_once_they_are_over(profile: str, script: list[Fault]) -> None:
    token = replace(TOKENS[profile], faults=FaultScript())
    link = attach(token)
    opened = link.open_key()
    for fault in script:
        if fault.kind is not FaultKind.UNPLUG:
            token.faults.append(fault)
    for _ in range(4):
        link.transfer_count = 0
        with suppress(DeviceError):
            prove(opened)
    token.faults.clear()
    link.now_ns += 100_000 * 1_000_000_000  # what is late has come by then
    link.transfer_count = 0
    prove(opened)


@pytest.mark.parametrize("profile", ["yubikey5-like", "nitrokey3-like", "t0-reader"])
@pytest.mark.parametrize(("algorithm", "stride"), [(SigningAlgorithm.P256, 1), (SigningAlgorithm.RSA2048, 5)])
def test_every_fault_walked_through_the_events_of_a_run_leaves_a_key_that_proves(
    profile: str, algorithm: SigningAlgorithm, stride: int
) -> None:
    token = EmulatedToken.create(serial="walked", profile=profile, algorithm=algorithm)
    counts = {layer: token.faults.event_count(layer) for layer in FaultLayer}
    prove(attach(token).open_key())
    counts = {layer: token.faults.event_count(layer) - before for layer, before in counts.items()}
    for kind in SCRIPTED:
        for skip_count in range(0, counts[LAYER_OF[kind]], stride):
            token.faults.append(Fault(kind, skip_count=skip_count, delay_ms=1_500))
            with suppress(DeviceError):
                prove(attach(token).open_key())
            assert token.faults.is_empty, (kind, skip_count)
            prove(attach(token).open_key())


@pytest.mark.parametrize("seed", range(20))
def test_flaky_token_fails_now_and_then_in_typed_errors_and_proves_in_between(seed: int) -> None:
    token = replace(TOKENS["flaky"], faults=FaultScript(flaky_per_mille=20, seed=str(seed)))
    outcomes = outcomes_of(token, attempt_count=40)
    assert 5 < outcomes.count("proved") < 40


def outcomes_of(token: EmulatedToken, *, attempt_count: int) -> list[str]:
    outcomes = []
    for _ in range(attempt_count):
        try:
            prove(attach(token).open_key())
            outcomes.append("proved")
        except DeviceError as error:
            outcomes.append(str(error))
    return outcomes


def test_same_seed_gives_the_same_troubles_and_another_seed_others() -> None:
    # Ed25519: its signatures have one size, so that the events of a run do not depend on the nonce.
    token = EmulatedToken.create(serial="S", profile="flaky", algorithm=SigningAlgorithm.ED25519)
    first, again, other = (
        outcomes_of(replace(token, faults=FaultScript(flaky_per_mille=20, seed=seed)), attempt_count=30)
        for seed in ("one", "one", "two")
    )
    assert first == again != other


def test_profile_flaky_draws_its_troubles_from_its_serial_and_clones_of_another_serial_have_others() -> None:
    token = EmulatedToken.create(serial="S", profile="flaky", algorithm=SigningAlgorithm.ED25519)
    outcomes = [outcomes_of(one, attempt_count=60) for one in (token, token.clone(serial="S"), token.clone(serial="T"))]
    fresh = [outcomes_of(token.clone(serial=serial), attempt_count=60) for serial in ("S", "T")]
    assert outcomes[0] == outcomes[1] == fresh[0]
    assert outcomes[2] == fresh[1] != fresh[0]


def test_flaky_tokens_never_sign_wrongly_and_never_leave_the_bus() -> None:
    forbidden = {FaultKind.BAD_SIGNATURE, FaultKind.OTHER_KEY_SIGNATURE, FaultKind.UNPLUG}
    assert not forbidden & set(FLAKY_KINDS)
    assert all(LAYER_OF[kind] in (FaultLayer.PACKET, FaultLayer.COMMAND) for kind in FLAKY_KINDS)


def test_slow_token_takes_its_time_and_is_waited_for() -> None:
    link = attach(TOKENS["slow"])
    opened = link.open_key()
    before_ns = link.now_ns
    prove(opened)
    assert link.now_ns - before_ns == PROFILES["slow"].answer_delay_ms * 1_000_000


def test_token_that_announces_more_time_than_a_command_may_take_is_given_up_within_that_time() -> None:
    token = replace(TOKENS["yubikey5-like"], faults=FaultScript())
    link = attach(token)
    opened = link.open_key()
    token.faults.append(Fault(FaultKind.SLOW, delay_ms=3_600_000))
    before_ns = link.now_ns
    with pytest.raises(HwkeyError):
        prove(opened)
    assert link.now_ns - before_ns <= 5_000 * 1_000_000
