"""On a scheduler with our preload: the gate from the start, and the operator's environment, if there is one."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from distributed.diagnostics.plugin import SchedulerPlugin

from dask_pkgsync.adapters.scheduler_plugin import coordinator_of
from dask_pkgsync.adapters.settings import client_indexes, install_timeout, policy_from, scheduler_rule, setting
from dask_pkgsync.core.errors import PolicyError
from dask_pkgsync.core.lockfiles import environment_from_lock
from dask_pkgsync.core.messages import Target
from dask_pkgsync.shell.local import with_digests
from dask_pkgsync.shell.scan import scan_installed, this_interpreter

if TYPE_CHECKING:
    from distributed import Scheduler

    from dask_pkgsync.core.environment import Environment

OWN = "scheduler"


class Presiding(SchedulerPlugin):
    """Keeps the gate on duty for as long as the scheduler runs; holds nothing."""

    name = "pkgsync-preload"
    is_pkgsync = True
    is_permanent = True


async def preside(scheduler: Scheduler) -> None:
    """Close the gate, and lead the cluster to the operator's environment, if one is configured.

    Raises
    ------
    PolicyError
        If the configuration contradicts itself, or its lock file cannot be read.
    """
    mode, wanted = setting("mode"), setting("target")
    if wanted is not None and mode != "enforce":
        raise PolicyError(f"pkgsync.target: is for mode enforce only, and mode is {mode}")
    coordinator = coordinator_of(scheduler)
    coordinator.is_permanent = True
    rule = coordinator.rule
    rule.mode, rule.stock_clients = mode, setting("stock-clients")
    if mode == "enforce":
        environment = await asyncio.to_thread(_operators, wanted or OWN)
        rule.enforced = Target(
            environment, policy_from({}), scheduler_rule({}), install_timeout({}), "", "index", client_indexes()
        )
    coordinator.listen()
    scheduler.add_plugin(Presiding())
    if rule.enforced is not None:
        await coordinator.sync(rule.enforced)


def _operators(wanted: str) -> Environment:
    """Return the environment that the operator has chosen."""
    if wanted == OWN:
        return with_digests(scan_installed())
    return read_lock(wanted)


def read_lock(path: str) -> Environment:
    """Read a lock file.

    Raises
    ------
    PolicyError
        If it cannot be read.
    """
    try:
        text = Path(path).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PolicyError(f"{path} cannot be read: {error}") from None
    return environment_from_lock(path, text, this_interpreter())
