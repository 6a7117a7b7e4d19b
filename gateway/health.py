"""Whether the gateway can do its work: each reason by its name."""

import time
from typing import Any

from gateway.engine import Engine

STALLED = 1.0
"""Seconds by which a loop that is not stalled is late at most."""


def checks(engine: Engine) -> dict[str, tuple[bool, str]]:
    """By name: whether it is well, and a word on it. No word names a path."""
    folder, settings = engine.folder, engine.settings
    if folder.watching:
        watcher = "missed changes, or is deaf: the folder is looked through instead" if folder.deaf else "watching"
    else:
        watcher = f"looking every {settings.poll:g} s"
    age = time.monotonic() - folder.reconciled
    compared = f"{age:.1f} s ago" if folder.scanned.is_set() else "never"
    late = max(engine.lag, time.monotonic() - engine.beaten - 1)
    return {
        "folder": (folder.readable, "readable" if folder.readable else "cannot be read"),
        "watcher": (not folder.deaf, watcher),
        "reconciliation": (age < 3 * settings.reconcile + 1, compared),
        "loop": (late < STALLED, f"{max(late, 0):.3f} s late"),
    }


def ready(engine: Engine) -> tuple[bool, dict[str, Any]]:
    """Whether all is well, and the body that says so."""
    found = checks(engine)
    well = all(ok for ok, _ in found.values())
    body = {name: {"ok": ok, "detail": detail} for name, (ok, detail) in found.items()}
    return well, {"ready": well, "checks": body}
