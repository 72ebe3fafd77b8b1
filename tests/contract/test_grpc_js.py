"""The whole Sessions service seen by a gRPC client that is not C-core: grpc-js, on Node.js, over plaintext and TLS."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from google.rpc import error_details_pb2, status_pb2

from tests.contract.generated import PROTO
from tests.contract.harness import Door

CLIENT = Path(__file__).with_name("grpc_js") / "client.js"
MODULES = Path(__file__).resolve().parents[2] / "build" / "grpc_js"
RUN_S = 60
INVALID_ARGUMENT, NOT_FOUND = 3, 5


def run_client(door: Door, directory: Path) -> dict[str, Any]:
    """Runs the client once against the door; what it was answered."""
    node = shutil.which("node")
    assert node, "Node.js is missing: tools/setup dev installs it"
    assert (MODULES / "node_modules" / "@grpc" / "grpc-js").is_dir(), "grpc-js is missing: tools/setup dev fetches it"
    settings = {"modules": str(MODULES), "proto": str(PROTO), "address": door.address}
    for name in ("ca", "certificate", "private_key"):
        pem = getattr(door.security, name)
        if pem is not None:
            (directory / f"{name}.pem").write_bytes(pem)
            settings[name] = str(directory / f"{name}.pem")
    done = subprocess.run(
        [node, str(CLIENT), json.dumps(settings)], cwd=directory, env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, timeout=RUN_S
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def info_of(error: dict[str, Any]) -> error_details_pb2.ErrorInfo:
    """The google.rpc.ErrorInfo of an error, whose status must be that of its details."""
    status = status_pb2.Status.FromString(base64.b64decode(error["details"]))
    assert (status.code, status.message) == (error["code"], error["message"])
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return info


def test_a_client_on_node_js_is_served_the_whole_service_and_gets_errors_with_their_details(door: Door, tmp_path: Path) -> None:
    said = run_client(door, tmp_path)
    first, second = said["grant"]["ids"]
    assert said["grant"]["leases"] == ["platform", "crm"]
    assert said["renewed"]["seconds"] == "60"
    assert said["many"] == 200  # more at once than one connection may have: they wait for each other
    assert (said["acquired"], said["released"]) == ("telephony", True)
    assert said["keep_alive"] == {
        "results": [[first, "renewed"], [second, "renewed"]],
        "notices": [[second, "END_REASON_CLOSED"]],
        "status": 0,
    }
    assert said["waiting"] == {"updates": ["DENIAL_REASON_WAITING_UNSUPPORTED"], "status": 0}
    assert (said["denial"]["reason"], said["denial"]["product"]) == ("DENIAL_REASON_UNKNOWN_PRODUCT", "no-such-product")
    assert said["closed"] == said["closed_again"] == "END_REASON_CLOSED"
    assert door.session_count() == 0
    assert door.in_use("platform", "crm", "telephony") == (0, 0, 0)
    assert_errors_have_details(said)


def assert_errors_have_details(said: dict[str, Any]) -> None:
    invalid, nowhere = info_of(said["invalid"]), info_of(said["nowhere"])
    assert said["invalid"]["code"] == INVALID_ARGUMENT
    assert (invalid.domain, invalid.reason, invalid.metadata["field"]) == ("usher", "INVALID_FIELD", "holder.user")
    assert said["nowhere"]["code"] == NOT_FOUND
    assert nowhere.reason == "SESSION_NOT_FOUND"
