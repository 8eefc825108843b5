"""Leases: files that record which living process uses a layer or blob, also for other hosts."""

from __future__ import annotations

import contextlib
import json
import os
from time import time
from typing import TYPE_CHECKING

import psutil

from dask_pkgsync.cache.host import this_host

if TYPE_CHECKING:
    from pathlib import Path


_leases: dict[Path, int] = {}
"""The leases of this process, each with its open file, whose lock shows other hosts that this process lives."""


def is_held(lease: Path, max_age: float) -> bool:
    """Whether the process that a lease names is alive, as far as this host can tell (see `Cache.is_leased`)."""
    try:
        holder = json.loads(lease.read_text())
        if holder["host"] != this_host():
            return lease.stat().st_mtime > time() - max_age or _is_locked(lease)
        return bool(psutil.Process(holder["pid"]).create_time() == holder["created"])
    except (OSError, ValueError, KeyError, psutil.Error):  # the lease is unreadable, or its process is gone
        return False


def lock_lease(path: Path) -> None:
    """Hold a lock on a lease until this process ends; the system releases it even if the process is killed."""
    unlock_lease(path)
    with contextlib.suppress(
        ImportError, OSError
    ):  # on Windows, or a file system without locks, the lease's age decides
        import fcntl

        _leases[path] = os.open(path, os.O_RDWR)
        fcntl.flock(_leases[path], fcntl.LOCK_SH | fcntl.LOCK_NB)


def unlock_lease(path: Path) -> None:
    """Give up the lock on a lease that this process holds."""
    if (file := _leases.pop(path, None)) is not None:
        os.close(file)


def _is_locked(path: Path) -> bool:
    """Whether any process holds a lock on a lease."""
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
