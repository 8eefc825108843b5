"""The tools that a node builds with: its own, the client's, or fetched from an index, once per host."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import TYPE_CHECKING

from dask_pkgsync.cache.directory import open_cache
from dask_pkgsync.conda.tool import find_rattler
from dask_pkgsync.installers.find import find_installer
from dask_pkgsync.installers.uv import Uv
from dask_pkgsync.interpreters.candidates import on_this_machine
from dask_pkgsync.interpreters.downloading import downloaded, found_by_uv
from dask_pkgsync.interpreters.finding import Source
from dask_pkgsync.model.blobs import request_for
from dask_pkgsync.model.indexes import OWN
from dask_pkgsync.model.reports.failure import LayerError
from dask_pkgsync.process.state import this_process
from dask_pkgsync.scanning.configured_indexes import configured_indexes, pip_indexes
from dask_pkgsync.scanning.configured_trust import configured_trust
from dask_pkgsync.scanning.installed import this_interpreter
from dask_pkgsync.wheels.blob_store import BlobStore
from dask_pkgsync.wheels.inspection import inspect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from dask_pkgsync.cache.directory import Cache
    from dask_pkgsync.installers import Installer
    from dask_pkgsync.interpreters.probing import Candidate
    from dask_pkgsync.layers.fill import Fetch
    from dask_pkgsync.model.environments.conda import CondaPackage
    from dask_pkgsync.model.environments.interpreter import Interpreter
    from dask_pkgsync.model.indexes import Indexes
    from dask_pkgsync.model.target import Target
    from dask_pkgsync.process.node_settings import NodeSettings


def installer(
    cache: Cache,
    target: Target,
    settings: NodeSettings,
    fetch: Fetch | None = None,
    variables: Mapping[str, str] | None = None,
) -> Installer:
    """Return the best installer for this node: its own, or uv from the client or from an index.

    ``variables`` are environment variables that the interpreter needs for which it installs.
    """
    return find_installer(
        cache,
        Path(this_process().python),
        timeout=target.install_timeout,
        may_fetch=target.transport != "client",
        wheel=_from_client("uv", target, fetch),
        indexes=_indexes_for_tools(target, settings),
        trust={**configured_trust(), **(variables or {})},
    )


def conda_tool(cache: Cache, target: Target, settings: NodeSettings, fetch: Fetch | None = None) -> Path:
    """Return the directory that holds py-rattler: this node's own, or one from the client or from an index."""
    return find_rattler(
        cache,
        lambda: installer(cache, target, settings, fetch),
        python=Path(this_process().python),
        timeout=target.install_timeout,
        may_fetch=target.transport != "client",
        wheel=_from_client("py-rattler", target, fetch),
        indexes=_indexes_for_tools(target, settings),
    )


def _from_client(name: str, target: Target, fetch: Fetch | None) -> Callable[[], Path | None] | None:
    """Return what gets the client's wheel of a tool, or None where the client has none for this platform.

    None in place of that where nothing may come from the client.
    """
    if target.transport == "index" or fetch is None:
        return None

    def wheel() -> Path | None:
        tool = target.environment.distributions.get(name)
        if tool is None or not is_for_this_machine(target.environment.interpreter):
            return None
        request = request_for(tool)
        path, _ = fetch([request])[request]
        inspect(path, name=tool.name, version=tool.version)
        return path

    return wheel


def is_for_this_machine(interpreter: Interpreter) -> bool:
    """Whether what runs on the machine of an interpreter may run on this one; to start it tells for sure."""
    this = this_interpreter()
    return (interpreter.platform, "musllinux" in interpreter.tag) == (this.platform, "musllinux" in this.tag)


def blob_store(settings: NodeSettings) -> BlobStore:
    """Return this host's store of packages that clients have provided."""
    cache = open_cache(settings.cache_directory)
    return BlobStore(cache, max_age=settings.max_age, max_bytes=settings.store_bytes)


def interpreter_sources(
    target: Target,
    cache: Cache,
    settings: NodeSettings,
    fetch: Fetch,
    of_client: Callable[[Interpreter], Iterator[Candidate]],
) -> tuple[Source, ...]:
    """Return where this node may get an interpreter for a target from, in the order in which each is asked.

    ``of_client`` gets that of the client.
    """

    def from_uv(how: Callable[[Uv], Iterator[Candidate]]) -> Iterator[Candidate]:
        found = installer(cache, target, settings, fetch)
        if not isinstance(found, Uv):
            raise LayerError("interpreter", "there is no uv on this node")
        yield from how(found)

    def download(wanted: Interpreter, *, exact: bool) -> Iterator[Candidate]:
        if target.transport == "client" and not _has_mirror():
            raise LayerError("interpreter", "transport is client, so nothing is downloaded")
        limit = target.install_timeout
        return from_uv(lambda uv: downloaded(uv, cache, wanted, exact=exact, timeout=limit))

    return (
        Source("this node", on_this_machine),
        Source("uv python install", functools.partial(download, exact=True)),
        Source("the client", of_client),
        Source(
            "uv python find",
            lambda wanted: from_uv(lambda uv: found_by_uv(uv, cache, wanted)),
            only_without=True,
        ),
        Source("uv python install", functools.partial(download, exact=False), only_without=True),
    )


def _has_mirror() -> bool:
    return "UV_PYTHON_INSTALL_MIRROR" in os.environ


def _indexes_for_tools(target: Target, settings: NodeSettings) -> tuple[Indexes, ...]:
    """Return where tools may be fetched from: this node's indexes, which may lack them, and those that pip here has."""
    first = indexes_for(target, settings)
    return (first,) if settings.indexes.configured else tuple(dict.fromkeys((first, pip_indexes())))


def indexes_for(target: Target, settings: NodeSettings) -> Indexes:
    """Return the indexes that this node uses: the operator's, else those of uv and pip here, else the client's."""
    candidates = (settings.indexes, configured_indexes(), target.indexes)
    return next((indexes for indexes in candidates if indexes.configured), OWN)


def resolve_extra_conda(target: Target, settings: NodeSettings) -> tuple[CondaPackage, ...]:
    """Find the conda packages that ``extra`` adds to the client's. Blocks: call it in a thread."""
    from dask_pkgsync.conda.solving import solve_extra  # imported here because few targets need it

    cache = open_cache(settings.cache_directory)
    return solve_extra(
        target.policy.extra_conda,
        tuple(target.environment.conda.values()),
        cache,
        lambda: conda_tool(cache, target, settings),
        timeout=target.install_timeout,
    )


def resolve_extra(target: Target, settings: NodeSettings) -> tuple[str, ...]:
    """Resolve the extra requirements to exact pins that agree with the target. Blocks: call it in a thread."""
    cache = open_cache(settings.cache_directory)
    constraints = [f"{d.name}=={d.version}" for d in target.environment.distributions.values()]
    return installer(cache, target, settings).resolve(
        target.policy.extra_requirements,
        constraints,
        timeout=target.install_timeout,
        indexes=indexes_for(target, settings),
    )
