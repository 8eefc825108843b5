"""On a client with our preload: adds its environment to Dask's own handshake."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from dask_pkgsync.client.dask_internals import connecting_client, runs_a_worker_of
from dask_pkgsync.model.errors import PkgsyncError
from dask_pkgsync.model.presentation import Presentation, presentation_to_wire
from dask_pkgsync.model.wire.protocol import PRESENTED
from dask_pkgsync.options.person import local_snapshot, this_person

if TYPE_CHECKING:
    from collections.abc import Callable

    from dask_pkgsync.scanning.snapshot import Snapshot

_presented: list[Snapshot] = []
"""The snapshot that the last handshake presented, for the sync that follows it; empty once it was taken."""


def take_presented() -> Snapshot:
    """Return the snapshot that the last handshake presented, once; scan anew if it was taken already."""
    return _presented.pop() if _presented else local_snapshot({})


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
        try:
            snapshot = local_snapshot({})
        except PkgsyncError as error:  # the error that Dask's client expects here; any other would let it hang
            raise ImportError(str(error)) from error
        _presented[:] = [snapshot]
        return {**dask_versions, PRESENTED: presentation_to_wire(Presentation(snapshot.environment, this_person()))}

    with_environment.presents = True  # type: ignore[attr-defined]
    return with_environment
