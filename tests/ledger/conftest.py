"""Stages for the scenarios: each story is played on the compiled ledger and on the model."""

from __future__ import annotations

import pytest

from tests.ledger.scene import MakeCore, Scene, Stage, compiled_ledger, model_ledger


@pytest.fixture(params=[compiled_ledger, model_ledger], ids=["ledger", "model"])
def stage(request: pytest.FixtureRequest) -> Stage:
    """For scenes with settings of their own."""
    make_core: MakeCore = request.param
    return lambda **settings: Scene(make_core, **settings)


@pytest.fixture
def scene(stage: Stage) -> Scene:
    """With the ledger's own defaults."""
    return stage()
