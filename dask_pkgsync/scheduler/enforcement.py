"""On a scheduler with our preload: the gate from the start, and the operator's environment, if there is one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from dask_pkgsync.model.comparison import compare_critical, critical_versions
from dask_pkgsync.model.errors import PolicyError
from dask_pkgsync.model.lockfiles.lockfile import unpinned
from dask_pkgsync.model.target import Target
from dask_pkgsync.node.log import logger
from dask_pkgsync.options.configuration import place
from dask_pkgsync.options.settings import (
    client_indexes,
    install_timeout,
    policy_from,
    scheduler_rule,
    seconds_or_never,
    setting,
)
from dask_pkgsync.scanning.installed import scan_installed
from dask_pkgsync.scanning.lock_file import read_lock
from dask_pkgsync.scanning.snapshot import with_digests
from dask_pkgsync.scheduler.controller import coordinator_of
from dask_pkgsync.scheduler.gate import own_versions
from dask_pkgsync.scheduler.plugin import OnDuty

if TYPE_CHECKING:
    from distributed import Scheduler

    from dask_pkgsync.model.environments.environment import Environment
    from dask_pkgsync.model.operator_policy import Rule


OWN = "scheduler"


class Presiding(OnDuty):
    """Keeps the gate on duty for as long as the scheduler runs; holds nothing."""

    name = "pkgsync-preload"
    is_permanent = True


async def preside(scheduler: Scheduler) -> None:
    """Close the gate, and lead the cluster to the operator's environment, if one is configured.

    Raises
    ------
    PolicyError
        If the configuration contradicts itself, or its lock file cannot be read.
    """
    mode, wanted = setting("mode"), setting("target")
    if wanted is not None and mode == "sync":
        raise PolicyError(f"pkgsync.target: is for the modes enforce and warn only, and mode is sync{place('target')}")
    seconds_or_never("release-after")
    coordinator = coordinator_of(scheduler)
    coordinator.is_permanent = True
    rule, gate = coordinator.rule, coordinator.gate
    gate.ready.clear()  # (Dask listens already)
    coordinator.listen()
    scheduler.add_plugin(Presiding())
    rule.mode, rule.stock_clients, rule.policy = mode, setting("stock-clients"), policy_from({})
    rule.target = lambda: coordinator.target
    if rule.has_critical_levels:
        here = await asyncio.to_thread(scan_installed)
        rule.own = {name: one.version for name, one in here.distributions.items()}
    if mode != "sync":
        environment = await asyncio.to_thread(_operators, wanted or OWN)
        rule.expected = Target(
            environment, rule.policy, scheduler_rule({}), install_timeout({}), "", "index", client_indexes()
        )
    coordinator.announce()
    gate.ready.set()
    logger.info("dask_pkgsync guards this scheduler: mode %s, stock clients: %s", _described(rule), rule.stock_clients)
    await gate.judge_those_inside()
    if rule.enforced is not None:
        await coordinator.sync(rule.enforced)


def refuse_everybody(scheduler: Scheduler, error: BaseException) -> None:
    """Let nobody into a scheduler that cannot be guarded."""
    coordinator = coordinator_of(scheduler)
    coordinator.is_permanent = True
    scheduler.add_plugin(Presiding(), idempotent=True)
    coordinator.rule.broken = f"this cluster's scheduler cannot be guarded as it is configured: {error}"
    coordinator.listen()
    coordinator.gate.ready.set()


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


def _described(rule: Rule) -> str:
    if rule.expected is None:
        return rule.mode
    return f"{rule.mode} (target {setting('target') or OWN}, {len(rule.expected.environment.distributions)} packages)"
