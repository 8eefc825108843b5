"""The host that this process runs on. This module is imported where milliseconds count."""

from __future__ import annotations

import os


def this_host() -> str:
    """Return a name that is the same for all processes that see each other's process ids.

    It is the host's name, and on Linux also the number of the process-id namespace: a container may have its host's
    name (hostNetwork), but has process ids of its own.
    """
    try:
        return f"{node()}.{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return node()


def node() -> str:
    """Return the name of this machine, as `platform.node` does, without importing `platform` where that is possible."""
    if hasattr(os, "uname") and os.uname().nodename:
        return os.uname().nodename
    import platform

    return platform.node()
