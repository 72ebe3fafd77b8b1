"""The commands that look at a broker and steer it, against a real one."""

import json
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from broker import client
from broker.exit_codes import ExitCode
from tests.support.broker_process import RunningBroker, process_environment, running_broker, serve_command
from tests.support.certificates import TestAuthority
from tests.support.usher_command import CommandResult, spawned_usher, usher
from tests.support.waiting import until

PLAIN_PATH = "/usr/local/bin:/usr/bin:/bin"


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBroker]:
    """One broker with the demo fleet for the whole file; each test leaves it as it was."""
    with pytest.MonkeyPatch.context() as patch:
        # Of an admin whose shell does not know our `usher`, whoever runs the tests: its page has to say where it is.
        patch.setenv("PATH", PLAIN_PATH)
        with running_broker(tmp_path_factory.mktemp("broker")) as one:
            patch.undo()
            yield one


@pytest.fixture
def run(broker: RunningBroker) -> Callable[..., CommandResult]:
    """Runs `usher` for the broker of this file."""

    def run(*arguments: object) -> CommandResult:
        return usher(*arguments, environment={"USHER_DATA_DIR": str(broker.data_directory)})

    return run


Run = Callable[..., CommandResult]

LISTS = [("seats", "products"), ("sessions", "sessions"), ("keys", "keys"), ("licences", "licences")]


@pytest.mark.parametrize(("command", "member"), LISTS)
def test_every_list_comes_as_json_under_its_name(run: Run, command: str, member: str) -> None:
    done = run(command, "--json")
    assert done.code == 0
    assert isinstance(done.json[member], list)
    assert set(done.json) == {member}


def test_seats_shows_capacity_use_and_denials(broker: RunningBroker, run: Run) -> None:
    with client.open(broker.clients, user="anna", products=["platform", "crm"]):
        products = {one["product"]: one for one in run("seats", "--json").json["products"]}
        table = run("seats").out
    assert (products["platform"]["capacity"], products["platform"]["in_use"], products["platform"]["free"]) == (15, 1, 14)
    assert products["crm"]["in_use"] == 1
    assert products["telephony"]["in_use"] == 0
    assert products["platform"]["emulated"] is True
    assert products["platform"]["pools"][0]["terms"] == "concurrent, per session"
    row = next(line for line in table.splitlines() if "platform" in line)
    assert re.findall(r"\d+", row)[:4] == ["15", "1", "14", "0"]
    assert "EMULATED" in row


def test_sessions_shows_holders_and_their_products(broker: RunningBroker, run: Run) -> None:
    with client.open(broker.clients, user="Анна", host="pc-7", app="crm", products=["platform"]) as session:
        (shown,) = run("sessions", "--json").json["sessions"]
        assert run("sessions", "--json", "--user", "nobody").json["sessions"] == []
        assert run("sessions", "--json", "--product", "crm").json["sessions"] == []
        assert len(run("sessions", "--json", "--product", "platform").json["sessions"]) == 1
        assert "Анна" in run("sessions").out
    assert (shown["session"], shown["user"], shown["host"], shown["app"]) == (session.public_id, "Анна", "pc-7", "crm")
    assert [lease["product"] for lease in shown["leases"]] == ["platform"]
    assert 0 < shown["ends_in_s"] <= 70
    assert run("sessions").out.strip() == "No open session."


def test_hostile_name_of_a_user_reaches_no_terminal(broker: RunningBroker, run: Run) -> None:
    with client.open(broker.clients, user="\x1b[31m[bold]x[/bold]\nfree", products=["platform"]):
        out = run("sessions").out
    assert "\x1b" not in out
    assert "\\x1b[31m[bold]x[/bold]\\nfree" in out


def test_revoke_ends_a_session_and_names_one_that_is_not_there(broker: RunningBroker, run: Run) -> None:
    with client.open(broker.clients, user="anna", products=["platform"]) as session:
        assert run("sessions", "revoke", session.public_id, "--reason", "a test", "--json").json == {"revoked": session.public_id}
        with pytest.raises(client.SessionLost):
            session.renew()
    again = run("sessions", "revoke", session.public_id)
    assert again.code == ExitCode.REFUSED
    assert session.public_id in again.err
    assert run("sessions", "revoke", "rubbish").code == ExitCode.REFUSED


def test_options_may_stand_before_or_behind_the_inner_command(broker: RunningBroker) -> None:
    where = ("--data-dir", broker.data_directory)
    with client.Client(broker.clients) as one:
        first, second = (one.open(user=name, products=["platform"]).public_id for name in ("anna", "boris"))
        assert usher("sessions", *where, "--json", "revoke", first).json == {"revoked": first}
        assert usher("sessions", "--data-dir", "/nowhere", "revoke", second, *where, "--json").json == {"revoked": second}


def test_keys_shows_where_each_stands_and_what_it_gives(run: Run) -> None:
    keys = run("keys", "--json").json["keys"]
    assert sorted(json.dumps(one["seats"]) for one in keys) == sorted(
        ['{"platform": 5}', '{"platform": 10}', '{"crm": 10, "telephony": 5}']
    )
    assert {one["state"] for one in keys} == {"present"}
    assert all(one["emulated"] and len(one["thumbprint"]) == 43 and one["last_proof_age_s"] >= 0 for one in keys)
    assert "charlie" in run("keys").out


def test_disabled_key_gives_nothing_until_it_is_enabled(broker: RunningBroker, run: Run) -> None:
    thumbprint = next(one["thumbprint"] for one in run("keys", "--json").json["keys"] if one["seats"] == {"platform": 10})
    assert run("keys", "disable", thumbprint[:8], "--json").json == {"thumbprint": thumbprint, "enabled": False}
    broker.await_capacity("platform", 5)
    states = {one["thumbprint"]: one["state"] for one in run("keys", "--json").json["keys"]}
    assert states[thumbprint] == "disabled"
    assert run("keys", "enable", thumbprint).code == 0
    broker.await_capacity("platform", 15)


def test_key_that_is_not_there_or_not_one_is_named(run: Run) -> None:
    none = run("keys", "disable", "-nothing")
    assert none.code == ExitCode.REFUSED
    assert 'no key has a thumbprint that begins with "-nothing"' in none.err
    assert "3 keys have thumbprints that begin" in run("keys", "disable", "").err


def test_licences_shows_which_count(run: Run) -> None:
    licences = run("licences", "--json").json["licences"]
    assert {one["state"] for one in licences} == {"counting"}
    assert sum(one["seats"] for one in licences) == 30
    assert all(one["expiry"] is None and one["not_before"].endswith("Z") and one["emulated"] for one in licences)


def test_emulated_keys_are_listed_pulled_and_returned(broker: RunningBroker, run: Run) -> None:
    listed = run("emulate", "list", "--json").json["emulated_keys"]
    assert [(one["name"], one["plugged"]) for one in listed] == [("alpha", True), ("bravo", True), ("charlie", True)]
    assert run("emulate", "unplug", "alpha").out.strip() == "Emulated key alpha is unplugged."
    broker.await_capacity("platform", 10)
    absent = [one for one in run("licences", "--json").json["licences"] if one["state"] != "counting"]
    assert [one["file"] for one in absent] == ["emulated-alpha-1-platform.jwt"]
    assert absent[0]["reason"]
    assert run("emulate", "plug", "alpha", "--json").json["plugged"] is True
    broker.await_capacity("platform", 15)
    assert run("emulate", "plug", "zulu").code == ExitCode.REFUSED


def test_status_says_what_runs(broker: RunningBroker, run: Run) -> None:
    facts = run("status", "--json").json
    assert (facts["generation"], facts["emulation"], facts["draining"]) == (broker.generation, True, False)
    assert (facts["ttl_s"], facts["renew_grace_s"], facts["data_plane"]) == (60.0, 10.0, "native")
    assert (facts["durability"], facts["clock_suspect"]) == ("strict", False)
    assert (facts["journal"]["journal_status"], facts["journal"]["recovered_sessions"]) == ("fine", 0)
    assert 0 < facts["journal"]["log_size"] <= facts["journal"]["log_size_max"]
    assert "recovered_sessions" in run("status").out


def test_drain_lets_nobody_in_until_it_is_stopped(broker: RunningBroker, run: Run) -> None:
    assert run("drain", "--json").json == {"draining": True, "sessions": 0}
    refused = run("open", "platform", "--for", "0")
    assert refused.code == ExitCode.UNREACHABLE
    assert "is being drained" in refused.err
    assert "is it running" not in refused.err
    assert run("drain", "--stop").out.startswith("New sessions are let in again")
    assert run("open", "platform", "--for", "0").code == 0


def test_reload_says_what_changed(broker: RunningBroker, run: Run) -> None:
    rubbish = broker.data_directory / "licences" / "rubbish.jwt"
    assert run("reload").out.strip() == "Nothing has changed."
    rubbish.write_text("rubbish")
    (change,) = run("reload", "--json").json["changes"]
    assert change.startswith("refused: rubbish.jwt: ")
    refused = [one for one in run("licences", "--json").json["licences"] if one["state"] == "refused"]
    assert [one["file"] for one in refused] == ["rubbish.jwt"]
    rubbish.unlink()
    assert run("reload").code == 0


def test_events_are_printed_as_they_happen(broker: RunningBroker, run: Run) -> None:
    with client.open(broker.clients, user="anna", products=["telephony"]) as session:
        pass
    kinds = []
    with spawned_usher("events", "--json", "--after", 1, "--data-dir", broker.data_directory) as watched:
        assert watched.stdout is not None
        for line in watched.stdout:
            event = json.loads(line)
            if event["session"] == session.public_id:
                kinds.append(event["kind"])
            if kinds and kinds[-1] == "session_ended":
                assert event["end_reason"] == "closed"
                assert event["time"].endswith("Z")
                break
    assert kinds == ["session_opened", "lease_started", "lease_ended", "session_ended"]


# --- usher open -------------------------------------------------------------------------------------------------


def test_open_prints_the_grant_and_closes_when_its_time_is_over(run: Run) -> None:
    granted, closed = run("open", "platform", "crm", "--user", "anna", "--for", "0", "--json").json_lines
    assert (granted["event"], granted["user"]) == ("granted", "anna")
    assert [lease["product"] for lease in granted["leases"]] == ["platform", "crm"]
    assert all(lease["emulated"] for lease in granted["leases"])
    assert closed == {"event": "closed", "sessions": 1}
    assert run("sessions", "--json").json["sessions"] == []


def test_open_says_the_denial_and_ends_with_three(run: Run) -> None:
    done = run("open", "telephony", "--count", "6", "--for", "0", "--json")
    assert done.code == ExitCode.DENIED
    assert [line["event"] for line in done.json_lines] == ["granted"] * 5 + ["denied"]
    denial = done.json_lines[-1]
    assert (denial["reason"], denial["capacity"], denial["in_use"]) == ("no_free_seats", 5, 5)
    people = run("open", "fax")
    assert people.code == ExitCode.DENIED
    assert people.out.startswith("Denied (unknown_product): ")


def test_open_goes_on_without_an_optional_product(run: Run) -> None:
    granted = run("open", "platform", "--optional", "fax", "--for", "0", "--json").json_lines[0]
    assert [one["product"] for one in granted["unavailable"]] == ["fax"]


def test_open_with_a_wrong_request_names_the_field(run: Run) -> None:
    done = run("open", "platform", "--user", "x" * 200, "--for", "0")
    assert done.code == ExitCode.REFUSED
    assert "holder.user" in done.err or "user" in done.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_open_gives_its_seats_back(broker: RunningBroker, number: signal.Signals) -> None:
    with spawned_usher("open", "platform", "--count", 2, "--data-dir", broker.data_directory) as held:
        until(lambda: len(broker.sessions()) == 2, "both sessions open")
        held.send_signal(number)
        out, err = held.communicate(timeout=60)
    assert held.returncode == 0, err
    assert out.splitlines()[-1] == "Closed 2 sessions."
    assert err == ""
    assert broker.sessions() == []


def test_open_whose_session_is_revoked_ends_with_ten(broker: RunningBroker, run: Run) -> None:
    with spawned_usher("open", "platform", "--ttl", 1, "--json", "--data-dir", broker.data_directory) as held:
        until(lambda: len(broker.sessions()) == 1, "the session open")
        assert run("sessions", "revoke", broker.sessions()[0].public_id).code == 0
        out, _ = held.communicate(timeout=60)
    assert held.returncode == ExitCode.SESSION_LOST
    events = [json.loads(line)["event"] for line in out.splitlines()]
    assert events == ["granted", "lost", "closed"]


# --- reaching a broker ----------------------------------------------------------------------------------------------


def test_broker_is_found_by_address_and_token_file_as_well(broker: RunningBroker, tmp_path: Path) -> None:
    token = tmp_path / "copy"
    token.write_text((broker.data_directory / "admin.token").read_text())
    done = usher("seats", "--admin", broker.admin, "--token-file", token, "--json")
    assert len(done.json["products"]) == 3
    variables = {"USHER_ADMIN": broker.admin, "USHER_TOKEN_FILE": str(token)}
    assert len(usher("seats", "--json", environment=variables).json["products"]) == 3
    assert usher("open", "platform", "--broker", broker.clients, "--for", 0).code == 0


def test_wrong_token_is_refused_with_where_the_right_one_lies(broker: RunningBroker, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("x" * 43)
    done = usher("seats", "--admin", broker.admin, "--token-file", token)
    assert done.code == ExitCode.REFUSED
    assert "admin.token" in done.err
    assert "x" * 43 not in done.err


def test_token_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    done = usher("seats", "--data-dir", tmp_path / "nowhere")
    assert done.code == ExitCode.DATA_DIRECTORY
    assert "nowhere/admin.token: the admin token cannot be read: No such file or directory; name the data directory" in done.err


@pytest.mark.parametrize("command", ["seats", "sessions", "keys", "licences", "status", "reload", "drain", "events"])
def test_broker_that_does_not_answer_is_one_sentence_and_five(tmp_path: Path, command: str) -> None:
    (tmp_path / "admin.token").write_text("x" * 43)
    done = usher(command, "--admin", "127.0.0.1:9", "--data-dir", tmp_path)
    assert done.code == ExitCode.UNREACHABLE
    assert done.err.startswith("usher: no answer from the broker at 127.0.0.1:9")
    assert "is it running" in done.err
    assert len(done.err.splitlines()) == 1


def test_commands_reach_a_broker_with_tls(tmp_path: Path) -> None:
    authority = TestAuthority(tmp_path / "ca")
    tls = {"tls": authority.server_tls(is_mutual=True)}
    mine = authority.client("admin.example")
    settings = {"clients": tls, "admin": tls}
    options = ("--tls-ca", authority.ca, "--tls-certificate", mine.certificate, "--tls-private-key", mine.private_key)
    with running_broker(tmp_path, settings=settings, await_proven=False) as broker:
        where = ("--data-dir", broker.data_directory)
        assert usher("status", *where, *options).code == 0
        until(lambda: usher("open", "platform", "--for", 0, *where, *options).code == 0, "the keys proven")
        assert usher("status", *where).code == ExitCode.UNREACHABLE
        assert usher("status", *where, "--tls-ca", authority.ca).code == ExitCode.UNREACHABLE


def test_output_that_nobody_reads_any_more_is_no_error(broker: RunningBroker) -> None:
    command = serve_command(broker.config_path)[:3]
    script = 'set -o pipefail; "$@" | true; echo "code $?"'
    arguments = ["bash", "-c", script, "bash", *command, "licences", "--json", "--data-dir", str(broker.data_directory)]
    done = subprocess.run(arguments, capture_output=True, text=True, env=process_environment(), timeout=30)
    assert done.stdout == "code 0\n"
    assert done.stderr == ""


def test_serve_says_as_json_where_it_serves_and_no_page_of_things_to_try(tmp_path: Path) -> None:
    addresses = ("--clients", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--http", "127.0.0.1:0")
    with spawned_usher("serve", "--emulate", "--json", "--data-dir", tmp_path / "data", *addresses) as serving:
        assert serving.stdout is not None
        said = json.loads(serving.stdout.readline())
        assert said == json.loads((tmp_path / "data" / "running.json").read_text())
        serving.send_signal(signal.SIGTERM)
        rest, log = serving.communicate(timeout=30)
    assert (serving.returncode, rest) == (ExitCode.DONE, "")
    assert all(json.loads(line)["message"] for line in log.splitlines())


def test_page_of_things_to_try_works_as_it_stands(broker: RunningBroker, tmp_path: Path) -> None:
    page = broker.log_text().partition("In another terminal:")[2].partition("\n{")[0]
    # A comment stands behind two spaces; a login and a watch would wait for Ctrl-C.
    words = [re.split(r"(?<=\S) {3,}", line.removeprefix("  "))[0] for line in page.splitlines()]
    script = "\n".join(words).replace("usher open platform crm", "usher open platform crm --for 0")
    script = script.replace("usher events", "usher events --after 1 --count 1")
    environment = {name: value for name, value in process_environment().items() if name != "PYTHONPATH"}
    done = subprocess.run(
        ["bash", "-euc", f"shopt -s expand_aliases\n{script}"],
        capture_output=True,
        text=True,
        env=environment | {"PATH": PLAIN_PATH},
        cwd=tmp_path,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "usher_seats_capacity" in done.stdout
    assert '"grant"' in done.stdout
    assert "Lease(product='platform'" in done.stdout
    broker.await_capacity("platform", 15)
    (opened_by_curl,) = broker.sessions()
    assert usher("sessions", "revoke", opened_by_curl.public_id, "--data-dir", broker.data_directory).code == 0
