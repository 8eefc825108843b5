"""Refuses the plugins of dask-pkgsync 0.1 on a scheduler that has a release of its own.

Such a plugin, where it does not find its own release, takes all our modules away from the process and puts its own in
their place: that would break the guard of a scheduler. It looks for the module that carries it first, and finds this.
"""

from __future__ import annotations

import sys
import types
from typing import NoReturn

from dask_pkgsync.model.wire.protocol import FIRST_RELEASES, OLDEST
from dask_pkgsync.version import __version__

_CARRIER = "dask_pkgsync.adapters.carry"
"""The module that release 0.1 asks for its digest, before anything is unpacked."""


def refuse_release_0_1() -> None:
    """Answer plugins of release 0.1 with who has to upgrade, from now on."""
    carrier = types.ModuleType(_CARRIER, __doc__)
    carrier.source_digest = _refuse  # type: ignore[attr-defined]
    sys.modules.setdefault(_CARRIER, carrier)


def _refuse() -> NoReturn:
    # (an error of Python's own: of ours, release 0.1 would not find the class)
    raise ImportError(
        f"This cluster's scheduler has dask-pkgsync {__version__}, and this client an older one than "
        f"{FIRST_RELEASES[OLDEST]}: they cannot work together. Upgrade dask-pkgsync on the client to "
        f"{FIRST_RELEASES[OLDEST]} or newer."
    )
