"""What the operator of a scheduler has decided, beside which clients have no say."""

from __future__ import annotations

from dask_pkgsync.options.definitions import person
from dask_pkgsync.options.definitions import scheduler as definitions
from dask_pkgsync.options.values import read


def operator_mode() -> str:
    """Return who says what the cluster is to have: ``sync``, ``enforce`` or ``warn``."""
    return read(definitions.MODE)


def operator_target() -> str | None:
    """Return what the modes ``enforce`` and ``warn`` are about: ``scheduler``, or the path of a lock file."""
    return read(definitions.TARGET)


def stock_clients() -> str:
    """Return what happens to clients that present nothing: ``judge``, ``refuse`` or ``allow``."""
    return read(definitions.STOCK_CLIENTS)


def drain_timeout() -> float:
    """Return the seconds in which a worker may be emptied before a restart."""
    return read(definitions.DRAIN_TIMEOUT)


def drain_share() -> float:
    """Return which share of the workers may be emptied and restarted at once."""
    return read(definitions.DRAIN_SHARE)


def restart_for_a_release() -> str:
    """Return what happens to workers that cannot be emptied before a release: ``drained`` or ``now``."""
    return read(person.RESTART)


def release_after() -> float | None:
    """Return the seconds after which what nobody uses any more is released, or None for never."""
    return read(definitions.RELEASE_AFTER)
