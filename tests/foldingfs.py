"""A file system as macOS has: it keeps names as they are given, and finds them in any case and either Unicode form.

    python -m tests.foldingfs WHERE_FILES_ARE MOUNT_POINT [ro]

By FUSE, so that the gateway and the kernel meet a real one. It ends when it is unmounted.
"""

import errno
import os
import sys
import time
import unicodedata
from typing import Any

from mfusepy import FUSE, FuseOSError, Operations


def folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())


class Folding(Operations):  # type: ignore[misc]
    use_ns = True

    def __init__(self, root: str) -> None:
        self._root = root

    def _real(self, path: str, *, new: bool = False) -> str:
        """Where a file is kept; for a new one as it is spelled."""
        found = self._root
        *folders, name = path.strip("/").split("/")
        for part in folders:
            found = self._entry(found, part) or self._fail()
        return (self._entry(found, name) or (f"{found}/{name}" if new else self._fail())) if name else found

    def _entry(self, folder: str, name: str) -> str | None:
        key = folded(name)
        return next((f"{folder}/{own}" for own in os.listdir(folder) if folded(own) == key), None)

    def _fail(self) -> str:
        raise FuseOSError(errno.ENOENT)

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        found = os.lstat(self._real(path))
        names = ("mode", "ino", "nlink", "uid", "gid", "size")
        times = {f"st_{name}": getattr(found, f"st_{name}_ns") for name in ("atime", "mtime", "ctime")}
        return {**{f"st_{name}": getattr(found, f"st_{name}") for name in names}, **times}

    def readdir(self, path: str, fh: int) -> list[tuple[str, dict[str, int], int]]:
        found = [(entry.name, os.lstat(entry)) for entry in os.scandir(self._real(path))]
        return [(name, {"st_mode": stat.st_mode, "st_ino": stat.st_ino}, 0) for name, stat in found]

    def open(self, path: str, flags: int) -> int:
        return os.open(self._real(path), flags)

    def create(self, path: str, mode: int, fi: Any = None) -> int:
        return os.open(self._real(path, new=True), os.O_RDWR | os.O_CREAT | os.O_TRUNC, mode)

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        return os.pread(fh, size, offset)

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        return os.pwrite(fh, data, offset)

    def truncate(self, path: str, length: int, fh: int | None = None) -> None:
        os.truncate(self._real(path) if fh is None else fh, length)

    def release(self, path: str, fh: int) -> None:
        os.close(fh)

    def unlink(self, path: str) -> None:
        os.unlink(self._real(path))

    def rename(self, old: str, new: str) -> None:
        source = self._real(old)
        folder, _, name = new.strip("/").rpartition("/")
        if (target := self._entry(self._real(folder), name)) and target != source:
            os.unlink(target)
        os.rename(source, f"{self._real(folder)}/{name}")

    def mkdir(self, path: str, mode: int) -> None:
        os.mkdir(self._real(path, new=True), mode)

    def rmdir(self, path: str) -> None:
        os.rmdir(self._real(path))

    def chmod(self, path: str, mode: int) -> None:
        os.chmod(self._real(path), mode)

    def utimens(self, path: str, times: tuple[int, int] | None = None) -> None:
        os.utime(self._real(path), ns=times or (time.time_ns(),) * 2)


if __name__ == "__main__":
    kept, mounted, *options = sys.argv[1:]
    uncached = {"attr_timeout": 0, "entry_timeout": 0, "negative_timeout": 0}  # the kernel knows names by their bytes
    FUSE(
        Folding(kept),
        mounted,
        foreground=True,
        nothreads=True,
        use_ino=True,
        **uncached,
        **dict.fromkeys(options, True),
    )
