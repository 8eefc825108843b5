"""What Dask's ``preload`` settings name: ``distributed.scheduler.preload: [dask_pkgsync.preload]``, and for clients.

On a scheduler it closes the gate, and enforces what the operator has configured. On a client it presents, in Dask's own
handshake, what the client has. Nannies and workers need nothing: the scheduler sends them what they need; there it only
checks the configuration.

A configuration that is not right stops the process while this module is imported: what fails later, Dask only logs.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

import dask
from distributed import Client, Scheduler, versions

import dask_pkgsync.adapters.settings  # noqa: F401  # the defaults
from dask_pkgsync.adapters.configuration import check_configuration
from dask_pkgsync.adapters.enforcement import preside
from dask_pkgsync.adapters.presenting import presenting

if TYPE_CHECKING:
    from distributed.core import Server

logger = logging.getLogger("dask_pkgsync")

check_configuration()
if __name__ in dask.config.get("distributed.client.preload", default=[]):  # a list, or one name
    versions.get_versions = presenting(versions.get_versions)


async def dask_setup(server: Server | Client) -> None:
    """Set a scheduler up; one that cannot be guarded does not run."""
    if not isinstance(server, Scheduler):
        return
    try:
        await preside(server)
    except BaseException:
        logger.critical("this scheduler cannot be guarded as it is configured, and stops", exc_info=True)
        logging.shutdown()
        os._exit(1)  # Dask would log it, and let everybody in
