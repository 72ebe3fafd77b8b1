"""The history of a real broker: killed, started again, stopped; and what is made anew from its log says the same."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from broker.v1 import admin_pb2, sessions_pb2, sessions_pb2_grpc, types_pb2
from tests.history.recount import tables_of
from tests.support.broker_process import RunningBroker, running_broker
from tests.support.usher_command import usher
from tests.support.waiting import until


def open_session(broker: RunningBroker, user: str) -> str:
    """Its public id does not matter: the secret one, to close it with."""
    with grpc.insecure_channel(broker.clients) as channel:
        holder = types_pb2.Holder(user=user, host="pc", app="test")
        products = [types_pb2.ProductRequest(product="platform")]
        request = sessions_pb2.OpenRequest(request_id=os.urandom(16), holder=holder, products=products)
        answer = sessions_pb2_grpc.SessionsStub(channel).Open(request, timeout=20)
    assert answer.HasField("grant")
    return str(answer.grant.session_id)


def users(broker: RunningBroker) -> dict[str, Any]:
    """End reasons by user, as the history has them."""
    found = usher("history", "sessions", "--json", "--data-dir", broker.data_directory)
    return {one["user"]: one["end_reason"] for one in found.json["sessions"]} if found.code == 0 else {}


def test_the_history_goes_on_over_a_kill_and_is_the_same_made_anew(tmp_path: Path) -> None:
    with running_broker(tmp_path) as broker:
        broker.await_proven()
        open_session(broker, "ann")
        until(lambda: "ann" in users(broker), "ann is in the history")
        broker.kill()
    with running_broker(tmp_path) as broker:
        broker.await_proven()
        open_session(broker, "bob")
        until(lambda: "bob" in users(broker), "bob is in the history")
        assert users(broker) == {"ann": None, "bob": None}
        report_is_what_the_history_says(broker)
        assert broker.stop() == 0
    status = usher("history", "status", "--json", "--data-dir", broker.data_directory).json
    assert [run["clean"] for run in status["runs"]] == [True, False]
    assert (status["behind_bytes"], status["gaps"], status["written_now"]) == (0, [], False)
    database = broker.data_directory / "history" / "history.db"
    before = tables_of(database)
    assert usher("history", "rebuild", "--data-dir", broker.data_directory).code == 0
    assert tables_of(database) == before


def report_is_what_the_history_says(broker: RunningBroker) -> None:
    """GetUsageReport, and how it refuses."""
    stub, metadata = broker.admin_stub(), broker.admin_metadata
    report = stub.GetUsageReport(admin_pb2.GetUsageReportRequest(), metadata=metadata, timeout=20)
    assert [(one.product, one.in_use_peak, one.denial_count) for one in report.products] == [("platform", 2, 0)]
    assert 0 <= report.products[0].in_use_mean <= 2
    backwards = admin_pb2.GetUsageReportRequest(from_time=Timestamp(seconds=100), until_time=Timestamp(seconds=99))
    with pytest.raises(grpc.RpcError) as refused:
        stub.GetUsageReport(backwards, metadata=metadata, timeout=20)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_without_a_history_there_is_no_usage_report(tmp_path: Path) -> None:
    with running_broker(tmp_path, settings={"journal": {"history_days": 0}}) as broker:
        with pytest.raises(grpc.RpcError) as refused:
            broker.admin_stub().GetUsageReport(admin_pb2.GetUsageReportRequest(), metadata=broker.admin_metadata, timeout=20)
        assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
        assert not (broker.data_directory / "history").exists()
