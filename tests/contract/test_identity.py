"""Mutual TLS: who the certificate names is the scope of requests and instances, and strangers stay outside."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from tests.contract.conftest import IMPLEMENTATIONS, Implementation, parameters
from tests.contract.generated import Api
from tests.contract.harness import Door, Security, fresh_id, refused
from tests.support.broker_process import running_broker
from tests.support.certificates import TestAuthority

MUTUAL = parameters(*(one for one in IMPLEMENTATIONS if one.security == "mutual"))


@dataclass(frozen=True, slots=True)
class Site:
    """A broker with mutual TLS, two clients that it knows, and ways in that must fail."""

    crm: Door
    phone: Door
    stranger: Door
    nameless: Door


@pytest.fixture(params=MUTUAL)
def site(request: pytest.FixtureRequest, api: Api, tmp_path: Path) -> Iterator[Site]:
    implementation: Implementation = request.param
    authority = TestAuthority(tmp_path / "ours")
    elsewhere = TestAuthority(tmp_path / "theirs")
    ca = authority.ca.read_bytes()

    def security(issuer: TestAuthority, identity: str) -> Security:
        files = issuer.client(identity)
        return Security(ca, files.certificate.read_bytes(), files.private_key.read_bytes())

    with running_broker(tmp_path, settings=implementation.settings(authority)) as broker:
        doors = [
            Door(api, broker, security(authority, "crm-web.example"), "crm-web.example"),
            Door(api, broker, security(authority, "softphone.example"), "softphone.example"),
            Door(api, broker, security(elsewhere, "crm-web.example")),
            Door(api, broker, Security(ca)),
        ]
        yield Site(*doors)
        for door in doors:
            door.clear()


def test_the_identity_is_that_of_the_certificate_and_strangers_stay_outside(site: Site) -> None:
    site.crm.grant(user="anna")
    (session,) = site.crm.broker.sessions()
    assert session.identity == "crm-web.example"
    for outside in (site.stranger, site.nameless):
        with pytest.raises(grpc.RpcError) as caught:
            outside.open()
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert site.crm.session_count() == 1


def test_request_ids_and_instances_of_two_identities_are_apart(site: Site) -> None:
    request_id = fresh_id()
    one = site.crm.grant(request_id=request_id, instance_id="seat-1")
    two = site.phone.grant(request_id=request_id, instance_id="seat-1")
    assert one.session_id != two.session_id
    assert not two.replayed
    site.crm.renew(one.session_id)  # not superseded: another identity's instance
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_ID_REUSED"):
        site.crm.open(request_id=request_id, user="boris")
