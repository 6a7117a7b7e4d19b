"""Which file a name stands for, in a folder whose file system takes other spellings of it, too.

Windows and macOS find `mixed.json` as `MIXED.json`; macOS takes `é` for one character or for two; Linux does both where
a folder is told to. What is one name there, the file system itself says: the index here only proposes. Of a folder
that is exact nothing is kept.
"""

import os
import time
import unicodedata
from collections.abc import Collection, Iterable
from pathlib import Path

from gateway.tasks import fold, is_id

SETTLES = 50_000_000
"""Nanoseconds within which two changes of a folder may have the same time."""


class Names:
    """The spellings on disk, of the task files that are `known`."""

    def __init__(self, folder: Path, known: Collection[str]) -> None:
        self._folder, self._known = folder, known
        self._prefix = str(folder) + os.sep
        self.forget()

    def forget(self) -> None:
        """It is another folder, or an empty one, which can still be told what to take for one name."""
        self.loose = False
        """Whether other spellings are taken."""
        self._asked: set[str] = set()
        self._alike: dict[str, tuple[str, ...]] = {}  # by what they fold to
        self._listed = 0  # the folder's time when it was last listed

    def learn(self, ids: Iterable[str]) -> None:
        """These are spellings on disk."""
        for id in ids:
            if self.loose:
                key = fold(id)
                self._alike[key] = tuple(dict.fromkeys((*self._alike.get(key, ()), id)))
            elif not self._is_exact(id):
                self._ask(id)

    def drop(self, id: str) -> None:
        """There is no such file any more."""
        if self.loose:
            key = fold(id)
            self._alike[key] = tuple(own for own in self._alike.get(key, ()) if own != id)
            if not self._alike[key]:
                del self._alike[key]

    def others(self, id: str) -> list[str]:
        """Known spellings that may be the same name."""
        return [own for own in self._alike.get(fold(id), ()) if own != id] if self.loose else []

    def spelled(self, id: str) -> str | None:
        """The spelling on disk; the name itself where there is no such file; None where that cannot be told."""
        if id in self._known or self._is_exact(id) or not is_id(id) or not os.path.lexists(self._path(id)):
            return id
        own = next((own for own in self.others(id) if own in self._known and self._is_one(id, own)), None)
        return own or self._find(id)

    def changed(self) -> bool:
        """Whether files may have come, gone, or been renamed since the folder was last listed."""
        return self._time() != self._listed

    def listed(self, at: int) -> None:
        """The folder was listed, and had this time before: all that was there then is known."""
        self._listed = at if at + SETTLES < time.time_ns() else 0

    def _find(self, id: str) -> str | None:
        """The spelling of a file that is there under this name, and that nobody has told of."""
        if not self.loose:
            self._ask(id)
        if not self.loose:
            return id
        if not self.changed():
            return None
        at, key = self._time(), fold(id)
        found = [name[:-5] for name in os.listdir(self._folder) if name.endswith(".json")]  # noqa: PTH208 - it is hot
        alike = [own for own in found if own == id or fold(own) == key]
        self.listed(at)
        return next((own for own in alike if own == id or self._is_one(id, own)), None)

    def _is_exact(self, id: str) -> bool:
        """Whether a name has one spelling, as far as was asked."""
        return not self.loose and "case" in self._asked and ("form" in self._asked or not _forms(id))

    def _ask(self, id: str) -> None:
        """Asks the file system, by a file that is there."""
        twins = [("case", f"{self._prefix}{id}.JSON"), *[("form", self._path(other)) for other in _forms(id)]]
        for kind, twin in twins:
            try:
                own = os.lstat(self._path(id))
            except OSError:  # not there, or not to be seen: another one is asked about
                return
            if own.st_nlink > 1:  # it may well have another name
                return
            self._asked.add(kind)
            self.loose = self.loose or _is_file(twin, own)
        if self.loose:
            self.learn(self._known)

    def _is_one(self, id: str, other: str) -> bool:
        try:
            return _is_file(self._path(id), os.lstat(self._path(other)))
        except OSError:
            return False

    def _path(self, id: str) -> str:
        return f"{self._prefix}{id}.json"

    def _time(self) -> int:
        try:
            return os.stat(self._folder).st_mtime_ns  # noqa: PTH116 - it is hot
        except OSError:
            return 0


def _forms(id: str) -> set[str]:
    """What else a name is in Unicode: composed, decomposed."""
    return set() if id.isascii() else {unicodedata.normalize(form, id) for form in ("NFC", "NFD")} - {id}


def _is_file(path: str, known: os.stat_result) -> bool:
    try:
        return known.st_ino > 0 and os.path.samestat(os.lstat(path), known)
    except OSError:
        return False
