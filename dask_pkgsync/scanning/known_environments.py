"""The last environments that scans have returned: a scan that finds no change returns the same object again.

What an environment has worked out, such as its fingerprint, is then not worked out again, and two environments are
compared at once.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dask_pkgsync.model.environments.environment import Environment

_KNOWN: deque[Environment] = deque(maxlen=8)
_LOCK = threading.Lock()


def known(environment: Environment) -> Environment:
    """Return an environment that an earlier scan has returned, if one is equal, also in its faults; else this one."""
    with _LOCK:
        for one in _KNOWN:
            if one == environment and one.faults == environment.faults:
                return one
        _KNOWN.append(environment)
    return environment
