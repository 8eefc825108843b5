"""The memory that this process and its children may still take."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterator

_CONTROL_GROUPS = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")
_FILES = (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes"))
"""The files with the limit and the usage of a control group, in version 2 and 1."""
_CACHED = ("inactive_file", "total_inactive_file")
"""The part of the usage that is only cached files, in version 2 and 1."""


def available_memory(control_groups: Path = _CONTROL_GROUPS, membership: Path = _MEMBERSHIP) -> int:
    """Return the bytes that are available on this machine, or in this container or job if that has fewer. Blocks.

    Parameters
    ----------
    control_groups : Path
        Where Linux shows its control groups.
    membership : Path
        The file that says to which of them this process belongs.
    """
    limits = [left for group in _groups(control_groups, membership) for left in _left_in(group)]
    return min([psutil.virtual_memory().available, *limits])


def used_memory(pid: int) -> int:
    """Return the bytes of memory that a process holds; 0 if it has ended. Blocks."""
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


def _groups(control_groups: Path, membership: Path) -> Iterator[Path]:
    """Yield the directories of the control groups that may limit the memory of this process, of versions 2 and 1."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers or "memory" in controllers.split(","):
            top = control_groups / "memory" if controllers else control_groups
            group = top / path.lstrip("/")
            yield from (directory for directory in (group, *group.parents) if directory.is_relative_to(top))


def _left_in(group: Path) -> list[int]:
    """Return the bytes that a control group may still take; nothing where it has no limit."""
    found: list[int] = []
    for limit, usage in _FILES:
        with contextlib.suppress(OSError, ValueError):  # there is no such file, or it says "max"
            most = int((group / limit).read_text())
            numbers = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
            used = int((group / usage).read_text()) - max(int(numbers.get(name, 0)) for name in _CACHED)
            found.append(max(0, most - used))
    return found
