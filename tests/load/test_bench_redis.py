"""Redis as a peer of the bench: what its client says is read right, and every operation that is counted has written."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtests.bench import redis as peer
from loadtests.bench.redis import HOLDERS, RedisAnswer, answer_of, is_here, redis_sample, redis_server
from loadtests.bench.servers import ServerFailed

CSV = (
    '"test","rps","avg_latency_ms","min_latency_ms","p50_latency_ms","p95_latency_ms","p99_latency_ms","max_latency_ms"\n'
    '"EVALSHA x","4875.50","1.0","0.1","18.703","50.0","84.911","90.0"\n'
)
needs_redis = pytest.mark.skipif(not is_here(), reason="Redis is not installed: tools/setup-bench does that")


def test_what_the_client_says_is_read_in_microseconds() -> None:
    assert answer_of(CSV) == RedisAnswer(4875.5, 18703.0, 84911.0)


@pytest.mark.parametrize("text", ["", "WARNING: no config\n", CSV.replace("rps", "speed")])
def test_an_answer_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(ServerFailed):
        answer_of(text)


@needs_redis
def test_every_operation_writes_and_both_kinds_come_about(tmp_path: Path) -> None:
    answers: list[RedisAnswer] = []
    with redis_server(tmp_path / "redis", ()) as redis:
        redis.rate_per_s = 3_000.0
        sample = redis_sample(redis, 128, 1.0, None, answers)
        changes, _ = redis.written()
        inside = int(redis.ask("ZCARD", "seats"))
    assert (sample.requests, changes) == (3_000, 3_000)
    assert len(answers) == 1
    assert 0 < inside < min(3_000, HOLDERS)
    assert (3_000 - inside) % 2 == 0


@needs_redis
def test_operations_that_write_nothing_fail_the_bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer, "SEATS", 0)
    with redis_server(tmp_path / "redis", ()) as redis:
        redis.rate_per_s = 500.0
        with pytest.raises(ServerFailed, match="500 operations, 0 changes"):
            redis_sample(redis, 8, 1.0, None, [])
