"""Task files on disk: what stat tells of them, how they are read, and how a folder differs from what was known."""

import os
import stat
import time
from pathlib import Path
from typing import NamedTuple

from gateway.tasks import is_id

_FLAGS = os.O_RDONLY
for _name in ("O_NOFOLLOW", "O_CLOEXEC", "O_NONBLOCK", "O_BINARY"):  # each where the platform has it
    _FLAGS |= getattr(os, _name, 0)


class Signature(NamedTuple):
    """What stat says of a file's content: the same signature, once settled, means the same content."""

    mtime_ns: int
    size: int
    inode: int
    ctime_ns: int

    @classmethod
    def of(cls, found: os.stat_result) -> "Signature":
        return cls(found.st_mtime_ns, found.st_size, found.st_ino, found.st_ctime_ns)

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
        file = os.open(path, _FLAGS)
    except OSError:
        if os.path.islink(path):  # noqa: PTH114
            return None, b""
        raise
    try:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode):
            return None, b""
        return Signature.of(found), os.read(file, most)
    finally:
        os.close(file)


Difference = tuple[tuple[int, int] | None, list[tuple[str, Signature]], list[str]]


def compare(folder: Path, seen: dict[str, Signature]) -> Difference:
    """How a folder differs from what was seen of it: its identity, changed and new files oldest first, gone ones.

    A folder that is not there has no identity and no files; any other OSError is raised.
    """
    changed: list[tuple[str, Signature]] = []
    identity = None
    try:
        found = folder.stat()
        identity = (found.st_dev, found.st_ino)
        with os.scandir(folder) as entries:
            for entry in entries:
                id = entry.name.removesuffix(".json")
                before = seen.pop(id, None)
                if id == entry.name or not (before or is_id(id)):
                    continue
                signature = _signature(entry)
                if signature and signature != before:
                    changed.append((id, signature))
                elif before and not signature:
                    seen[id] = before  # it was one, and is no task file any more
    except (FileNotFoundError, NotADirectoryError):
        identity = None
    changed.sort(key=lambda row: row[1].mtime_ns)
    return identity, changed, list(seen)


def _signature(entry: os.DirEntry[str]) -> Signature | None:
    """Of a plain file; None for anything else."""
    try:
        found = entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return None
    return Signature.of(found) if stat.S_ISREG(found.st_mode) else None
