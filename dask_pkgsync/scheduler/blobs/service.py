"""The blob service: receives packages from clients, keeps them on disk, and serves them to nodes."""

from __future__ import annotations

import asyncio
import functools
import hashlib
from collections import deque
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any

from dask_pkgsync.cache.directory import open_cache
from dask_pkgsync.model.blobs import (
    CHUNK,
    BlobLocation,
    blob_from_wire,
    chunk_request_from_wire,
    location_to_wire,
    requests_from_wire,
    wheel_error_from_wire,
)
from dask_pkgsync.model.reports.failure import LayerError, failure_to_wire
from dask_pkgsync.model.wire.fields import Field
from dask_pkgsync.node.agent import failure_of
from dask_pkgsync.options.node import node_settings
from dask_pkgsync.scheduler.blobs.peers import Complete, FromPeer, FromScheduler, Later, Peers
from dask_pkgsync.wheels.blob_store import BlobStore
from dask_pkgsync.wheels.fsspec_store import GoneError, fetch_into

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence
    from pathlib import Path

    from dask_pkgsync.layers.fill import Fetch
    from dask_pkgsync.model.blobs import Blob, BlobRequest, ChunkRequest
    from dask_pkgsync.model.errors import WheelError
    from dask_pkgsync.model.target import Target
    from dask_pkgsync.scheduler.blobs.peers import Spread, Step
    from dask_pkgsync.scheduler.blobs.providers import BlobProviders
    from dask_pkgsync.scheduler.clients.claims import Claim

IDLE = 600.0
"""Seconds without a new part after which an incomplete upload is removed."""
MAX_OFFERED = 100
"""The most blobs, and the most errors, in one message of a client."""
SMALL = 1_000_000
"""Bytes below which the scheduler sends a blob to each host itself: asking another host would take as long."""
POLL = 1.0
"""The most seconds that a host waits for its turn before it asks again."""
WOKEN = 4
"""How many waiting hosts are answered when another host has got a chunk, or has nothing more to send."""


@dataclass(frozen=True)
class ServiceState:
    """What the blob service knows for one target."""

    newest: Claim | None
    """The claim of the client that is asked first."""
    locations: dict[BlobRequest, BlobLocation]
    """Where the packages of the target are."""


class BlobService:
    """The packages that clients give to one cluster: each is requested once, uploaded once, and served to every host.

    Parameters
    ----------
    providers : BlobProviders
        Asks the clients for packages.
    log_event : callable
        Receives an event (a dictionary) for each package that was uploaded or served.
    """

    def __init__(self, providers: BlobProviders, log_event: Callable[[dict[str, Any]], None]) -> None:
        self.providers = providers
        self.log_event = log_event
        self.timer: asyncio.TimerHandle | None = None
        self.locations: dict[BlobRequest, BlobLocation] = {}
        """Where each package is: on disk, or in the store of the client that gave it, whichever client syncs next."""
        self.failed: dict[BlobRequest, LayerError] = {}
        """Packages that clients could not provide in this sync: a build that fails is not tried again for each host."""
        self.writing: dict[str, asyncio.Task[int]] = {}
        """By digest, the task that writes the last received part of a blob."""
        self.peers = Peers()
        """Which hosts have which chunks."""
        self.waiting: dict[str, deque[asyncio.Future[None]]] = {}
        """By digest, the hosts that wait for a chunk that is on its way to another host."""

    @functools.cached_property
    def blobs(self) -> BlobStore:
        """The blobs on the scheduler's disk."""
        settings = node_settings()
        cache = open_cache(settings.cache_directory)
        return BlobStore(cache, max_age=settings.max_age, max_bytes=settings.store_bytes)

    @property
    def handlers(self) -> dict[str, Any]:
        """The handlers that nodes and clients may call, by name."""
        return {
            "pkgsync_blobs": self.handle_blobs,
            "pkgsync_get": self.handle_get,
            "pkgsync_offer": self.handle_offer,
            "pkgsync_put": self.handle_put,
            "pkgsync_at_work": self.handle_at_work,
        }

    async def serve(self, claim: Claim) -> ServiceState:
        """Ask this client first from now on; return the state before, for `serve_again`."""
        before = ServiceState(self.providers.newest, dict(self.locations))
        self.providers.newest, self.failed = claim, {}
        self.peers.forgive()
        self.providers.note_message(claim.client)
        self.locations = {
            request: location
            for request, location in self.locations.items()
            if not self._should_request_again(location)
        }
        return before

    def _should_request_again(self, location: BlobLocation) -> bool:
        """Whether to ask a client again for a package in a store, where it may have expired; only if one has it."""
        request = location.blob.request
        return (
            bool(location.store) and (claim := self.providers.claim_to_ask(request)) is not None and claim.has(request)
        )

    async def serve_again(self, before: ServiceState) -> None:
        """Restore the state that `serve` returned, as the sync failed and the target has not changed."""
        dropped, self.locations = self.locations, before.locations
        self.providers.newest = before.newest
        await self._end_leases(dropped.values())

    async def keep(self, target: Target) -> None:
        """Forget the packages that an adopted target lacks; their blobs stay on disk until they are too old."""
        unneeded = [request for request in self.locations if not request.is_met_in(target.environment)]
        await self._end_leases([self.locations.pop(request) for request in unneeded])

    async def drop(self) -> None:
        """Forget all packages."""
        dropped, self.locations = self.locations, {}
        await self._end_leases(dropped.values())

    async def _end_leases(self, dropped: Iterable[BlobLocation]) -> None:
        """End the leases of blobs on disk that no remaining location uses, so that they can be collected."""
        digests = _digests_on_disk(dropped) - _digests_on_disk(self.locations.values())
        for digest in digests:
            self.peers.forget(digest)
        if digests:
            await asyncio.to_thread(self.blobs.cache.end_leases, digests)

    # -- for nodes ----------------------------------------------------------------------------------------------------

    async def obtain(self, requests: Sequence[BlobRequest], gone: Collection[str] = ()) -> list[BlobLocation]:
        """Return where the packages for some requests are, once all of them are there.

        Parameters
        ----------
        requests : sequence of BlobRequest
        gone : collection of str
            Digests of blobs that are in no store any more, where a node has looked for them.

        Raises
        ------
        LayerError
            If one of them cannot be had.
        """
        await asyncio.to_thread(lambda: self.blobs)
        for request in requests:
            location = self.locations.get(request)
            if location is not None and location.store and location.blob.digest in gone:
                del self.locations[request]
        known = [self.locations.get(request) for request in requests]
        present = await asyncio.to_thread(lambda: [location is not None and self._has(location) for location in known])
        found = {
            location.blob.request: location
            for location, is_present in zip(known, present, strict=True)
            if location and is_present
        }
        missing = [request for request in requests if request not in found]
        for request in missing:
            if request in self.failed:
                raise self.failed[request]
        found.update(zip(missing, await self.providers.ask(missing), strict=True))
        return [found[request] for request in requests]

    def _has(self, location: BlobLocation) -> bool:
        return bool(location.store) or self.blobs.has(location.blob)

    async def handle_blobs(self, requests: object, gone: object = (), **_: object) -> dict[str, Any]:
        """Return where the packages that a node asks for are, once all have arrived; or why one cannot be had."""
        missed = [entry.text() for entry in Field(gone, "gone").items(MAX_OFFERED)]
        try:
            found = await self.obtain(await asyncio.to_thread(requests_from_wire, requests), missed)
        except LayerError as error:
            return {"failure": failure_to_wire(failure_of("", error))}
        return {"locations": [location_to_wire(location) for location in found]}

    async def handle_get(self, blob: object, offset: object, **rest: object) -> Any:
        """Return a chunk of a blob to a node, or the address of a node on another host that has it.

        Returns
        -------
        dict
            ``data`` and ``offset`` of a chunk; or its ``offset``, its SHA-256 ``digest``, and the ``peer`` to ask for
            it; or ``later``; or ``complete``; or a ``failure``. A node of release 0.2 sends no ``node``, and gets the
            data from the offset on.
        """
        checked, start = blob_from_wire(blob), Field(offset, "offset").count()
        if not self._serves(checked):
            return _not_served(checked)
        if "node" in rest and checked.size >= SMALL:
            return await self._answer(chunk_request_from_wire(checked, rest))
        data = await asyncio.to_thread(self.blobs.read, checked, start)
        if start + len(data) >= checked.size:
            self.log_event({"action": "served", "package": checked.filename, "bytes": checked.size})
        return {"data": data}

    def _serves(self, blob: Blob) -> bool:
        return self.locations.get(blob.request) == BlobLocation(blob)

    async def _answer(self, request: ChunkRequest) -> dict[str, Any]:
        """Answer the request of a host for its next chunk."""
        blob, spread = request.blob, self.peers.spread(request.blob)
        match await self._next_step(request):
            case FromScheduler(chunk):
                return {"offset": chunk * CHUNK, "data": await asyncio.to_thread(self._read, spread, chunk)}
            case FromPeer(chunk, peer):
                if chunk not in spread.digests:  # the host had it before this scheduler knew of it
                    await asyncio.to_thread(self._read, spread, chunk)
                return {"offset": chunk * CHUNK, "peer": peer, "digest": spread.digests[chunk]}
            case Complete(sent):
                self.log_event({"action": "served", "package": blob.filename, "bytes": sent})
                return {"complete": True}
            case Later():
                return {"later": True} if self._serves(blob) else _not_served(blob)

    async def _next_step(self, request: ChunkRequest) -> Step:
        """Return what a host is to do next; wait for a moment if that is nothing, and the host can wait."""
        digest = request.blob.digest
        if self.peers.note(request, monotonic()):
            self._wake(digest)
        step = self.peers.choose(request, monotonic())
        if isinstance(step, Later) and request.may_wait:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.waiting.setdefault(digest, deque()).append(turn)
            await asyncio.wait([turn], timeout=POLL)
            turn.cancel()
            if self._serves(request.blob):
                self.peers.note(request, monotonic())  # again, as everything may have been forgotten meanwhile
                step = self.peers.choose(request, monotonic())
        return step

    def _wake(self, digest: str) -> None:
        """Let the hosts that have waited longest for a blob look again whether there is a chunk for them."""
        waiting, woken = self.waiting.get(digest, deque()), 0
        while waiting and woken < WOKEN:
            if not (turn := waiting.popleft()).done():
                turn.set_result(None)
                woken += 1
        if not waiting:
            self.waiting.pop(digest, None)

    def _read(self, spread: Spread, chunk: int) -> bytes:
        """Return a chunk from the scheduler's disk, and remember its digest. Blocks."""
        data = self.blobs.read(spread.blob, chunk * CHUNK)
        if chunk not in spread.digests:
            spread.digests[chunk] = hashlib.sha256(data).hexdigest()
        return data

    # -- for clients --------------------------------------------------------------------------------------------------

    async def handle_at_work(self, client: object, **_: object) -> None:
        """Note that a client works on a request, so that it is waited for, however long that takes."""
        self.providers.note_message(Field(client, "client").text(500))

    async def handle_offer(self, blobs: object, errors: object, store: object = "", **_: object) -> dict[str, Any]:
        """Receive a client's list of blobs that it can provide; return for each the offset from which to upload.

        The offset is the size, so that nothing is uploaded, where no node waits for the blob. It is also the size where
        the client has put the blob into its store: but only into the store that its claim names, as nodes are given no
        other URL.

        Parameters
        ----------
        blobs : list of dict
        errors : list of dict
            The requests that the client cannot answer, with the reasons.
        store : str
            URL of the store into which the client has put these blobs; empty for none.
        """
        for entry in Field(errors, "errors").items(MAX_OFFERED):
            (request,) = requests_from_wire([entry.key("request").value])
            self._fail(request, _layer_error(wheel_error_from_wire(entry.key("error").value)))
        offsets, used_store = [], Field(store, "store").text()
        for entry in Field(blobs, "blobs").items(MAX_OFFERED):
            blob = blob_from_wire(entry.value, entry.place)
            offsets.append(
                await self._begin_upload(blob, used_store) if blob.request in self.providers.open else blob.size
            )
        return {"offsets": offsets}

    async def _begin_upload(self, blob: Blob, used_store: str) -> int:
        """Begin to receive a requested blob, unless it is in the client's store; return the offset to upload from."""
        self.providers.note_progress(blob.request)
        store = self.providers.store_for(blob.request)
        if store and used_store == store:
            await self._arrived(BlobLocation(blob, store), blob.size)
            return blob.size
        try:
            offset = await asyncio.to_thread(self.blobs.expect, blob)
        except LayerError as error:
            self._fail(blob.request, error)
            return blob.size
        await self._arrived(BlobLocation(blob), offset)
        self._schedule_cleanup()
        return offset

    async def handle_put(self, blob: object, offset: object, data: object, **_: object) -> dict[str, Any]:
        """Receive a part of a blob; return the offset of the next part.

        The answer is sent when the part before this one has been written. So the client sends one part while another is
        being written, and no more than two are in memory.
        """
        checked, start = blob_from_wire(blob), Field(offset, "offset").count()
        if checked.request not in self.providers.open:
            return {"offset": checked.size}
        self.providers.note_progress(checked.request)
        content = bytes(data) if isinstance(data, memoryview | bytearray) else data
        if not isinstance(content, bytes):
            return {"failure": "a part of a blob must be bytes"}
        try:
            previous = self.writing.pop(checked.digest, None)
            if previous is not None and (reached := await previous) != start:
                await self._arrived(BlobLocation(checked), reached)
                return {"offset": reached}
            writing = asyncio.create_task(asyncio.to_thread(self.blobs.append, checked, start, content))
            writing.add_done_callback(_retrieve_error)
            if start + len(content) < checked.size:
                self.writing[checked.digest] = writing
                self._schedule_cleanup()
                return {"offset": start + len(content)}
            reached = await writing
        except LayerError as error:  # after its last try the client reports the error, which reaches the waiting nodes
            return {"failure": str(error)}
        if reached == checked.size:
            self.log_event({"action": "uploaded", "package": checked.filename, "bytes": checked.size})
        await self._arrived(BlobLocation(checked), reached)
        return {"offset": reached}

    def _schedule_cleanup(self) -> None:
        """Schedule the removal of uploads that stop, some time after the last part of any upload."""
        loop = asyncio.get_running_loop()
        if self.timer is not None:
            self.timer.cancel()
        self.timer = loop.call_later(IDLE + 1, self._remove_idle_uploads)

    def _remove_idle_uploads(self) -> None:
        self.writing = {digest: task for digest, task in self.writing.items() if not task.done()}
        asyncio.get_running_loop().run_in_executor(None, self.blobs.forget_partial, IDLE)

    async def _arrived(self, location: BlobLocation, offset: int) -> None:
        """Give a blob's location to the tasks that wait for it, if all of the blob has arrived."""
        blob = location.blob
        if offset < blob.size:
            return
        if not location.store:
            await asyncio.to_thread(self.blobs.cache.lease, blob.digest)
        if self.providers.answer(location):
            self.locations[blob.request] = location
        else:  # another client was faster, perhaps with other bytes
            await self._end_leases([location])

    def _fail(self, request: BlobRequest, reason: LayerError) -> None:
        if self.providers.fail(request, reason):
            self.failed[request] = reason

    def _verified_path(self, location: BlobLocation) -> Path:
        """Return a verified package on the scheduler's disk, fetched from the client's store if it is in it. Blocks."""
        if location.store:
            with self.blobs.cache.lock(f"blob-{location.blob.digest}", IDLE):
                fetch_into(self.blobs, location.store, location.blob)
        return self.blobs.verify(location.blob)

    def own_fetch(self) -> Fetch:
        """Return the function by which `process.preparation`, in a thread, gets packages for the scheduler itself."""
        loop = asyncio.get_running_loop()

        def path_of(location: BlobLocation) -> Path:
            try:
                return self._verified_path(location)
            except GoneError:
                asked_again = self.obtain([location.blob.request], [location.blob.digest])
                (again,) = asyncio.run_coroutine_threadsafe(asked_again, loop).result()
                return self._verified_path(again)

        def fetch(requests: Sequence[BlobRequest]) -> dict[BlobRequest, tuple[Path, str]]:
            found = asyncio.run_coroutine_threadsafe(self.obtain(requests), loop).result()
            return {location.blob.request: (path_of(location), location.blob.note) for location in found}

        return fetch


def _layer_error(error: WheelError) -> LayerError:
    """Return a client's error about a package that it cannot provide in the form that nodes receive."""
    return LayerError(
        "pack",
        f"{error.package}: {error.problem}",
        advice=error.advice,
        last_words=error.last_words,
        packages=(error.package,),
    )


def _not_served(blob: Blob) -> dict[str, Any]:
    return {"failure": f"{blob.filename} is not served any more, as another sync or a release has begun"}


def _digests_on_disk(locations: Iterable[BlobLocation]) -> set[str]:
    """Return the digests of the blobs that are on the scheduler's disk, and not in a client's store."""
    return {location.blob.digest for location in locations if not location.store}


def _retrieve_error(writing: asyncio.Task[int]) -> None:
    """Retrieve the error of a finished write, as no other part may follow whose answer would carry it to the client."""
    if not writing.cancelled():
        writing.exception()
