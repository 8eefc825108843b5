"""Passes the scheduler's events of a sync to the reporter that shows its progress."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from typing import TYPE_CHECKING

from dask_pkgsync.client.dask_internals import listens_to, stop_listening_to
from dask_pkgsync.model.reports.progress import Reporter, progress_in
from dask_pkgsync.model.text import harmless
from dask_pkgsync.model.wire.protocol import TOPIC

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from typing import Any

    from distributed import Client


@contextlib.asynccontextmanager
async def events_reported_to(client: Client, reporter: Reporter) -> AsyncIterator[None]:
    """Pass all events of the scheduler to the reporter while the context is open.

    Events, and the subscription to them, travel on another connection than calls do. So at the start and at the end we
    log an event of our own and wait until it comes back: all events that were sent before it have then arrived.
    """
    heard: set[str] = set()

    def handle(event: tuple[float, Any]) -> None:
        _, message = event
        match message:
            case {"action": "step"} if (progress := progress_in(message)) is not None:
                reporter.progressed(progress)
            case {"action": "waiting", "client": client.id, "owner": str(owner), "packages": [*packages]}:
                reporter.waits(harmless(owner), [harmless(str(name)) for name in packages])
            case {"action": "listening", "mark": str(mark)}:
                heard.add(mark)

    if type(reporter) is Reporter or listens_to(client, TOPIC):  # nothing to show, or another handler has subscribed
        yield
        return
    client.subscribe_topic(TOPIC, handle)
    try:
        await _wait_for_an_event(client, heard)
        yield
        await _wait_for_an_event(client, heard)
    finally:
        stop_listening_to(client, TOPIC)


async def _wait_for_an_event(client: Client, heard: set[str], patience: float = 1.0) -> None:
    """Log an event again and again until it comes back, for at most ``patience`` seconds.

    If it never comes back, only progress is missing; that is no error.
    """
    mark = uuid.uuid4().hex
    deadline = time.monotonic() + patience
    while mark not in heard and time.monotonic() < deadline:
        await client.log_event(TOPIC, {"action": "listening", "mark": mark})
        for _ in range(20):
            if mark in heard:
                return
            await asyncio.sleep(0.002)
