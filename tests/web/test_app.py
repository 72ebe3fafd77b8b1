"""Health and metrics on the HTTP port."""

from __future__ import annotations

from broker.web.app import Health
from tests.web.conftest import Site


def test_a_serving_broker_is_healthy(site: Site) -> None:
    reply = site.send("GET", "/healthz")
    assert (reply.code, reply.json) == (200, {"status": "serving"})
    assert reply.headers["cache-control"] == "no-store"


def test_a_broker_that_does_not_serve_is_503_and_says_why(site: Site) -> None:
    site.health[0] = Health(False, "draining", "An admin drains this broker.")
    reply = site.send("GET", "/healthz")
    assert (reply.code, reply.json) == (503, {"status": "draining", "detail": "An admin drains this broker."})


def test_a_probe_may_ask_without_a_body(site: Site) -> None:
    reply = site.send("HEAD", "/healthz")
    assert (reply.code, reply.body) == (200, b"")


def test_metrics_are_served_under_our_own_names_only(site: Site) -> None:
    reply = site.send("GET", "/metrics")
    assert (reply.code, reply.body) == (200, b"usher_sessions 0\n")
    assert site.send("POST", "/metrics").code == 405
    assert site.send("GET", "/metrics", headers={"host": "evil.example"}).code == 421
