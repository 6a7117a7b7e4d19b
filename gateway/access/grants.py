"""What somebody may see and do here. No I/O."""

import fnmatch
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

from starlette.types import Scope

from gateway.cache import Cache
from gateway.tasks import spellings

METRICS, UPSTREAM = "metrics", "upstream"
"""Scopes: the figures, and what is passed on to the backend."""

_GLOB = re.compile(r"[*?\[]")


class View:
    """The tasks that may be seen: ids, and globs (`*`, `?`, `[…]`). Equal claims are mostly one and the same view."""

    def __init__(self, patterns: frozenset[str]) -> None:
        globs = [pattern for pattern in patterns if _GLOB.search(pattern)]
        self.ids = frozenset(name for pattern in patterns - set(globs) for name in (pattern, *spellings(pattern)))
        self.beginnings = frozenset(_GLOB.split(pattern, maxsplit=1)[0] for pattern in globs)
        """What stands before the first wildcard of each glob."""
        self._glob = re.compile("|".join(map(fnmatch.translate, globs)) or r"(?!)")

    def sees(self, id: str) -> bool:
        return id in self.ids or any(map(self._glob.match, spellings(id)))


_views: Cache[frozenset[str], View] = Cache(8 << 20)
"""By their claim."""


def view_of(patterns: frozenset[str]) -> View | None:
    """The view of a claim; None for one that lets everything be seen."""
    if "*" in patterns:
        return None
    view = _views.get(patterns)
    if not view:
        view = View(patterns)
        _views.put(patterns, view, 500 + sum([300 + 2 * len(name) for name in (*view.ids, *patterns)]))
    return view


@dataclass(frozen=True, slots=True)
class Grant:
    """What a bearer may do: see `tasks` (ids and globs), within `scopes`, `until` then (unix seconds).

    `token` is the id by which it can be revoked, empty for none.
    """

    subject: str = ""
    tasks: frozenset[str] = frozenset()
    scopes: frozenset[str] = frozenset()
    until: float = math.inf
    token: str = ""

    @property
    def view(self) -> View | None:
        return view_of(self.tasks)

    def sees(self, id: str) -> bool:
        view = self.view
        return view is None or view.sees(id)

    def is_in(self, revoked: frozenset[str]) -> bool:
        """Whether it is revoked, by the id of its token or as `sub:` and its subject."""
        return bool(revoked) and (self.token in revoked or f"sub:{self.subject}" in revoked)


EVERYTHING = Grant(tasks=frozenset({"*"}), scopes=frozenset({METRICS, UPSTREAM}))
"""Where nobody is asked who he is."""

NOTHING = Grant()

_KEY = "gateway.grant"


def grant_of(scope: Scope) -> Grant:
    """What the sender of a request may do."""
    grant: Grant = scope.get(_KEY, EVERYTHING)
    return grant


def set_grant(scope: Scope, grant: Grant) -> None:
    scope[_KEY] = grant


def grant_for(claims: dict[str, object], default_tasks: Iterable[str]) -> Grant:
    """A grant from a token's claims: `sub`, `tasks`, `scope`, `exp`, `jti`. One without `tasks` sees the default."""
    tasks = claims.get("tasks", list(default_tasks))
    patterns = [tasks] if isinstance(tasks, str) else tasks if isinstance(tasks, list) else []
    scope, until = claims.get("scope", ""), claims.get("exp")
    return Grant(
        subject=str(claims.get("sub", "")),
        tasks=frozenset(pattern for pattern in patterns if isinstance(pattern, str)),
        scopes=frozenset(scope.split() if isinstance(scope, str) else ()),
        until=float(until) if isinstance(until, int | float) else math.inf,
        token=str(claims.get("jti", "")),
    )
