"""The broker as a process of the machine: signals, descriptors, ports, second brokers, restarts, crashes."""

import json
import os
import re
import signal
import socket
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from broker import client
from broker.client.admin import AdminClient
from broker.exit_codes import ExitCode
from broker.v1 import admin_pb2
from tests.support.broker_process import RunningBroker, process_environment, running_broker, serve_command
from tests.support.certificates import TestAuthority
from tests.support.toml_text import toml_text
from tests.support.waiting import until

O_CLOEXEC = os.O_CLOEXEC
ONE_KEY = [{"name": "alpha", "seats": {"platform": 5}}]


def failing_serve(directory: Path, sections: Mapping[str, Mapping[str, object]], *, emulate: bool = False) -> tuple[int, str]:
    """Runs a broker that is expected not to start; its exit code and what it said."""
    path = directory / "wrong.toml"
    path.write_text(toml_text({"broker": {"data_dir": str(directory / "data")}, **sections}))
    done = subprocess.run(
        serve_command(path, emulate=emulate), capture_output=True, text=True, env=process_environment(), timeout=60
    )
    return done.returncode, done.stderr


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBroker]:
    """One broker for the tests that only look."""
    with running_broker(tmp_path_factory.mktemp("broker"), emulated_keys=ONE_KEY) as broker:
        yield broker


# --- a broker that runs ------------------------------------------------------------------------------------


def test_every_descriptor_is_closed_in_programs_that_it_would_start(running: RunningBroker) -> None:
    directory = Path(f"/proc/{running.process.pid}/fdinfo")
    inherited = []
    for entry in directory.iterdir():
        flags = re.search(r"^flags:\s+(\d+)", entry.read_text(), re.MULTILINE)
        assert flags
        if int(entry.name) > 2 and not int(flags[1], 8) & O_CLOEXEC:
            inherited.append(os.readlink(f"/proc/{running.process.pid}/fd/{entry.name}"))
    assert inherited == []


def test_only_the_main_thread_takes_the_signals_that_stop_a_broker(running: RunningBroker) -> None:
    blocked = {}
    for task in Path(f"/proc/{running.process.pid}/task").iterdir():
        mask = re.search(r"^SigBlk:\s+([0-9a-f]+)", (task / "status").read_text(), re.MULTILINE)
        assert mask
        blocked[int(task.name), (task / "comm").read_text().strip()] = int(mask[1], 16)
    stopping = (1 << signal.SIGTERM - 1) | (1 << signal.SIGINT - 1)
    assert len(blocked) > 4
    taking = [thread for thread, mask in blocked.items() if mask & stopping != stopping]
    assert taking == [(running.process.pid, taking[0][1])]


def test_broker_takes_all_the_descriptors_that_it_may(running: RunningBroker) -> None:
    limits = Path(f"/proc/{running.process.pid}/limits").read_text()
    soft, hard = re.findall(r"^Max open files\s+(\w+)\s+(\w+)", limits, re.MULTILINE)[0]
    assert soft == hard


def test_run_file_says_where_the_broker_is(running: RunningBroker) -> None:
    path = running.data_directory / "running.json"
    facts = json.loads(path.read_text())
    assert facts["pid"] == running.process.pid
    assert (facts["clients"], facts["admin"], facts["http"]) == (running.clients, running.admin, running.http)
    assert path.stat().st_mode & 0o077 == 0


def test_health_over_http_says_serving(running: RunningBroker) -> None:
    with urllib.request.urlopen(f"{running.url}/healthz", timeout=10) as answer:
        assert answer.status == 200


def test_log_holds_no_secret(running: RunningBroker) -> None:
    with client.open(running.clients, user="anna", products=["platform"]) as session:
        session_id = session._state.session_id
    with pytest.raises(client.NotAuthorised), AdminClient(running.admin, "wrong-token-wrong-token") as admin:
        admin.products()
    text = running.log_text()
    assert running.admin_token not in text
    assert "wrong-token" not in text
    assert session_id.hex() not in text
    assert (running.data_directory / "secret").read_text().strip() not in text


def test_log_of_a_quiet_broker_is_json_lines_and_few(running: RunningBroker) -> None:
    lines = [line for line in running.log_text().splitlines() if line.startswith("{")]
    assert all(json.loads(line)["message"] for line in lines)
    before = len(lines)
    for number in range(5):
        with client.open(running.clients, user=f"user-{number}", products=["platform"]):
            pass
    after = [line for line in running.log_text().splitlines() if line.startswith("{")]
    assert len(after) == before  # a request is never a line


def test_second_broker_on_the_data_directory_is_refused_with_the_pid_of_the_first(running: RunningBroker) -> None:
    done = subprocess.run(
        serve_command(running.config_path), capture_output=True, text=True, env=process_environment(), timeout=60
    )
    assert done.returncode == ExitCode.DATA_DIRECTORY
    assert f"another broker (process {running.process.pid}) uses this data directory" in done.stderr
    assert "Traceback" not in done.stderr
    assert running.products()["platform"].capacity == 5


@pytest.mark.parametrize("section", ["clients", "admin", "http"])
def test_port_in_use_is_named_with_the_entry_that_chooses_it(
    running: RunningBroker, tmp_path: Path, section: str
) -> None:
    sections: dict[str, dict[str, object]] = {one: {"address": "127.0.0.1:0"} for one in ("clients", "admin", "http")}
    taken = getattr(running, section)
    sections[section] = {"address": taken}
    code, said = failing_serve(tmp_path, sections, emulate=True)
    assert code == ExitCode.ADDRESS_IN_USE
    assert f"usher: {section}.address: cannot listen on {taken}: Address already in use; stop what uses it" in said
    assert "Traceback" not in said


# --- a broker that cannot start -----------------------------------------------------------------------------


def test_address_beyond_this_machine_without_tls_is_refused(tmp_path: Path) -> None:
    code, said = failing_serve(tmp_path, {"clients": {"address": "0.0.0.0:0"}}, emulate=True)
    assert code == ExitCode.CONFIG
    assert "clients.address: 0.0.0.0:0 can be reached from other machines, and [clients] has no TLS" in said
    assert "emulation.enabled: would give EMULATED seats to other machines" in said


def test_wrong_configuration_makes_no_data_directory(tmp_path: Path) -> None:
    code, said = failing_serve(tmp_path, {"clients": {"adress": "x"}})
    assert code == ExitCode.CONFIG
    assert said.startswith(f"usher: {tmp_path}/wrong.toml: clients.adress: is no known entry; did you mean clients.address?")
    assert not (tmp_path / "data").exists()


def test_wrong_trust_file_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "trust.json").write_text("{")
    free = {one: {"address": "127.0.0.1:0"} for one in ("clients", "admin", "http")}
    code, said = failing_serve(tmp_path, free | {"licences": {"trust": "trust.json"}}, emulate=True)
    assert code == ExitCode.CONFIG
    assert "licences.trust: " in said
    assert "Traceback" not in said


def test_hang_up_reloads_the_licences_and_the_broker_goes_on(tmp_path: Path) -> None:
    with running_broker(tmp_path, emulated_keys=ONE_KEY) as broker, client.Client(broker.clients) as one:
        session = one.open(user="anna", products=["platform"])
        for licence in (broker.data_directory / "licences").glob("*.jwt"):
            licence.unlink()
        broker.process.send_signal(signal.SIGHUP)
        broker.await_capacity("platform", 0)
        until(lambda: '"message": "reloaded"' in broker.log_text(), "the reload in the log")
        assert session.renew()
        assert broker.process.poll() is None


# --- ending and coming back ----------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_stops_the_broker_cleanly_while_clients_hold_sessions(tmp_path: Path, number: signal.Signals) -> None:
    with running_broker(tmp_path, emulated_keys=ONE_KEY) as broker, client.Client(broker.clients) as one:
        session = one.open(user="anna", products=["platform"])
        with AdminClient(broker.admin, broker.admin_token) as admin:
            events = admin.watch()
            stream = socket.create_connection(("127.0.0.1", int(broker.http.rpartition(":")[2])))
            assert broker.signal(number) == ExitCode.DONE
            with pytest.raises(client.UsherError):
                list(events)
            stream.close()
        assert not (broker.data_directory / "running.json").exists()
        assert '"message": "stopped"' in broker.log_text()
        assert "failed" not in broker.log_text()
        assert session.public_id
        one._closing.set()  # nobody is there to be told of the close


def test_restart_takes_the_same_data_directory_and_ports_and_grows_the_generation(tmp_path: Path) -> None:
    with running_broker(tmp_path, emulated_keys=ONE_KEY) as first:
        keys = {one.thumbprint for one in first.admin_stub().ListKeys(admin_pb2.ListKeysRequest(), metadata=first.admin_metadata).keys}
        address = first.clients
    settings = {"clients": {"address": address}}
    with running_broker(tmp_path, emulated_keys=ONE_KEY, settings=settings) as second:
        assert second.clients == address
        assert second.generation == first.generation + 1
        assert second.admin_token == first.admin_token
        answer = second.admin_stub().ListKeys(admin_pb2.ListKeysRequest(), metadata=second.admin_metadata)
        assert {one.thumbprint for one in answer.keys} == keys


def test_killed_broker_can_be_started_again_at_once(tmp_path: Path) -> None:
    with running_broker(tmp_path, emulated_keys=ONE_KEY) as first:
        assert first.kill() == -signal.SIGKILL
    with running_broker(tmp_path, emulated_keys=ONE_KEY) as second:
        assert second.generation == first.generation + 1
        with client.open(second.clients, user="anna", products=["platform"]) as session:
            assert session.public_id.startswith(f"{second.generation}.")


def test_key_pulled_and_returned_moves_capacity_without_a_restart(tmp_path: Path) -> None:
    with running_broker(tmp_path) as broker:
        assert {name: one.capacity for name, one in broker.products().items()} == {"platform": 15, "crm": 10, "telephony": 5}
        with client.Client(broker.clients) as one:
            for number in range(15):
                one.open(user=f"user-{number}", products=["platform"])
            with pytest.raises(client.Denied) as sixteenth:
                one.open(user="late", products=["platform"])
            assert (sixteenth.value.reason, sixteenth.value.capacity, sixteenth.value.in_use) == ("no_free_seats", 15, 15)
            broker.unplug("bravo")
            broker.await_capacity("platform", 5)
            assert broker.products()["platform"].deficit == 10
            with pytest.raises(client.Denied) as during:
                one.open(user="later", products=["platform"])
            assert during.value.reason == "deficit"
            broker.plug("bravo")
            broker.await_capacity("platform", 15)
            assert broker.products()["platform"].deficit == 0
        until(lambda: not broker.sessions(), "all sessions closed")


# --- TLS --------------------------------------------------------------------------------------------------------


def test_all_three_ports_serve_with_tls(tmp_path: Path) -> None:
    authority = TestAuthority(tmp_path / "ca")
    tls = {"tls": authority.server_tls()}
    settings = {"clients": tls, "admin": tls, "http": tls}
    with running_broker(tmp_path, settings=settings, emulated_keys=ONE_KEY, root_certificate=authority.ca) as broker:
        with client.open(broker.clients, user="anna", products=["platform"], tls=client.Tls(ca=authority.ca)) as session:
            assert session.holds("platform")
        context = ssl.create_default_context(cafile=str(authority.ca))
        with urllib.request.urlopen(f"https://{broker.http}/healthz", timeout=10, context=context) as answer:
            assert answer.status == 200


def test_mutual_tls_gives_sessions_the_identity_of_their_certificate(tmp_path: Path) -> None:
    authority = TestAuthority(tmp_path / "ca")
    settings = {"clients": {"tls": authority.server_tls(is_mutual=True)}}
    with running_broker(tmp_path, settings=settings, emulated_keys=ONE_KEY) as broker:
        mine = authority.client("crm-server.example")
        tls = client.Tls(ca=authority.ca, certificate=mine.certificate, private_key=mine.private_key)
        with client.open(broker.clients, user="anna", products=["platform"], tls=tls):
            assert [one.identity for one in broker.sessions()] == ["crm-server.example"]
        with pytest.raises(client.Unreachable):
            client.open(
                broker.clients,
                user="anna",
                products=["platform"],
                tls=client.Tls(ca=authority.ca),
                retry=client.RetryPolicy(attempt_s=1, total_s=1),
            )


def test_http_port_with_mutual_tls_answers_nobody_without_a_certificate(tmp_path: Path) -> None:
    authority = TestAuthority(tmp_path / "ca")
    settings = {"http": {"tls": authority.server_tls(is_mutual=True)}}
    with running_broker(tmp_path, settings=settings, emulated_keys=ONE_KEY) as broker:
        context = ssl.create_default_context(cafile=str(authority.ca))
        with pytest.raises(OSError, match=r"certificate required|alert|reset|EOF|closed"):
            urllib.request.urlopen(f"https://{broker.http}/healthz", timeout=10, context=context).read()
        mine = authority.client("prometheus.example")
        context.load_cert_chain(mine.certificate, mine.private_key)
        with urllib.request.urlopen(f"https://{broker.http}/healthz", timeout=10, context=context) as answer:
            assert answer.status == 200


@pytest.mark.parametrize(
    ("host", "is_served"), [("usher.example", True), ("127.0.0.2", True), ("localhost", True), ("evil.example", False)]
)
def test_http_port_answers_to_its_address_and_the_names_in_its_settings(
    tmp_path: Path, host: str, is_served: bool
) -> None:
    settings = {"http": {"address": "127.0.0.2:0", "hosts": ["usher.example"]}}
    with running_broker(tmp_path, settings=settings, emulated_keys=ONE_KEY) as broker:
        body = b'{"session_id": ""}'
        headers = {"Host": host, "Content-Type": "application/json"}
        request = urllib.request.Request(f"{broker.url}/v1/sessions:renew", body, headers)
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request, timeout=10)
        answer = caught.value.read().decode()
    assert ("session_id" in answer) == is_served


def test_beyond_this_machine_with_everything_written_down_it_serves(tmp_path: Path) -> None:
    authority = TestAuthority(tmp_path / "ca")
    settings: dict[str, dict[str, object]] = {
        "clients": {"address": "0.0.0.0:0", "tls": authority.server_tls()},
        "licences": {"allow_emulated": True},
    }
    with running_broker(tmp_path, settings=settings, emulated_keys=ONE_KEY) as broker:
        port = broker.clients.rpartition(":")[2]
        tls = client.Tls(ca=authority.ca)
        with client.open(f"127.0.0.1:{port}", user="anna", products=["platform"], tls=tls) as session:
            assert session.leases[0].is_emulated
