"""The target of a cluster, and the packages that its clients provide, for a process that is no client of it.

Its scheduler might refuse a client, which this process is on the way to become. So it is asked by plain messages.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from distributed.core import rpc
from distributed.security import Security

from dask_pkgsync.model.blobs import blob_to_wire, location_from_wire, requests_to_wire
from dask_pkgsync.model.errors import PkgsyncError
from dask_pkgsync.model.reports.failure import LayerError, failure_from_wire
from dask_pkgsync.model.target import target_from_wire
from dask_pkgsync.process.tools import blob_store
from dask_pkgsync.wheels.fsspec_store import fetch_into

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Sequence
    from pathlib import Path

    from dask_pkgsync.model.blobs import BlobLocation, BlobRequest
    from dask_pkgsync.model.target import Target
    from dask_pkgsync.process.node_settings import NodeSettings

    Fetch = Callable[[Sequence[BlobRequest]], dict[BlobRequest, tuple[Path, str]]]

TIMEOUT = 30.0
"""Seconds in which the scheduler must have told its target."""


@contextmanager
def connected_to_target(
    address: str, security: Security | None, settings: NodeSettings
) -> Iterator[tuple[Target, Fetch]]:
    """Yield the target of a cluster, and what fetches packages that its clients provide. Blocks.

    Parameters
    ----------
    address : str
        Address of the scheduler.
    security : Security, optional
        By default as Dask's configuration says.
    settings : NodeSettings
        Where fetched packages are kept.

    Raises
    ------
    PkgsyncError
        If nothing answers there, or the cluster has no target.
    """
    with _loop_in_a_thread() as result_of:
        asked = _Scheduler(address, security or Security(), settings, result_of)
        try:
            yield asked.target(), asked.fetch
        finally:
            result_of(asked.close())


class _Scheduler:
    """A scheduler that is asked from another thread than that of its connection."""

    def __init__(
        self,
        address: str,
        security: Security,
        settings: NodeSettings,
        result_of: Callable[[Coroutine[Any, Any, Any]], Any],
    ) -> None:
        self.address, self.settings, self.result_of = address, settings, result_of
        self.rpc = rpc(address, connection_args=security.get_connection_args("client"))

    async def close(self) -> None:
        """Close the connection."""
        await self.rpc.close_rpc()

    def target(self) -> Target:
        """Return the target of the cluster."""
        try:
            answer = self.result_of(asyncio.wait_for(self._ask("pkgsync_target"), TIMEOUT))
        except (OSError, asyncio.TimeoutError) as error:
            raise PkgsyncError(f"cannot connect to {self.address}: {str(error) or 'it does not answer'}") from None
        if not isinstance(answer, dict) or answer.get("target") is None:  # Dask answers None to what it does not know
            raise PkgsyncError(
                f"{self.address}: nobody has synced this cluster with this release of dask-pkgsync, so it tells of no "
                "environment to run in"
            )
        return target_from_wire(answer["target"])

    async def _ask(self, operation: str, **message: Any) -> Any:
        return await getattr(self.rpc, operation)(**message)

    def fetch(self, requests: Sequence[BlobRequest]) -> dict[BlobRequest, tuple[Path, str]]:
        """Return for each request the path of the verified package on this machine, and a note for people."""
        try:
            answer = self.result_of(self._ask("pkgsync_blobs", requests=requests_to_wire(requests), gone=[]))
            if "failure" in answer:
                failure = failure_from_wire(answer["failure"])
                raise LayerError(failure.step, failure.problem, advice=failure.advice, packages=failure.packages)
            locations = [location_from_wire(entry) for entry in answer["locations"]]
            return {one.blob.request: (self._fetched(one), one.blob.note) for one in locations}
        except OSError as error:
            problem = f"the connection to the scheduler broke while packages were fetched: {error}"
            raise LayerError("receive", problem, advice="Run the command again.") from None

    def _fetched(self, location: BlobLocation) -> Path:
        blobs, blob = blob_store(self.settings), location.blob
        with blobs.cache.lock(f"blob-{blob.digest}", TIMEOUT * 20):
            if location.store:
                fetch_into(blobs, location.store, blob)
                return blobs.path(blob)
            offset, wire = blobs.expect(blob), blob_to_wire(blob)
            while offset < blob.size:
                answer = self.result_of(self._ask("pkgsync_get", blob=wire, offset=offset))
                if not answer.get("data"):
                    problem = str(answer.get("failure", "the scheduler sent an empty part of it"))
                    raise LayerError("receive", problem, advice="Run the command again.")
                offset = blobs.append(blob, offset, bytes(answer["data"]))
            return blobs.path(blob)


@contextmanager
def _loop_in_a_thread() -> Iterator[Callable[[Coroutine[Any, Any, Any]], Any]]:
    """Run an event loop in a thread, and yield what runs a coroutine there and returns its result. Blocks."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="dask-pkgsync-cluster-target", daemon=True)
    thread.start()
    try:
        yield lambda coroutine: asyncio.run_coroutine_threadsafe(coroutine, loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
