"""Make a Dask cluster run your Python environment.

>>> client.register_plugin(PackageSync())  # doctest: +SKIP

The names are imported when they are first used: scanning an environment needs no Dask.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dask_pkgsync.adapters.client import release, status, sync
    from dask_pkgsync.adapters.scheduler_plugin import PackageSync
    from dask_pkgsync.core.compare import Comparison, compare
    from dask_pkgsync.core.environment import Distribution, Environment, Interpreter
    from dask_pkgsync.core.errors import (
        ConflictError,
        EnvironmentMismatchError,
        EnvironmentMismatchWarning,
        InconsistentEnvironmentWarning,
        LayerError,
        MessageError,
        NodeFailure,
        NotInstalledWarning,
        PkgsyncError,
        PolicyError,
        SyncError,
        WheelError,
    )
    from dask_pkgsync.core.policy import Policy
    from dask_pkgsync.core.progress import Reporter
    from dask_pkgsync.core.report import SyncReport
    from dask_pkgsync.core.status import ClusterStatus
    from dask_pkgsync.shell.local import scan

__version__ = "0.1.0"

_HOMES = {
    "ClusterStatus": "core.status",
    "Comparison": "core.compare",
    "ConflictError": "core.errors",
    "Distribution": "core.environment",
    "Environment": "core.environment",
    "EnvironmentMismatchError": "core.errors",
    "EnvironmentMismatchWarning": "core.errors",
    "InconsistentEnvironmentWarning": "core.errors",
    "NotInstalledWarning": "core.errors",
    "Interpreter": "core.environment",
    "LayerError": "core.errors",
    "MessageError": "core.errors",
    "NodeFailure": "core.errors",
    "PackageSync": "adapters.scheduler_plugin",
    "PkgsyncError": "core.errors",
    "Policy": "core.policy",
    "PolicyError": "core.errors",
    "Reporter": "core.progress",
    "SyncError": "core.errors",
    "SyncReport": "core.report",
    "WheelError": "core.errors",
    "compare": "core.compare",
    "release": "adapters.client",
    "scan": "shell.local",
    "status": "adapters.client",
    "sync": "adapters.client",
}

__all__ = [
    "ClusterStatus",
    "Comparison",
    "ConflictError",
    "Distribution",
    "Environment",
    "EnvironmentMismatchError",
    "EnvironmentMismatchWarning",
    "InconsistentEnvironmentWarning",
    "Interpreter",
    "LayerError",
    "MessageError",
    "NodeFailure",
    "NotInstalledWarning",
    "PackageSync",
    "PkgsyncError",
    "Policy",
    "PolicyError",
    "Reporter",
    "SyncError",
    "SyncReport",
    "WheelError",
    "compare",
    "release",
    "scan",
    "status",
    "sync",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted([*globals(), *__all__])
