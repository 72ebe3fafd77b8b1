"""Certificates read again while the broker serves: for new connections, without dropping one, and never half."""

import dataclasses
import shutil
import signal
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import grpc
import pytest

from broker import client
from broker.app.certificates import Certificates
from broker.app.config import AdminSection, ClientsSection, Config, HttpSection, TlsSettings
from broker.errors import ConfigError
from tests.support.broker_process import CALL_S, RunningBroker, process_environment, running_broker
from tests.support.certificates import TestAuthority
from tests.support.data_planes import DATA_PLANES
from tests.support.waiting import until

ONE_KEY = [{"name": "alpha", "seats": {"platform": 5}}]


def shown_certificate(address: str, authority: TestAuthority) -> str:
    """What a listener shows to somebody who connects now (PEM)."""
    host, _, port = address.rpartition(":")
    context = ssl.create_default_context(cafile=str(authority.ca))
    context.set_alpn_protocols(["h2"])
    with socket.create_connection((host, int(port)), timeout=CALL_S) as plain, context.wrap_socket(plain, server_hostname=host) as secure:
        return ssl.DER_cert_to_PEM_cert(secure.getpeercert(binary_form=True) or b"")


def leaf(path: Path) -> str:
    """The first certificate of a chain."""
    return path.read_text().split("-----END", 1)[0].strip()


# --- the files ------------------------------------------------------------------------------------------------


def config_of(authority: TestAuthority, plane: str = "grpcio") -> Config:
    files = authority.server()
    tls = TlsSettings(files.certificate, files.private_key)
    clients = ClientsSection(tls=tls, data_plane=plane)
    return dataclasses.replace(Config(), clients=clients, admin=AdminSection(tls=tls), http=HttpSection(tls=tls))


def test_unchanged_files_are_no_news(tmp_path: Path) -> None:
    certificates = Certificates(config_of(TestAuthority(tmp_path)))
    assert certificates.reload() == []


def test_changed_files_are_named_with_when_they_count(tmp_path: Path) -> None:
    authority = TestAuthority(tmp_path)
    certificates = Certificates(config_of(authority))
    files = authority.server()
    assert certificates.reload() == [
        f"clients.tls: {files.certificate} is read again, for new connections",
        f"admin.tls: {files.certificate} is read again, for new connections",
        f"http.tls: {files.certificate} is read again, after a restart",
    ]
    assert certificates.reload() == []


def test_one_wrong_file_leaves_every_listener_as_it_was(tmp_path: Path) -> None:
    ours, theirs = TestAuthority(tmp_path / "ours"), TestAuthority(tmp_path / "theirs")
    config = config_of(ours)
    other = theirs.server()
    config = dataclasses.replace(config, admin=AdminSection(tls=TlsSettings(other.certificate, other.private_key)))
    certificates = Certificates(config)
    before = [certificates.of(name).material for name in ("clients", "admin")]  # type: ignore[union-attr]
    ours.server()
    shutil.copy(ours.ca, other.certificate)  # not the private key's
    with pytest.raises(ConfigError, match=r"admin\.tls\.private_key"):
        certificates.reload()
    assert [certificates.of(name).material for name in ("clients", "admin")] == before  # type: ignore[union-attr]


# --- a running broker -------------------------------------------------------------------------------------------


def reload(broker: RunningBroker) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "broker.cli.main", "reload", "--data-dir", str(broker.data_directory)]
    return subprocess.run(command, capture_output=True, text=True, env=process_environment(), timeout=60)


@pytest.mark.parametrize("plane", DATA_PLANES)
def test_hang_up_and_usher_reload_bring_new_certificates_and_drop_no_connection(tmp_path: Path, plane: str) -> None:
    authority = TestAuthority(tmp_path / "ca")
    tls = authority.server_tls()
    settings = {"clients": {"tls": tls, "data_plane": plane}}
    with running_broker(tmp_path, settings=settings, emulated_keys=ONE_KEY) as broker:
        tls_of_client = client.Tls(ca=authority.ca)
        with client.open(broker.clients, user="anna", products=["platform"], tls=tls_of_client) as session:
            first = Path(tls["certificate"]).read_text()
            assert leaf(Path(tls["certificate"])) in shown_certificate(broker.clients, authority)

            authority.server()
            broker.process.send_signal(signal.SIGHUP)
            until(lambda: "is read again, for new connections" in broker.log_text(), "the reload in the log")
            assert Path(tls["certificate"]).read_text() != first
            assert leaf(Path(tls["certificate"])) in shown_certificate(broker.clients, authority)
            assert session.renew()

            authority.server()
            answer = reload(broker)
            assert f"clients.tls: {tls['certificate']} is read again, for new connections" in answer.stdout
            assert leaf(Path(tls["certificate"])) in shown_certificate(broker.clients, authority)
            assert session.renew()


@pytest.mark.parametrize("plane", DATA_PLANES)
def test_wrong_certificate_changes_nothing_and_is_said(tmp_path: Path, plane: str) -> None:
    authority = TestAuthority(tmp_path / "ca")
    tls = authority.server_tls(is_mutual=True)
    mine = authority.client("crm-web.example")
    settings = {"clients": {"tls": tls, "data_plane": plane}}
    with running_broker(tmp_path, settings=settings, emulated_keys=ONE_KEY) as broker:
        good = Path(tls["certificate"]).read_text()
        Path(tls["certificate"]).write_text(good[: len(good) // 2])
        broker.process.send_signal(signal.SIGHUP)
        until(lambda: "reload refused, nothing has changed" in broker.log_text(), "the refusal in the log")
        assert "clients.tls.private_key" in broker.log_text()
        answer = reload(broker)
        assert answer.returncode != 0
        assert "clients.tls.private_key" in answer.stderr
        credentials = grpc.ssl_channel_credentials(
            authority.ca.read_bytes(), mine.private_key.read_bytes(), mine.certificate.read_bytes()
        )
        with grpc.secure_channel(broker.clients, credentials) as channel:
            grpc.channel_ready_future(channel).result(CALL_S)
        with client.open(
            broker.clients,
            user="anna",
            products=["platform"],
            tls=client.Tls(ca=authority.ca, certificate=mine.certificate, private_key=mine.private_key),
        ):
            assert [one.identity for one in broker.sessions()] == ["crm-web.example"]
