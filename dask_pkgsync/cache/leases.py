"""Leases: files that record which living process uses a layer or blob, also for other hosts.

This module is imported where a command must start in milliseconds, so it imports next to nothing at first.
"""

from __future__ import annotations

import os
from time import time

from dask_pkgsync.cache.host import this_host

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path


_leases: dict[str, int] = {}
"""The leases of this process, each with its open file, whose lock shows other hosts that this process lives."""


def is_held(lease: Path, max_age: float) -> bool:
    """Whether the process that a lease names is alive, as far as this host can tell (see `Cache.is_leased`)."""
    import json

    import psutil

    try:
        holder = json.loads(lease.read_text())
        if holder["host"] != this_host():
            return lease.stat().st_mtime > time() - max_age or _is_locked(lease)
        return bool(psutil.Process(holder["pid"]).create_time() == holder["created"])
    except (OSError, ValueError, KeyError, psutil.Error):  # the lease is unreadable, or its process is gone
        return False


def take_lease(leases: str, building: str, digest: str) -> None:
    """Record that this process uses a layer or blob, so that no process removes it.

    Parameters
    ----------
    leases, building : str
        These directories of the cache.
    digest : str
        Name of the layer or blob.
    """
    directory, host, pid = f"{leases}/{digest}", this_host(), os.getpid()
    os.makedirs(directory, exist_ok=True)
    path, aside = f"{directory}/{host}-{pid}.json", f"{building}/lease-{pid}-{host}-{digest[:8]}"
    with open(aside, "w", encoding="utf-8") as file:  # a half-written lease would be that of a dead process
        file.write(f'{{"host": "{host}", "pid": {pid}, "created": {_created()!r}}}')
    os.replace(aside, path)
    _lock(path)


def end_lease(path: Path) -> None:
    """Record that this process no longer uses a layer or blob."""
    path.unlink(missing_ok=True)
    _unlock(str(path))


def keep_leases_when_executing() -> None:
    """Let the program that this process executes next, under the same pid, hold the locks on its leases.

    The children of that program do not inherit them, unless it starts them with all its files.
    """
    for file in _leases.values():
        os.set_inheritable(file, True)  # noqa: FBT003  # as os has it


def _created() -> float:
    """Return when this process was created, as `psutil.Process.create_time` does, which takes long to import.

    On Linux, psutil (5.9 to 7.2) adds the start of the process since the boot, in ticks, to the time of the boot.
    """
    try:
        with open("/proc/self/stat", "rb") as file:
            ticks = float(file.read().rpartition(b")")[2].split()[19])
        with open("/proc/stat", "rb") as file:
            boot = next(float(line.split()[1]) for line in file if line.startswith(b"btime"))
        return ticks / os.sysconf("SC_CLK_TCK") + boot
    except (OSError, ValueError, IndexError, StopIteration):
        import psutil

        return float(psutil.Process().create_time())


def _lock(path: str) -> None:
    """Hold a lock on a lease until this process ends; the system releases it even if the process is killed."""
    _unlock(path)
    try:  # on Windows, or a file system without locks, the lease's age decides
        import fcntl

        _leases[path] = os.open(path, os.O_RDWR)
        fcntl.flock(_leases[path], fcntl.LOCK_SH | fcntl.LOCK_NB)
    except (ImportError, OSError):
        pass


def _unlock(path: str) -> None:
    """Give up the lock on a lease that this process holds."""
    if (file := _leases.pop(path, None)) is not None:
        os.close(file)


def _is_locked(path: Path) -> bool:
    """Whether any process holds a lock on a lease."""
    import contextlib

    with contextlib.suppress(ImportError):
        import fcntl

        file = os.open(path, os.O_RDWR)  # an exclusive lock on NFS needs a file that is open for writing
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(file)
    return False
