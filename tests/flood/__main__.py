"""Plays every case, or those that are named: `python -m tests.flood [CASE …] [--json FILE] [--markdown FILE]`.

Prints a row as each ends, and at the end all of them as a table in Markdown. Exit status 1 where a bound was broken.
"""

import argparse
import json
import signal
import sys
from pathlib import Path

import pytest

from tests.flood.cases import CASES
from tests.flood.row import Row

LONGEST = 150
"""Seconds after which a case is given up."""

HEAD = (
    "case", "memory before → most → after, MB", "events: p50 / p99, ms", "events", "`/healthz` longest, ms (failed)",
    "answers", "backend", "exit", "broken bounds, notes",
)  # fmt: skip


def cells(row: Row) -> list[str]:
    answers = ", ".join(f"{count} of {status}" for status, count in sorted(row.answers.items()))
    said = [f"**{sentence}**" for sentence in row.broken] + row.notes
    return [
        row.case,
        f"{row.before:.0f} → {row.most:.0f} → {row.after:.0f}",
        f"{row.p50:.0f} / {row.p99:.0f}" if row.written else "",
        f"{row.events} of {row.written}" if row.written else "",
        f"{row.healthz:.0f}" + (f" ({row.failures} of {row.polls})" if row.failures else ""),
        answers,
        "" if row.asked is None else str(row.asked),
        ", ".join(map(str, row.exits)),
        "; ".join(said).replace("|", "\\|"),
    ]


def table(rows: list[Row]) -> str:
    lines = [list(HEAD), ["---"] * len(HEAD), *map(cells, rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def too_long(*_: object) -> None:
    raise TimeoutError(f"it took more than {LONGEST} s")


def main() -> int:
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("case", nargs="*", metavar="CASE", help=", ".join(CASES))
    args.add_argument("--json", type=Path)
    args.add_argument("--markdown", type=Path)
    args.add_argument("--scale", type=float, default=1, help="The share of the full load.")
    given = args.parse_args()
    if unknown := [name for name in given.case if name not in CASES]:
        args.error(f"there is no case {', '.join(unknown)}")
    rows: list[Row] = []
    signal.signal(signal.SIGALRM, too_long)
    for name in given.case or CASES:
        signal.alarm(LONGEST)
        try:
            rows.append(CASES[name].run(scale=given.scale))
        except pytest.skip.Exception as reason:
            print(f"{name}: skipped, {reason}", file=sys.stderr)
            continue
        print(f"{'broken' if rows[-1].broken else 'held  '}  {'  '.join(filter(None, cells(rows[-1])))}", flush=True)
        if given.json:
            given.json.write_text(json.dumps([row.as_dict() for row in rows], indent=1) + "\n")
        if given.markdown:
            given.markdown.write_text(table(rows))
    signal.alarm(0)
    print("\n" + table(rows))
    return int(any(row.broken for row in rows))


if __name__ == "__main__":
    sys.exit(main())
