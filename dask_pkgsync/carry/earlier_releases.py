"""Refuses plugins of dask-pkgsync 0.1 on a scheduler that is guarded by this release.

If such a plugin does not find its own release, it replaces all our modules in the process with its own, which would
break the guard. Before that it asks one module for its digest; this file puts a module of that name into the process,
which raises.
"""

from __future__ import annotations

import sys
import types
from typing import NoReturn

from dask_pkgsync.model.wire.protocol import FIRST_RELEASES, OLDEST
from dask_pkgsync.version import __version__

_CARRIER = "dask_pkgsync.adapters.carry"
"""The module that a plugin of release 0.1 asks for its digest, before it unpacks anything."""


def refuse_release_0_1() -> None:
    """Answer plugins of release 0.1, from now on, with an error that says how to upgrade."""
    carrier = types.ModuleType(_CARRIER, __doc__)
    carrier.source_digest = _refuse  # type: ignore[attr-defined]
    sys.modules.setdefault(_CARRIER, carrier)


def _refuse() -> NoReturn:
    # A built-in error: release 0.1 could not unpickle one of our classes.
    raise ImportError(
        f"This cluster's scheduler has dask-pkgsync {__version__}, and this client an older one than "
        f"{FIRST_RELEASES[OLDEST]}: they cannot work together. Upgrade dask-pkgsync on the client to "
        f"{FIRST_RELEASES[OLDEST]} or newer."
    )
