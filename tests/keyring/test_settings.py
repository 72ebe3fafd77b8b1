"""Settings that could not work are refused; the wall clock never goes back."""

from typing import Any

import pytest

from broker.keyring import KeyringSettings
from broker.keyring.wall import WallMark

S = 1_000_000_000


@pytest.mark.parametrize(
    "points",
    [
        {"reproof_ns_max": 90 * S},
        {"reproof_ns_min": 70 * S},
        {"reproof_ns_min": 0},
        {"retry_ns_min": 0},
        {"retry_ns_min": 60 * S},
        {"scan_interval_ns": 0},
        {"attempt_count_max": 0},
        {"grace_ns": -1},
        {"grace_refill_ns": 0},
        {"starting_ns_max": 0},
        {"spent_ahead_ns": 0},
    ],
)
def test_settings_with_which_no_key_could_stay_proven_are_refused(points: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must|need"):
        KeyringSettings(broker_id="b", **points)


def test_wall_time_holds_while_the_clock_is_set_back() -> None:
    mark = WallMark()
    assert mark.see(1_000) == 1_000
    assert (mark.see(700), mark.is_suspect) == (1_000, False)
    assert (mark.see(699), mark.is_suspect) == (1_000, True)
    assert (mark.see(999), mark.is_suspect) == (1_000, True), "until it has caught up"
    assert (mark.see(1_000), mark.is_suspect) == (1_000, False)
    assert (mark.see(1_001), mark.is_suspect) == (1_001, False)


def test_wall_time_does_not_begin_before_the_mark_of_an_earlier_run() -> None:
    mark = WallMark(high_unix_s=5_000)
    assert (mark.see(1_000), mark.is_suspect) == (5_000, True)
