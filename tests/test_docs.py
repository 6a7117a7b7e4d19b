"""The documents beside the code: links that lead somewhere, settings and metrics that exist."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.description.settings import page
from gateway.settings import Settings
from tests.harness import Gateway, until
from tests.redisserver import RedisServer

PAGES = [*Path().glob("*.md"), *Path("docs").glob("*.md"), *Path("examples").rglob("*.md")]


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as they are made where it is shown."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", PAGES, ids=str)
def test_links_lead_somewhere(path: Path) -> None:
    text = re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = link.partition("#")
        target = (path.parent / file) if file else path
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_the_page_of_settings_is_that_of_the_code() -> None:
    """`make docs` writes it."""
    assert Path("docs/settings.md").read_text() == page()


def test_every_setting_says_what_it_is_for() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_every_option_that_a_page_names_exists() -> None:
    commands = ["serve", "demo", "watch", "token", "bench", "check"]
    known = {"--help", "--new"}
    for command in commands:
        done = subprocess.run(
            [sys.executable, "-m", "gateway", command, "--help"],
            capture_output=True,
            text=True,
            check=True,
            env={"COLUMNS": "300", "TERM": "dumb"},
        )
        known |= set(re.findall(r"--[a-z][a-z-]+", done.stdout))
    for path in [Path("README.md"), Path("SECURITY.md"), *Path("docs").glob("*.md")]:
        for line in path.read_text().splitlines():
            if re.search(r"gateway (serve|demo|watch|token|bench|check)\b", line):
                named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", line.partition("#")[0]))
                assert named <= known, (path, named - known)


def test_every_metric_that_is_watched_exists(start: Callable[..., Gateway]) -> None:
    watched = Path("deploy/alerts.yml").read_text() + Path("deploy/grafana.json").read_text()
    named = set(re.findall(r"\b(?:gateway|process)_[a-z_]+", watched))
    redis = RedisServer()
    try:
        near = start("--broker", redis.url, "--upstream", "http://127.0.0.1:9", "--upstream-interval", "0.05")
        edge = start("--broker", redis.url, folder=False)
        near.write("a", progress=1)
        near.get("/api/task?task_id=nobody")  # polled at a backend that is not there
        with near.sse("/api/v1/tasks"):
            until(lambda: "gateway_broker_tasks" in near.get("/metrics").text)
            shown = near.get("/metrics").text + edge.get("/metrics").text
    finally:
        redis.close()
    exist = set(re.findall(r"^(?:# TYPE )?([a-z_]+)", shown, re.MULTILINE))
    assert {name for name in named if name not in exist and name.removesuffix("_total") not in exist} == set()


def test_dashboard_and_rules_are_well_formed() -> None:
    board = json.loads(Path("deploy/grafana.json").read_text())
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"]) > 10
    assert all(target["expr"] for panel in board["panels"] for target in panel["targets"])
    rules = Path("deploy/alerts.yml").read_text()
    assert rules.count("- alert:") == rules.count("summary:") == rules.count("expr:") == rules.count("severity:") > 8


def test_what_the_image_is_made_of() -> None:
    """No engine builds it here: its files are there, it runs as nobody, and what it starts exists."""
    lines = Path("deploy/Dockerfile").read_text()
    chosen = Path("deploy/Dockerfile.dockerignore").read_text().splitlines()
    taken = [line.removeprefix("!") for line in chosen if line.startswith("!")]
    assert {"gateway", "static", "pyproject.toml"} <= set(taken)
    assert lines.count("FROM python:") == 2
    assert "USER gateway" in lines
    for name in re.findall(r"GATEWAY_([A-Z_]+)=", lines):
        assert name.lower() in Settings.model_fields
    assert 'ENTRYPOINT ["/app/bin/gateway"]' in lines
