"""Prepares a node for the target: scans its base, makes the plan, and builds or reuses the layer."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dask_pkgsync.cache.collection import collect
from dask_pkgsync.cache.directory import open_cache
from dask_pkgsync.layers.build import build
from dask_pkgsync.layers.fill import Sources
from dask_pkgsync.layers.publication import changes_in
from dask_pkgsync.model.comparison import compare_critical, critical_versions
from dask_pkgsync.model.plan import make_plan
from dask_pkgsync.model.prefix_plan import make_prefix_plan
from dask_pkgsync.model.reports.failure import LayerError
from dask_pkgsync.process.foundations import own_foundation, prefix_foundation
from dask_pkgsync.process.imports import base_path, left_over, stays_whole
from dask_pkgsync.process.live_change import live_change
from dask_pkgsync.process.tools import indexes_for, installer
from dask_pkgsync.scanning.installed import scan_installed
from dask_pkgsync.scanning.snapshot import verified, with_digests

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from dask_pkgsync.cache.directory import Cache
    from dask_pkgsync.layers.fill import Fetch
    from dask_pkgsync.layers.layer import Layer
    from dask_pkgsync.model.comparison import Comparison
    from dask_pkgsync.model.environments.environment import Environment
    from dask_pkgsync.model.plan import Plan
    from dask_pkgsync.model.prefix_plan import PrefixPlan, Step
    from dask_pkgsync.model.target import Target
    from dask_pkgsync.process.foundations import Foundation
    from dask_pkgsync.process.node_settings import NodeSettings


SHOWN = 5
"""Differences of a base that a text for people names."""
TOO_LATE = "this process has imported another version already; start it with this version"
"""The reason for which a running process skips a package."""
NO_PART = "it belongs to a conda environment, of which this process cannot take a part; start it in that environment"
"""The reason for which a running process skips what it could take only together with a conda prefix."""


@dataclass(frozen=True)
class Prepared:
    """A node that is ready to take the target."""

    plan: Plan
    layer: Layer | None
    """None if the base matches already."""
    site_packages: tuple[Path, ...] = ()
    """The base's directories of distributions, which a complete layer keeps off the search path."""
    base: Environment | None = None
    """The base as it was when it was scanned; None where nothing was scanned, in the client's own process."""
    foundation: Foundation | None = None
    """What the layer stands on; None without a layer."""
    kept: tuple[Step, ...] = ()
    """The steps for conda packages of the base that stay as they are."""

    @property
    def told(self) -> Plan:
        """The plan for reports: all that the node gets otherwise than its base has it, or keeps so."""
        steps = self.foundation.steps if self.foundation else ()
        return replace(self.plan, steps=(*steps, *self.kept, *self.plan.steps))

    @property
    def variables(self) -> Mapping[str, str]:
        """Environment variables that a process in the layer has otherwise."""
        return self.foundation.variables if self.foundation else {}


def prepare(target: Target, settings: NodeSettings, fetch: Fetch) -> Prepared:
    """Make the plan, and build or reuse the layer. Does not change the running process. Blocks: call it in a thread.

    Parameters
    ----------
    target : Target
    settings : NodeSettings
    fetch : callable
        Returns wheels that the client provides.

    Raises
    ------
    LayerError
        If the node differs in a critical package, or the layer cannot be built. It names the step that failed, the
        installer's last words, and what to do.
    """
    base = scan_base(target)
    refuse_critical(target, base)
    prefix = make_prefix_plan(base, target.environment, target.policy)
    if prefix.packages:
        return _build_on_prefix(prefix, base, target, settings, fetch)
    prepared = _build(make_plan(base, target.environment, target.policy), base, target, settings, fetch)
    return replace(prepared, kept=prefix.steps)


def changes_since(target: Target, prepared: Prepared) -> tuple[str, ...]:
    """Return what has changed on this node since it was prepared, each on one line: its layer, or its base. Blocks."""
    found = []
    prefix = prepared.foundation.prefix if prepared.foundation else None
    for what, layer in (("layer", prepared.layer), ("conda prefix", prefix)):
        if layer is not None and (changes := changes_in(layer)):
            found.append(f"its {what} was changed: {changes}")
    if prepared.base is not None and (base := scan_base(target)).fingerprint != prepared.base.fingerprint:
        found.append(f"its base was changed: {_difference(prepared.base, base)}")
    return tuple(found)


def _difference(before: Environment, after: Environment) -> str:
    """Return how two scans of one base differ, on one line."""
    one, two = before.distributions, after.distributions
    parts = [f"{name} {one[name].label} was removed" for name in sorted(one.keys() - two)]
    parts += [f"{name} {two[name].label} was added" for name in sorted(two.keys() - one)]
    for name in sorted(one.keys() & two):
        old, new = one[name], two[name]
        if replace(old, installer=new.installer) != new:
            change = "holds other files" if old.label == new.label else f"→ {new.label}"
            parts.append(f"{name} {old.label} {change}")
    more = f" and {len(parts) - SHOWN} more" if len(parts) > SHOWN else ""
    return (", ".join(parts[:SHOWN]) or "its interpreter is another one") + more


def scan_base(target: Target) -> Environment:
    """Return this node's base environment, after a look at the files of what the target names. Blocks."""
    names, path = target.environment.distributions, base_path()
    return verified(with_digests(scan_installed(path), names), path, names)


def prepare_running(target: Target, settings: NodeSettings, fetch: Fetch, children: Prepared | None = None) -> Prepared:
    """Prepare a process that cannot be restarted: the plan skips packages that it has imported in another version.

    If possible, the process uses the same layer as the other nodes of its host, which needs no further build. That
    works if the skipped packages are regular packages: they find their further modules through their own ``__path__``,
    in the base, whatever the layer holds.

    The process keeps its base behind the layer, also under ``strict``: it cannot lose what it runs on.

    Parameters
    ----------
    target, settings, fetch
        As for `prepare`.
    children : Prepared, optional
        What `prepare` has returned in this process for the processes that it starts.
    """
    target = replace(target, policy=replace(target.policy, strict=False))
    base = (children and children.base) or scan_base(target)
    refuse_critical(target, base)
    late = {*live_change(None, target, base, mixed=True).imported(), *left_over(target)}
    plan = make_plan(base, target.environment, target.policy)
    without_late = plan.without(late, TOO_LATE)
    prefix = make_prefix_plan(base, target.environment, target.policy)
    if without_late.empty or not all(stays_whole(name) for name in late):
        if prefix.packages:
            without_late = without_late.without({step.name for step in without_late.changes}, NO_PART)
        return _build(without_late, base, target, settings, fetch)
    if children is not None and (children.plan == plan or (prefix.packages and children.layer is not None)):
        prepared = children
    elif prefix.packages:
        prepared = _build_on_prefix(prefix, base, target, settings, fetch)
    else:
        prepared = _build(plan, base, target, settings, fetch)
    late = {*live_change(prepared.layer, target, base, mixed=True).imported(), *left_over(target)}
    late_plan = plan.without(late, TOO_LATE)  # what the layer has as it was imported is not late
    return replace(prepared, plan=late_plan, foundation=None, base=base)


def _build(plan: Plan, base: Environment, target: Target, settings: NodeSettings, fetch: Fetch) -> Prepared:
    """Build or find the layer for a plan in front of the node's own base, if it needs one."""
    if plan.empty:
        return Prepared(plan, None, base=base)
    cache = open_cache(settings.cache_directory)
    return replace(in_front_of(own_foundation(base), plan, cache, target, settings, fetch), base=base)


def _build_on_prefix(
    prefix: PrefixPlan, base: Environment, target: Target, settings: NodeSettings, fetch: Fetch
) -> Prepared:
    """Build or find a conda prefix, and the layer in front of it, with what pip and uv have put on top."""
    cache = open_cache(settings.cache_directory)
    foundation = prefix_foundation(prefix, target, cache, settings, fetch)
    plan = make_plan(foundation.base.environment, target.environment, target.policy)
    return replace(in_front_of(foundation, plan, cache, target, settings, fetch), base=base)


def in_front_of(
    foundation: Foundation, plan: Plan, cache: Cache, target: Target, settings: NodeSettings, fetch: Fetch
) -> Prepared:
    """Build or find the layer for a plan in front of a foundation."""
    layer = build(
        plan,
        foundation.base,
        cache,
        lambda: installer(cache, target, settings, fetch, foundation.base.variables),
        timeout=target.install_timeout,
        sources=Sources(target.transport, fetch, indexes_for(target, settings), target.environment.distributions),
    )
    if (prefix := foundation.prefix) is not None:
        layer = replace(layer, notes=(*prefix.notes, *layer.notes), fetched=prefix.fetched + layer.fetched)
    if layer.fetched:
        collect(cache, max_age=settings.max_age, max_bytes=settings.max_bytes)
    return Prepared(plan, layer, foundation.base.site_packages, foundation=foundation)


def is_other_interpreter(target: Target) -> bool:
    """Whether no layer can bring this process to a target, as it runs another Python or Dask. Blocks."""
    return bool(critical_differences(target, scan_installed(base_path())))


def critical_differences(target: Target, base: Environment) -> Comparison:
    """Return the critical packages in which this node differs from a target."""
    return compare_critical(
        critical_versions(target.environment),
        critical_versions(base),
        expected_label="client",
        found_label="node",
    )


def refuse_critical(target: Target, base: Environment) -> None:
    """Raise `LayerError` if this node differs from the target in a critical package: no layer may replace those."""
    if differences := critical_differences(target, base):
        raise LayerError(
            "compare",
            "the node's own versions of packages that Dask needs to be the same everywhere differ from the client's\n"
            + str(differences),
            advice=f"Install the client's versions of these packages in {sys.prefix} and start the node again.",
        )
