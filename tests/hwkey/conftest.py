"""Fixtures for the driver's tests: short waits, a fleet in memory, and a prover with fresh nonces."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

import pytest

from hwkey import DeviceError, Proof, SecurityKey, Waits
from hwkey.discovery import UsbKeyBus
from hwkey.emulated import TokenFleet, emulated_bus

T = TypeVar("T")

BROKER_ID = "broker-under-test"
ATTEMPT_COUNT_MAX = 30
PURPOSE = "presence"


@pytest.fixture
def waits() -> Waits:
    """Short enough for tests of silence; an emulated answer is ready before its read begins."""
    return Waits(answer_wait_ms=60, command_wait_ms=2_000, drain_wait_ms=2)


@pytest.fixture
def fleet() -> TokenFleet:
    return TokenFleet()


@pytest.fixture
def bus(fleet: TokenFleet, waits: Waits) -> UsbKeyBus:
    return emulated_bus(fleet, waits=waits)


@pytest.fixture
def persist() -> Callable[[Callable[[], T]], T]:
    """Calls until it succeeds, at most a bounded number of times: what a keyring does with a flaky key."""

    def run(call: Callable[[], T]) -> T:
        for _ in range(ATTEMPT_COUNT_MAX - 1):
            with suppress(DeviceError):
                return call()
        return call()

    return run


@pytest.fixture
def prove() -> Callable[[SecurityKey], Proof]:
    """One proof with a fresh nonce."""

    def run(opened: SecurityKey) -> Proof:
        return opened.prove(nonce=secrets.token_bytes(32), broker_id=BROKER_ID, purpose=PURPOSE)

    return run
