"""The whole way, for real: a broker with emulated keys, a Prometheus that scrapes it, and every query and rule that is shipped.

This stands in for opening the dashboards in Grafana, which was not to be had: each panel's query is run as Grafana would,
with the variables filled in, and must give numbers.
"""

import os
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from broker import client
from broker.licence import issue_licence, load_vendor
from broker.v1 import admin_pb2, sessions_pb2, sessions_pb2_grpc, types_pb2
from tests.metrics.boards import dashboard_files, panel_queries, read, variable_queries
from tests.metrics.programs import promtool
from tests.metrics.prometheus_server import RATE_INTERVAL, SHOWN_S, RunningPrometheus, running_prometheus
from tests.metrics.promql import EVERYTHING, substituted
from tests.metrics.test_rules import ALERTS, RECORDS
from tests.support.broker_process import CALL_S, RunningBroker, running_broker
from tests.support.waiting import until

VALUES = {**EVERYTHING, "__rate_interval": RATE_INTERVAL, "__range": f"{SHOWN_S}s"}
DAY_S = 86_400
SCRAPED_S = 30.0

# Two platform seats on one key that will be pulled, two more on another; crm beside it is never touched by that.
FLEET = [
    {"name": "alpha", "seats": {"platform": 2}},
    {"name": "bravo", "seats": {"platform": 2, "crm": 5}},
]


@dataclass(slots=True)
class Site:
    """A broker that Prometheus watches, and what opens sessions there."""

    broker: RunningBroker
    prometheus: RunningPrometheus
    sessions: ExitStack

    def open(self, user: str, *products: str) -> client.Session:
        """A session that renews itself until the end of the test."""
        return self.sessions.enter_context(client.open(self.broker.clients, user=user, host="pc", products=list(products)))

    def denied(self, user: str, *products: str) -> str:
        """The reason for which a session is not given."""
        with pytest.raises(client.Denied) as caught:
            self.open(user, *products)
        return caught.value.reason

    def await_value(self, expr: str, value: float, **labels: str) -> None:
        """Waits until Prometheus has seen the sample with exactly these labels at this value."""
        wanted = (frozenset(labels.items()), value)
        until(lambda: wanted in self.prometheus.query(expr).items(), f"{expr} {labels} = {value}", within_s=SCRAPED_S)

    def await_firing(self, name: str) -> dict[str, str]:
        """Waits until the alert fires, once; its labels and annotations."""
        until(lambda: len(self.prometheus.alerts("firing").get(name, ())) == 1, f"{name} fires", within_s=SCRAPED_S)
        (alert,) = self.prometheus.alerts("firing")[name]
        return alert


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with (
        running_broker(tmp_path, emulated_keys=FLEET) as broker,
        running_prometheus(tmp_path / "prometheus", target=broker.http) as prometheus,
        ExitStack() as sessions,
    ):
        yield Site(broker, prometheus, sessions)


def test_every_query_of_every_dashboard_and_every_rule_gives_numbers(site: Site):
    _add_licence_that_will_expire(site.broker)
    for user in ("ann", "bob", "cid", "dan"):
        site.open(user, "platform").renew()
    assert site.denied("eve", "platform") == "no_free_seats"
    site.broker.unplug("alpha")
    site.await_value("usher_seats_deficit{product='platform'}", 2, product="platform", pool="0", emulated="true")
    assert site.denied("eve", "platform") == "deficit"

    _await_numbers_for_every_panel(site.prometheus)
    _check_every_variable(site.prometheus)
    _await_health_of_every_rule(site.prometheus)
    page = site.prometheus.get("targets")["activeTargets"][0]
    assert (page["health"], page["lastError"]) == ("up", "")


def _await_numbers_for_every_panel(prometheus: RunningPrometheus) -> None:
    queries = [query for path in dashboard_files() for query in panel_queries(read(path))]
    assert len(queries) > 40
    missing = {query.place: query for query in queries}

    def is_complete() -> bool:
        now_s = time.time()
        for place, query in list(missing.items()):
            if prometheus.has_data(query, substituted(query.expr, VALUES), now_s):
                del missing[place]
        return not missing

    try:
        until(is_complete, "every query gives numbers", within_s=SCRAPED_S)
    except AssertionError as error:
        raise AssertionError(f"no numbers for {sorted(missing)}") from error


def _check_every_variable(prometheus: RunningPrometheus) -> None:
    for path in dashboard_files():
        offered = {
            name: set(prometheus.get(f"label/{label}/values", **{"match[]": substituted(expr, VALUES)}))
            for name, (expr, label) in variable_queries(read(path)).items()
        }
        assert offered["job"] == {"usher"}
        assert len(offered["instance"]) == 1
        assert offered["product"] == {"platform", "crm"}


def _await_health_of_every_rule(prometheus: RunningPrometheus) -> None:
    def all_rules() -> list[dict[str, object]]:
        return [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]

    until(lambda: {rule["health"] for rule in all_rules()} == {"ok"}, "every rule evaluated", within_s=SCRAPED_S)
    assert {rule["name"] for rule in all_rules()} == ALERTS.keys() | RECORDS.keys()
    for record in RECORDS:
        until(lambda record=record: bool(prometheus.query(record)), f"{record} has values", within_s=SCRAPED_S)


def test_alerts_fire_for_what_is_wrong_only_and_end_when_it_is_well_again(site: Site):
    opened = [site.open(user, "platform") for user in ("ann", "bob", "cid", "dan")]
    exhausted = site.await_firing("SeatsExhausted")
    assert exhausted["product"] == "platform"
    assert "4 in use" in exhausted["description"]
    assert site.prometheus.alerts("firing").keys() == {"SeatsExhausted"}

    site.broker.unplug("alpha")
    missing = site.await_firing("SeatKeyMissing")
    assert _thumbprint(site.broker, "alpha").startswith(missing["thumbprint"])
    assert "EMULATED security key" in missing["description"]
    assert "alpha" in missing["description"]

    site.broker.plug("alpha")
    opened[0].close()
    until(lambda: not site.prometheus.alerts("firing"), "all alerts are over", within_s=SCRAPED_S)

    site.sessions.close()
    site.broker.stop()
    assert "does not answer" in site.await_firing("BrokerDown")["summary"]


def test_prometheus_counts_what_was_done_and_no_more(site: Site):
    # Plain stubs: the client library renews when it sees fit.
    with grpc.insecure_channel(site.broker.clients) as channel:
        sessions = sessions_pb2_grpc.SessionsStub(channel)
        session_id = sessions.Open(_request("crm"), timeout=CALL_S).grant.session_id
        for _ in range(2):
            sessions.Renew(sessions_pb2.RenewRequest(session_id=session_id), timeout=CALL_S)
        site.await_value("usher_renewals_total", 2)
        site.await_value("usher_sessions", 1)
        request_id = os.urandom(16)
        sessions.Close(sessions_pb2.CloseRequest(session_id=session_id, request_id=request_id), timeout=CALL_S)
        assert sessions.Open(_request("nothing-such"), timeout=CALL_S).denial.product == "nothing-such"

    site.await_value("usher_sessions", 0)
    site.await_value("usher_sessions_opened_total", 1)
    site.await_value("usher_sessions_ended_total{reason='closed'}", 1, reason="closed")
    site.await_value("usher_denied_requests_total", 1)
    site.await_value("usher_seats_in_use_peak{product='crm'}", 1, product="crm", pool="1", emulated="true")
    for outcome in ("granted", "denied"):
        labels = {"method": "Sessions/Open", "outcome": outcome}
        site.await_value(f"usher_requests_total{{method='Sessions/Open',outcome='{outcome}'}}", 1, **labels)
        site.await_value(f"usher_request_duration_seconds_count{{method='Sessions/Open',outcome='{outcome}'}}", 1, **labels)


def _request(product: str) -> sessions_pb2.OpenRequest:
    holder = types_pb2.Holder(user="ann", host="pc")
    products = [types_pb2.ProductRequest(product=product)]
    return sessions_pb2.OpenRequest(request_id=os.urandom(16), holder=holder, products=products)


def test_promtool_finds_nothing_to_say_about_the_page_of_a_running_broker(broker: RunningBroker):
    with (
        client.open(broker.clients, user="ann", host="pc", products=["platform", "crm"]),
        urllib.request.urlopen(f"{broker.url}/metrics", timeout=CALL_S) as response,
    ):
        page = response.read().decode()
    assert "usher_sessions 1.0" in page
    done = promtool("check", "metrics", text=page)
    assert (done.returncode, done.stdout) == (0, "")


def _thumbprint(broker: RunningBroker, name: str) -> str:
    answer = broker.admin_stub().ListEmulatedKeys(
        admin_pb2.ListEmulatedKeysRequest(), metadata=broker.admin_metadata, timeout=CALL_S
    )
    return next(one.thumbprint for one in answer.keys if one.name == name)


def _add_licence_that_will_expire(broker: RunningBroker) -> None:
    """The fleet's own licences have no end, so a panel about ends would be rightly empty."""
    document = issue_licence(
        load_vendor(broker.data_directory / "emulated" / "vendor"),
        licence_id="ends-in-a-month",
        product="crm",
        seats=1,
        thumbprint=_thumbprint(broker, "bravo"),
        issued_unix_s=int(time.time()),
        expires_unix_s=int(time.time()) + 30 * DAY_S,
    )
    (broker.data_directory / "licences" / "ends-in-a-month.jwt").write_text(document)
    broker.admin_stub().Reload(admin_pb2.ReloadRequest(), metadata=broker.admin_metadata, timeout=CALL_S)
    broker.await_capacity("crm", 6)
