"""`usher history`: reading a history on the command line, without a broker."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from broker.exit_codes import ExitCode
from broker.history.lock import WriterLock
from broker.history.rebuild import is_rebuild_requested, rebuild
from tests.history.stories import BROKER_ID, NOON_NS, SECOND_NS, Log, Story
from tests.history.test_writer import following
from tests.support.usher_command import CommandResult, spawned_usher, usher

NOON = "2027-01-15T08:00"


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """Of a broker that ran for some minutes: Ann and Bob had the CRM, and somebody was denied."""
    story = Story()
    story.run(1, NOON_NS)
    story.declare(0, "crm", 0)
    story.declare(1, "fax", 1)
    story.capacity(5)
    story.open(1, user="ann")
    story.lease(1, 2)
    story.pass_s(60)
    story.mark(NOON_NS + 60 * SECOND_NS)
    story.open(3, user="bob")
    story.lease(3, 4)
    story.lease(3, 5, pool=1, product=1)
    story.deny(reason=3)
    story.pass_s(30)
    story.free(1, 2)
    story.end(1, reason=2)
    story.pass_s(30)
    story.mark(NOON_NS + 120 * SECOND_NS)
    Log(tmp_path / "journal").add(story.data)
    (tmp_path / "broker.id").write_text(BROKER_ID.hex() + "\n")
    rebuild(tmp_path / "history" / "history.db", tmp_path / "journal", BROKER_ID, lambda *_: None)
    return tmp_path


def history(data_dir: Path, *arguments: object) -> CommandResult:
    """`usher history ...` of it, which must succeed."""
    result = usher("history", *arguments, "--data-dir", data_dir)
    assert result.code == 0, result.err
    return result


def test_sessions_are_listed_the_newest_first_with_what_they_held(data_dir: Path) -> None:
    found = history(data_dir, "sessions", "--json").json["sessions"]
    assert [(one["session"], one["user"], one["products"], one["end_reason"]) for one in found] == [
        ("1.3", "bob", ["crm", "fax"], None),
        ("1.1", "ann", ["crm"], "expired"),
    ]
    assert (found[1]["opened"], found[1]["ended"]) == ("2027-01-15T08:00:00.000Z", "2027-01-15T08:01:30.000Z")
    table = history(data_dir, "sessions").out
    assert "bob" in table
    assert "expired" in table


@pytest.mark.parametrize(
    ("options", "users"),
    [
        (("--user", "ann"), ["ann"]),
        (("--product", "fax"), ["bob"]),
        (("--since", f"{NOON}:01:45Z"), ["bob"]),
        (("--until", f"{NOON}:00:30Z"), ["ann"]),
        (("--since", f"{NOON}:01:00Z", "--until", f"{NOON}:01:10Z"), ["bob", "ann"]),
        (("--count", "1"), ["bob"]),
        (("--user", "nobody"), []),
    ],
)
def test_sessions_are_filtered(data_dir: Path, options: tuple[str, ...], users: list[str]) -> None:
    options = tuple(option.replace(f"{NOON}:", f"{NOON[:-2]}") for option in options)
    assert [one["user"] for one in history(data_dir, "sessions", "--json", *options).json["sessions"]] == users


def test_usage_is_told_for_the_whole_span_or_minute_by_minute(data_dir: Path) -> None:
    whole = history(data_dir, "usage", "--json").json
    assert whole["sessions_peak"] == 2
    crm, fax = whole["usage"]
    assert (crm["product"], crm["seats_peak"], crm["lease_count"], crm["denials"]) == ("crm", 2, 2, {"keys_starting": 1})
    assert crm["seats_mean"] == pytest.approx((90 + 60) / 180)  # of three minutes, as the third has begun
    assert (fax["product"], fax["seats_peak"], fax["denials"]) == ("fax", 1, {})
    minutes = history(data_dir, "usage", "--by", "minute", "--product", "crm", "--json").json["usage"]
    assert [(one["from"][11:16], one["seats_peak"], one["seats_mean"]) for one in minutes] == [("08:00", 1, 1.0), ("08:01", 2, 1.5)]
    assert "keys starting 1" in history(data_dir, "usage").out


def test_events_are_listed_and_filtered_by_user_and_product(data_dir: Path) -> None:
    found = history(data_dir, "events", "--json").json["events"]
    assert found[0]["kind"] == "session_ended"
    assert found[-1]["kind"] == "run_started"
    assert [one["position"] for one in found] == sorted((one["position"] for one in found), reverse=True)
    ann = history(data_dir, "events", "--json", "--user", "ann").json["events"]
    assert [one["kind"] for one in ann] == ["session_ended", "lease_ended", "lease_started", "session_opened"]
    fax = history(data_dir, "events", "--json", "--product", "fax").json["events"]
    assert [(one["kind"], one["user"], one["seats"]) for one in fax] == [("lease_started", "bob", 1)]
    assert "denied" in history(data_dir, "events").out


def test_status_says_how_far_it_came_and_that_nobody_writes_it(data_dir: Path) -> None:
    status = history(data_dir, "status", "--json").json
    assert (status["behind_bytes"], status["session_count"], status["written_now"], status["gaps"]) == (0, 2, False, [])
    assert status["runs"] == [{"generation": 1, "started": "2027-01-15T08:00:00.000Z", "ended": None, "clean": None}]
    assert "nobody writes it now" in history(data_dir, "status").out


def test_rebuild_without_a_broker_makes_it_anew(data_dir: Path) -> None:
    before = history(data_dir, "sessions", "--json").out
    for file in (data_dir / "history").iterdir():
        file.unlink()
    assert history(data_dir, "rebuild", "--json").json["events"] == 17
    assert history(data_dir, "sessions", "--json").out == before
    assert "made anew" in history(data_dir, "rebuild", "--discard-older").out


def test_rebuild_beside_a_writer_is_done_by_the_writer(data_dir: Path) -> None:
    log = Log(data_dir / "journal")
    log.committed = history(data_dir, "status", "--json").json["position"]
    database = data_dir / "history" / "history.db"
    with following(log, database) as writer:
        assert writer.wait_for(log.committed, 20)
        with spawned_usher("history", "rebuild", "--data-dir", data_dir) as command:
            out, err = command.communicate(timeout=60)
        assert (command.returncode, err) == (0, "")
        assert "The broker makes its history anew" in out
        assert writer.counters().rebuilds == 1
        refused = usher("history", "rebuild", "--discard-older", "--data-dir", data_dir)
        assert refused.code == ExitCode.USAGE
    assert not is_rebuild_requested(database)


def test_while_the_lock_is_held_the_database_can_be_read(data_dir: Path) -> None:
    with contextlib.closing(WriterLock(data_dir / "history" / "history.db")):
        assert history(data_dir, "status", "--json").json["written_now"] is True


def test_without_a_history_it_says_what_to_do(tmp_path: Path) -> None:
    result = usher("history", "sessions", "--data-dir", tmp_path)
    assert result.code == ExitCode.DATA_DIRECTORY
    assert "there is no history; name the broker's data directory" in result.err
    result = usher("history", "rebuild", "--data-dir", tmp_path)
    assert result.code == ExitCode.DATA_DIRECTORY
    assert "broker's id cannot be read" in result.err


@pytest.mark.parametrize("options", [("--since", "yesterday"), ("--since", "1h", "--until", "2h"), ("--count", "0")])
def test_a_wrong_time_or_number_is_a_wrong_command_line(data_dir: Path, options: tuple[str, ...]) -> None:
    result = usher("history", "sessions", *options, "--data-dir", data_dir)
    assert result.code == ExitCode.USAGE
    assert "Error" in result.err


def test_names_do_nothing_to_a_terminal(data_dir: Path) -> None:
    story = Story()
    story.run(2, NOON_NS + 3600 * SECOND_NS)
    story.open(77, user="\x1b[31mred[bold]")
    Log(data_dir / "journal", generation=1).add(story.data)
    history(data_dir, "rebuild")
    assert "\\x1b[31mred[bold]" in history(data_dir, "sessions").out
