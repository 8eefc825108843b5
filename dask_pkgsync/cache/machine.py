"""The machine that this process runs on: its platform, and which start of it this is."""

from __future__ import annotations

import contextlib
import functools
from pathlib import Path

import psutil
from packaging.tags import sys_tags

from dask_pkgsync.cache.host import node


@functools.cache
def this_boot() -> str:
    """Return a name that no other host has, nor this one after it was started again."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"{node()}-{psutil.boot_time():.0f}"


@functools.cache
def this_platform() -> str:
    """Return the platform of this interpreter as wheels name it, for example ``manylinux_2_36_x86_64``."""
    return next(sys_tags()).platform
