"""`gateway bench`: its figures add up. How good they are is for people to judge."""

import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.bench.figures import Histogram
from tests.redisserver import RedisServer


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "gateway", "bench", "--seconds", "1", "--subscribers", "20", *arguments]
    return subprocess.run(argv, capture_output=True, text=True, timeout=50, check=False)


@pytest.mark.parametrize("transport", ["sse", "ndjson", "ws"])
@pytest.mark.parametrize("own", [[], ["--own"]])
def test_every_write_is_delivered_to_every_subscriber(transport: str, own: list[str]) -> None:
    done = bench("--json", "--transport", transport, "--rate", "20", *own)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["streaming"] == 20
    assert figures["delivered"] == pytest.approx(1, abs=0.1)  # a busy machine may see two writes as one
    assert 0 < figures["p50_ms"] <= figures["p99_ms"] <= figures["max_ms"]
    assert figures["writes_per_s"] > 0


def test_people_get_a_table() -> None:
    done = bench()
    assert done.returncode == 0, done.stderr
    assert "p99 ms" in done.stdout


@given(st.lists(st.floats(0.02, 60_000), min_size=1, max_size=200))
def test_a_quantile_is_right_within_its_bucket(values: list[float]) -> None:
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    for share in (0.5, 0.99, 1.0):
        exact = sorted(values)[min(len(values) - 1, max(0, -(-int(share * len(values) * 1000) // 1000) - 1))]
        assert histogram.quantile(share) >= exact * 0.97
    assert histogram.quantile(1.0) <= max(values) * 1.000001


def test_at_an_edge_behind_a_broker() -> None:
    server = RedisServer()
    try:
        figures = json.loads(
            bench("--subscribers", "20", "--rate", "100", "--seconds", "2", "--broker", server.url, "--json").stdout
        )
        assert figures["delivered"] >= 0.9
        assert figures["broker_bytes_per_task"] > 100
        assert figures["publisher_cpu_percent"] > 0
        assert server.client.keys("*") == []  # nothing is left behind
    finally:
        server.close()
    ended = bench("--broker", server.url)
    assert ended.returncode == 1
    assert "--broker: " in ended.stderr
