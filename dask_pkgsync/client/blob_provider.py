"""On the client: answers the scheduler when it asks for wheels, for as long as the client lives."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from typing import TYPE_CHECKING, Any

from dask_pkgsync.client.dask_internals import is_closing, listen_for
from dask_pkgsync.model.blobs import blob_to_wire, requests_from_wire, requests_to_wire, wheel_error_to_wire
from dask_pkgsync.model.errors import WheelError
from dask_pkgsync.model.reports.failure import LayerError
from dask_pkgsync.model.wire.protocol import WANTED
from dask_pkgsync.options.person import packer
from dask_pkgsync.wheels.blob_store import CHUNK
from dask_pkgsync.wheels.fsspec_store import put

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from distributed import Client

    from dask_pkgsync.model.blobs import Blob, BlobRequest
    from dask_pkgsync.scanning.snapshot import Snapshot

logger = logging.getLogger("dask_pkgsync")

_UPLOADS = 2
"""Blobs on their way at once: one is read while the other is written."""
_PAUSES = (0.2, 1.0, 5.0)
"""Seconds between tries over a connection that broke."""
SIGN = 5.0
"""Seconds between two signs that this client is at work; see `scheduler.blobs.providers.PATIENCE`."""
_REMEMBERED = 2
"""Snapshots of a client that nodes may still ask for."""
_TRIES = 3
"""How often a blob is sent whose bytes came out wrong."""


class BlobProvider:
    """Packs and uploads what the scheduler asks for.

    Parameters
    ----------
    client : distributed.Client
    snapshot : Snapshot
        What is synced.
    store : str
        URL where wheels go; empty: to the scheduler.
    sign : float
        See `SIGN`.
    """

    def __init__(self, client: Client, snapshot: Snapshot, store: str = "", sign: float = SIGN) -> None:
        self.client = client
        self.snapshots = [snapshot]
        self.store = store
        self.sign = sign
        self.at_work: set[asyncio.Task[None]] = set()
        self.signs: asyncio.Task[None] | None = None
        self.builds = asyncio.Semaphore(os.cpu_count() or 1)
        self.uploads = asyncio.Semaphore(_UPLOADS)

    def listen(self) -> None:
        """Answer from now on, also for what the client has synced just before: nodes may still ask for that."""
        before = getattr(listen_for(self.client, WANTED, self.handle_wanted), "__self__", None)
        if isinstance(before, BlobProvider):
            self.snapshots += before.snapshots[: _REMEMBERED - 1]

    def handle_wanted(self, requests: object, **_: object) -> None:
        """Begin to pack what the scheduler asks for."""
        for request in requests_from_wire(requests):
            task = asyncio.create_task(self._give(request))
            self.at_work.add(task)
            task.add_done_callback(self.at_work.discard)
        if self.signs is None or self.signs.done():
            self.signs = asyncio.create_task(self._give_signs())

    async def _give_signs(self) -> None:
        """Say at once, and again while there is work, that it was not for nothing to ask: a build may take minutes."""
        while self.at_work and not is_closing(self.client):
            with contextlib.suppress(Exception):  # a connection that broke, or is being closed; the next may get there
                await self._scheduler.pkgsync_at_work(client=self.client.id)
            if self.at_work:
                await asyncio.wait(set(self.at_work), timeout=self.sign)

    async def _give(self, request: BlobRequest) -> None:
        try:
            async with self.builds:
                blob, path = await asyncio.to_thread(self._pack, request)
            async with self.uploads:
                await self._persist(self._upload, blob, path)
        except WheelError as error:
            await self._refuse(request, error)
        except LayerError as error:
            await self._refuse(request, WheelError(request.name, error.problem, advice=error.advice))
        except Exception as error:  # noqa: BLE001  # whoever waits for it must be told, whatever it was
            await self._refuse(request, WheelError(request.name, f"{type(error).__name__}: {error}"))

    async def _persist(self, function: Callable[..., Awaitable[None]], *arguments: Any) -> None:
        """Do something over connections that may break, for as long as the client itself is connected."""
        for pause in _PAUSES:
            with contextlib.suppress(OSError):
                return await function(*arguments)
            if is_closing(self.client):
                break
            await asyncio.sleep(pause)
        return await function(*arguments)

    def _pack(self, request: BlobRequest) -> tuple[Blob, Path]:
        """Pack from the snapshot that has what is asked for; the newest one says what is there instead."""
        for snapshot in self.snapshots:
            if request.is_met_by(snapshot.environment.distributions.get(request.name)):
                return packer(snapshot).pack(request)
        return packer(self.snapshots[0]).pack(request)

    async def _refuse(self, request: BlobRequest, error: WheelError) -> None:
        """Tell those who wait; if even that cannot be told as it is, tell it in plain characters."""
        for shown in (error, WheelError(ascii(error.package)[:200], ascii(error.problem)[:2000])):
            wire = {"request": requests_to_wire([request])[0], "error": wheel_error_to_wire(shown)}
            try:
                return await self._persist(self._tell, wire)
            except OSError:  # the connection: then those who wait see that this client is gone
                return None
            except Exception:  # noqa: BLE001  # what cannot be sent, or is refused at the other end
                logger.warning("could not be told as it is: %a", str(shown))
        return None

    async def _tell(self, wire: dict[str, Any]) -> None:
        await self._scheduler.pkgsync_offer(blobs=[], errors=[wire])

    async def _upload(self, blob: Blob, path: Path) -> None:
        wire = blob_to_wire(blob)
        if self.store:
            await asyncio.to_thread(put, self.store, blob, path)
        for _ in range(_TRIES):
            (offset,) = (await self._scheduler.pkgsync_offer(blobs=[wire], errors=[], store=self.store))["offsets"]
            answer = await self._send(wire, path, offset, blob.size)
            if "failure" not in answer:
                return
        raise WheelError(blob.filename, f"it could not be uploaded: {answer['failure']}")

    async def _send(self, wire: dict[str, Any], path: Path, offset: int, size: int) -> dict[str, Any]:
        """Send what is missing of a blob; a part is read while the one before it is on its way."""
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
            if answer.get("offset", following) != following:  # another client sends the same
                data = await asyncio.to_thread(_read, path, answer["offset"])
        return answer

    @property
    def _scheduler(self) -> Any:
        return self.client.scheduler


def _read(path: Path, offset: int) -> bytes:
    with path.open("rb", buffering=0) as file:
        file.seek(offset)
        return file.read(CHUNK)
