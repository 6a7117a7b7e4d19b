"""What comes from a broker or another gateway and makes no sense: it is passed over, counted, and named in the log."""

import logging

log = logging.getLogger("gateway.unreadable")

NAMED, LONGEST_NAME = 100, 120
"""How many are named in the log, each once; characters of what is said of one."""


class UnreadableError(ValueError):
    """The bytes are not what a gateway writes; the text says what is wrong with them."""


class Unreadable:
    """Counts what was passed over. What is read again counts once, as long as it is known by name."""

    def __init__(self) -> None:
        self.count = 0
        self._named: set[str] = set()

    def add(self, name: str, error: UnreadableError) -> None:
        name = name[:LONGEST_NAME]
        if name in self._named:
            return
        self.count += 1
        if len(self._named) < NAMED:
            self._named.add(name)
            log.warning("%s cannot be read: %s", name, str(error)[:LONGEST_NAME])
            if len(self._named) == NAMED:
                log.warning("what else cannot be read is counted, and not named any more")
