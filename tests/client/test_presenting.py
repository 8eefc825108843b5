"""What a client presents when it connects: its environment, unless it is the client of a task on a verified worker."""

from __future__ import annotations

import asyncio
from typing import Any

from distributed import Client, Scheduler, Worker, versions

from dask_pkgsync.client.connection import presented
from dask_pkgsync.model.wire.protocol import PRESENTED


def test_only_clients_of_tasks_present_nothing() -> None:
    """A worker in this process speaks for clients of its own cluster, and for these only as long as it runs."""

    async def presents(scheduler: Scheduler) -> bool:
        async with Client(scheduler.address, asynchronous=True, set_as_default=False) as client:
            sent: dict[str, Any] = scheduler.clients[client.id].versions
            return PRESENTED in sent

    async def check() -> None:
        options = {"dashboard": False, "dashboard_address": ":0"}
        async with Scheduler(port=0, **options) as guarded, Scheduler(port=0, **options) as own:
            with presented(modules=False):
                assert await presents(guarded)
                assert PRESENTED not in versions.get_versions()  # nobody connects
                async with Worker(own.address, nthreads=1, **options) as worker:
                    assert not await presents(own)
                    assert await presents(guarded)
                assert worker in Worker._instances
                assert await presents(guarded)
                assert await presents(own)

    asyncio.run(check())
