"""What Dask's ``preload`` settings name: ``distributed.scheduler.preload: [dask_pkgsync.preload]``, and for clients.

On a scheduler it closes the gate, and enforces what the operator has configured. On a client it presents, in Dask's own
handshake, what the client has, and syncs before ``Client(...)`` returns. Nannies and workers need nothing: the
scheduler sends them what they need; there it only checks the configuration.

A configuration that is not right stops the process while this module is imported: what fails later, Dask only logs.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

import dask
from distributed import Client, Scheduler

from dask_pkgsync.client.api import sync_at_connection
from dask_pkgsync.client.dask_internals import change_handshake, workers_here
from dask_pkgsync.client.handshake import presenting
from dask_pkgsync.node.log import logger
from dask_pkgsync.options.configuration import check_configuration
from dask_pkgsync.options.person import syncs_on_connect

if TYPE_CHECKING:
    from distributed.core import Server

check_configuration()
is_presenting = __name__ in dask.config.get("distributed.client.preload", default=[])  # a list, or one name
if is_presenting:
    change_handshake(presenting)


async def dask_setup(server: Server | Client) -> None:
    """Set a scheduler up, or a client: a scheduler that cannot be guarded does not run."""
    if isinstance(server, Client):
        if is_presenting and syncs_on_connect() and not _is_of_a_worker_here(server):
            await sync_at_connection(server)
        return
    if not isinstance(server, Scheduler):
        return
    from dask_pkgsync.carry.earlier_releases import refuse_release_0_1
    from dask_pkgsync.scheduler.dask_internals import runs_a_scheduler_alone
    from dask_pkgsync.scheduler.enforcement import guard, refuse_everybody

    refuse_release_0_1()

    try:
        await guard(server)
    except BaseException as error:
        logger.critical("this scheduler cannot be guarded as it is configured, and stops", exc_info=True)
        refuse_everybody(server, error)  # Dask would log it, and let everybody in
        if runs_a_scheduler_alone():  # others are a person's, with a cluster of their own
            logging.shutdown()
            os._exit(1)
        raise


def _is_of_a_worker_here(client: Client) -> bool:
    """Whether this process holds a worker of the client's cluster: what a task connects with has nothing to sync."""
    address = getattr(client.scheduler, "address", None)
    return any(worker.scheduler.address == address for worker in workers_here())
