"""What the broker asks of its process: never more connections than there are files for."""

import logging
import resource
from dataclasses import replace

import pytest

from broker.app import broker, process_rules
from broker.app.config import ClientsSection, Config


@pytest.mark.parametrize(
    ("limit", "wanted", "possible"),
    [(100_000, 20_000, 20_000), (20_256, 20_000, 20_000), (20_000, 20_000, 19_744), (1_024, 20_000, 768), (10, 5, 1)],
)
def test_files_are_left_for_the_rest_of_the_broker(
    monkeypatch: pytest.MonkeyPatch, limit: int, wanted: int, possible: int
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))
    assert process_rules.connections_possible(wanted) == possible


def test_no_limit_of_files_is_no_limit_of_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert process_rules.connections_possible(1_000_000) == 1_000_000


@pytest.mark.parametrize(("limit", "level"), [(1_024, logging.WARNING), (20_000, logging.INFO), (30_000, None)])
def test_fewer_connections_than_configured_are_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, limit: int, level: int | None
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))
    caplog.set_level(logging.INFO)
    config = replace(Config(), clients=ClientsSection(connections_max=20_000))
    within = broker._within_descriptors(config)
    assert within.clients.connections_max == min(20_000, limit - process_rules.DESCRIPTORS_BESIDE)
    assert [record.levelno for record in caplog.records] == ([] if level is None else [level])
