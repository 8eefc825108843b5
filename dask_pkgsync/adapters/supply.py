"""On the scheduler: asks the client for what nodes cannot get elsewhere, and keeps it for all of them."""

from __future__ import annotations

import asyncio
import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dask_pkgsync.adapters.node import failure_of
from dask_pkgsync.adapters.settings import node_settings
from dask_pkgsync.adapters.topic import WANTED
from dask_pkgsync.core.errors import LayerError
from dask_pkgsync.core.fields import Field
from dask_pkgsync.core.messages import failure_to_wire
from dask_pkgsync.core.parcels import (
    parcel_from_wire,
    parcel_to_wire,
    requests_from_wire,
    requests_to_wire,
    wheel_error_from_wire,
)
from dask_pkgsync.shell.blobs import Blobs
from dask_pkgsync.shell.cache import open_cache
from dask_pkgsync.shell.store import fetch_into

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from distributed import Scheduler

    from dask_pkgsync.core.errors import WheelError
    from dask_pkgsync.core.messages import Target
    from dask_pkgsync.core.parcels import Parcel, Request
    from dask_pkgsync.shell.filling import Fetch

IDLE = 600.0
"""Seconds after which an upload that stopped half-way is given up and removed."""
OFFERED = 100
"""Entries of one message of a client, which sends one at a time."""
AT_ONCE = 500
"""Requests that one step of the event loop passes on to the client."""
_PATIENCE = 1.0
"""Seconds between two looks at whether the client is still there."""


@dataclass(frozen=True)
class Serving:
    """Who gives what, for one target."""

    client: str
    store: str
    parcels: dict[Request, Parcel]


class Supply:
    """The wheels of one cluster: each is asked for once, uploaded once, and then served to every host.

    Parameters
    ----------
    scheduler : Scheduler
    tell : callable
        Receives an event (a dictionary) for what was uploaded or served.
    """

    def __init__(self, scheduler: Scheduler, tell: Callable[[dict[str, Any]], None]) -> None:
        self.scheduler = scheduler
        self.tell = tell
        self.owners: Callable[[Request], list[str]] = lambda _: []
        """Returns the clients whose environment holds something."""
        self.client = ""
        self.store = ""
        self.timer: asyncio.TimerHandle | None = None
        self.parcels: dict[Request, Parcel] = {}
        self.asked: dict[Request, asyncio.Future[Parcel]] = {}
        self.failed: dict[Request, LayerError] = {}
        """What the client could not give, for the time of one sync: a build that fails is not tried for each host."""
        self.whom: dict[Request, tuple[str, object]] = {}
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
        }

    async def serve(self, client: str, store: str) -> Serving:
        """Ask this client from now on, which puts wheels here or into a store; return whom and what before."""
        before = Serving(self.client, self.store, dict(self.parcels))
        if store or store != self.store:  # what is in a store may have expired: it is offered again
            self.parcels = {}
        self.client, self.store, self.failed = client, store, {}
        return before

    async def serve_again(self, before: Serving) -> None:
        """Go back to whom and what was before: a sync has failed, and the target is what it was."""
        now, self.parcels = self.parcels, before.parcels
        self.client, self.store = before.client, before.store
        await self._end_leases(now.values())

    async def keep(self, target: Target) -> None:
        """Forget what is no part of a target that was adopted; its blobs stay until they are too old."""
        there = target.environment.distributions
        gone = [request for request in self.parcels if not request.is_met_by(there.get(request.name))]
        await self._end_leases([self.parcels.pop(request) for request in gone])

    async def drop(self) -> None:
        """Forget everything."""
        before, self.parcels = self.parcels, {}
        await self._end_leases(before.values())

    async def _end_leases(self, parcels: Iterable[Parcel]) -> None:
        """Let the store remove blobs that nothing else here needs."""
        digests = {parcel.digest for parcel in parcels} - {parcel.digest for parcel in self.parcels.values()}
        if digests:
            await asyncio.to_thread(self.blobs.cache.end_leases, digests)

    # -- for nodes ----------------------------------------------------------------------------------------------------

    async def obtain(self, requests: Sequence[Request]) -> list[Parcel]:
        """Return the wheels for some requests, once their blobs are all here.

        Raises
        ------
        LayerError
            If the client cannot give one, or is gone.
        """
        await asyncio.to_thread(lambda: self.blobs)
        known = [self.parcels.get(request) for request in requests]
        there = await asyncio.to_thread(lambda: [parcel is not None and self._has(parcel) for parcel in known])
        found = {one.request: one for one, is_there in zip(known, there, strict=True) if one is not None and is_there}
        missing = [request for request in requests if request not in found]
        for request in missing:
            if request in self.failed:
                raise self.failed[request]
        for request in missing:
            if self._who_has(request) not in self.scheduler.clients:
                raise _gone(request)
        waiting = {}
        for start in range(0, len(missing), AT_ONCE):
            some = missing[start : start + AT_ONCE]
            self._ask([request for request in some if request not in self.asked])
            waiting.update({request: self.asked[request] for request in some})  # before anything else can answer
            await asyncio.sleep(0)
        for request, future in waiting.items():
            found[request] = await self._wait(request, future)
        return [found[request] for request in requests]

    def _has(self, parcel: Parcel) -> bool:
        return bool(self.store) or self.blobs.has(parcel)

    def _ask(self, requests: Sequence[Request]) -> None:
        for request in requests:
            future: asyncio.Future[Parcel] = asyncio.get_running_loop().create_future()
            future.add_done_callback(functools.partial(self._answered, request))
            self.asked[request] = future
        self._send(requests)

    def _send(self, requests: Sequence[Request]) -> None:
        """Ask the client, and note which connection of it was asked: another one knows nothing of it."""
        asked: dict[str, list[Request]] = {}
        for request in requests:
            client = self._who_has(request)
            self.whom[request] = (client, self.scheduler.clients.get(client))
            asked.setdefault(client, []).append(request)
        for client, theirs in asked.items():
            self.scheduler.client_send(client, {"op": WANTED, "requests": requests_to_wire(theirs)})

    def _who_has(self, request: Request) -> str:
        """Return the connected client that has something: the newest one, or another whose environment holds it."""
        others = [client for client in self.owners(request) if client in self.scheduler.clients]
        return self.client if self.client in others or not others else others[-1]

    def _answered(self, request: Request, future: asyncio.Future[Parcel]) -> None:
        self.asked.pop(request, None)
        self.whom.pop(request, None)
        if not future.cancelled():
            future.exception()  # seen: whoever waits raises it

    async def _wait(self, request: Request, future: asyncio.Future[Parcel]) -> Parcel:
        while not future.done():
            client, state = self.whom[request]
            if state is None or self.scheduler.clients.get(client) is not state:  # it left, or came back
                if self._who_has(request) in self.scheduler.clients:
                    self._send([request])
                else:
                    self._give_up()
            await asyncio.wait([future], timeout=_PATIENCE)
        return future.result()

    def _give_up(self) -> None:
        """Let nobody wait for what only a client has that is gone."""
        for request, future in list(self.asked.items()):
            if not future.done():
                future.set_exception(_gone(request))

    async def handle_parcels(self, requests: object) -> dict[str, Any]:
        """Return the wheels that a node asks for, once they are here, or why they cannot be had."""
        try:
            parcels = await self.obtain(await asyncio.to_thread(requests_from_wire, requests))
        except LayerError as error:
            return {"failure": failure_to_wire(failure_of("", error))}
        return {"parcels": [parcel_to_wire(parcel) for parcel in parcels], "store": self.store}

    async def handle_get(self, parcel: object, offset: object) -> Any:
        """Return a part of a blob."""
        checked, start = parcel_from_wire(parcel), Field(offset, "offset").count()
        if checked not in self.parcels.values():
            return {"failure": f"{checked.filename} is not served any more"}
        data = await asyncio.to_thread(self.blobs.read, checked, start)
        if start + len(data) >= checked.size:
            self.tell({"action": "served", "package": checked.filename, "bytes": checked.size})
        return {"data": data}

    # -- for the client -----------------------------------------------------------------------------------------------

    async def handle_offer(self, parcels: object, errors: object) -> dict[str, Any]:
        """Take note of what a client has; return how much of each blob is here already.

        What nobody has asked for, or waits for any more, is not kept: of that, all is here.
        """
        for entry in Field(errors, "errors").items(OFFERED):
            request, error = entry.row(2)
            self._fail(requests_from_wire([request.value]), _refused(wheel_error_from_wire(error.value)))
        offsets = []
        for entry in Field(parcels, "parcels").items(OFFERED):
            parcel = parcel_from_wire(entry.value, entry.place)
            if parcel.request not in self.asked:
                offsets.append(parcel.size)
                continue
            try:
                offset = parcel.size if self.store else await asyncio.to_thread(self.blobs.expect, parcel)
            except LayerError as error:
                self._fail([parcel.request], error)
                offset = parcel.size
            else:
                await self._arrived(parcel, offset)
                self._look_for_the_idle()
            offsets.append(offset)
        return {"offsets": offsets}

    async def handle_put(self, parcel: object, offset: object, data: object) -> dict[str, Any]:
        """Take a part of a blob; return where to go on.

        The answer comes when the part before this one has been written: so one is on its way while another is being
        written, and no more than two are in memory.
        """
        checked, start = parcel_from_wire(parcel), Field(offset, "offset").count()
        if checked.request not in self.asked:
            return {"offset": checked.size}
        content = bytes(data) if isinstance(data, memoryview | bytearray) else data
        if not isinstance(content, bytes):
            return {"failure": "a part of a blob is bytes"}
        try:
            before = self.writing.pop(checked.digest, None)
            if before is not None and (reached := await before) != start:
                await self._arrived(checked, reached)
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
        await self._arrived(checked, reached)
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

    async def _arrived(self, parcel: Parcel, offset: int) -> None:
        """Let those go on that wait for a blob, if it is wholly here."""
        if offset < parcel.size:
            return
        if not self.store:
            await asyncio.to_thread(self.blobs.cache.lease, parcel.digest)
        self.parcels[parcel.request] = parcel
        future = self.asked.get(parcel.request)
        if future is not None and not future.done():
            future.set_result(parcel)

    def _fail(self, requests: Iterable[Request], reason: LayerError) -> None:
        for request in requests:
            if (future := self.asked.get(request)) is not None:
                self.failed[request] = reason
                if not future.done():
                    future.set_exception(reason)

    def _here(self, parcel: Parcel) -> Path:
        if self.store:
            with self.blobs.cache.lock(f"blob-{parcel.digest}", IDLE):
                fetch_into(self.blobs, self.store, parcel)
        return self.blobs.verify(parcel)

    def fetch_here(self) -> Fetch:
        """Return what `shell.prepare` calls, in its thread, for the scheduler as a node."""
        loop = asyncio.get_running_loop()

        def fetch(requests: Sequence[Request]) -> dict[Request, tuple[Path, str]]:
            parcels = asyncio.run_coroutine_threadsafe(self.obtain(requests), loop).result()
            return {parcel.request: (self._here(parcel), parcel.note) for parcel in parcels}

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


def _seen(writing: asyncio.Task[int]) -> None:
    """Look at how writing a part ended, also where no other part follows that would tell the client."""
    if not writing.cancelled():
        writing.exception()


def _gone(request: Request) -> LayerError:
    return LayerError(
        "pack",
        f"only a client has {request.name} {request.version}, and it is not connected any more",
        advice="Sync again from a client that has it.",
    )
