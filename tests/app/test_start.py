"""What a start loads before the first grant: nothing that only people and programs beside the data plane look at."""

import subprocess
import sys

LATE = {"grpc", "google", "starlette", "uvicorn", "prometheus_client", "apsw", "rich"}
LOADED = "import sys, broker.cli.serve, broker.app.broker; print(*sorted({name.partition('.')[0] for name in sys.modules}))"


def test_start_loads_no_grpc_no_http_and_no_history_before_seats_are_granted() -> None:
    loaded = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True).stdout.split()
    assert {"broker", "hwkey"} <= set(loaded)
    assert LATE & set(loaded) == set()
