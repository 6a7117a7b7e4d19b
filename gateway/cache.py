"""What can be made again, kept for a while: bounded in bytes, and gone when nobody asks for it any more. No I/O."""

from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Cache(Generic[K, V]):
    """Two generations of at most half of `most` bytes each. What is asked for moves into the newer one; when that is
    full, or at `tidy`, it becomes the older one, and what nobody asked for since is forgotten.
    """

    def __init__(self, most: int) -> None:
        self._half = most // 2
        self._new: dict[K, tuple[V, int]] = {}
        self._old: dict[K, tuple[V, int]] = {}
        self._bytes = 0  # of the newer one

    def get(self, key: K) -> V | None:
        if found := self._new.get(key):
            return found[0]
        if found := self._old.pop(key, None):
            self._keep(key, found)
            return found[0]
        return None

    def put(self, key: K, value: V, size: int) -> None:
        """Keeps a value of about `size` bytes; one that is larger than a generation is not kept."""
        self._old.pop(key, None)
        if before := self._new.pop(key, None):
            self._bytes -= before[1]
        if size <= self._half:
            self._keep(key, (value, size))

    def tidy(self) -> None:
        """Call now and then: what is not asked for between two calls is gone at the third."""
        self._old, self._new, self._bytes = self._new, {}, 0

    def clear(self) -> None:
        self._old, self._new, self._bytes = {}, {}, 0

    def _keep(self, key: K, entry: tuple[V, int]) -> None:
        if self._bytes + entry[1] > self._half:
            self.tidy()
        self._new[key] = entry
        self._bytes += entry[1]
