"""Authorities and files that the suite shares: made once, since making certificates is what takes time."""

from __future__ import annotations

from pathlib import Path

import pytest
import trustme

from broker._tls import ServerContext
from tests.tls.peers import Files, write_leaf


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def foreign_authority() -> trustme.CA:
    return trustme.CA(organization_name="foreign")


@pytest.fixture(scope="session")
def server_files(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Files:
    return write_leaf(authority.issue_cert("localhost"), tmp_path_factory.mktemp("server"))


@pytest.fixture(scope="session")
def client_files(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Files:
    return write_leaf(authority.issue_cert("client.example"), tmp_path_factory.mktemp("client"))


@pytest.fixture(scope="session")
def authority_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("authority") / "ca.pem"
    path.write_bytes(authority.cert_pem.bytes())
    return path


@pytest.fixture
def context(server_files: Files) -> ServerContext:
    return ServerContext(server_files.certificate, server_files.private_key)


@pytest.fixture
def mutual(server_files: Files, authority_file: Path) -> ServerContext:
    return ServerContext(server_files.certificate, server_files.private_key, authority_file)
