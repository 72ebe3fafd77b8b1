"""Certificate files: a wrong one is named with what is wrong in it, a questionable one warned of, a new one taken up."""

from __future__ import annotations

import gc
import re
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from broker._tls import ServerContext, ServerTls, context_count
from broker.errors import ConfigError
from broker.limits import LIMITS
from broker.model.tls import TlsState
from tests.tls.peers import Client, Files, client_context, connected, settle, write_all, write_leaf


def contexts_alive() -> int:
    """Without what only a collected cycle still holds, as the tracebacks of earlier tests."""
    gc.collect()
    return context_count()


def complaint(*paths: Path) -> str:
    """What is said of these files; one fault, which names a file first."""
    before = contexts_alive()
    with pytest.raises(ConfigError) as caught:
        ServerContext(*paths)
    assert contexts_alive() == before
    (fault,) = caught.value.faults
    assert Path(fault.file) in paths
    return str(fault)


def damaged(source: Path, target: Path) -> Path:
    """A copy whose last block has lost the middle of its base64."""
    head, separator, tail = source.read_text().rpartition("-----BEGIN ")
    lines = tail.splitlines(keepends=True)
    target.write_text(head + separator + "".join(lines[:2] + lines[4:]))
    return target


def test_missing_file_is_named(server_files: Files, tmp_path: Path) -> None:
    absent = tmp_path / "absent.pem"
    for paths in [(absent, server_files.private_key), (server_files.certificate, absent), (*astuple(server_files), absent)]:
        assert complaint(*paths).startswith(f"{absent}: cannot be read: No such file or directory")


def astuple(files: Files) -> tuple[Path, Path]:
    return files.certificate, files.private_key


def test_folder_in_place_of_a_file_is_named(server_files: Files, tmp_path: Path) -> None:
    assert complaint(tmp_path, server_files.private_key).startswith(f"{tmp_path}: cannot be read: Is a directory")


@pytest.mark.parametrize("content", [b"", b"\x30\x82\x01\x0a\x02\x82", b"certificate"])
def test_file_that_is_not_pem_is_named(server_files: Files, tmp_path: Path, content: bytes) -> None:
    other = tmp_path / "other.der"
    other.write_bytes(content)
    for paths in [(other, server_files.private_key), (server_files.certificate, other), (*astuple(server_files), other)]:
        assert complaint(*paths).startswith(f"{other}: is not PEM")


def test_private_key_and_certificate_in_each_others_place_are_told_apart(server_files: Files) -> None:
    certificate, private_key = astuple(server_files)
    assert complaint(private_key, certificate).startswith(f"{private_key}: holds no PEM certificate")
    assert complaint(certificate, certificate).startswith(f"{certificate}: holds no usable PEM private key")
    assert complaint(certificate, private_key, private_key).startswith(f"{private_key}: holds no PEM certificate")


def test_damaged_certificate_is_named_with_its_place(server_files: Files, authority_file: Path, tmp_path: Path) -> None:
    one = damaged(server_files.certificate, tmp_path / "one.pem")
    assert complaint(one, server_files.private_key).startswith(f"{one}: certificate 1 in it is damaged")
    two = tmp_path / "two.pem"
    two.write_text(authority_file.read_text() + one.read_text())
    assert complaint(*astuple(server_files), two).startswith(f"{two}: certificate 2 in it is damaged")


def test_damaged_private_key_is_named(server_files: Files, tmp_path: Path) -> None:
    broken = damaged(server_files.private_key, tmp_path / "broken.pem")
    assert complaint(server_files.certificate, broken).startswith(f"{broken}: holds no usable PEM private key")


@pytest.mark.parametrize("kind", list(trustme.KeyType))
def test_private_key_of_another_certificate_is_told(
    server_files: Files, authority: trustme.CA, tmp_path: Path, kind: trustme.KeyType
) -> None:
    other = write_leaf(authority.issue_cert("localhost", key_type=kind), tmp_path).private_key
    wanted = f"{other}: the private key does not belong to the certificate in {server_files.certificate}"
    assert complaint(server_files.certificate, other).startswith(wanted)


def test_encrypted_private_key_is_refused_and_nobody_is_asked(server_files: Files, tmp_path: Path) -> None:
    own = serialization.load_pem_private_key(server_files.private_key.read_bytes(), None)
    encrypted = tmp_path / "encrypted.pem"
    encrypted.write_bytes(
        own.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"secret")
        )
    )
    assert complaint(server_files.certificate, encrypted).startswith(f"{encrypted}: the private key is encrypted")


def test_huge_file_is_not_read(server_files: Files, tmp_path: Path) -> None:
    huge = tmp_path / "huge.pem"
    huge.write_bytes(b"-" * (LIMITS["TLS_PEM_SIZE_MAX"] + 1))
    assert complaint(huge, server_files.private_key).startswith(f"{huge}: is larger than")


def test_expired_and_future_certificates_are_warned_of_and_used(authority: trustme.CA, tmp_path: Path) -> None:
    now = datetime.now(UTC)
    for name, begin, end, words in [
        ("past", now - timedelta(days=2), now - timedelta(days=1), "certificate 1 has expired on {end:%Y-%m-%d}"),
        ("future", now + timedelta(days=1), now + timedelta(days=2), "certificate 1 is not valid before {begin:%Y-%m-%d}"),
    ]:
        files = write_leaf(authority.issue_cert("localhost", not_before=begin, not_after=end), tmp_path, name)
        context = ServerContext(*astuple(files))
        assert context.warnings == (f"{files.certificate}: " + words.format(begin=begin, end=end),)


def test_good_certificates_give_no_warning(context: ServerContext, mutual: ServerContext) -> None:
    assert context.warnings == mutual.warnings == ()
    assert (context.is_mutual, mutual.is_mutual) == (False, True)


def serial_number(client: Client) -> str:
    certificate = client.tls.getpeercert()
    assert certificate is not None
    return str(certificate["serialNumber"])


def test_reload_serves_the_new_certificate_while_old_connections_go_on(authority: trustme.CA, tmp_path: Path) -> None:
    before = contexts_alive()
    files = write_leaf(authority.issue_cert("localhost"), tmp_path)
    context = ServerContext(*astuple(files))
    old_pairs = [connected(context, client_context(authority)) for _ in range(8)]
    half_open, late = ServerTls(context), Client(client_context(authority))
    write_leaf(authority.issue_cert("localhost"), tmp_path)
    context.reload()
    new_pair = connected(context, client_context(authority))
    settle(half_open, late)
    assert serial_number(new_pair[1]) != serial_number(old_pairs[0][1]) == serial_number(late)
    for server, client in [*old_pairs, new_pair, (half_open, late)]:
        client.tls.write(b"still here")
        assert settle(server, client) == b"still here"
        client.incoming.write(write_all(server, b"so are we"))
        assert client.read() == b"so are we"
    assert contexts_alive() == before + 2
    del old_pairs, server, client
    assert contexts_alive() == before + 2, "one connection of the old files is left"
    del half_open
    assert contexts_alive() == before + 1
    del new_pair, context
    assert contexts_alive() == before


def test_reload_while_threads_shake_hands_spoils_none(authority: trustme.CA, tmp_path: Path) -> None:
    before = contexts_alive()
    context = ServerContext(*astuple(write_leaf(authority.issue_cert("localhost"), tmp_path)))
    client = client_context(authority)

    def shake_hands(_turn: int) -> TlsState:
        return connected(context, client)[0].state

    with ThreadPoolExecutor(3) as threads:
        states = threads.map(shake_hands, range(120))
        for _ in range(60):
            context.reload()
        assert set(states) == {TlsState.OPEN}
    assert (contexts_alive(), context.connection_count) == (before + 1, 0)


def test_reload_of_wrong_files_leaves_everything_as_it_was(authority: trustme.CA, tmp_path: Path) -> None:
    files = write_leaf(authority.issue_cert("localhost"), tmp_path)
    context = ServerContext(*astuple(files))
    _, first = connected(context, client_context(authority))
    write_leaf(authority.issue_cert("localhost"), tmp_path, "other")
    files.private_key.write_bytes((tmp_path / "other-private.pem").read_bytes())
    with pytest.raises(ConfigError, match=re.escape("does not belong to the certificate")):
        context.reload()
    server, second = connected(context, client_context(authority))
    assert server.state == TlsState.OPEN
    assert serial_number(second) == serial_number(first)


def test_authority_taken_out_by_a_reload_lets_nobody_new_in(
    authority: trustme.CA, foreign_authority: trustme.CA, server_files: Files, client_files: Files, tmp_path: Path
) -> None:
    authorities = tmp_path / "authorities.pem"
    authorities.write_bytes(foreign_authority.cert_pem.bytes() + authority.cert_pem.bytes())
    context = ServerContext(*astuple(server_files), authorities)
    client = client_context(authority, own=client_files)
    assert connected(context, client)[0].state == TlsState.OPEN
    authorities.write_bytes(foreign_authority.cert_pem.bytes())
    context.reload()
    assert connected(context, client)[0].state == TlsState.FAILED
