"""A little of what `make flood` does for long: memory, answers, and that others are served; no times are judged."""

import pytest

from tests.flood.cases import CASES

BRIEF = {
    "quiet": 0.4,
    "pipelined-heads": 0.2,
    "pipelined-heads-read-slowly": 0.2,
    "empty-pings": 0.3,
    "empty-fragments": 0.2,
    "empty-fragments-before-a-token": 0.2,
    "messages-to-a-single-task": 0.2,
    "messages-to-a-single-task-read": 0.2,
    "subscriptions-of-one-id-999-times": 0.2,
    "large-pages-over-http2": 0.2,
    "unparsable-requests": 1,
    "dripping-body-after-a-refusal": 1,
    "ready-answers": 0.25,
    "bursts-over-all-streams": 1,
    "burst-of-one-ipv6-network": 1,
    "images-of-a-foreign-page": 0.2,
    "bad-tokens-behind-a-unix-socket": 1,
    "redis-entry-without-payload": 1,
    "redis-value-without-place": 1,
    "streams-ahead-of-an-edge": 0.6,
    "publisher-killed": 1,
    "log-without-reader": 1,
    "log-on-a-full-disk": 1,
    "log-descriptors-closed": 1,
    "long-log-lines": 1,
    "no-more-threads": 1,
    "second-signal": 1,
}
"""Which cases, and which share of their load."""


@pytest.mark.timeout(200)
@pytest.mark.parametrize("name", BRIEF)
def test_others_are_served_within_memory(name: str) -> None:
    row = CASES[name].run(scale=BRIEF[name], brief=True)
    assert not row.broken, row
