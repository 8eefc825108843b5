"""The memory that this process and its children may still take."""

from __future__ import annotations

from pathlib import Path

import psutil

_CONTROL_GROUPS = Path("/sys/fs/cgroup")
_FILES = (
    ("memory.max", "memory.current", "memory.stat"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"),
)
"""The files of control groups, version 2 and 1: the limit, the usage, and what the usage consists of."""
_CACHED = ("inactive_file", "total_inactive_file")
"""The part of the usage that is only cached files, in version 2 and 1."""


def available_memory(control_groups: Path = _CONTROL_GROUPS) -> int:
    """Return the bytes that are available on this machine, or in this container if that has fewer. Blocks."""
    limits = [left for names in _FILES for left in _left_in(*(control_groups / name for name in names))]
    return min([psutil.virtual_memory().available, *limits])


def used_memory(pid: int) -> int:
    """Return the bytes of memory that a process holds; 0 if it has ended. Blocks."""
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


def _left_in(limit: Path, usage: Path, statistics: Path) -> list[int]:
    """Return the bytes that a container may still take; nothing where it has no limit."""
    try:
        numbers = dict(line.split() for line in statistics.read_text().splitlines())
        used = int(usage.read_text()) - max(int(numbers.get(name, 0)) for name in _CACHED)
        return [max(0, int(limit.read_text()) - used)]
    except (OSError, ValueError):  # there is no such file, or it says "max"
        return []
