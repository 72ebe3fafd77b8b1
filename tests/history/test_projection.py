"""The projection: each row is what an independent count of the same log says, however the log is cut into stretches."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path

import pytest

from broker.history.fold import EVENTS_SINGLE_MAX, UNCOUNTED_NS
from broker.history.projector import Projector, whole_parts
from broker.history.rebuild import rebuild
from broker.history.store import HistoryStore
from tests.history.recount import positions, recount, tables_of, told_positions
from tests.history.stories import (
    BROKER_ID,
    FENCE,
    MINUTE_NS,
    NOON_NS,
    SECOND_NS,
    Log,
    Story,
    random_commands,
)


def projected(tmp_path: Path, data: bytes, name: str = "whole") -> Path:
    """The history of a log that holds these events."""
    log = Log(tmp_path / f"{name}.log")
    log.add(data)
    rebuild(tmp_path / f"{name}.db", log.directory, BROKER_ID, lambda *_: None)
    return tmp_path / f"{name}.db"


def with_mark(data: bytes, after_ns: int) -> bytes:
    """A mark of the wall clock behind it, at which all sums are brought to the same instant."""
    count = recount(data)
    story = Story()
    story.now_ns = count.now_ns - count.ahead_ns + after_ns
    story.mark(count.now_ns + after_ns)
    return data + story.data


@pytest.mark.parametrize(("seed", "runs"), [(1, 1), (2, 1), (3, 4), (4, 7)])
def test_every_row_is_what_an_independent_count_says(tmp_path: Path, seed: int, runs: int) -> None:
    data = with_mark(random_commands(seed, 3000, runs), 3 * SECOND_NS)
    tables = tables_of(projected(tmp_path, data))
    count = recount(data)
    assert [tuple(row) for row in count.sessions.values()] == [row[:10] for row in tables["sessions"]]
    leases = [tuple(lease) for which in sorted(count.leases) for lease in count.leases[which]]
    assert leases == [(fence, product, *rest) for fence, product, _, *rest in tables["leases"]]
    assert sorted((*where, number) for where, number in count.counts.items()) == tables["counts"]
    assert count.usage() == tables["usage"]
    assert {minute: events for minute, _, events, _ in tables["minutes"]} == count.event_counts
    assert [row[0] for row in tables["events"]] == told_positions(data)
    assert {row[0]: row[4] for row in tables["pools"]} == {pool: steps[-1][1] for pool, steps in count.seats.items()}
    assert tables["products"] == [(0, "platform"), (1, "crm")]
    assert [row[1:4] for row in tables["pools"] if row[0] >= 0] == [
        (0, "concurrent, per session", 0),
        (1, "concurrent, per user, up to 3 sessions a seat, 2 seats each, lingers 5 s", 1),
    ]
    assert [row[2] for row in tables["runs"]] == [begin for begin, _ in count.runs]
    assert [row[3] for row in tables["runs"]][:-1] == [end for _, end in count.runs][:-1]


@pytest.mark.parametrize("seed", [5, 6])
def test_however_the_log_is_cut_the_history_is_the_same(tmp_path: Path, seed: int) -> None:
    data = random_commands(seed, 3000, 3)
    whole = projected(tmp_path, data)
    chance = random.Random(seed)
    log = Log(tmp_path / "cut.log")
    starts = sorted(chance.sample(list(positions(data))[1:], 6))
    for begin, end in zip([0, *starts], [*starts, len(data)], strict=True):
        log.add(data[begin:end])
        for limit in range(begin, end + 1, max(1, (end - begin) // 3)):
            until = max(at for at in [*positions(data), len(data)] if at <= limit)
            with contextlib.closing(HistoryStore(tmp_path / "cut.db", BROKER_ID)) as store:
                for _ in Projector(store, log.directory, BROKER_ID, lambda until=until: until).steps(chance.randrange(1, 200)):
                    pass
    with contextlib.closing(HistoryStore(tmp_path / "cut.db", BROKER_ID)) as store:
        for _ in Projector(store, log.directory, BROKER_ID, lambda: len(data)).steps():
            pass
    assert tables_of(tmp_path / "cut.db") == tables_of(whole)


def test_parts_of_a_block_hold_whole_events_and_all_of_them() -> None:
    data = random_commands(7, 200)
    parts = list(whole_parts(data, 7))
    assert b"".join(part for _, part in parts) == data
    assert [start for start, _ in parts] == list(positions(data))[::7]


# --- stories --------------------------------------------------------------------------------------------------------------


def started() -> Story:
    """A run of a broker with one product."""
    story = Story()
    story.run(1, NOON_NS)
    story.declare(0, "crm", 0)
    story.capacity(5)
    return story


def test_use_is_split_at_the_minutes_edges_and_weighed_by_time(tmp_path: Path) -> None:
    story = started()
    story.pass_s(30)
    story.open(1)
    story.lease(1, 2, seats=2)
    story.pass_s(60)
    story.mark(NOON_NS + 90 * SECOND_NS)
    story.pass_s(45)
    story.free(1, 2, seats=2)
    usage = tables_of(projected(tmp_path, story.data), "usage")["usage"]
    noon = NOON_NS // MINUTE_NS
    assert [row[1:] for row in usage if row[1] == 0] == [(0, 2, 60 * SECOND_NS), (0, 2, 120 * SECOND_NS), (0, 2, 30 * SECOND_NS)]
    assert [row[0] for row in usage if row[1] == 0] == [noon, noon + 1, noon + 2]


def test_a_lease_that_joins_a_charge_takes_no_seat(tmp_path: Path) -> None:
    story = started()
    for session in (1, 3):
        story.open(session)
        story.lease(session, 2, seats=1 if session == 1 else 0)
    pools = tables_of(projected(tmp_path, story.data), "pools")["pools"]
    assert {row[0]: row[4] for row in pools} == {-1: 2, 0: 1}


def test_products_pools_and_runs_have_names_and_ends(tmp_path: Path) -> None:
    story = started()
    story.pass_s(10)
    story.stop()
    story.run(2, NOON_NS + 100 * SECOND_NS)
    story.pass_s(5)
    story.deny()
    story.run(3, NOON_NS + 200 * SECOND_NS)
    tables = tables_of(projected(tmp_path, story.data))
    assert tables["products"] == [(0, "crm")]
    assert tables["pools"][1][2:4] == ("concurrent, per user, up to 4 sessions a seat", 1)
    assert [row[0:1] + row[2:] for row in tables["runs"]] == [
        (1, NOON_NS, NOON_NS + 10 * SECOND_NS, 1),
        (2, NOON_NS + 100 * SECOND_NS, NOON_NS + 105 * SECOND_NS, 0),
        (3, NOON_NS + 200 * SECOND_NS, None, None),
    ]


def test_between_two_runs_nothing_is_used_though_the_charges_live_on(tmp_path: Path) -> None:
    story = started()
    story.open(1)
    story.lease(1, 2)
    story.pass_s(10)
    story.deny()
    story.run(2, NOON_NS + 1000 * SECOND_NS)
    story.pass_s(20)
    story.mark(NOON_NS + 1020 * SECOND_NS)
    tables = tables_of(projected(tmp_path, story.data))
    # The denial tells that the first run came so far; then a quarter of an hour nobody ran.
    assert sum(row[3] for row in tables["usage"] if row[1] == 0) == (10 + 20) * SECOND_NS
    assert {row[0]: row[4] for row in tables["pools"]} == {-1: 1, 0: 1}


def test_time_that_nobody_counted_is_no_use(tmp_path: Path) -> None:
    story = started()
    story.open(1)
    story.lease(1, 2)
    story.pass_s(UNCOUNTED_NS / SECOND_NS + 1)
    story.free(1, 2)
    tables = tables_of(projected(tmp_path, story.data))
    assert sum(row[3] for row in tables["usage"] if row[1] == 0) == 0


def test_instants_wait_while_the_wall_clock_steps_back_a_little(tmp_path: Path) -> None:
    story = started()
    story.pass_s(60)
    story.deny()
    story.mark(NOON_NS + 30 * SECOND_NS)
    story.deny()
    story.pass_s(40)
    story.deny()
    events = tables_of(projected(tmp_path, story.data), "events")["events"]
    assert [(row[1] - NOON_NS) // SECOND_NS for row in events if row[2] == 5] == [60, 60, 70]


def test_a_large_step_back_of_the_wall_clock_is_believed_and_adds_no_negative_use(tmp_path: Path) -> None:
    story = started()
    story.open(1)
    story.lease(1, 2)
    story.pass_s(30)
    story.mark(NOON_NS - 86_400 * SECOND_NS)
    story.pass_s(10)
    story.free(1, 2)
    usage = tables_of(projected(tmp_path, story.data), "usage")["usage"]
    assert [(row[0] - NOON_NS // MINUTE_NS, row[3] // SECOND_NS) for row in usage if row[1] == 0] == [(-1440, 10), (0, 0)]


def test_in_a_second_of_too_many_events_the_rest_is_only_counted(tmp_path: Path) -> None:
    story = started()
    story.open(1)
    story.lease(1, 2)
    for _ in range(EVENTS_SINGLE_MAX + 50):
        story.deny()
    story.open(3)
    story.lease(3, 4)
    story.free(1, 2)
    story.end(1)
    story.pass_s(1)
    story.free(3, 4)
    story.end(3)
    tables = tables_of(projected(tmp_path, story.data))
    assert [row[0] for row in tables["sessions"]] == [FENCE + 1]  # the other came when it was too much
    assert tables["sessions"][0][8] == NOON_NS  # but an end is never lost
    assert [row[7] for row in tables["leases"]] == [NOON_NS]
    noon = NOON_NS // MINUTE_NS
    assert (noon, 5, 0, 1, EVENTS_SINGLE_MAX + 50) in tables["counts"]
    assert tables["minutes"][0][2:] == (EVENTS_SINGLE_MAX + 50 + 12, EVENTS_SINGLE_MAX + 3)
    assert {row[0]: row[4] for row in tables["pools"]} == {-1: 0, 0: 0}
    assert max(row[2] for row in tables["usage"] if row[1] == 0) == 2


def test_names_that_are_no_text_do_not_stop_it(tmp_path: Path) -> None:
    story = started()
    story.tell(1, fence=FENCE + 1, body=bytes([2, 1, 0, 0, 0, 0]) + bytes(34) + b"\xff\xfeh")
    sessions = tables_of(projected(tmp_path, story.data), "sessions")["sessions"]
    assert sessions[0][1:3] == ("\ufffd\ufffd", "h")


def test_kinds_of_a_newer_broker_are_counted_and_kept(tmp_path: Path) -> None:
    story = started()
    story.tell(50, pool=0, product=0, seats=9, body=bytes(24))
    tables = tables_of(projected(tmp_path, story.data))
    assert tables["events"][-1][2] == 50
