"""Make a Dask cluster run your Python environment.

>>> client.register_plugin(PackageSync())  # doctest: +SKIP

Each public name is imported when it is first used, so that `scan` works where Dask is not installed.
"""

from __future__ import annotations

from dask_pkgsync.version import __version__

TYPE_CHECKING = False  # `typing` takes half as long to import as Python takes to start
if TYPE_CHECKING:
    from typing import Any

    from dask_pkgsync.client.api import release, status, sync
    from dask_pkgsync.client.comparing import compare
    from dask_pkgsync.client.plugin import PackageSync
    from dask_pkgsync.model.claims import ConflictError
    from dask_pkgsync.model.comparison import Comparison
    from dask_pkgsync.model.environments.distribution import Distribution
    from dask_pkgsync.model.environments.environment import Environment
    from dask_pkgsync.model.environments.interpreter import Interpreter
    from dask_pkgsync.model.errors import (
        InconsistentEnvironmentWarning,
        MessageError,
        PkgsyncError,
        PolicyError,
        WheelError,
    )
    from dask_pkgsync.model.mismatch import EnvironmentMismatchError, EnvironmentMismatchWarning
    from dask_pkgsync.model.policy import Policy
    from dask_pkgsync.model.reports.cluster_comparison import ClusterComparison
    from dask_pkgsync.model.reports.discrepancies import Discrepancy, DiscrepancyWarning
    from dask_pkgsync.model.reports.failure import LayerError, NodeFailure, SyncError
    from dask_pkgsync.model.reports.preview import SyncPreview
    from dask_pkgsync.model.reports.progress import Reporter
    from dask_pkgsync.model.reports.status import ClusterStatus
    from dask_pkgsync.model.reports.sync import SyncReport
    from dask_pkgsync.scanning.snapshot import scan

_MODULES = {
    "ClusterComparison": "model.reports.cluster_comparison",
    "ClusterStatus": "model.reports.status",
    "Comparison": "model.comparison",
    "ConflictError": "model.claims",
    "Discrepancy": "model.reports.discrepancies",
    "DiscrepancyWarning": "model.reports.discrepancies",
    "Distribution": "model.environments.distribution",
    "Environment": "model.environments.environment",
    "EnvironmentMismatchError": "model.mismatch",
    "EnvironmentMismatchWarning": "model.mismatch",
    "InconsistentEnvironmentWarning": "model.errors",
    "Interpreter": "model.environments.interpreter",
    "LayerError": "model.reports.failure",
    "MessageError": "model.errors",
    "NodeFailure": "model.reports.failure",
    "PackageSync": "client.plugin",
    "PkgsyncError": "model.errors",
    "Policy": "model.policy",
    "PolicyError": "model.errors",
    "Reporter": "model.reports.progress",
    "SyncError": "model.reports.failure",
    "SyncPreview": "model.reports.preview",
    "SyncReport": "model.reports.sync",
    "WheelError": "model.errors",
    "compare": "client.comparing",
    "release": "client.api",
    "scan": "scanning.snapshot",
    "status": "client.api",
    "sync": "client.api",
}

__all__ = [
    "ClusterComparison",
    "ClusterStatus",
    "Comparison",
    "ConflictError",
    "Discrepancy",
    "DiscrepancyWarning",
    "Distribution",
    "Environment",
    "EnvironmentMismatchError",
    "EnvironmentMismatchWarning",
    "InconsistentEnvironmentWarning",
    "Interpreter",
    "LayerError",
    "MessageError",
    "NodeFailure",
    "PackageSync",
    "PkgsyncError",
    "Policy",
    "PolicyError",
    "Reporter",
    "SyncError",
    "SyncPreview",
    "SyncReport",
    "WheelError",
    "__version__",
    "compare",
    "release",
    "scan",
    "status",
    "sync",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted([*globals(), *__all__])
