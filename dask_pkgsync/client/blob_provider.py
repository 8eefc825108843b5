"""On the client: makes packages and uploads them when the scheduler asks, for as long as the client lives."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from typing import TYPE_CHECKING, Any, Protocol, cast

from dask_pkgsync.client.dask_internals import is_closing, listen_for
from dask_pkgsync.model.blobs import CHUNK, blob_to_wire, requests_from_wire, requests_to_wire, wheel_error_to_wire
from dask_pkgsync.model.errors import WheelError
from dask_pkgsync.model.reports.failure import LayerError
from dask_pkgsync.model.wire.protocol import WANTED
from dask_pkgsync.options.person import age_in_store, packer
from dask_pkgsync.wheels.fsspec_store import put, remove_expired

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from dask_pkgsync.model.blobs import Blob, BlobRequest
    from dask_pkgsync.scanning.snapshot import Snapshot

logger = logging.getLogger("dask_pkgsync")

_UPLOADS = 2
"""Uploads that run at the same time: one blob is read while the other is written."""
_PAUSES = (0.2, 1.0, 5.0)
"""Seconds to wait before each further try, after the connection broke."""
SIGN = 5.0
"""Seconds between two messages that say that this client is at work; see `scheduler.blobs.providers.PATIENCE`."""
_REMEMBERED = 2
"""How many of a client's newest snapshots are kept: nodes may still ask for packages of an earlier one."""
_TRIES = 3
"""How often a blob is sent if its bytes arrive damaged."""


class Connected(Protocol):
    """What a provider needs of a `distributed.Client`, or of whoever else is connected to a scheduler."""

    id: str
    scheduler: Any
    """Its attributes call the scheduler's handlers."""
    status: str


class BlobProvider:
    """Packs and uploads the packages that the scheduler asks for.

    Parameters
    ----------
    client : distributed.Client or Connected
    snapshot : Snapshot
        The environment that the client syncs, with its local code.
    store : str
        URL of the store that packages are written to; empty: they are sent to the scheduler.
    sign : float
        Seconds, as `SIGN`.
    """

    def __init__(self, client: Connected, snapshot: Snapshot, store: str = "", sign: float = SIGN) -> None:
        self.client = client
        self.snapshots = [snapshot]
        self.store = store
        self.sign = sign
        self.at_work: set[asyncio.Task[None]] = set()
        self.signs: asyncio.Task[None] | None = None
        self.removal: asyncio.Task[None] | None = None
        self.builds = asyncio.Semaphore(os.cpu_count() or 1)
        self.uploads = asyncio.Semaphore(_UPLOADS)

    def listen(self) -> None:
        """Answer the scheduler from now on, also for the snapshot of the previous sync: nodes may still ask for it."""
        previous = getattr(listen_for(cast("Any", self.client), WANTED, self.handle_wanted), "__self__", None)
        if isinstance(previous, BlobProvider):
            self.snapshots += previous.snapshots[: _REMEMBERED - 1]
        if self.store:
            self.removal = asyncio.create_task(self._remove_expired())

    async def _remove_expired(self) -> None:
        """Remove the packages from the store that no client has needed for a time."""
        try:
            await asyncio.to_thread(remove_expired, self.store, keep=age_in_store())
        except Exception as error:  # noqa: BLE001  # each kind of store raises errors of its own; the sync goes on
            message = "old packages in the store %s could not be removed: %s: %s"
            logger.warning(message, self.store, type(error).__name__, error)

    def handle_wanted(self, requests: object, **_: object) -> None:
        """Start to pack and upload what the scheduler asks for."""
        for request in requests_from_wire(requests):
            task = asyncio.create_task(self._provide(request))
            self.at_work.add(task)
            task.add_done_callback(self.at_work.discard)
        if self.signs is None or self.signs.done():
            self.signs = asyncio.create_task(self._send_signs())

    async def _send_signs(self) -> None:
        """Tell the scheduler at once, and again while work is left, that this client is at work on its requests.

        A build may take minutes; without these messages the scheduler would ask another client.
        """
        while self.at_work and not is_closing(self.client):
            with contextlib.suppress(Exception):  # the connection broke or is closing: the next may arrive
                await self._scheduler.pkgsync_at_work(client=self.client.id)
            if self.at_work:
                await asyncio.wait(set(self.at_work), timeout=self.sign)

    async def _provide(self, request: BlobRequest) -> None:
        try:
            async with self.builds:
                blob, path = await asyncio.to_thread(self._pack, request)
            async with self.uploads:
                await self._persist(self._upload, blob, path)
        except WheelError as error:
            await self._refuse(request, error)
        except LayerError as error:
            await self._refuse(request, WheelError(request.name, error.problem, advice=error.advice))
        except Exception as error:  # noqa: BLE001  # nodes wait for this package: any error must be sent to them
            await self._refuse(request, WheelError(request.name, f"{type(error).__name__}: {error}"))

    async def _persist(self, function: Callable[..., Awaitable[None]], *arguments: Any) -> None:
        """Call a function again if its connection breaks, for as long as the client itself is connected."""
        for pause in _PAUSES:
            with contextlib.suppress(OSError):
                return await function(*arguments)
            if is_closing(self.client):
                break
            await asyncio.sleep(pause)
        return await function(*arguments)

    def _pack(self, request: BlobRequest) -> tuple[Blob, Path]:
        """Pack from the snapshot that has the requested package; the newest makes the error if none has it."""
        for snapshot in self.snapshots:
            if request.is_met_in(snapshot.environment):
                return packer(snapshot).pack(request)
        return packer(self.snapshots[0]).pack(request)

    async def _refuse(self, request: BlobRequest, error: WheelError) -> None:
        """Send the error to the nodes that wait; if the message cannot be sent, send it again in plain ASCII."""
        for shown in (error, WheelError(ascii(error.package)[:200], ascii(error.problem)[:2000])):
            wire = {"request": requests_to_wire([request])[0], "error": wheel_error_to_wire(shown)}
            try:
                return await self._persist(self._send_error, wire)
            except OSError:  # the connection is lost: the scheduler sees that this client is gone
                return None
            except Exception:  # noqa: BLE001  # the text cannot be sent, or the scheduler rejects it
                logger.warning("this error of a package could not be sent to the scheduler as it is: %a", str(shown))
        return None

    async def _send_error(self, wire: dict[str, Any]) -> None:
        await self._scheduler.pkgsync_offer(blobs=[], errors=[wire])

    async def _upload(self, blob: Blob, path: Path) -> None:
        wire = blob_to_wire(blob)
        if self.store:
            await asyncio.to_thread(put, self.store, blob, path, keep=age_in_store())
        for _ in range(_TRIES):
            (offset,) = (await self._scheduler.pkgsync_offer(blobs=[wire], errors=[], store=self.store))["offsets"]
            answer = await self._send(wire, path, offset, blob.size)
            if "failure" not in answer:
                return
        raise WheelError(blob.filename, f"it could not be uploaded: {answer['failure']}")

    async def _send(self, wire: dict[str, Any], path: Path, offset: int, size: int) -> dict[str, Any]:
        """Send the missing part of a blob in chunks; the next chunk is read while the one before it is sent."""
        answer: dict[str, Any] = {"offset": offset}
        data: bytes = await asyncio.to_thread(_read, path, offset) if offset < size else b""
        while answer.get("offset", size) < size:
            if not data:
                raise WheelError(
                    str(wire["filename"]), "its file changed while it was sent", advice="Run the sync again."
                )
            offset, following = answer["offset"], answer["offset"] + len(data)
            ahead = asyncio.create_task(asyncio.to_thread(_read, path, following))
            answer = await self._scheduler.pkgsync_put(blob=wire, offset=offset, data=data)
            data = await ahead
            if answer.get("offset", following) != following:  # another client sends the same blob
                data = await asyncio.to_thread(_read, path, answer["offset"])
        return answer

    @property
    def _scheduler(self) -> Any:
        return self.client.scheduler


def _read(path: Path, offset: int) -> bytes:
    with path.open("rb", buffering=0) as file:
        file.seek(offset)
        return file.read(CHUNK)
