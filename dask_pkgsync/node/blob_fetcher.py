"""The blob fetcher of a node: gets packages of clients onto its host, one process for all processes of the host."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from dask_pkgsync.model.blobs import PEER_DEADLINE, location_from_wire, requests_to_wire
from dask_pkgsync.model.reports.failure import LayerError, failure_from_wire
from dask_pkgsync.node.chunk_download import ChunkDownload
from dask_pkgsync.process.tools import blob_store
from dask_pkgsync.wheels.fsspec_store import GoneError, fetch_into

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence
    from pathlib import Path

    from distributed import Nanny, Worker

    from dask_pkgsync.model.blobs import BlobLocation, BlobRequest
    from dask_pkgsync.process.node_settings import NodeSettings
    from dask_pkgsync.wheels.blob_store import BlobStore
    from dask_pkgsync.wheels.incoming_blob import IncomingBlob


class BlobFetcher:
    """Fetches blobs for the thread that builds a layer; the messages go through the node's event loop.

    Parameters
    ----------
    server : distributed.core.Server
        The nanny, or the worker without a nanny, with its connection to the scheduler.
    settings : NodeSettings
    timeout : float
        Seconds to wait for another process of this host that fetches the same blob.
    deadline : float
        Seconds in which another host must have sent a chunk.
    """

    def __init__(
        self, server: Nanny | Worker, settings: NodeSettings, timeout: float, *, deadline: float = PEER_DEADLINE
    ) -> None:
        self.server, self.settings, self.timeout, self.deadline = server, settings, timeout, deadline
        self.scheduler: Any = server.scheduler
        self.address = str(server.address)
        self.loop = asyncio.get_running_loop()

    def __call__(self, requests: Sequence[BlobRequest]) -> dict[BlobRequest, tuple[Path, str]]:
        """Return for each request the verified package on this host's disk, and a note for the user.

        Raises
        ------
        LayerError
            If no client can provide one of them, or the connection broke.
        """
        try:
            blobs = blob_store(self.settings)
            return {
                location.blob.request: (self._fetch(location, blobs), location.blob.note)
                for location in self._locate(requests)
            }
        except OSError as error:
            raise LayerError(
                "receive",
                f"the connection to the scheduler broke while packages were fetched: {error}",
                advice="Run the sync again.",
            ) from None

    def _locate(self, requests: Sequence[BlobRequest], gone: Sequence[str] = ()) -> list[BlobLocation]:
        """Return where the packages are; those with the digests ``gone`` are asked for again, as no store has them."""
        answer = self._call(self.scheduler.pkgsync_blobs(requests=requests_to_wire(requests), gone=list(gone)))
        if "failure" in answer:
            failure = failure_from_wire(answer["failure"])
            raise LayerError(
                failure.step,
                failure.problem,
                advice=failure.advice,
                last_words=failure.last_words,
                packages=failure.packages,
            )
        return [location_from_wire(entry) for entry in answer["locations"]]

    def _fetch(self, location: BlobLocation, blobs: BlobStore) -> Path:
        try:
            return self._fetch_from(location, blobs)
        except GoneError:
            (again,) = self._locate([location.blob.request], [location.blob.digest])
            return self._fetch_from(again, blobs)

    def _fetch_from(self, location: BlobLocation, blobs: BlobStore) -> Path:
        blob = location.blob
        with blobs.cache.lock(f"blob-{blob.digest}", self.timeout):
            if location.store:
                fetch_into(blobs, location.store, blob)
            if not blobs.has_verified(blob):
                with blobs.incoming(blob) as incoming:
                    self._call(self._download(incoming).run())
            return blobs.path(blob)

    def _download(self, incoming: IncomingBlob) -> ChunkDownload:
        return ChunkDownload(self.scheduler, self.server.rpc, self.address, incoming, self.deadline)

    def _call(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result()
