"""Which host, and which platform, this process runs on."""

from __future__ import annotations

import contextlib
import functools
import platform
from pathlib import Path

from packaging.tags import sys_tags


@functools.cache
def this_host() -> str:
    """Return a name for those that see the same processes: the host's, and on Linux that of the container's namespace.

    Containers may have their host's name (hostNetwork), but have numbers of processes of their own.
    """
    with contextlib.suppress(OSError):
        return f"{platform.node()}.{Path('/proc/self/ns/pid').stat().st_ino}"
    return platform.node()


@functools.cache
def this_platform() -> str:
    """Return the platform of this interpreter as wheels name it, for example ``manylinux_2_36_x86_64``."""
    return next(sys_tags()).platform
