"""Whether the gateway can do its work: each reason by its name."""

import time
from typing import TYPE_CHECKING, Any

from gateway.engine import Engine
from gateway.parts import Parts
from gateway.settings import Settings
from gateway.sources.folder import Folder

if TYPE_CHECKING:
    from gateway.broker.publisher import Publisher
    from gateway.sources.backend import Backend

STALLED = 1.0
"""Seconds by which a loop that is not stalled is late at most."""


Checks = dict[str, tuple[bool, str]]
"""By name: whether it is well, and a word on it. No word names a path."""


def checks(engine: Engine) -> Checks:
    late = max(engine.lag, time.monotonic() - engine.beaten - 1)
    return {
        **(_folder(engine.folder, engine.settings) if engine.folder else {}),
        **(_backend(engine.backend) if engine.backend else {}),
        **({"source": (not engine.replica.stale, engine.replica.state)} if engine.replica else {}),
        **(_publisher(engine.publisher) if engine.publisher else {}),
        "parts": _parts(engine.parts),
        "loop": (late < STALLED, f"{max(late, 0):.3f} s late"),
    }


def _parts(parts: Parts) -> tuple[bool, str]:
    down = ", ".join(f"{name} ({kind})" for name, kind in parts.down.items())
    return not (down or parts.failure), f"failed, started again: {down}" if down else parts.failure or "all run"


def _folder(folder: Folder, settings: Settings) -> Checks:
    if folder.watching:
        watcher = "missed changes, or is deaf: the folder is looked through instead" if folder.deaf else "watching"
    else:
        watcher = f"looking every {settings.poll:g} s"
    age = time.monotonic() - folder.reconciled
    return {
        "folder": (folder.readable, "readable" if folder.readable else "cannot be read"),
        "watcher": (not folder.deaf, watcher),
        "reconciliation": (
            age < 3 * settings.reconcile + 1,
            f"{age:.1f} s ago" if folder.scanned.is_set() else "never",
        ),
    }


def _backend(backend: "Backend") -> Checks:
    """Not well where tasks that run are asked for too late. Well while nothing is polled, too: nobody would find out
    that it is well again."""
    error = backend.asking.error if len(backend.pollers) else None
    said = str(error) if error else f"{len(backend.pollers)} tasks polled"
    for known, kind in ((True, "tasks"), (False, "unknown ids")):
        count, seconds = backend.slots.waiting(known=known)
        said += f", {count} {kind} wait to be asked for, the first for {seconds:.1f} s" if count else ""
    if line := backend.pollers.places.line:
        said += f", {len(line)} unknown ids wait in line to be polled"
    return {"backend": (error is None and not backend.late, said)}


def _publisher(publisher: "Publisher") -> Checks:
    """Well, too, while the broker is away: this gateway's own clients miss nothing."""
    return {"broker": (True, publisher.trouble or ("publishing" if publisher.leads else "another gateway publishes"))}


def ready(engine: Engine) -> tuple[bool, dict[str, Any]]:
    """Whether all is well, and the body that says so."""
    found = checks(engine)
    well = all(ok for ok, _ in found.values())
    body = {name: {"ok": ok, "detail": detail} for name, (ok, detail) in found.items()}
    return well, {"ready": well, "checks": body}
