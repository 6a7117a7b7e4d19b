"""The dashboard and the alerts in deploy/: their expressions are parsed, and speak of figures and labels there are."""

import contextlib
import itertools
import json
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from tests.harness import Gateway, until
from tests.redisserver import RedisServer

DEPLOY = Path(__file__).parent.parent / "deploy"
RULES = [rule for group in yaml.safe_load((DEPLOY / "alerts.yml").read_text())["groups"] for rule in group["rules"]]
BOARD = json.loads((DEPLOY / "grafana.json").read_text())
PANELS = BOARD["panels"]

OF_PROMETHEUS = {"job", "instance"}
"""Labels that a scrape adds."""

Figures = dict[str, set[str]]
"""The labels of each figure, by its name as it is stored."""


def figures(text: str) -> Figures:
    """Those of an exposition; families that have no sample yet are named by their type."""
    found: Figures = defaultdict(set)
    for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE):
        for suffix in ("_bucket", "_count", "_sum") if kind == "histogram" else ("",):
            found[name + suffix] |= {"le"} if suffix == "_bucket" else set()
    for name, labels in re.findall(r"^([a-z_]+)\{(.*)\} ", text, re.MULTILINE):
        found[name] |= set(re.findall(r"(\w+)=", labels))
    return found


@pytest.fixture(scope="module")
def there() -> Figures:
    """All figures: of a folder that is watched, one that is not, a backend, a broker, an edge. Each label was used."""
    found: Figures = {"up": set()}
    with contextlib.ExitStack() as stack:
        redis = stack.enter_context(contextlib.closing(RedisServer()))
        watched = stack.enter_context(Gateway("--broker", redis.url))
        looking = stack.enter_context(Gateway("--no-watch", "--max-streams", "1"))
        polling = stack.enter_context(Gateway("--upstream", "http://127.0.0.1:9", folder=False))
        edge = stack.enter_context(Gateway("--broker", redis.url, folder=False))
        watched.write("a")
        watched.get("/api/task?task_id=a")
        polling.get("/api/v1/tasks/a")
        events = stack.enter_context(looking.sse("/api/v1/tasks"))
        next(events)
        looking.get("/api/v1/tasks", Accept="text/event-stream")
        until(lambda: "gateway_broker_tasks " in watched.get("/metrics").text)
        of = {one: figures(one.get("/metrics").text) for one in (watched, looking, polling, edge)}
        for name, labels in itertools.chain.from_iterable(shown.items() for shown in of.values()):
            found[name] = found.get(name, set()) | labels
        assert "gateway_write_to_publish_seconds_bucket" in of[looking]
        assert "gateway_torn_reads_total" not in of[polling]
    return found


def expressions() -> Iterator[tuple[str, str, list[str]]]:
    """Where each expression stands, what it is, and the texts that name labels of its result."""
    for rule in RULES:
        yield rule["alert"], rule["expr"], list(rule["annotations"].values())
    for panel in PANELS:
        for target in panel["targets"]:
            yield panel["title"], target["expr"], [target.get("legendFormat", "")]


def parsed(expression: str) -> Any:
    return promql_parser.parse(expression.replace("$__rate_interval", "1m"))


def selectors(expression: str) -> list[Any]:
    found: list[Any] = []

    def see(node: Any) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            found.append(node)

    promql_parser.walk(parsed(expression), see)
    return found


def check(there: Figures, expression: str, texts: list[str]) -> None:
    """Every figure and every label that is named exists."""
    used = selectors(expression)
    assert used
    labels = set(OF_PROMETHEUS)
    for selector in used:
        assert selector.name in there
        labels |= there[selector.name]
        assert {matcher.name for matcher in selector.matchers.matchers} <= there[selector.name] | OF_PROMETHEUS
    grouped = re.findall(r"by \(([^)]*)\)", expression)
    named = {name.strip() for group in grouped for name in group.split(",")}
    assert named <= labels
    shown = re.findall(r"\{\{ ?(?:\$labels\.)?(\w+) ?\}\}", " ".join(texts))
    assert set(shown) <= (named - {"le"} if grouped else labels)


@pytest.mark.parametrize(("where", "expression", "texts"), list(expressions()))
def test_every_figure_exists(there: Figures, where: str, expression: str, texts: list[str]) -> None:
    assert where
    check(there, expression, texts)


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("rate(gateway_event_total[1m])", ""),
        ('gateway_check{check="folder"}', ""),
        ("sum by (code) (gateway_replies_total)", "{{dialect}}"),
        ("sum by (instance, reason) (gateway_tasks)", ""),
    ],
)
def test_what_does_not_exist_is_found_out(there: Figures, expression: str, text: str) -> None:
    with pytest.raises(AssertionError):
        check(there, expression, [text])


def test_every_figure_of_ours_is_on_the_dashboard(there: Figures) -> None:
    shown = {selector.name for panel in PANELS for target in panel["targets"] for selector in selectors(target["expr"])}
    ours = {name for name in there if name.startswith("gateway_")}
    assert ours - shown == {"gateway_write_to_publish_seconds_count", "gateway_write_to_publish_seconds_sum"}


def test_rules_say_what_is_wrong() -> None:
    assert len({rule["alert"] for rule in RULES}) == len(RULES)
    for rule in RULES:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["annotations"]["summary"]
        assert rule["labels"]["severity"] in {"page", "ticket"}


def test_panels_lie_side_by_side() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in PANELS:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken
        assert at["x"] + at["w"] <= 24
        taken |= cells
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    assert {panel["datasource"]["uid"] for panel in PANELS} == {"${datasource}"}
