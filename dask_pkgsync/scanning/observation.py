"""What a process of a cluster says of itself when somebody looks at it: its environment as it is importable now.

This runs on nodes that need not have dask-pkgsync (`carry.visit`).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import sys
import zlib
from typing import TYPE_CHECKING

from dask_pkgsync.model.environments.environment import environment_to_wire
from dask_pkgsync.model.errors import PolicyError
from dask_pkgsync.scanning.installed import scan_installed
from dask_pkgsync.scanning.loose_modules import find_modules
from dask_pkgsync.scanning.search_path import SearchPath
from dask_pkgsync.scanning.snapshot import MODULES_LIMIT, verified, with_digests

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from dask_pkgsync.model.environments.environment import Environment


CONTROLLER = "pkgsync.scheduler"
"""Stands among the imported modules for dask-pkgsync's own that control a cluster, or did so. The name of the package
is left out: this text is run under another one where it travels (`carry.visitor`)."""


def observe(modules: Sequence[str] = (), *, with_environment: bool = True) -> dict[str, Any]:
    """Return this process's environment, without changing anything. Blocks.

    Parameters
    ----------
    modules : sequence of str
        Names of loose modules that are looked for here. Others are not part of the environment.
    with_environment : bool
        Whether to return the environment itself, and not only its digest.

    Returns
    -------
    dict
        ``digest`` (64 hexadecimal digits; equal for equal environments), ``host``, ``pid``, ``imported`` (the top-level
        modules that this process has imported, and `CONTROLLER` if it is among them), and ``environment`` (compressed
        JSON; empty if it was not asked for).
    """
    environment = verified(with_digests(scan_installed(remembers=False)))
    environment = _with_modules(environment, modules)
    faults = sorted((fault.name, fault.kind) for fault in environment.faults)
    form = json.dumps([environment.fingerprint, faults])
    text = json.dumps(environment_to_wire(environment)) if with_environment else ""
    loaded = list(sys.modules)
    tops = {name.partition(".")[0] for name in loaded} - {""}
    if any(name.endswith(f"_{CONTROLLER}") for name in loaded):
        tops.add(CONTROLLER)
    return {
        "digest": hashlib.sha256(form.encode()).hexdigest(),
        "host": platform.node(),
        "pid": os.getpid(),
        "imported": sorted(name for name in tops if name not in sys.stdlib_module_names and name[0] != "_"),
        "environment": zlib.compress(text.encode()) if text else b"",
    }


def _with_modules(environment: Environment, names: Sequence[str]) -> Environment:
    """Add those loose modules of some names that are importable here."""
    path, found = SearchPath.of(environment), list(environment.distributions.values())
    for name in names:
        with contextlib.suppress(PolicyError, OSError):  # it is not importable here, or could not travel
            found += [one.distribution for one in find_modules([name], limit=MODULES_LIMIT, path=path).modules]
    return environment.with_distributions(found)
