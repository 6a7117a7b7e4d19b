"""Which publishers are heard of: each says through Redis, about once a second, that all it has is written. No I/O."""

from collections.abc import Mapping
from typing import NamedTuple

SILENCE = 3.75
"""Seconds without a pulse after which a publisher is silent: another one has taken over before, as a rule."""


class _Heard(NamedTuple):
    pulse: bytes
    at: float
    beats: bool  # it was seen to change: what is seen first may be old


class Pulses:
    """Compares what is told of each namespace with what was told before, by the reader's own clock."""

    def __init__(self) -> None:
        self._heard: dict[str, _Heard] = {}

    def hear(self, told: Mapping[str, bytes], now: float) -> None:
        """These are the namespaces that there are, and when each was last whole."""
        before = self._heard
        self._heard = {}
        for space, pulse in told.items():
            last = before.get(space)
            self._heard[space] = last if last and last.pulse == pulse else _Heard(pulse, now, beats=last is not None)

    def silent(self, now: float) -> list[str]:
        """The namespaces whose publishers are not heard of any more."""
        return sorted(space for space, heard in self._heard.items() if now - heard.at > SILENCE)

    @property
    def all_beat(self) -> bool:
        return all(heard.beats for heard in self._heard.values())
