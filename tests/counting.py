"""Every test that was collected is reported: a suite that leaves some out, by whatever way, has failed."""

from collections import Counter

import pytest


class Counting:
    """Compares what was collected with what was reported; in the process that speaks to the terminal."""

    def __init__(self) -> None:
        self._collected: list[str] = []
        self._reported: set[str] = set()

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self._collected = self._collected or [item.nodeid for item in session.items]

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: list[str]) -> None:
        self._collected = list(ids)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._reported.add(report.nodeid)

    def _lost(self) -> list[str]:
        doubled = [id for id, times in Counter(self._collected).items() if times > 1]
        return doubled + [id for id in self._collected if id not in self._reported]

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if session.exitstatus == pytest.ExitCode.OK and not session.config.option.collectonly and self._lost():
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter, exitstatus: int) -> None:
        if self._collected and exitstatus in {pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED}:
            terminalreporter.line(f"{len(self._collected)} collected, {len(self._reported)} reported")
            for id in self._lost()[:20]:
                terminalreporter.line(f"LOST {id}: it was not run, or has no name of its own")
