"""When an admin hears of a licence that begins or ends: ahead of time, and each thing once."""

from hypothesis import given
from hypothesis import strategies as st

from broker.keyring.periods import PeriodNotices, left_in_words
from broker.licence import Licence

from .conftest import NOW_UNIX_S
from .test_capacity import a_licence

DAY_S = 86_400
WARNINGS_S = (30 * DAY_S, 7 * DAY_S, DAY_S)


def told(notices: PeriodNotices, licences: list[Licence], now_unix_s: int) -> list[tuple[str, str, int]]:
    return [
        (one.kind.name, one.licence.licence_id, one.left_s) for one in notices.due(licences, now_unix_s)
    ]


def test_each_warning_is_told_once_and_then_the_end() -> None:
    notices, end = PeriodNotices(WARNINGS_S), NOW_UNIX_S + 60 * DAY_S
    licences = [a_licence("L-1", expires_unix_s=end), a_licence("perpetual")]
    heard = []
    for hour in range(61 * 24):
        now = NOW_UNIX_S + hour * 3_600
        heard += [(kind, (now - end) // DAY_S) for kind, _, _ in told(notices, licences, now)]
    assert heard == [("ENDS_SOON", -30), ("ENDS_SOON", -7), ("ENDS_SOON", -1), ("ENDED", 0)]


def test_at_the_start_only_the_present_stage_is_told() -> None:
    licences = [
        a_licence("three days", expires_unix_s=NOW_UNIX_S + 3 * DAY_S),
        a_licence("over", expires_unix_s=NOW_UNIX_S),
        a_licence("far", expires_unix_s=NOW_UNIX_S + 31 * DAY_S),
    ]
    notices = PeriodNotices(WARNINGS_S)
    assert told(notices, licences, NOW_UNIX_S) == [("ENDS_SOON", "three days", 3 * DAY_S), ("ENDED", "over", 0)]
    assert told(notices, licences, NOW_UNIX_S + 1) == []


def test_licence_that_begins_later_is_told_when_it_does() -> None:
    notices = PeriodNotices(WARNINGS_S)
    licences = [a_licence("later", not_before_unix_s=NOW_UNIX_S + 10), a_licence("now")]
    assert told(notices, licences, NOW_UNIX_S) == []
    assert told(notices, licences, NOW_UNIX_S + 9) == []
    assert told(notices, licences, NOW_UNIX_S + 10) == [("BEGUN", "later", 0)]
    assert told(notices, licences, NOW_UNIX_S + 11) == []


def test_short_licence_begins_and_warns_at_once() -> None:
    notices = PeriodNotices(WARNINGS_S)
    licences = [a_licence("trial", not_before_unix_s=NOW_UNIX_S + 1, expires_unix_s=NOW_UNIX_S + DAY_S)]
    assert told(notices, licences, NOW_UNIX_S) == []
    assert [kind for kind, _, _ in told(notices, licences, NOW_UNIX_S + 1)] == ["BEGUN", "ENDS_SOON"]


def test_reload_tells_of_new_licences_and_repeats_nothing_of_old_ones() -> None:
    notices = PeriodNotices(WARNINGS_S)
    old = a_licence("old", expires_unix_s=NOW_UNIX_S + DAY_S)
    new = a_licence("new", expires_unix_s=NOW_UNIX_S + 2 * DAY_S)
    told(notices, [old], NOW_UNIX_S)
    notices.forget_others([old, new])
    assert [name for _, name, _ in told(notices, [old, new], NOW_UNIX_S + 1)] == ["new"]


@given(
    st.integers(0, 100 * DAY_S),
    st.lists(st.integers(0, 40 * DAY_S), max_size=8),
)
def test_whenever_it_is_asked_stages_only_rise_and_the_last_is_the_true_one(left_s: int, steps_s: list[int]) -> None:
    notices, end = PeriodNotices(WARNINGS_S), NOW_UNIX_S + left_s
    licence, now = a_licence("L-1", expires_unix_s=end), NOW_UNIX_S
    heard = told(notices, [licence], now)
    for step_s in steps_s:
        now += step_s
        heard += told(notices, [licence], now)
    assert [left for _, _, left in heard] == sorted((left for _, _, left in heard), reverse=True)
    assert len(heard) <= len(WARNINGS_S) + 1
    assert (("ENDED", "L-1", 0) in heard) == (now >= end)
    assert bool(heard) == (now >= end - WARNINGS_S[0])


def test_spans_are_days_then_hours_and_never_nothing() -> None:
    assert [left_in_words(one) for one in (30 * DAY_S, 2 * DAY_S, 2 * DAY_S - 1, 7_200, 3_600, 1)] == [
        "30 days",
        "2 days",
        "47 hours",
        "2 hours",
        "1 hour",
        "1 hour",
    ]
