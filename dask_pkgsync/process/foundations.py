"""What stands beneath the layer of a node.

It is the node's own base, a conda prefix that was built for the target, or a bare interpreter of the target's X.Y.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from dask_pkgsync.interpreters.probing import Candidate, Unusable, probe
from dask_pkgsync.layers.layer import Base, base_at
from dask_pkgsync.layers.layout import library_of, site_packages_in
from dask_pkgsync.model.environments.environment import Environment
from dask_pkgsync.model.reports.failure import LayerError
from dask_pkgsync.process.imports import base_path
from dask_pkgsync.process.state import this_process
from dask_pkgsync.scanning.installed import scan_installed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from dask_pkgsync.cache.directory import Cache
    from dask_pkgsync.layers.fill import Fetch
    from dask_pkgsync.layers.layer import Layer
    from dask_pkgsync.model.environments.interpreter import Interpreter
    from dask_pkgsync.model.prefix_plan import PrefixPlan, Step
    from dask_pkgsync.model.target import Target
    from dask_pkgsync.process.node_settings import NodeSettings


@dataclass(frozen=True)
class Foundation:
    """What stands beneath a layer."""

    base: Base
    """The interpreter and the distributions that a layer is put in front of."""
    prefix: Layer | None = None
    """The conda prefix that this is; None if it is the node's own base."""
    steps: tuple[Step, ...] = ()
    """How the prefix differs from the node's own base, for reports."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Environment variables that a process on it has otherwise than this process."""
    notes: tuple[str, ...] = ()
    """What the person should know, a sentence each."""


def prefix_foundation(
    plan: PrefixPlan, target: Target, cache: Cache, settings: NodeSettings, fetch: Fetch
) -> Foundation:
    """Build or find a conda prefix, as what a layer stands on. Blocks.

    Parameters
    ----------
    plan : PrefixPlan
    target : Target
    cache : Cache
    settings : NodeSettings
    fetch : callable
        Returns what the client provides.

    Raises
    ------
    LayerError
        If it cannot be built.
    """
    # Imported here because only targets with conda packages need it.
    from dask_pkgsync.conda.activation import activated
    from dask_pkgsync.conda.prefix import CondaSources, build_prefix
    from dask_pkgsync.process.tools import conda_tool

    prefix = build_prefix(
        plan.packages,
        cache,
        lambda: conda_tool(cache, target, settings, fetch),
        CondaSources(target.transport, fetch),
        timeout=target.install_timeout,
    )
    base = _base_in(prefix)
    prefix = replace(prefix, python_directory=base.python_directory)
    return Foundation(base, prefix, plan.steps, activated(prefix.root))


def own_foundation(base: Environment) -> Foundation:
    """Return the node's own base as a foundation."""
    return Foundation(base_at(Path(this_process().python), base_path(), base))


def interpreter_foundation(target: Target, cache: Cache, settings: NodeSettings, fetch: Fetch) -> Foundation:
    """Find an interpreter for a target, as what a whole environment stands on: nothing is importable beneath. Blocks.

    Raises
    ------
    LayerError
        If there is none.
    """
    # Imported here because only whole environments need it.
    from dask_pkgsync.interpreters.finding import find_interpreter
    from dask_pkgsync.layers.sent_interpreter import sent_interpreter
    from dask_pkgsync.process.tools import interpreter_sources, is_for_this_machine

    sent: list[Layer] = []

    def of_client(wanted: Interpreter) -> Iterator[Candidate]:
        if target.transport == "index" or not is_for_this_machine(wanted):
            raise LayerError("interpreter", "it is of another platform, or transport is index")
        prefix = sent_interpreter(wanted, cache, fetch, timeout=target.install_timeout)
        sent.append(prefix)
        yield Candidate(prefix.python, "the client")
        yield Candidate(prefix.python, "the client", {"LD_LIBRARY_PATH": str(prefix.root / "lib")})

    sources = interpreter_sources(target, cache, settings, fetch, of_client)
    found = find_interpreter(target.environment.interpreter, sources)
    prefix = next((one for one in sent if found.python.is_relative_to(one.root)), None)
    whole = str(prefix.root) if prefix else ""
    base = Base(found.python, (), Environment.of(found.interpreter, ()), whole=whole, variables=found.variables)
    return Foundation(base, prefix, variables=found.variables, notes=found.notes)


def _base_in(prefix: Layer) -> Base:
    """Return a conda prefix as the base of layers, with the interpreter that is in it."""
    interpreter = _interpreter_in(prefix.python, prefix.built)
    site_packages = prefix.root / site_packages_in(library_of(interpreter))
    found = scan_installed([str(site_packages)])
    environment = replace(found, interpreter=interpreter)
    return Base(prefix.python, (site_packages,), environment, whole=str(prefix.root))


@functools.cache
def _interpreter_in(python: Path, built: str) -> Interpreter:
    """Return what an interpreter is; ``built`` names the publication of the prefix in which it lies. Blocks."""
    del built
    found = probe(Candidate(python, "conda"))
    if isinstance(found, Unusable):
        raise LayerError(
            "interpreter",
            f"the interpreter of the conda environment does not work on this node: {found.reason}",
            advice="Look whether the node has the C library and the processor that its packages need.",
        )
    return found.interpreter
