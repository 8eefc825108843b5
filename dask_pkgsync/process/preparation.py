"""Prepares a node for the target: scans its base, makes the plan, and builds or reuses the layer."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from dask_pkgsync.cache.collection import collect
from dask_pkgsync.cache.directory import open_cache
from dask_pkgsync.installers.find import find_installer
from dask_pkgsync.layers.build import build
from dask_pkgsync.layers.fill import Sources
from dask_pkgsync.layers.layer import base_at
from dask_pkgsync.layers.publication import changes_in
from dask_pkgsync.model.blobs import request_for
from dask_pkgsync.model.comparison import compare_critical, critical_versions
from dask_pkgsync.model.indexes import OWN
from dask_pkgsync.model.plan import make_plan
from dask_pkgsync.model.reports.failure import LayerError
from dask_pkgsync.process.imports import base_path, left_over, stays_whole
from dask_pkgsync.process.live_change import live_change
from dask_pkgsync.process.state import this_process
from dask_pkgsync.scanning.configured_indexes import configured_indexes, pip_indexes
from dask_pkgsync.scanning.configured_trust import configured_trust
from dask_pkgsync.scanning.installed import scan_installed, this_interpreter
from dask_pkgsync.scanning.snapshot import verified, with_digests
from dask_pkgsync.wheels.inspection import inspect

if TYPE_CHECKING:
    from dask_pkgsync.cache.directory import Cache
    from dask_pkgsync.installers import Installer
    from dask_pkgsync.layers.fill import Fetch
    from dask_pkgsync.layers.layer import Layer
    from dask_pkgsync.model.environments.environment import Environment
    from dask_pkgsync.model.indexes import Indexes
    from dask_pkgsync.model.plan import Plan
    from dask_pkgsync.model.target import Target


SHOWN = 5
"""Differences of a base that a text for people names."""
TOO_LATE = "this process has imported another version already; start it with this version"
"""The reason for which a running process skips a package."""


@dataclass(frozen=True)
class NodeSettings:
    """Settings that the operator of a node decides, and no client."""

    cache_directory: str | None = None
    """Directory of layers and wheels; None for the user's cache directory."""
    max_age: float = 24 * 3600.0
    """Seconds after which an unused layer is removed."""
    max_bytes: int = 50_000_000_000
    """Bytes of all layers together; above it, the layers unused for the longest time are removed."""
    store_bytes: int = 20_000_000_000
    """Bytes that all wheels from clients together may take."""
    indexes: Indexes = OWN
    """Package indexes; if any are set, they replace those that uv, pip or the client are configured with."""


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
    return _build(make_plan(base, target.environment, target.policy), base, target, settings, fetch)


def changes_since(target: Target, prepared: Prepared) -> tuple[str, ...]:
    """Return what has changed on this node since it was prepared, each on one line: its layer, or its base. Blocks."""
    found = []
    if prepared.layer is not None and (changes := changes_in(prepared.layer)):
        found.append(f"its layer was changed: {changes}")
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
    if without_late.empty or not all(stays_whole(name) for name in late):
        return _build(without_late, base, target, settings, fetch)
    if children is not None and children.plan == plan:
        prepared = children
    else:
        prepared = _build(plan, base, target, settings, fetch)
    late = {*live_change(prepared.layer, target, base, mixed=True).imported(), *left_over(target)}
    return replace(prepared, plan=plan.without(late, TOO_LATE))  # what the layer has as it was imported is not late


def _build(plan: Plan, base: Environment, target: Target, settings: NodeSettings, fetch: Fetch) -> Prepared:
    if plan.empty:
        return Prepared(plan, None, base=base)
    cache = open_cache(settings.cache_directory)
    node_base = base_at(Path(this_process().python), base_path(), base)
    sources = Sources(target.transport, fetch, indexes_for(target, settings), target.environment.distributions)
    layer = build(
        plan,
        node_base,
        cache,
        lambda: installer(cache, target, settings, fetch),
        timeout=target.install_timeout,
        sources=sources,
    )
    if not layer.reused:
        collect(cache, max_age=settings.max_age, max_bytes=settings.max_bytes)
    return Prepared(plan, layer, node_base.site_packages, base)


def installer(cache: Cache, target: Target, settings: NodeSettings, fetch: Fetch | None = None) -> Installer:
    """Return the best installer for this node: its own, or uv from the client or from an index."""

    def wheel() -> Path | None:
        uv = target.environment.distributions.get("uv")
        if uv is None or fetch is None or not target.environment.interpreter.same_platform(this_interpreter()):
            return None
        request = request_for(uv)
        path, _ = fetch([request])[request]
        inspect(path, name=uv.name, version=uv.version)
        return path

    timeout, python = target.install_timeout, Path(this_process().python)
    may_fetch = target.transport != "client"
    return find_installer(
        cache,
        python,
        timeout=timeout,
        may_fetch=may_fetch,
        wheel=None if target.transport == "index" else wheel,
        indexes=_indexes_for_uv(target, settings),
        trust=configured_trust(),
    )


def _indexes_for_uv(target: Target, settings: NodeSettings) -> tuple[Indexes, ...]:
    """Return where uv may be fetched from: this node's indexes, which may lack it, and those that pip here has."""
    first = indexes_for(target, settings)
    return (first,) if settings.indexes.configured else tuple(dict.fromkeys((first, pip_indexes())))


def indexes_for(target: Target, settings: NodeSettings) -> Indexes:
    """Return the indexes that this node uses: the operator's, else those of uv and pip here, else the client's."""
    candidates = (settings.indexes, configured_indexes(), target.indexes)
    return next((indexes for indexes in candidates if indexes.configured), OWN)


def resolve_extra(target: Target, settings: NodeSettings) -> tuple[str, ...]:
    """Resolve the extra requirements to exact pins that agree with the target. Blocks: call it in a thread."""
    cache = open_cache(settings.cache_directory)
    constraints = [f"{d.name}=={d.version}" for d in target.environment.distributions.values()]
    return installer(cache, target, settings).resolve(
        target.policy.extra, constraints, timeout=target.install_timeout, indexes=indexes_for(target, settings)
    )


def refuse_critical(target: Target, base: Environment) -> None:
    """Raise `LayerError` if this node differs from the target in a critical package: no layer may replace those."""
    differences = compare_critical(
        critical_versions(target.environment),
        critical_versions(base),
        expected_label="client",
        found_label="node",
    )
    if differences:
        raise LayerError(
            "compare",
            "the node's own versions of packages that Dask needs to be the same everywhere differ from the client's\n"
            + str(differences),
            advice=f"Install the client's versions of these packages in {sys.prefix} and start the node again.",
        )
