"""What a client with our preload does when it has connected: it syncs, or is verified later where it was recognised.

This module is imported by every client's preload, so what takes time to import is imported in its functions.
"""

from __future__ import annotations

import asyncio
import importlib
from typing import TYPE_CHECKING

from dask_pkgsync.client import recognition
from dask_pkgsync.client.handshake import take_presented
from dask_pkgsync.client.holding import Hold

if TYPE_CHECKING:
    from distributed import Client

    from dask_pkgsync.client.handshake import Presented


def check_once() -> None:
    """Check our configuration, unless it was valid already when a client with the same one was let in.

    Raises
    ------
    PolicyError
        Lists every problem with the key, the place where it is set, and what is expected.
    """
    if not recognition.is_configuration_valid():
        from dask_pkgsync.options.configuration import check_configuration

        check_configuration()


async def connected(client: Client) -> None:
    """Sync a client that has just connected, if it is so configured; one that was recognised is held instead."""
    presented = take_presented(client)
    if presented is not None and presented.snapshot is None:
        Hold(client, lambda held: _verify(held, presented))
        return
    from dask_pkgsync.client.api import sync_at_connection
    from dask_pkgsync.options.person import syncs_on_connect

    if syncs_on_connect():
        await sync_at_connection(client, presented)


async def _verify(client: Client, presented: Presented) -> None:
    # In a thread, because the import takes long.
    api = await asyncio.to_thread(importlib.import_module, "dask_pkgsync.client.api")
    await api.sync_connected(client, presented)
