"""Files that say which living process uses a layer or blob, also to other hosts."""

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
"""The leases of this process, with the open files whose locks say to other hosts that it lives."""


def is_held(lease: Path, max_age: float) -> bool:
    """Whether the process that a lease names is alive, as far as that can be seen from here."""
    try:
        holder = json.loads(lease.read_text())
        if holder["host"] != this_host():
            return lease.stat().st_mtime > time() - max_age or _is_locked(lease)
        return bool(psutil.Process(holder["pid"]).create_time() == holder["created"])
    except (OSError, ValueError, KeyError, psutil.Error):  # unreadable, or the process is gone
        return False


def lock_lease(path: Path) -> None:
    """Hold a lock on a lease until this process ends, however that comes about."""
    unlock_lease(path)
    with contextlib.suppress(ImportError, OSError):  # Windows; a file system without locks: the age has to do
        import fcntl

        _leases[path] = os.open(path, os.O_RDWR)
        fcntl.flock(_leases[path], fcntl.LOCK_SH | fcntl.LOCK_NB)


def unlock_lease(path: Path) -> None:
    """Give up the lock on a lease that this process holds."""
    if (file := _leases.pop(path, None)) is not None:
        os.close(file)


def _is_locked(path: Path) -> bool:
    """Whether somebody holds a lock on a lease."""
    with contextlib.suppress(ImportError):
        import fcntl

        file = os.open(path, os.O_RDWR)  # NFS wants it open for writing
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(file)
    return False
