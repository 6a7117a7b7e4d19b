"""Task files on disk: what stat tells of them, how they are read, and how a folder differs from what was known."""

import os
import stat
import sys
import time
from pathlib import Path
from typing import NamedTuple

from gateway.sources.sharing import open_to_read, read_open
from gateway.tasks import is_id


class Signature(NamedTuple):
    """What stat says of a file's content: the same signature, once settled, means the same content.

    On Windows a listing knows no inode (0), and `st_ctime` is a time of creation or of change, by who is asked.
    """

    mtime_ns: int
    size: int
    inode: int
    ctime_ns: int

    @classmethod
    def of(cls, found: os.stat_result) -> "Signature":
        changed = 0 if sys.platform == "win32" else found.st_ctime_ns
        return cls(found.st_mtime_ns, found.st_size, found.st_ino, changed)

    def same(self, other: "Signature | None") -> bool:
        """Whether two looks may have seen the same content, as far as both can tell."""
        if other is None or not (self.inode and other.inode):
            return other is not None and self[:2] == other[:2]
        return self == other

    def settled(self) -> bool:
        """Whether a write from now on would show. Times are coarse: kernels stamp by the tick, FAT by 2 s."""
        grain = 2_100_000_000 if self.mtime_ns % 1_000_000 == 0 else 50_000_000
        return self.mtime_ns + grain < time.time_ns()


def read(path: str, most: int) -> tuple[Signature | None, bytes]:
    """A file's signature from before it was read, and at most `most` bytes of it. No signature: not a plain file.

    Raises OSError as `open` does; a link at the end of the path is not followed where the platform can refuse to.
    """
    if not hasattr(os, "O_NOFOLLOW") and os.path.islink(path):  # noqa: PTH114 - Windows, and not the hot path there
        return None, b""
    try:
        file = open_to_read(path)
    except OSError:
        if os.path.islink(path) or os.path.isdir(path):  # noqa: PTH112, PTH114 - Windows opens no folder
            return None, b""
        raise
    try:
        found, body = read_open(file, most)
    finally:
        os.close(file)
    return (Signature.of(found), body) if stat.S_ISREG(found.st_mode) else (None, b"")


if sys.platform == "win32":
    from gateway.sources.sharing import peek

    def stat_of(path: str) -> Signature:
        """The signature of what is at a path. Raises OSError as `lstat` does."""
        return Signature(*peek(path), 0, 0)

else:

    def stat_of(path: str) -> Signature:
        """The signature of what is at a path. Raises OSError as `lstat` does."""
        return Signature.of(os.lstat(path))


Rows = list[tuple[str, Signature]]
Difference = tuple[tuple[int, int] | None, Rows, list[str], int]


def compare(folder: Path, seen: dict[str, Signature]) -> Difference:
    """How a folder differs from what was seen of it: its identity, changed and new files oldest first, gone ones; and
    the time that it had itself before (ns).

    A folder that is not there has no identity and no files; any other OSError is raised.
    """
    changed: Rows = []
    identity, at = None, 0
    try:
        found = folder.stat()
        identity, at = (found.st_dev, found.st_ino), found.st_mtime_ns
        with os.scandir(folder) as entries:
            for entry in entries:
                id = entry.name.removesuffix(".json")
                before = seen.pop(id, None)
                if id == entry.name or not (before or is_id(id)):
                    continue
                signature = _signature(entry, before)
                if signature and not signature.same(before):
                    changed.append((id, signature))
                elif before and not signature:
                    seen[id] = before  # it was one, and is no task file any more
    except (FileNotFoundError, NotADirectoryError):
        identity = None
    changed.sort(key=lambda row: row[1].mtime_ns)
    return identity, changed, list(seen), at


def _signature(entry: os.DirEntry[str], before: Signature | None) -> Signature | None:
    """Of a plain file; None for anything else."""
    try:
        found = entry.stat(follow_symlinks=False)
        if before and not found.st_ino and not Signature.of(found).same(before):
            found = os.lstat(entry.path)  # the folder's own record of a file that is open may be an old one
    except FileNotFoundError:
        return None
    return Signature.of(found) if stat.S_ISREG(found.st_mode) else None
