"""Redis as a peer: a semaphore as it is commonly made with it, every operation of which is on the disk before it is answered.

A sorted set holds who is in. One Lua script, called by EVALSHA, is either side of it: it takes a holder out (ZREM) who is in, and lets one in
(ZADD) who is not, if there is a seat. Holders are drawn at random of few, so after a moment half of the operations are of either kind, and
every one writes: after a window Redis must have counted as many changes as the client had answers, and the log must have grown. There are more
seats than holders, so nobody is denied, as at Usher.

Settings: appendonly with appendfsync always, no snapshots, no rewrite of its log during the measurement (Usher makes its snapshots as ever).
Client: redis-benchmark, compiled, one thread, 128 connections, one command in flight on each. Any thread.
"""

from __future__ import annotations

import csv
import resource
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import which

from loadtests.bench.figures import Sample
from loadtests.bench.processors import process_cpu_ns, running_on
from loadtests.bench.servers import STOP_S, ServerFailed

NAME = "redis_lua_aof_always"
SCRIPT = (
    "if redis.call('ZREM', KEYS[1], ARGV[2]) == 1 then return 0 end "
    "if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[1]) then return -1 end "
    "redis.call('ZADD', KEYS[1], ARGV[3], ARGV[2]) return 1"
)
SEATS = 1_105_000
HOLDERS = 10_000
SCORE = "1700000000"
"""When the holder came in. The same for all: a call of TIME would only cost Redis something."""
RECORD_SIZE_MIN = 40
"""Of its log, for one ZREM of such a holder."""
START_S = 20.0
FIRST_COUNT = 5_000


@dataclass(slots=True)
class Redis:
    """A running server, and how many operations are a window's worth."""

    process: subprocess.Popen[bytes]
    port: int
    script: str
    rate_per_s: float = 0.0

    def ask(self, *words: str) -> str:
        """The answer of redis-cli. Raises ServerFailed."""
        answer = subprocess.run(["redis-cli", "-p", str(self.port), *words], capture_output=True, text=True, check=False)
        if answer.returncode or answer.stdout.startswith("ERR"):
            raise ServerFailed(f"{NAME}: {' '.join(words)}: {answer.stdout}{answer.stderr}")
        return answer.stdout.strip()

    def written(self) -> tuple[int, int]:
        """(changes, bytes of its log) so far."""
        pairs = (line.partition(":") for line in self.ask("INFO", "persistence").splitlines())
        facts = {name: value for name, _, value in pairs}
        return int(facts["rdb_changes_since_last_save"]), int(facts["aof_current_size"])


@dataclass(frozen=True, slots=True)
class RedisAnswer:
    """What redis-benchmark says. Microseconds."""

    requests_per_s: float
    p50_us: float
    p99_us: float


def is_here() -> bool:
    """Whether server and client are installed (tools/setup-bench)."""
    return all(which(name) for name in ("redis-server", "redis-benchmark", "redis-cli"))


@contextmanager
def redis_server(directory: Path, processors: Sequence[int | None]) -> Iterator[Redis]:
    """A server of our own, whose files lie in the directory; ended with the block. Raises ServerFailed."""
    directory.mkdir(parents=True)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    settings = {"port": port, "bind": "127.0.0.1", "dir": directory, "save": "", "appendonly": "yes", "appendfsync": "always"}
    settings |= {"auto-aof-rewrite-percentage": 0, "daemonize": "no"}
    words = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    with (directory / "redis.log").open("wb") as log, running_on(*processors):
        process = subprocess.Popen(["redis-server", *words], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        redis = Redis(process, port, "")
        await_answer(redis)
        redis.script = redis.ask("SCRIPT", "LOAD", SCRIPT)
        yield redis
        if process.poll() is not None:
            raise ServerFailed(f"{NAME} ended with status {process.returncode} while it was measured")
    finally:
        process.terminate()
        process.wait(STOP_S)


def await_answer(redis: Redis) -> None:
    """Until it serves. Raises ServerFailed."""
    end_s = time.monotonic() + START_S
    while True:
        try:
            if redis.ask("PING") == "PONG":
                return
        except ServerFailed:
            if redis.process.poll() is not None or time.monotonic() > end_s:
                raise
        time.sleep(0.05)


def redis_sample(redis: Redis, connections: int, seconds: float, client: int | None, answers: list[RedisAnswer]) -> Sample:
    """A window; latencies go into `answers`, since redis-benchmark tells no buckets. Raises ServerFailed when not every operation has written."""
    if not redis.rate_per_s:
        redis.rate_per_s = run(redis, connections, FIRST_COUNT, client).requests_per_s
    count = round(redis.rate_per_s * seconds)
    before, cpu_ns, client_s = redis.written(), process_cpu_ns(redis.process.pid), children_s()
    answer = run(redis, connections, count, client)
    cpu_ns, client_s = process_cpu_ns(redis.process.pid) - cpu_ns, children_s() - client_s
    changes, size = (now - old for now, old in zip(redis.written(), before, strict=True))
    if not 0 <= changes - count <= connections or size < count * RECORD_SIZE_MIN:
        raise ServerFailed(f"{NAME}: {count} operations, {changes} changes, {size} bytes of log")
    redis.rate_per_s = answer.requests_per_s
    answers.append(answer)
    return Sample(count, count / answer.requests_per_s, cpu_ns / 1e9, client_s, ())


def children_s() -> float:
    """Processor time of processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run(redis: Redis, connections: int, count: int, client: int | None) -> RedisAnswer:
    """redis-benchmark, once."""
    operation = ["EVALSHA", redis.script, "1", "seats", str(SEATS), "holder:__rand_int__", SCORE]
    words = ["-p", str(redis.port), "-c", str(connections), "-n", str(count), "-P", "1", "-r", str(HOLDERS), "--csv"]
    with running_on(client):
        answer = subprocess.run(["redis-benchmark", *words, *operation], capture_output=True, text=True, check=False)
    if answer.returncode:
        raise ServerFailed(f"{NAME}: {answer.stdout}{answer.stderr}")
    return answer_of(answer.stdout)


def answer_of(text: str) -> RedisAnswer:
    """Out of its CSV: a line of heads and one of values, milliseconds. Raises ServerFailed."""
    rows = list(csv.DictReader(text.splitlines()))
    try:
        row = rows[-1]
        return RedisAnswer(float(row["rps"]), float(row["p50_latency_ms"]) * 1e3, float(row["p99_latency_ms"]) * 1e3)
    except (IndexError, KeyError, ValueError) as error:
        raise ServerFailed(f"redis-benchmark said:\n{text}") from error
