"""Hosts pass a blob on to each other: it leaves the scheduler about once, and a peer that fails costs nothing but time.

The hosts are servers of Dask with a cache of their own; those that are killed or stopped are processes of their own.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import dask
import pytest
from distributed.core import Server

from dask_pkgsync.cache.directory import open_cache
from dask_pkgsync.model.blobs import (
    CHUNK,
    Blob,
    BlobLocation,
    BlobRequest,
    ChunkRequest,
    blob_to_wire,
    chunk_count,
    chunk_request_to_wire,
)
from dask_pkgsync.model.reports.failure import LayerError
from dask_pkgsync.node.blob_fetcher import BlobFetcher
from dask_pkgsync.node.chunk_server import MOST, ChunkServer, chunk_threads
from dask_pkgsync.process.node_settings import NodeSettings
from dask_pkgsync.scheduler.blobs.peers import FAILURES
from dask_pkgsync.scheduler.blobs.providers import BlobProviders
from dask_pkgsync.scheduler.blobs.service import BlobService
from dask_pkgsync.wheels.blob_store import BlobStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from pathlib import Path

REQUEST = BlobRequest("large", "1.0")
CHUNKS = 3


def store_in(directory: Path) -> BlobStore:
    """Return the blobs of a cache."""
    return BlobStore(open_cache(str(directory)), max_age=3600, max_bytes=1 << 30)


def put(directory: Path, content: bytes, blob: Blob) -> Path:
    """Put a blob into a cache."""
    store = store_in(directory)
    store.expect(blob)
    store.append(blob, 0, content)
    return store.path(blob)


@pytest.fixture(scope="module")
def content() -> bytes:
    """Return the bytes of a blob, whose last chunk is shorter."""
    return os.urandom(4096) * (CHUNK // 4096 * (CHUNKS - 1) + 100 // 4096 + 1) + os.urandom(100)


@pytest.fixture(scope="module")
def blob(content: bytes) -> Blob:
    """Return what announces those bytes."""
    return Blob(REQUEST, "large-1.0-py3-none-any.whl", hashlib.sha256(content).hexdigest(), len(content))


class Node(Server):
    """A node of a host: what `BlobFetcher` and `NodeAgent` use of a nanny."""

    def __init__(self, settings: NodeSettings, **handlers: Any) -> None:
        self.settings = settings
        own = {"pkgsync_chunk": ChunkServer(lambda: settings).handle_chunk}
        super().__init__({**own, **handlers})  # type: ignore[no-untyped-call]
        self.scheduler: Any = None
        self.deadline = 2.0

    async def fetch(self) -> Path:
        """Fetch the blob onto this host."""
        fetcher = BlobFetcher(self, self.settings, 60, deadline=self.deadline)  # type: ignore[arg-type]
        with ThreadPoolExecutor(1) as thread:  # as all hosts, and the scheduler, share the threads of this process
            found = await asyncio.get_running_loop().run_in_executor(thread, fetcher, [REQUEST])
        path, _ = found[REQUEST]
        return path


@dataclass
class Hosts:
    """A scheduler that has the blob, and hosts."""

    root: Path
    service: BlobService
    scheduler: Server
    events: list[dict[str, Any]]
    stack: contextlib.AsyncExitStack

    async def add(self, **handlers: Any) -> Node:
        """Start a further host."""
        name = f"host{len(list(self.root.iterdir()))}"
        node = Node(NodeSettings(str(self.root / name)), **handlers)
        (self.root / name).mkdir()
        await node
        await node.listen("tcp://127.0.0.1:0")  # type: ignore[no-untyped-call]
        self.stack.push_async_callback(node.close)
        node.scheduler = node.rpc(self.scheduler.address)
        return node

    def sent(self) -> int:
        """Return the bytes that have left the scheduler, to hosts that have finished."""
        return sum(event["bytes"] for event in self.events if event["action"] == "served")

    async def holds(self, address: str, blob: Blob) -> None:
        """Tell the scheduler that a host has all of the blob."""
        message = chunk_request_to_wire(ChunkRequest(blob, address, (1 << chunk_count(blob)) - 1))
        assert await self.service.handle_get(**message) == {"complete": True}


@contextlib.asynccontextmanager
async def hosts(root: Path, content: bytes, blob: Blob) -> AsyncIterator[Hosts]:
    """Run a scheduler that has a blob."""
    put(root / "scheduler", content, blob)
    events: list[dict[str, Any]] = []
    with dask.config.set({"pkgsync.cache-directory": str(root / "scheduler")}):
        nobody: Any = SimpleNamespace(clients={})
        service = BlobService(BlobProviders(nobody, lambda _: [], events.append), events.append)
        service.locations[REQUEST] = BlobLocation(blob)
        (root / "hosts").mkdir()
        async with contextlib.AsyncExitStack() as stack:
            scheduler = Server(service.handlers)
            await scheduler
            await scheduler.listen("tcp://127.0.0.1:0")
            stack.push_async_callback(scheduler.close)
            yield Hosts(root / "hosts", service, scheduler, events, stack)


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    yield
    chunk_threads().shutdown()
    chunk_threads.cache_clear()


def run(tmp_path: Path, content: bytes, blob: Blob, story: Callable[[Hosts], Awaitable[None]]) -> None:
    """Run a story with a scheduler that has the blob."""

    async def told() -> None:
        async with hosts(tmp_path, content, blob) as there:
            await story(there)

    asyncio.run(told())


def test_hosts_at_once_get_a_blob_that_leaves_the_scheduler_about_once(
    content: bytes, blob: Blob, tmp_path: Path
) -> None:
    """Also a host that comes later gets it from the others."""

    async def story(there: Hosts) -> None:
        nodes = [await there.add() for _ in range(4)]
        paths = await asyncio.gather(*(node.fetch() for node in nodes))
        assert len(set(paths)) == 4
        assert all(path.read_bytes() == content for path in paths)
        assert blob.size <= there.sent() < 2 * blob.size
        before = there.sent()
        late = await there.add()
        assert (await late.fetch()).read_bytes() == content
        assert there.sent() == before
        assert not list(there.root.glob("*/building/*"))

    run(tmp_path, content, blob, story)


def test_late_hosts_get_chunks_from_one_that_is_still_fetching(content: bytes, blob: Blob, tmp_path: Path) -> None:
    """A host gives away the chunks that it has, before the blob is complete and verified as a whole."""

    async def story(there: Hosts) -> None:
        early, late = await there.add(), await there.add()
        with store_in(there.root / "early").incoming(blob) as incoming:
            assert incoming.write(2, content[2 * CHUNK : 3 * CHUNK])
            server = ChunkServer(lambda: NodeSettings(str(there.root / "early")))
            early.handlers["pkgsync_chunk"] = server.handle_chunk
            asked = late.rpc(early.address)
            assert await asked.pkgsync_chunk(digest=blob.digest, offset=2 * CHUNK) == {
                "data": content[2 * CHUNK : 3 * CHUNK]
            }
            assert "refused" in await asked.pkgsync_chunk(digest=blob.digest, offset=0)
            for chunk in (0, 1):
                incoming.write(chunk, content[chunk * CHUNK : (chunk + 1) * CHUNK])
        assert await asked.pkgsync_chunk(digest=blob.digest, offset=CHUNK) == {"data": content[CHUNK : 2 * CHUNK]}

    run(tmp_path, content, blob, story)


@pytest.mark.parametrize("damage", ["flipped", "truncated", "removed"])
def test_a_peer_with_wrong_bytes_is_passed_by(damage: str, content: bytes, blob: Blob, tmp_path: Path) -> None:
    """No byte of it is kept: a chunk that does not have its digest comes from another place."""

    async def story(there: Hosts) -> None:
        bad, host = await there.add(), await there.add()
        path = await bad.fetch()
        if damage == "flipped":
            wrong = bytearray(content)
            for chunk in range(CHUNKS):
                wrong[chunk * CHUNK] ^= 1
            path.write_bytes(wrong)
        elif damage == "truncated":
            os.truncate(path, 100)
        else:
            path.unlink()
        assert (await host.fetch()).read_bytes() == content
        assert there.sent() == 2 * blob.size
        assert there.service.peers.trouble[host.address].avoids == {bad.address}

    run(tmp_path, content, blob, story)


def test_a_blob_that_is_damaged_on_the_scheduler_is_refused(content: bytes, blob: Blob, tmp_path: Path) -> None:
    """Peers agree with the scheduler on each chunk, and the whole does not have its digest: nothing of it is kept."""

    async def story(there: Hosts) -> None:
        path = there.service.blobs.path(blob)
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        nodes = [await there.add() for _ in range(2)]
        for failure in await asyncio.gather(*(node.fetch() for node in nodes), return_exceptions=True):
            assert isinstance(failure, LayerError)
            assert "does not have the bytes" in failure.problem
        assert not [*there.root.glob("*/building/*"), *there.root.glob("*/blobs/*")]

    run(tmp_path, content, blob, story)


PEER = """
import asyncio, os, signal, sys
from distributed.core import Server
from dask_pkgsync.node.chunk_download import ChunkDownload
from dask_pkgsync.node.chunk_server import ChunkServer
from dask_pkgsync.process.node_settings import NodeSettings

fault = getattr(signal, sys.argv[2])
served = 0

async def handle(**message):
    global served
    answer = await server.handle_chunk(**message)
    served += 1
    if served == 2:
        asyncio.get_running_loop().call_later(0.001, os.kill, os.getpid(), fault)
    return answer

async def main():
    node = await Server({"pkgsync_chunk": handle})
    await node.listen("tcp://127.0.0.1:0")
    print(node.address, flush=True)
    await asyncio.Event().wait()

server = ChunkServer(lambda: NodeSettings(sys.argv[1]))
asyncio.run(main())
"""


@pytest.mark.parametrize("fault", ["SIGKILL", "SIGSTOP"])
def test_a_peer_that_ends_or_stands_still_half_way_is_passed_by(
    fault: str, content: bytes, blob: Blob, tmp_path: Path
) -> None:
    """Hosts that were fetching from it get the rest from each other, or from the scheduler."""

    async def story(there: Hosts) -> None:
        put(there.root / "peer", content, blob)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", PEER, str(there.root / "peer"), fault, stdout=asyncio.subprocess.PIPE
        )
        try:
            assert process.stdout is not None
            address = (await process.stdout.readline()).decode().strip()
            await there.holds(address, blob)
            nodes = [await there.add() for _ in range(3)]
            paths = await asyncio.gather(*(node.fetch() for node in nodes))
            assert all(path.read_bytes() == content for path in paths)
            assert 0 < there.sent() < 3 * blob.size
            assert address in there.service.peers.reports
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    run(tmp_path, content, blob, story)


def test_hosts_that_cannot_reach_each_other_get_the_blob_from_the_scheduler(
    content: bytes, blob: Blob, tmp_path: Path
) -> None:
    """A few tries tell that there is no way between them; then each goes on as if it were alone."""

    async def story(there: Hosts) -> None:
        nodes = [await there.add() for _ in range(5)]
        for node in nodes:
            assert node.address  # which Dask remembers
            node.stop()  # nobody can connect to it any more
            node.deadline = 0.3
        for node in nodes:
            assert (await node.fetch()).read_bytes() == content
        assert there.sent() == 5 * blob.size
        assert len(there.service.peers.trouble[nodes[-1].address].avoids) == FAILURES

    run(tmp_path, content, blob, story)


def test_a_scheduler_of_the_release_before_serves_the_whole_blob(content: bytes, blob: Blob, tmp_path: Path) -> None:
    """It answers with the bytes from the offset on, knows nothing of peers, and is told nothing at the end."""

    async def story(there: Hosts) -> None:
        asked = []

        async def handle_get(blob: object, offset: int, **_: object) -> dict[str, bytes]:
            asked.append(offset)
            return {"data": content[offset : offset + CHUNK]}

        there.scheduler.handlers["pkgsync_get"] = handle_get
        node = await there.add()
        assert (await node.fetch()).read_bytes() == content
        assert asked == [chunk * CHUNK for chunk in range(CHUNKS)]

    run(tmp_path, content, blob, story)


def test_a_node_of_the_release_before_gets_the_whole_blob(content: bytes, blob: Blob, tmp_path: Path) -> None:
    """It names no address, and is neither given peers nor made one."""

    async def story(there: Hosts) -> None:
        await (await there.add()).fetch()
        parts = [(await there.service.handle_get(blob_to_wire(blob), chunk * CHUNK))["data"] for chunk in range(CHUNKS)]
        assert b"".join(parts) == content
        assert len(there.service.peers.spread(blob).complete) == 1

    run(tmp_path, content, blob, story)


def test_a_small_blob_comes_from_the_scheduler(tmp_path: Path) -> None:
    """To ask another host would take as long."""
    small = b"small"
    blob = Blob(REQUEST, "large-1.0-py3-none-any.whl", hashlib.sha256(small).hexdigest(), len(small))

    async def story(there: Hosts) -> None:
        for _ in range(2):
            assert (await (await there.add()).fetch()).read_bytes() == small
        assert there.sent() == 2 * len(small)
        assert not there.service.peers.spreads

    run(tmp_path, small, blob, story)


def test_a_blob_that_is_not_served_any_more_is_told(content: bytes, blob: Blob, tmp_path: Path) -> None:
    """Also to a host that waits for its turn, whatever chunks are on their way to others."""

    async def story(there: Hosts) -> None:
        for number in range(CHUNKS + 1):
            message = chunk_request_to_wire(ChunkRequest(blob, f"tcp://gone:{number}", 0))
            asked = asyncio.create_task(there.service.handle_get(**message))
            if number < CHUNKS:
                assert "data" in await asked
        while not there.service.waiting:  # noqa: ASYNC110  # it sets no event
            await asyncio.sleep(0)
        await there.service.drop()
        assert "not served any more" in (await asked)["failure"]
        assert not there.service.peers.spreads

    run(tmp_path, content, blob, story)


def test_a_node_answers_plainly_what_it_does_not_give(tmp_path: Path, blob: Blob) -> None:
    """Unknown digests, places in no chunk, and whatever is no question at all; nothing leads out of its cache."""
    server = ChunkServer(lambda: NodeSettings(str(tmp_path)))

    async def refused(**message: object) -> str:
        return str((await server.handle_chunk(**message))["refused"])

    async def story() -> None:
        assert "does not have that chunk" in await refused(digest=blob.digest, offset=0)
        assert "does not have that chunk" in await refused(digest=blob.digest, offset=CHUNK << 30)
        for digest, offset in (("../../etc", 0), (b"x", 0), (None, 0), (blob.digest, 1), (blob.digest, -CHUNK)):
            assert await refused(digest=digest, offset=offset)
        assert "digest" in await refused()
        server.sending = MOST
        assert "as many chunks as it can" in await refused(digest=blob.digest, offset=0)

    asyncio.run(story())
