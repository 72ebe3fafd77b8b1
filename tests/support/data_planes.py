"""The two servers of the client port, for tests that must hold on both."""

import importlib.util

import pytest

IS_NATIVE_BUILT = importlib.util.find_spec("broker._listener") is not None
NEEDS_NATIVE = pytest.mark.skipif(
    not IS_NATIVE_BUILT, reason="broker._listener is not built: libnghttp2-dev or libssl-dev was missing (see tools/setup)"
)

DATA_PLANES = (pytest.param("native", marks=NEEDS_NATIVE), "grpcio")
