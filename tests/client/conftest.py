"""One real broker for the tests that do not hurt it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.broker_process import RunningBroker, running_broker


@pytest.fixture(scope="session")
def shared_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBroker]:
    """The demo fleet, with keys looked at often: platform 5 + 10, crm 10, telephony 5."""
    settings = {"sessions": {"renew_grace_s": 0.5}, "keys": {"scan_interval_s": 0.1}}
    with running_broker(tmp_path_factory.mktemp("client"), settings=settings) as one:
        yield one


@pytest.fixture
def usher(shared_broker: RunningBroker) -> RunningBroker:
    """The shared broker, which must be empty before and after."""
    assert shared_broker.sessions() == []
    return shared_broker


@pytest.fixture(autouse=True)
def _nothing_left_open(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test that leaves sessions behind says so itself; the next one must not suffer."""
    yield
    if "usher" in request.fixturenames:
        broker: RunningBroker = request.getfixturevalue("shared_broker")
        assert broker.sessions() == [], "the test left sessions open"
