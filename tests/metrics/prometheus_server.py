"""A real Prometheus that scrapes one target with the shipped configuration and rules, only faster.

    with running_prometheus(tmp_path, target="127.0.0.1:7602") as prometheus:
        prometheus.query("up")

The example configuration and the rules are taken as they are shipped; what is changed is the target, the intervals (a second
instead of fifteen) and how long alerts wait, so that a test need not. Its log goes to `prometheus.log`.
"""

import json
import re
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.metrics.boards import Query
from tests.metrics.programs import PROMETHEUS_DIRECTORY, RULES_FILE, program
from tests.support.waiting import until

START_S = 30.0
STOP_S = 20.0
CALL_S = 10.0
SCRAPE_INTERVAL = "1s"
ALERT_WAIT = "2s"
RATE_INTERVAL = "5s"
SHOWN_S = 60

_LISTENING = re.compile(r'msg="Listening on" address=(127\.0\.0\.1:\d+)')


@dataclass(slots=True)
class RunningPrometheus:
    """One Prometheus process. `address` is "127.0.0.1:PORT"."""

    process: subprocess.Popen[bytes]
    address: str
    log_path: Path

    def get(self, path: str, **parameters: str) -> Any:
        """`data` of one call of the HTTP API; AssertionError with what it said when it is no success."""
        url = f"http://{self.address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=CALL_S) as response:
                answer = json.load(response)
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{path} {parameters}: {error.read().decode(errors='replace')}") from error
        assert answer["status"] == "success", answer
        assert not answer.get("warnings"), answer
        return answer["data"]

    def is_ready(self) -> bool:
        """Whether it has read its storage and answers queries."""
        try:
            with urllib.request.urlopen(f"http://{self.address}/-/ready", timeout=CALL_S) as response:
                return bool(response.status == 200)
        except urllib.error.HTTPError:
            return False

    def query(self, expr: str) -> dict[frozenset[tuple[str, str]], float]:
        """Values of now, by labels without those that Prometheus adds."""
        return {
            frozenset((name, word) for name, word in one["metric"].items() if name not in ("job", "instance", "__name__")): float(
                one["value"][1]
            )
            for one in self.get("query", query=expr)["result"]
        }

    def has_data(self, query: Query, expr: str, now_s: float) -> bool:
        """Whether the query, run as Grafana would, gives at least one number."""
        if query.is_instant:
            found = self.get("query", query=expr)["result"]
            return any(one["value"][1] != "NaN" for one in found)
        found = self.get("query_range", query=expr, start=str(now_s - SHOWN_S), end=str(now_s), step="1")["result"]
        return any(value != "NaN" for one in found for _, value in one["values"])

    def alerts(self, state: str) -> dict[str, list[dict[str, str]]]:
        """Labels and annotations together of each alert in that state ("pending", "firing"), by the alert's name."""
        found: dict[str, list[dict[str, str]]] = {}
        for alert in self.get("alerts")["alerts"]:
            if alert["state"] == state:
                found.setdefault(alert["labels"]["alertname"], []).append({**alert["labels"], **alert["annotations"]})
        return found

    def stop(self) -> None:
        """SIGTERM and wait."""
        self.process.terminate()
        self.process.wait(STOP_S)


@contextmanager
def running_prometheus(directory: Path, *, target: str) -> Iterator[RunningPrometheus]:
    """Starts Prometheus in a directory of its own and stops it at the end; it has scraped the target once."""
    directory.mkdir()
    log_path = directory / "prometheus.log"
    command = [
        program("prometheus"),
        f"--config.file={_configuration(directory, target)}",
        f"--storage.tsdb.path={directory / 'data'}",
        "--web.listen-address=127.0.0.1:0",
    ]
    with log_path.open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        server = RunningPrometheus(process, _address(process, log_path), log_path)
        until(server.is_ready, "Prometheus ready", within_s=START_S)
        until(lambda: server.query("up") == {frozenset(): 1.0}, "a first scrape", within_s=START_S)
        yield server
        server.stop()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _address(process: subprocess.Popen[bytes], log_path: Path) -> str:
    def is_listening() -> bool:
        assert process.poll() is None, f"Prometheus did not start:\n{log_path.read_text()}"
        return bool(_LISTENING.search(log_path.read_text()))

    until(is_listening, "Prometheus listening", within_s=START_S)
    found = _LISTENING.search(log_path.read_text())
    assert found
    return found[1]


def _configuration(directory: Path, target: str) -> Path:
    """The shipped example and rules, for this target and in a hurry."""
    rules = directory / "usher.yml"
    rules.write_text(re.sub(r"(?m)^( +)for: \d+m$", rf"\1for: {ALERT_WAIT}", RULES_FILE.read_text()))
    settings = yaml.safe_load((PROMETHEUS_DIRECTORY / "prometheus.yml").read_text())
    settings["global"] = {"scrape_interval": SCRAPE_INTERVAL, "evaluation_interval": SCRAPE_INTERVAL}
    settings["rule_files"] = [str(rules)]
    settings["scrape_configs"][0]["static_configs"] = [{"targets": [target]}]
    path = directory / "prometheus.yml"
    path.write_text(yaml.safe_dump(settings))
    return path
