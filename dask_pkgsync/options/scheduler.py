"""Reads the options of the operator of a scheduler, which clients cannot override."""

from __future__ import annotations

from dask_pkgsync.options.definitions import person
from dask_pkgsync.options.definitions import scheduler as definitions
from dask_pkgsync.options.values import read


def operator_mode() -> str:
    """Return ``sync`` (clients set the target), ``enforce`` (the operator sets it) or ``warn`` (there is none)."""
    return read(definitions.MODE)


def operator_target() -> str | None:
    """Return the environment of the modes ``enforce`` and ``warn``: ``scheduler``, or the path of a lock file."""
    return read(definitions.TARGET)


def stock_clients() -> str:
    """Return what happens to clients that present no environment: ``judge``, ``refuse`` or ``allow``."""
    return read(definitions.STOCK_CLIENTS)


def critical_builds() -> str:
    """Return ``warn`` or ``refuse``: what happens to clients with another build of a critical package of Dask's."""
    return read(definitions.CRITICAL_BUILDS)


def may_relaunch() -> str:
    """Return the most that clients may ask for with ``relaunch``: ``never``, ``idle`` or ``now``."""
    return read(definitions.MAY_RELAUNCH)


def drain_timeout() -> float:
    """Return the seconds that the drain of a worker may take before its restart."""
    return read(definitions.DRAIN_TIMEOUT)


def drain_share() -> float:
    """Return the share, from 0 to 1, of the workers that may be drained and restarted at the same time."""
    return read(definitions.DRAIN_SHARE)


def restart_for_a_release() -> str:
    """Return what happens to workers that cannot be drained before a release: ``drained`` or ``now``."""
    return read(person.RESTART)


def release_after() -> float | None:
    """Return the seconds after which a target without clients is released, or None for never."""
    return read(definitions.RELEASE_AFTER)
