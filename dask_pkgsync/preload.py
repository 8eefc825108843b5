"""The module to name in Dask's ``preload`` settings, as in ``distributed.scheduler.preload: [dask_pkgsync.preload]``.

On a scheduler it closes the gate and enforces the operator policy. On a client it adds the client's environment to
Dask's own handshake, and syncs before ``Client(...)`` returns; where the scheduler has let the same environment in
before, before the client sends anything. Nannies and workers need no preload, as the scheduler sends them the plugins:
on them this module only checks the configuration.

An invalid configuration raises while this module is imported, which ends the process. Dask only logs what `dask_setup`
raises.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

import dask
from distributed import Client, Scheduler

from dask_pkgsync.client.connecting import check_once, connected
from dask_pkgsync.client.dask_internals import runs_a_worker_of
from dask_pkgsync.client.handshake import present

if TYPE_CHECKING:
    from distributed.core import Server

check_once()
is_presenting = __name__ in dask.config.get("distributed.client.preload", default=[])  # Dask allows a list or one name
if is_presenting:
    present()


async def dask_setup(server: Server | Client) -> None:
    """Set up a scheduler or a client; a scheduler whose configuration cannot be applied ends, or refuses everybody."""
    if isinstance(server, Client):
        if is_presenting and not runs_a_worker_of(server):
            await connected(server)
        return
    if not isinstance(server, Scheduler):
        return
    from dask_pkgsync.carry.earlier_releases import refuse_release_0_1
    from dask_pkgsync.node.log import logger
    from dask_pkgsync.scheduler.dask_internals import runs_a_scheduler_alone
    from dask_pkgsync.scheduler.enforcement import guard, refuse_everybody

    refuse_release_0_1()

    try:
        await guard(server)
    except BaseException as error:
        logger.critical(
            "this scheduler cannot be guarded as it is configured, so it accepts no clients and no workers: correct "
            "what the error below names, and start the scheduler again",
            exc_info=True,
        )
        refuse_everybody(server, error)  # Dask only logs the error, and would accept every client
        if runs_a_scheduler_alone():  # any other process belongs to a user, for example with a LocalCluster
            logging.shutdown()
            os._exit(1)
        raise
