"""What the tests of the gRPC servers ask for: a running client port, a running admin port."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.service.running import Served, admin_server, client_server
from tests.verbs.world import StubFleet, World


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    """A client port with five seats of platform."""
    async with client_server(World(seats={"platform": 5})) as running:
        yield running


@pytest.fixture
async def admin_served() -> AsyncIterator[Served]:
    """An admin port with five seats of platform and one emulated key."""
    async with admin_server(World(seats={"platform": 5}, fleet=StubFleet())) as running:
        yield running
