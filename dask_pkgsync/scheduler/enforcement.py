"""The operator policy on a scheduler with our preload: closes the gate, and enforces the configured environment."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from dask_pkgsync.model.comparison import compare_critical, critical_versions
from dask_pkgsync.model.errors import PolicyError
from dask_pkgsync.model.target import Target
from dask_pkgsync.node.log import logger
from dask_pkgsync.options.lock_file import locked_environment, refuse_unpinned
from dask_pkgsync.options.person import client_indexes, install_timeout, policy_from, scheduler_rule
from dask_pkgsync.options.places import place
from dask_pkgsync.options.scheduler import critical_builds, operator_mode, operator_target, release_after, stock_clients
from dask_pkgsync.scanning.installed import scan_installed
from dask_pkgsync.scanning.snapshot import with_digests
from dask_pkgsync.scheduler.clients.gate import own_versions
from dask_pkgsync.scheduler.extension import controller_of
from dask_pkgsync.scheduler.plugin import PermanentHooks

if TYPE_CHECKING:
    from distributed import Scheduler

    from dask_pkgsync.model.environments.environment import Environment
    from dask_pkgsync.model.operator_policy import OperatorPolicy


SCHEDULER_ENVIRONMENT = "scheduler"
"""The value of ``pkgsync.target`` that means the environment of the scheduler's own process."""


async def guard(scheduler: Scheduler) -> None:
    """Close the gate, and sync the cluster to the operator's environment in mode ``enforce``.

    Raises
    ------
    PolicyError
        If the configuration contradicts itself, or its lock file cannot be read or enforced.
    """
    mode, wanted = operator_mode(), operator_target()
    if wanted is not None and mode == "sync":
        raise PolicyError(
            f"pkgsync.target: is for the modes enforce and warn only, and pkgsync.mode is sync{place('target')}. "
            "Set pkgsync.mode to enforce or warn, or remove pkgsync.target."
        )
    release_after()  # raises now if the option is invalid
    controller = controller_of(scheduler)
    controller.is_permanent = True
    operator_policy, gate = controller.operator_policy, controller.gate
    gate.ready.clear()  # Dask listens already: whoever registers waits until the operator policy is known
    controller.listen()
    scheduler.add_plugin(PermanentHooks())
    operator_policy.mode, operator_policy.stock_clients = mode, stock_clients()
    operator_policy.policy = policy_from({})
    operator_policy.target = lambda: controller.target
    operator_policy.critical_builds = critical_builds()
    if operator_policy.has_critical_levels or operator_policy.critical_builds == "refuse":
        operator_policy.own = await asyncio.to_thread(scan_installed)
    if mode != "sync":
        environment = await asyncio.to_thread(_operator_environment, wanted or SCHEDULER_ENVIRONMENT)
        operator_policy.expected = Target(
            environment, operator_policy.policy, scheduler_rule({}), install_timeout({}), "", "index", client_indexes()
        )
    controller.announce()
    gate.ready.set()
    await controller.pages.mount()
    logger.info(
        "dask_pkgsync guards this scheduler: mode %s, stock clients: %s",
        _describe_mode(operator_policy),
        operator_policy.stock_clients,
    )
    await gate.judge_connected()
    if operator_policy.enforced is not None:
        await controller.sync(operator_policy.enforced)


def refuse_everybody(scheduler: Scheduler, error: BaseException) -> None:
    """Refuse every client and worker on a scheduler whose configuration cannot be applied."""
    controller = controller_of(scheduler)
    controller.is_permanent = True
    scheduler.add_plugin(PermanentHooks(), idempotent=True)
    controller.operator_policy.broken = f"this cluster's scheduler cannot be guarded as it is configured: {error}"
    controller.listen()
    controller.gate.ready.set()


def _operator_environment(wanted: str) -> Environment:
    """Return the environment that ``pkgsync.target`` names: the scheduler's own, or what a lock file pins."""
    if wanted == SCHEDULER_ENVIRONMENT:
        return with_digests(scan_installed())
    try:
        return _check_pins(wanted, locked_environment(wanted, {}))
    except PolicyError as error:
        raise PolicyError(f"pkgsync.target: {error}{place('target')}") from None


def _check_pins(path: str, environment: Environment) -> Environment:
    """Return the environment that a lock file pins, if clients of this scheduler can match it.

    Raises
    ------
    PolicyError
        If it leaves out a critical package, or pins another version of one than this scheduler runs.
    """
    refuse_unpinned(path, environment)
    pinned, labels = critical_versions(environment), {"expected_label": "scheduler", "found_label": "target"}
    if differences := compare_critical(own_versions(), pinned, **labels):
        listed = ", ".join(f"{row.name} {row.found} (this scheduler has {row.expected})" for row in differences)
        raise PolicyError(
            f"{path} pins {listed}, so no client that this scheduler accepts could match it: pin the scheduler's "
            "versions, or start the scheduler with the pinned ones"
        )
    return environment


def _describe_mode(operator_policy: OperatorPolicy) -> str:
    if operator_policy.expected is None:
        return operator_policy.mode
    count = len(operator_policy.expected.environment.distributions)
    return f"{operator_policy.mode} (target {operator_target() or SCHEDULER_ENVIRONMENT}, {count} packages)"
