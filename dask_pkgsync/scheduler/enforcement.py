"""On a scheduler with our preload: the gate from the start, and the operator's environment, if there is one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from dask_pkgsync.model.comparison import compare_critical, critical_versions
from dask_pkgsync.model.errors import PolicyError
from dask_pkgsync.model.lockfiles.lockfile import unpinned
from dask_pkgsync.model.target import Target
from dask_pkgsync.node.log import logger
from dask_pkgsync.options.person import client_indexes, install_timeout, policy_from, scheduler_rule
from dask_pkgsync.options.places import place
from dask_pkgsync.options.scheduler import operator_mode, operator_target, release_after, stock_clients
from dask_pkgsync.scanning.installed import scan_installed
from dask_pkgsync.scanning.lock_file import read_lock
from dask_pkgsync.scanning.snapshot import with_digests
from dask_pkgsync.scheduler.clients.gate import own_versions
from dask_pkgsync.scheduler.extension import controller_of
from dask_pkgsync.scheduler.plugin import PermanentHooks

if TYPE_CHECKING:
    from distributed import Scheduler

    from dask_pkgsync.model.environments.environment import Environment
    from dask_pkgsync.model.operator_policy import OperatorPolicy


OWN = "scheduler"


async def guard(scheduler: Scheduler) -> None:
    """Close the gate, and lead the cluster to the operator's environment, if one is configured.

    Raises
    ------
    PolicyError
        If the configuration contradicts itself, or its lock file cannot be read.
    """
    mode, wanted = operator_mode(), operator_target()
    if wanted is not None and mode == "sync":
        raise PolicyError(f"pkgsync.target: is for the modes enforce and warn only, and mode is sync{place('target')}")
    release_after()  # which may be wrong
    controller = controller_of(scheduler)
    controller.is_permanent = True
    operator_policy, gate = controller.operator_policy, controller.gate
    gate.ready.clear()  # (Dask listens already)
    controller.listen()
    scheduler.add_plugin(PermanentHooks())
    operator_policy.mode, operator_policy.stock_clients, operator_policy.policy = (
        mode,
        stock_clients(),
        policy_from({}),
    )
    operator_policy.target = lambda: controller.target
    if operator_policy.has_critical_levels:
        here = await asyncio.to_thread(scan_installed)
        operator_policy.own = {name: one.version for name, one in here.distributions.items()}
    if mode != "sync":
        environment = await asyncio.to_thread(_operators, wanted or OWN)
        operator_policy.expected = Target(
            environment, operator_policy.policy, scheduler_rule({}), install_timeout({}), "", "index", client_indexes()
        )
    controller.announce()
    gate.ready.set()
    logger.info(
        "dask_pkgsync guards this scheduler: mode %s, stock clients: %s",
        _described(operator_policy),
        operator_policy.stock_clients,
    )
    await gate.judge_those_inside()
    if operator_policy.enforced is not None:
        await controller.sync(operator_policy.enforced)


def refuse_everybody(scheduler: Scheduler, error: BaseException) -> None:
    """Let nobody into a scheduler that cannot be guarded."""
    controller = controller_of(scheduler)
    controller.is_permanent = True
    scheduler.add_plugin(PermanentHooks(), idempotent=True)
    controller.operator_policy.broken = f"this cluster's scheduler cannot be guarded as it is configured: {error}"
    controller.listen()
    controller.gate.ready.set()


def _operators(wanted: str) -> Environment:
    """Return the environment that the operator has chosen."""
    if wanted == OWN:
        return with_digests(scan_installed())
    try:
        return _matchable(wanted, read_lock(wanted))
    except PolicyError as error:
        raise PolicyError(f"pkgsync.target: {error}{place('target')}") from None


def _matchable(path: str, environment: Environment) -> Environment:
    """Return what a lock file pins.

    Raises
    ------
    PolicyError
        If nobody could match it who connects to this scheduler.
    """
    if missing := unpinned(environment):
        raise PolicyError(f"{path} does not pin {', '.join(missing)}, which Dask needs in one version everywhere")
    pinned, labels = critical_versions(environment), {"expected_label": "scheduler", "found_label": "target"}
    if other := compare_critical(own_versions(), pinned, **labels):
        listed = ", ".join(f"{row.name} {row.found} (this scheduler has {row.expected})" for row in other)
        raise PolicyError(f"{path} pins {listed}: nobody who can connect would match")
    return environment


def _described(operator_policy: OperatorPolicy) -> str:
    if operator_policy.expected is None:
        return operator_policy.mode
    count = len(operator_policy.expected.environment.distributions)
    return f"{operator_policy.mode} (target {operator_target() or OWN}, {count} packages)"
