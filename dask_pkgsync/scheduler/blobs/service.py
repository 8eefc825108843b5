"""On the scheduler: takes in what clients give, and keeps it for all nodes that cannot get it elsewhere."""

from __future__ import annotations

import asyncio
import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dask_pkgsync.cache.directory import open_cache
from dask_pkgsync.model.blobs import (
    BlobLocation,
    blob_from_wire,
    location_to_wire,
    requests_from_wire,
    wheel_error_from_wire,
)
from dask_pkgsync.model.reports.failure import LayerError, failure_to_wire
from dask_pkgsync.model.wire.fields import Field
from dask_pkgsync.node.agent import failure_of
from dask_pkgsync.options.node import node_settings
from dask_pkgsync.wheels.blob_store import BlobStore
from dask_pkgsync.wheels.fsspec_store import fetch_into

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from dask_pkgsync.layers.fill import Fetch
    from dask_pkgsync.model.blobs import Blob, BlobRequest
    from dask_pkgsync.model.errors import WheelError
    from dask_pkgsync.model.target import Target
    from dask_pkgsync.scheduler.blobs.providers import BlobProviders
    from dask_pkgsync.scheduler.clients.claims import Claim

IDLE = 600.0
"""Seconds after which an upload that stopped half-way is given up and removed."""
OFFERED = 100
"""Entries of one message of a client, which sends one at a time."""


@dataclass(frozen=True)
class ServiceState:
    """Who gives what, for one target."""

    newest: Claim | None
    locations: dict[BlobRequest, BlobLocation]


class BlobService:
    """The wheels of one cluster: each is asked for once, uploaded once, and then served to every host.

    Parameters
    ----------
    providers : BlobProviders
        Asks the clients.
    log_event : callable
        Receives an event (a dictionary) for what was uploaded or served.
    """

    def __init__(self, providers: BlobProviders, log_event: Callable[[dict[str, Any]], None]) -> None:
        self.providers = providers
        self.log_event = log_event
        self.timer: asyncio.TimerHandle | None = None
        self.locations: dict[BlobRequest, BlobLocation] = {}
        """Where each wheel is: what one client puts into its store is there, also when the next one has none."""
        self.failed: dict[BlobRequest, LayerError] = {}
        """What a client could not give, for the time of one sync: a build that fails is not tried for each host."""
        self.writing: dict[str, asyncio.Task[int]] = {}

    @functools.cached_property
    def blobs(self) -> BlobStore:
        """The blobs on the scheduler's disk."""
        settings = node_settings()
        cache = open_cache(settings.cache_directory)
        return BlobStore(cache, max_age=settings.max_age, max_bytes=settings.store_bytes)

    @property
    def handlers(self) -> dict[str, Any]:
        """What nodes and clients may ask."""
        return {
            "pkgsync_blobs": self.handle_blobs,
            "pkgsync_get": self.handle_get,
            "pkgsync_offer": self.handle_offer,
            "pkgsync_put": self.handle_put,
            "pkgsync_at_work": self.handle_at_work,
        }

    async def serve(self, claim: Claim) -> ServiceState:
        """Ask this client first from now on; return whom and what before."""
        before = ServiceState(self.providers.newest, dict(self.locations))
        self.providers.newest, self.failed = claim, {}
        self.providers.heard_of(claim.client)
        self.locations = {request: one for request, one in self.locations.items() if not self._is_offered_again(one)}
        return before

    def _is_offered_again(self, location: BlobLocation) -> bool:
        """Whether to ask for something anew: what is in a store may have expired there, and somebody has it."""
        request = location.blob.request
        return bool(location.store) and (claim := self.providers.whom(request)) is not None and claim.has(request)

    async def serve_again(self, before: ServiceState) -> None:
        """Go back to whom and what was before: a sync has failed, and the target is what it was."""
        now, self.locations = self.locations, before.locations
        self.providers.newest = before.newest
        await self._end_leases(now.values())

    async def keep(self, target: Target) -> None:
        """Forget what is no part of a target that was adopted; its blobs stay until they are too old."""
        there = target.environment.distributions
        gone = [request for request in self.locations if not request.is_met_by(there.get(request.name))]
        await self._end_leases([self.locations.pop(request) for request in gone])

    async def drop(self) -> None:
        """Forget everything."""
        before, self.locations = self.locations, {}
        await self._end_leases(before.values())

    async def _end_leases(self, gone: Iterable[BlobLocation]) -> None:
        """Let the scheduler remove blobs that nothing else here needs."""
        digests = _held(gone) - _held(self.locations.values())
        if digests:
            await asyncio.to_thread(self.blobs.cache.end_leases, digests)

    # -- for nodes ----------------------------------------------------------------------------------------------------

    async def obtain(self, requests: Sequence[BlobRequest]) -> list[BlobLocation]:
        """Return where the wheels for some requests are, once all of them are there.

        Raises
        ------
        LayerError
            If one cannot be had.
        """
        await asyncio.to_thread(lambda: self.blobs)
        known = [self.locations.get(request) for request in requests]
        there = await asyncio.to_thread(lambda: [one is not None and self._has(one) for one in known])
        found = {one.blob.request: one for one, is_there in zip(known, there, strict=True) if one and is_there}
        missing = [request for request in requests if request not in found]
        for request in missing:
            if request in self.failed:
                raise self.failed[request]
        found.update(zip(missing, await self.providers.ask(missing), strict=True))
        return [found[request] for request in requests]

    def _has(self, location: BlobLocation) -> bool:
        return bool(location.store) or self.blobs.has(location.blob)

    async def handle_blobs(self, requests: object, **_: object) -> dict[str, Any]:
        """Return the wheels that a node asks for, once they are here, or why they cannot be had."""
        try:
            found = await self.obtain(await asyncio.to_thread(requests_from_wire, requests))
        except LayerError as error:
            return {"failure": failure_to_wire(failure_of("", error))}
        return {"locations": [location_to_wire(one) for one in found]}

    async def handle_get(self, blob: object, offset: object, **_: object) -> Any:
        """Return a part of a blob."""
        checked, start = blob_from_wire(blob), Field(offset, "offset").count()
        if self.locations.get(checked.request) != BlobLocation(checked):
            return {"failure": f"{checked.filename} is not served any more"}
        data = await asyncio.to_thread(self.blobs.read, checked, start)
        if start + len(data) >= checked.size:
            self.log_event({"action": "served", "package": checked.filename, "bytes": checked.size})
        return {"data": data}

    # -- for clients --------------------------------------------------------------------------------------------------

    async def handle_at_work(self, client: object, **_: object) -> None:
        """Take note that a client works on what it was asked for, however long that takes."""
        self.providers.heard_of(Field(client, "client").text(500))

    async def handle_offer(self, blobs: object, errors: object, store: object = "", **_: object) -> dict[str, Any]:
        """Take note of what a client has; return how much of each blob is here already.

        What nobody has asked for, or waits for any more, is not kept: of that, all is here. So it is of what the client
        has put into the store that it has said it uses, when it synced: nodes are told that URL, and no other.
        """
        for entry in Field(errors, "errors").items(OFFERED):
            (refused,) = requests_from_wire([entry.key("request").value])
            self._fail(refused, _refused(wheel_error_from_wire(entry.key("error").value)))
        offsets, used = [], Field(store, "store").text()
        for entry in Field(blobs, "blobs").items(OFFERED):
            blob = blob_from_wire(entry.value, entry.place)
            offsets.append(await self._take(blob, used) if blob.request in self.providers.open else blob.size)
        return {"offsets": offsets}

    async def _take(self, blob: Blob, used: str) -> int:
        """Begin to take something in that was asked for, unless it is in a store; return where to go on."""
        self.providers.goes_on(blob.request)
        store = self.providers.store_for(blob.request)
        if store and used == store:
            await self._arrived(BlobLocation(blob, store), blob.size)
            return blob.size
        try:
            offset = await asyncio.to_thread(self.blobs.expect, blob)
        except LayerError as error:
            self._fail(blob.request, error)
            return blob.size
        await self._arrived(BlobLocation(blob), offset)
        self._look_for_the_idle()
        return offset

    async def handle_put(self, blob: object, offset: object, data: object, **_: object) -> dict[str, Any]:
        """Take a part of a blob; return where to go on.

        The answer comes when the part before this one has been written: so one is on its way while another is being
        written, and no more than two are in memory.
        """
        checked, start = blob_from_wire(blob), Field(offset, "offset").count()
        if checked.request not in self.providers.open:
            return {"offset": checked.size}
        self.providers.goes_on(checked.request)
        content = bytes(data) if isinstance(data, memoryview | bytearray) else data
        if not isinstance(content, bytes):
            return {"failure": "a part of a blob is bytes"}
        try:
            before = self.writing.pop(checked.digest, None)
            if before is not None and (reached := await before) != start:
                await self._arrived(BlobLocation(checked), reached)
                return {"offset": reached}
            writing = asyncio.create_task(asyncio.to_thread(self.blobs.append, checked, start, content))
            writing.add_done_callback(_seen)
            if start + len(content) < checked.size:
                self.writing[checked.digest] = writing
                self._look_for_the_idle()
                return {"offset": start + len(content)}
            reached = await writing
        except LayerError as error:  # the client tells those who wait, after its last try
            return {"failure": str(error)}
        if reached == checked.size:
            self.log_event({"action": "uploaded", "package": checked.filename, "bytes": checked.size})
        await self._arrived(BlobLocation(checked), reached)
        return {"offset": reached}

    def _look_for_the_idle(self) -> None:
        """See to it that an upload which stops here is given up, some time after its last part."""
        loop = asyncio.get_running_loop()
        if self.timer is not None:
            self.timer.cancel()
        self.timer = loop.call_later(IDLE + 1, self._give_up_the_idle)

    def _give_up_the_idle(self) -> None:
        self.writing = {digest: task for digest, task in self.writing.items() if not task.done()}
        asyncio.get_running_loop().run_in_executor(None, self.blobs.forget_partial, IDLE)

    async def _arrived(self, location: BlobLocation, offset: int) -> None:
        """Let those go on that wait for a blob, if all of it is there."""
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

    def _here(self, location: BlobLocation) -> Path:
        if location.store:
            with self.blobs.cache.lock(f"blob-{location.blob.digest}", IDLE):
                fetch_into(self.blobs, location.store, location.blob)
        return self.blobs.verify(location.blob)

    def fetch_here(self) -> Fetch:
        """Return what `process.preparation` calls, in its thread, for the scheduler as a node."""
        loop = asyncio.get_running_loop()

        def fetch(requests: Sequence[BlobRequest]) -> dict[BlobRequest, tuple[Path, str]]:
            found = asyncio.run_coroutine_threadsafe(self.obtain(requests), loop).result()
            return {one.blob.request: (self._here(one), one.blob.note) for one in found}

        return fetch


def _refused(error: WheelError) -> LayerError:
    """Return what a client cannot give, as the nodes are told it."""
    return LayerError(
        "pack",
        f"{error.package}: {error.problem}",
        advice=error.advice,
        last_words=error.last_words,
        packages=(error.package,),
    )


def _held(locations: Iterable[BlobLocation]) -> set[str]:
    """Return the digests of what is on the scheduler's disk."""
    return {one.blob.digest for one in locations if not one.store}


def _seen(writing: asyncio.Task[int]) -> None:
    """Look at how writing a part ended, also where no other part follows that would tell the client."""
    if not writing.cancelled():
        writing.exception()
