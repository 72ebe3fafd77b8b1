"""The page of things to try, for fleets of every kind; that its commands work is shown against a real broker."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from broker.app.emulated_keys import DEMO_FLEET, EmulatedKeySettings, EmulatedLicence
from broker.cli.try_this import try_this


@dataclass(frozen=True, slots=True)
class Ports:
    """Where a broker would serve."""

    clients: str = "127.0.0.1:1"
    http: str = "127.0.0.1:2"


@pytest.mark.parametrize(
    ("fleet", "sentence"),
    [
        (DEMO_FLEET, "EMULATED keys: alpha, bravo and charlie give 15 platform, 10 crm and 5 telephony seats."),
        ((EmulatedKeySettings("a", (EmulatedLicence("fax", 1),)),), "EMULATED keys: a gives 1 fax seats."),
        ((EmulatedKeySettings("bare"),), "EMULATED keys: bare gives no seats."),
        ((), "EMULATED keys: none yet."),
    ],
)
def test_page_tells_of_the_fleet_that_there_is(fleet: tuple[EmulatedKeySettings, ...], sentence: str) -> None:
    assert sentence in try_this(Ports(), fleet, Path("/d"), Path("/d"))


def test_page_names_a_data_directory_that_others_would_not_find() -> None:
    assert "export USHER_DATA_DIR='/a b'\n" in try_this(Ports(), DEMO_FLEET, Path("/a b"), Path("/d"))
    assert "USHER_DATA_DIR" not in try_this(Ports(), DEMO_FLEET, Path("/d"), Path("/d"))
