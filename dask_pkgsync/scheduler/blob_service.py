"""On the scheduler: takes in what clients give, and keeps it for all nodes that cannot get it elsewhere."""

from __future__ import annotations

import asyncio
import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dask_pkgsync.cache.directory import open_cache
from dask_pkgsync.model.blobs import (
    Delivery,
    delivery_to_wire,
    parcel_from_wire,
    requests_from_wire,
    wheel_error_from_wire,
)
from dask_pkgsync.model.reports.failure import LayerError, failure_to_wire
from dask_pkgsync.model.wire.fields import Field
from dask_pkgsync.node.agent import failure_of
from dask_pkgsync.options.settings import node_settings
from dask_pkgsync.wheels.blobs import Blobs
from dask_pkgsync.wheels.store import fetch_into

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from dask_pkgsync.layers.fill import Fetch
    from dask_pkgsync.model.blobs import Parcel, Request
    from dask_pkgsync.model.errors import WheelError
    from dask_pkgsync.model.target import Target
    from dask_pkgsync.scheduler.blob_providers import Inquiries
    from dask_pkgsync.scheduler.claims import Want

IDLE = 600.0
"""Seconds after which an upload that stopped half-way is given up and removed."""
OFFERED = 100
"""Entries of one message of a client, which sends one at a time."""


@dataclass(frozen=True)
class Serving:
    """Who gives what, for one target."""

    newest: Want | None
    deliveries: dict[Request, Delivery]


class Supply:
    """The wheels of one cluster: each is asked for once, uploaded once, and then served to every host.

    Parameters
    ----------
    inquiries : Inquiries
        Asks the clients.
    tell : callable
        Receives an event (a dictionary) for what was uploaded or served.
    """

    def __init__(self, inquiries: Inquiries, tell: Callable[[dict[str, Any]], None]) -> None:
        self.inquiries = inquiries
        self.tell = tell
        self.timer: asyncio.TimerHandle | None = None
        self.deliveries: dict[Request, Delivery] = {}
        """Where each wheel is: what one client puts into its store is there, also when the next one has none."""
        self.failed: dict[Request, LayerError] = {}
        """What a client could not give, for the time of one sync: a build that fails is not tried for each host."""
        self.writing: dict[str, asyncio.Task[int]] = {}

    @functools.cached_property
    def blobs(self) -> Blobs:
        """The blobs on the scheduler's disk."""
        settings = node_settings()
        cache = open_cache(settings.cache_directory)
        return Blobs(cache, max_age=settings.max_age, max_bytes=settings.store_bytes)

    @property
    def handlers(self) -> dict[str, Any]:
        """What nodes and clients may ask."""
        return {
            "pkgsync_parcels": self.handle_parcels,
            "pkgsync_get": self.handle_get,
            "pkgsync_offer": self.handle_offer,
            "pkgsync_put": self.handle_put,
            "pkgsync_at_work": self.handle_at_work,
        }

    async def serve(self, want: Want) -> Serving:
        """Ask this client first from now on; return whom and what before."""
        before = Serving(self.inquiries.newest, dict(self.deliveries))
        self.inquiries.newest, self.failed = want, {}
        self.inquiries.heard_of(want.client)
        self.deliveries = {request: one for request, one in self.deliveries.items() if not self._is_offered_again(one)}
        return before

    def _is_offered_again(self, delivery: Delivery) -> bool:
        """Whether to ask for something anew: what is in a store may have expired there, and somebody has it."""
        request = delivery.parcel.request
        return bool(delivery.store) and (want := self.inquiries.whom(request)) is not None and want.has(request)

    async def serve_again(self, before: Serving) -> None:
        """Go back to whom and what was before: a sync has failed, and the target is what it was."""
        now, self.deliveries = self.deliveries, before.deliveries
        self.inquiries.newest = before.newest
        await self._end_leases(now.values())

    async def keep(self, target: Target) -> None:
        """Forget what is no part of a target that was adopted; its blobs stay until they are too old."""
        there = target.environment.distributions
        gone = [request for request in self.deliveries if not request.is_met_by(there.get(request.name))]
        await self._end_leases([self.deliveries.pop(request) for request in gone])

    async def drop(self) -> None:
        """Forget everything."""
        before, self.deliveries = self.deliveries, {}
        await self._end_leases(before.values())

    async def _end_leases(self, gone: Iterable[Delivery]) -> None:
        """Let the scheduler remove blobs that nothing else here needs."""
        digests = _held(gone) - _held(self.deliveries.values())
        if digests:
            await asyncio.to_thread(self.blobs.cache.end_leases, digests)

    # -- for nodes ----------------------------------------------------------------------------------------------------

    async def obtain(self, requests: Sequence[Request]) -> list[Delivery]:
        """Return where the wheels for some requests are, once all of them are there.

        Raises
        ------
        LayerError
            If one cannot be had.
        """
        await asyncio.to_thread(lambda: self.blobs)
        known = [self.deliveries.get(request) for request in requests]
        there = await asyncio.to_thread(lambda: [one is not None and self._has(one) for one in known])
        found = {one.parcel.request: one for one, is_there in zip(known, there, strict=True) if one and is_there}
        missing = [request for request in requests if request not in found]
        for request in missing:
            if request in self.failed:
                raise self.failed[request]
        found.update(zip(missing, await self.inquiries.ask(missing), strict=True))
        return [found[request] for request in requests]

    def _has(self, delivery: Delivery) -> bool:
        return bool(delivery.store) or self.blobs.has(delivery.parcel)

    async def handle_parcels(self, requests: object) -> dict[str, Any]:
        """Return the wheels that a node asks for, once they are here, or why they cannot be had."""
        try:
            found = await self.obtain(await asyncio.to_thread(requests_from_wire, requests))
        except LayerError as error:
            return {"failure": failure_to_wire(failure_of("", error))}
        return {"deliveries": [delivery_to_wire(one) for one in found]}

    async def handle_get(self, parcel: object, offset: object) -> Any:
        """Return a part of a blob."""
        checked, start = parcel_from_wire(parcel), Field(offset, "offset").count()
        if self.deliveries.get(checked.request) != Delivery(checked):
            return {"failure": f"{checked.filename} is not served any more"}
        data = await asyncio.to_thread(self.blobs.read, checked, start)
        if start + len(data) >= checked.size:
            self.tell({"action": "served", "package": checked.filename, "bytes": checked.size})
        return {"data": data}

    # -- for clients --------------------------------------------------------------------------------------------------

    async def handle_at_work(self, client: object) -> None:
        """Take note that a client works on what it was asked for, however long that takes."""
        self.inquiries.heard_of(Field(client, "client").text(500))

    async def handle_offer(self, parcels: object, errors: object, store: object = "") -> dict[str, Any]:
        """Take note of what a client has; return how much of each blob is here already.

        What nobody has asked for, or waits for any more, is not kept: of that, all is here. So it is of what the client
        has put into the store that it has said it uses, when it synced: nodes are told that URL, and no other.
        """
        for entry in Field(errors, "errors").items(OFFERED):
            request, error = entry.row(2)
            (refused,) = requests_from_wire([request.value])
            self._fail(refused, _refused(wheel_error_from_wire(error.value)))
        offsets, used = [], Field(store, "store").text()
        for entry in Field(parcels, "parcels").items(OFFERED):
            parcel = parcel_from_wire(entry.value, entry.place)
            offsets.append(await self._take(parcel, used) if parcel.request in self.inquiries.open else parcel.size)
        return {"offsets": offsets}

    async def _take(self, parcel: Parcel, used: str) -> int:
        """Begin to take something in that was asked for, unless it is in a store; return where to go on."""
        self.inquiries.goes_on(parcel.request)
        store = self.inquiries.store_for(parcel.request)
        if store and used == store:
            await self._arrived(Delivery(parcel, store), parcel.size)
            return parcel.size
        try:
            offset = await asyncio.to_thread(self.blobs.expect, parcel)
        except LayerError as error:
            self._fail(parcel.request, error)
            return parcel.size
        await self._arrived(Delivery(parcel), offset)
        self._look_for_the_idle()
        return offset

    async def handle_put(self, parcel: object, offset: object, data: object) -> dict[str, Any]:
        """Take a part of a blob; return where to go on.

        The answer comes when the part before this one has been written: so one is on its way while another is being
        written, and no more than two are in memory.
        """
        checked, start = parcel_from_wire(parcel), Field(offset, "offset").count()
        if checked.request not in self.inquiries.open:
            return {"offset": checked.size}
        self.inquiries.goes_on(checked.request)
        content = bytes(data) if isinstance(data, memoryview | bytearray) else data
        if not isinstance(content, bytes):
            return {"failure": "a part of a blob is bytes"}
        try:
            before = self.writing.pop(checked.digest, None)
            if before is not None and (reached := await before) != start:
                await self._arrived(Delivery(checked), reached)
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
            self.tell({"action": "uploaded", "package": checked.filename, "bytes": checked.size})
        await self._arrived(Delivery(checked), reached)
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

    async def _arrived(self, delivery: Delivery, offset: int) -> None:
        """Let those go on that wait for a blob, if all of it is there."""
        parcel = delivery.parcel
        if offset < parcel.size:
            return
        if not delivery.store:
            await asyncio.to_thread(self.blobs.cache.lease, parcel.digest)
        if self.inquiries.answer(delivery):
            self.deliveries[parcel.request] = delivery
        else:  # another client was faster, perhaps with other bytes
            await self._end_leases([delivery])

    def _fail(self, request: Request, reason: LayerError) -> None:
        if self.inquiries.fail(request, reason):
            self.failed[request] = reason

    def _here(self, delivery: Delivery) -> Path:
        if delivery.store:
            with self.blobs.cache.lock(f"blob-{delivery.parcel.digest}", IDLE):
                fetch_into(self.blobs, delivery.store, delivery.parcel)
        return self.blobs.verify(delivery.parcel)

    def fetch_here(self) -> Fetch:
        """Return what `process.preparation` calls, in its thread, for the scheduler as a node."""
        loop = asyncio.get_running_loop()

        def fetch(requests: Sequence[Request]) -> dict[Request, tuple[Path, str]]:
            found = asyncio.run_coroutine_threadsafe(self.obtain(requests), loop).result()
            return {one.parcel.request: (self._here(one), one.parcel.note) for one in found}

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


def _held(deliveries: Iterable[Delivery]) -> set[str]:
    """Return the digests of what is on the scheduler's disk."""
    return {one.parcel.digest for one in deliveries if not one.store}


def _seen(writing: asyncio.Task[int]) -> None:
    """Look at how writing a part ended, also where no other part follows that would tell the client."""
    if not writing.cancelled():
        writing.exception()
