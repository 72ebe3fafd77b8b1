"""What every suite may ask for: a broker process of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.broker_process import RunningBroker, running_broker


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[RunningBroker]:
    """A broker with the demo fleet, all keys proven: platform 5 + 10, crm 10, telephony 5."""
    with running_broker(tmp_path) as one:
        yield one
