"""The host and the platform that this process runs on."""

from __future__ import annotations

import contextlib
import functools
import platform
from pathlib import Path

import psutil
from packaging.tags import sys_tags


@functools.cache
def this_host() -> str:
    """Return a name that is the same for all processes that see each other's process ids.

    It is the host's name, and on Linux also the number of the process-id namespace: a container may have its host's
    name (hostNetwork), but has process ids of its own.
    """
    with contextlib.suppress(OSError):
        return f"{platform.node()}.{Path('/proc/self/ns/pid').stat().st_ino}"
    return platform.node()


@functools.cache
def this_boot() -> str:
    """Return a name that no other host has, nor this one after it was started again."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"{platform.node()}-{psutil.boot_time():.0f}"


@functools.cache
def this_platform() -> str:
    """Return the platform of this interpreter as wheels name it, for example ``manylinux_2_36_x86_64``."""
    return next(sys_tags()).platform
