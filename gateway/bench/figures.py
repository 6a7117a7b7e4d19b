"""Figures from many measurements, in little memory, and those of a process."""

import math
import os
import sys
from pathlib import Path

_STEP = 0.02
_LEAST = 0.01  # milliseconds


class Histogram:
    """Latencies in log-spaced buckets, 2 % wide, from 10 µs."""

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}
        self.count = 0
        self.most = 0.0

    def add(self, milliseconds: float) -> None:
        bucket = int(math.log(max(milliseconds, _LEAST) / _LEAST) / _STEP)
        self.counts[bucket] = self.counts.get(bucket, 0) + 1
        self.count += 1
        self.most = max(self.most, milliseconds)

    def quantile(self, share: float) -> float:
        """The latency in milliseconds that this share of the measurements did not exceed; 0 without any."""
        left = share * self.count
        for bucket in sorted(self.counts):
            left -= self.counts[bucket]
            if left <= 0:
                return min(_LEAST * math.exp(_STEP * (bucket + 1)), self.most)
        return self.most


def cpu_seconds(pid: int) -> float | None:
    """Processor time that a process has used; None where the system does not tell."""
    if sys.platform != "linux":
        return None
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_bytes(pid: int) -> int | None:
    """Memory that a process holds; None where the system does not tell."""
    if sys.platform != "linux":
        return None
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return None
