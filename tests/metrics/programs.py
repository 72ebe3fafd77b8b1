"""Prometheus and promtool, as the tests run them: from PATH, or from where the set-up links them."""

import shutil
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PROMETHEUS_DIRECTORY = REPOSITORY / "deploy" / "prometheus"
GRAFANA_DIRECTORY = REPOSITORY / "deploy" / "grafana"
RULES_FILE = PROMETHEUS_DIRECTORY / "rules" / "usher.yml"
RULE_TESTS_FILE = PROMETHEUS_DIRECTORY / "tests" / "usher_test.yml"


def program(name: str) -> str:
    """The path of prometheus or promtool. Its absence is a failure, not a skip: what it proves would go unproven."""
    found = shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent))
    assert found, f"{name} is not on PATH: run `make setup`, or install the Debian package prometheus"
    return found


def promtool(*arguments: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    """Runs promtool; what it printed, both streams together, is in `stdout`."""
    command = [program("promtool"), *arguments]
    return subprocess.run(command, input=text, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
