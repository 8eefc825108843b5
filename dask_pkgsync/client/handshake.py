"""On a client with our preload: says in Dask's own handshake what it has."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from dask_pkgsync.client.dask_internals import workers_here
from dask_pkgsync.model.errors import PkgsyncError
from dask_pkgsync.model.presentation import Presentation, presentation_to_wire
from dask_pkgsync.model.wire.protocol import PRESENTED
from dask_pkgsync.options.person import local_snapshot, this_person

if TYPE_CHECKING:
    from collections.abc import Callable

    from dask_pkgsync.scanning.snapshot import Snapshot

_presented: list[Snapshot] = []
"""What was scanned last, for the client that syncs right after it has presented it."""


def take_presented() -> Snapshot:
    """Return what was presented just now, once; scan again if somebody else has taken it."""
    return _presented.pop() if _presented else local_snapshot({})


def presenting(get_versions: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """Return `distributed.versions.get_versions` with one more key where a client asks for its handshake.

    Who else calls it gets what it always got: workers and schedulers have it under a name of their own, and what people
    ask for names packages. Without this scheduler's gate nobody reads the key.
    """
    if hasattr(get_versions, "presents"):
        return get_versions

    @functools.wraps(get_versions)
    def with_environment(packages: Any = None) -> dict[str, Any]:
        found = get_versions(packages)
        if packages is not None or workers_here():  # a task's client, whose worker was verified
            return found
        try:
            snapshot = local_snapshot({})
        except PkgsyncError as error:  # what Dask's client expects here: any other would leave it hanging
            raise ImportError(str(error)) from error
        _presented[:] = [snapshot]
        return {**found, PRESENTED: presentation_to_wire(Presentation(snapshot.environment, this_person()))}

    with_environment.presents = True  # type: ignore[attr-defined]
    return with_environment
