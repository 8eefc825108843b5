"""Measures the layers in a cache directory now and then, in a thread, for whoever must not block."""

from __future__ import annotations

import threading
from time import monotonic
from typing import TYPE_CHECKING

from dask_pkgsync.cache.collection import usage
from dask_pkgsync.cache.directory import open_cache
from dask_pkgsync.model.errors import PkgsyncError

if TYPE_CHECKING:
    from collections.abc import Callable

    from dask_pkgsync.cache.collection import Usage

FRESH = 60.0
"""Seconds after which the layers are measured again, if somebody asks."""


class CacheMeter:
    """Knows how large the layers of a cache directory are.

    Parameters
    ----------
    directory : callable
        Returns the directory, as `cache.directory.open_cache` takes it. It may raise a `PkgsyncError`.
    """

    def __init__(self, directory: Callable[[], str | None]) -> None:
        self.directory = directory
        self.last: Usage | None = None
        self.measured = 0.0
        self.measuring = threading.Lock()

    def measure(self) -> None:
        """Measure now, unless another thread does it. Blocks."""
        if self.measuring.acquire(blocking=False):
            try:
                self.last = usage(open_cache(self.directory()))
            except (PkgsyncError, OSError):  # no directory can be used, so that nothing is known
                self.last = None
            finally:
                self.measured = monotonic()
                self.measuring.release()

    def read(self) -> Usage | None:
        """Return what was measured last; measure again in a thread if that was some time ago."""
        if monotonic() - self.measured > FRESH and not self.measuring.locked():
            threading.Thread(target=self.measure, name="pkgsync-meter", daemon=True).start()
        return self.last
