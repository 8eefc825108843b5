"""On a client with our preload: adds its environment to Dask's own handshake, or the name by which it is recognised.

This module is imported by every client's preload, so what takes time to import is imported in its functions.
"""

from __future__ import annotations

import functools
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dask_pkgsync.client import recognition
from dask_pkgsync.client.dask_internals import change_handshake, connecting_client, runs_a_worker_of, scheduler_id
from dask_pkgsync.model.wire.protocol import PRESENTED, UNKNOWN_FINGERPRINT

if TYPE_CHECKING:
    from collections.abc import Callable

    from distributed import Client

    from dask_pkgsync.client.dask_internals import GetVersions
    from dask_pkgsync.scanning.snapshot import Snapshot


@dataclass
class Presented:
    """What the last handshake of a client has presented."""

    snapshot: Snapshot | None
    """The environment; None if the scheduler has recognised it by its fingerprint."""
    situation: str
    """See `recognition.situation`."""


_presented: weakref.WeakKeyDictionary[Client, Presented] = weakref.WeakKeyDictionary()


def take_presented(client: Client) -> Presented | None:
    """Return what the last handshake of a client has presented, once; None if it was taken already."""
    return _presented.pop(client, None)


def presented_snapshot(presented: Presented | None) -> Snapshot:
    """Return the environment that a client has presented; if it was only recognised, scan it now. Blocks."""
    from dask_pkgsync.options.person import local_snapshot

    return (presented and presented.snapshot) or local_snapshot({})


def present(change: Callable[[GetVersions], GetVersions] | None = None) -> Callable[[], None]:
    """Let clients of this process present their environment when they connect; return what undoes that.

    Parameters
    ----------
    change : callable, optional
        Receives `presenting` of Dask's function, and returns what is called instead.
    """
    changes = (presenting, change) if change else (presenting,)
    return change_handshake(
        lambda get_versions: functools.reduce(lambda made, one: one(made), changes, get_versions), _is_not_recognised
    )


def _is_not_recognised(client: Client, error: ImportError) -> bool:
    """Whether the scheduler has refused a client only because it does not know its fingerprint any more."""
    if UNKNOWN_FINGERPRINT not in str(error):
        return False
    recognition.forget(scheduler_id(client))
    return True


def presenting(get_versions: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """Return `distributed.versions.get_versions`, changed to add the environment when a client connects.

    The environment stands under one more key, which only a scheduler with our gate reads. Other callers get what they
    always got. So do clients of a cluster of which this process runs a worker: they belong to its tasks, and the worker
    was verified.
    """
    if hasattr(get_versions, "presents"):
        return get_versions

    @functools.wraps(get_versions)
    def with_environment(packages: Any = None) -> dict[str, Any]:
        dask_versions = get_versions(packages)
        client = connecting_client()
        if client is None or runs_a_worker_of(client):
            return dask_versions
        return {**dask_versions, PRESENTED: _presentation(client)}

    with_environment.presents = True  # type: ignore[attr-defined]
    return with_environment


def _presentation(client: Client) -> dict[str, Any]:
    here = recognition.situation()
    if (short := recognition.recall(here, scheduler_id(client))) is not None:
        _presented[client] = Presented(None, here)
        return short
    from dask_pkgsync.model.errors import PkgsyncError
    from dask_pkgsync.model.presentation import Presentation, presentation_to_wire
    from dask_pkgsync.options.person import local_snapshot, this_person

    try:
        snapshot = local_snapshot({})
    except PkgsyncError as error:  # the error that Dask's client expects here; any other would let it hang
        raise ImportError(str(error)) from error
    _presented[client] = Presented(snapshot, here)
    return presentation_to_wire(Presentation(snapshot.environment, this_person()))
