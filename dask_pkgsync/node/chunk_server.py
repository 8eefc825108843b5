"""The chunk server of a node: gives other hosts the chunks of blobs that this host has, or is fetching."""

from __future__ import annotations

import asyncio
import functools
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from dask_pkgsync.cache.directory import open_cache
from dask_pkgsync.model.blobs import check_chunk, check_digest
from dask_pkgsync.model.errors import MessageError
from dask_pkgsync.model.reports.failure import LayerError
from dask_pkgsync.model.wire.fields import Field
from dask_pkgsync.wheels.blob_store import BlobStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from dask_pkgsync.process.node_settings import NodeSettings

MOST = 4
"""The most chunks that this process reads and sends at the same time; further hosts are told to ask elsewhere."""


@functools.cache
def chunk_threads() -> ThreadPoolExecutor:
    """Return the threads of this process that read, write and verify chunks.

    The threads of `asyncio.to_thread` may all be waiting: each nanny of this process builds its layer in one of them,
    or waits there for the process that fetches its blob.
    """
    return ThreadPoolExecutor(MOST, "pkgsync-chunks")


class ChunkServer:
    """Answers other hosts that ask for a chunk. A chunk is named by the digest of its blob, which no stranger knows.

    Parameters
    ----------
    settings : callable
        Returns the `NodeSettings` of this host.
    """

    def __init__(self, settings: Callable[[], NodeSettings]) -> None:
        self.settings = settings
        self.sending = 0

    async def handle_chunk(self, digest: object = "", offset: object = 0, **_: object) -> dict[str, Any]:
        """Return the ``data`` of a chunk, unverified, or why it is ``refused``."""
        try:
            checked, chunk = check_digest(Field(digest, "digest")), check_chunk(Field(offset, "offset"))
        except MessageError as error:
            return {"refused": str(error)}
        if self.sending >= MOST:
            return {"refused": "this host sends as many chunks as it can"}
        self.sending += 1
        try:
            loop = asyncio.get_running_loop()
            data = await loop.run_in_executor(chunk_threads(), self._read, checked, chunk)
        except (LayerError, OSError) as error:
            return {"refused": f"the chunk cannot be read: {error}"}
        finally:
            self.sending -= 1
        return {"refused": "this host does not have that chunk"} if data is None else {"data": data}

    def _read(self, digest: str, chunk: int) -> bytes | None:
        settings = self.settings()
        store = BlobStore(
            open_cache(settings.cache_directory), max_age=settings.max_age, max_bytes=settings.store_bytes
        )
        return store.read_chunk(digest, chunk)
