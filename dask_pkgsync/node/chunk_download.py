"""The download of one blob, chunk by chunk: from other hosts where the scheduler names one, else from the scheduler."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from dask_pkgsync.model.blobs import (
    CHUNK,
    MAX_FAILED,
    ChunkRequest,
    check_chunk,
    check_digest,
    chunk_count,
    chunk_request_to_wire,
)
from dask_pkgsync.model.reports.failure import LayerError
from dask_pkgsync.model.wire.fields import Field
from dask_pkgsync.node.chunk_server import chunk_threads

if TYPE_CHECKING:
    from collections.abc import Callable

    from dask_pkgsync.model.blobs import Blob
    from dask_pkgsync.wheels.incoming_blob import IncomingBlob

AT_ONCE = 3
"""The most chunks that are fetched and written at the same time, and so in memory."""


class ChunkDownload:
    """Fetches one blob into a file, on the event loop of a node; files are written in threads.

    No peer is trusted: a chunk from one has to have the digest that the scheduler has told, and a peer that fails is
    passed by.

    Parameters
    ----------
    scheduler : rpc
        The node's connection to the scheduler.
    peer : callable
        Returns a connection to another node, by its address.
    node : str
        The address of this node.
    incoming : IncomingBlob
        The file that is filled.
    deadline : float
        Seconds in which a peer must have sent a chunk.
    """

    def __init__(
        self,
        scheduler: Any,
        peer: Callable[[str], Any],
        node: str,
        incoming: IncomingBlob,
        deadline: float,
    ) -> None:
        self.scheduler, self.peer, self.node, self.incoming, self.deadline = scheduler, peer, node, incoming, deadline
        self.blob: Blob = incoming.blob
        self.tasks: dict[asyncio.Task[None], int] = {}
        """The chunks that are being fetched from peers, or written, by number."""
        self.failed: list[str] = []
        """Peers that have failed, and of which the scheduler has not been told."""
        self.tells_peers = False
        """Whether the scheduler hands out peers, and wants to be told when the blob is complete."""

    async def run(self) -> None:
        """Fetch all chunks.

        Raises
        ------
        LayerError
            If the scheduler does not serve the blob, or the disk fails.
        OSError
            If the connection to the scheduler broke.
        """
        try:
            while not self.incoming.is_complete:
                self._end({task for task in self.tasks if task.done()})
                request = self._request()
                if len(self.tasks) < AT_ONCE and request.missing:
                    await self._take(await self._ask(request))
                else:
                    await self._finish_some()
        finally:
            for task in self.tasks:
                task.cancel()
            await asyncio.gather(*self.tasks, return_exceptions=True)
        if self.tells_peers:
            with contextlib.suppress(OSError, LayerError):  # others then get it from elsewhere
                await self._ask(self._request())

    def _request(self) -> ChunkRequest:
        pending = sum(1 << chunk for chunk in self.tasks.values())
        have, failed = self.incoming.have, tuple(self.failed[:MAX_FAILED])
        return ChunkRequest(self.blob, self.node, have, pending & ~have, failed, may_wait=not self.tasks)

    async def _ask(self, request: ChunkRequest) -> dict[str, Any]:
        message = chunk_request_to_wire(request)
        answer: dict[str, Any] = await self.scheduler.pkgsync_get(**message)
        if "failure" in answer:
            raise LayerError("receive", Field(answer["failure"], "failure").long_text(), advice="Run the sync again.")
        del self.failed[: len(request.failed)]
        self.tells_peers = self.tells_peers or "offset" in answer
        return {"offset": message["offset"], **answer}  # a scheduler of release 0.2 answers what was asked for

    async def _take(self, answer: dict[str, Any]) -> None:
        """Do what the scheduler has answered."""
        if "later" in answer:
            await self._finish_some()
            return
        chunk = check_chunk(Field(answer["offset"], "answer.offset"))
        if chunk >= chunk_count(self.blob):
            raise LayerError("receive", "the scheduler sent a part that it does not have", advice="Run the sync again.")
        if "peer" in answer:
            field = Field(answer, "answer")
            fetching = self._from_peer(chunk, field.key("peer").text(500), check_digest(field.key("digest")))
        else:
            fetching = self._write(chunk, answer.get("data"))
        self.tasks[asyncio.create_task(fetching)] = chunk

    async def _finish_some(self) -> None:
        """Wait until at least one chunk has been written, or could not be fetched from a peer."""
        if self.tasks:
            done, _ = await asyncio.wait(self.tasks, return_when=asyncio.FIRST_COMPLETED)
            self._end(done)

    def _end(self, done: set[asyncio.Task[None]]) -> None:
        for task in done:
            del self.tasks[task]
            task.result()

    async def _write(self, chunk: int, data: Any) -> None:
        if not await self._written(chunk, data):
            raise LayerError("receive", "the scheduler sent an empty part of it", advice="Run the sync again.")

    async def _from_peer(self, chunk: int, address: str, digest: str) -> None:
        """Fetch a chunk from a peer; if that fails in any way, the scheduler is told, and names another place."""
        try:
            asked = self.peer(address).pkgsync_chunk(digest=self.blob.digest, offset=chunk * CHUNK)
            data = (await asyncio.wait_for(asked, self.deadline))["data"]
        except Exception:  # noqa: BLE001  # whatever is wrong with a peer, it is passed by
            data = None
        if not await self._written(chunk, data, digest):
            self.failed.append(address)

    async def _written(self, chunk: int, data: Any, digest: str = "") -> bool:
        return await asyncio.get_running_loop().run_in_executor(
            chunk_threads(), self.incoming.write, chunk, data, digest
        )
