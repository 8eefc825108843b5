"""Whole environments: an interpreter of the target's X.Y, Dask, and all packages of the client, on any node.

The Python that runs this code, and the environment that it is in, need not have anything of the target.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from dask_pkgsync.cache.directory import open_cache
from dask_pkgsync.installers.programs import DeadlineExceededError, run
from dask_pkgsync.model.environments.environment import Environment
from dask_pkgsync.model.plan import make_plan
from dask_pkgsync.model.prefix_plan import make_prefix_plan
from dask_pkgsync.process.foundations import interpreter_foundation, prefix_foundation
from dask_pkgsync.process.preparation import in_front_of
from dask_pkgsync.process.surroundings import variables_in
from dask_pkgsync.scanning.installed import this_interpreter

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from dask_pkgsync.layers.fill import Fetch
    from dask_pkgsync.layers.layer import Layer
    from dask_pkgsync.model.target import Target
    from dask_pkgsync.process.foundations import Foundation
    from dask_pkgsync.process.node_settings import NodeSettings

IMPORT_TIMEOUT = 120.0
"""Seconds in which all modules of `failing_imports` must have been imported."""


@dataclass(frozen=True)
class Whole:
    """A whole environment on this node."""

    python: Path
    """Its interpreter, for the command line of a process in it."""
    layer: Layer
    prefix: Layer | None = None
    """The prefix that the layer is put in front of; None if its interpreter was on the node before."""
    path: tuple[str, ...] = ()
    """The directories of its programs, which come first on PATH."""
    variables: Mapping[str, str] = field(default_factory=dict, hash=False)
    """What else of the environment variables a process in it has otherwise."""
    notes: tuple[str, ...] = ()
    """What the person should know, a sentence each."""

    @property
    def layers(self) -> tuple[Layer, ...]:
        """All that must not be removed while a process is in it."""
        return (self.layer,) if self.prefix is None else (self.prefix, self.layer)

    def environ(self, environ: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return all environment variables of a process in it, made of those of this process."""
        return variables_in(self.path, self.variables, environ)


def whole_environment(target: Target, settings: NodeSettings, fetch: Fetch) -> Whole:
    """Build or find a whole environment for a target. Does not change the running process. Blocks.

    It holds all that the client has and the policy ships. ``only`` does not count: what it leaves out would be missing,
    as there is no base behind it. This process holds a lease on all of it.

    Parameters
    ----------
    target : Target
        Its environment may be of any Python that can be had here.
    settings : NodeSettings
    fetch : callable
        Returns what the client provides.

    Raises
    ------
    LayerError
        If there is no interpreter for it, or it cannot be built.
    """
    cache = open_cache(settings.cache_directory)
    target = replace(target, policy=replace(target.policy, only=None, strict=False))
    nothing = Environment.of(this_interpreter(), ())
    if target.environment.interpreter.platform != nothing.interpreter.platform:  # conda packages are for their own
        target = target.with_environment(target.environment.with_conda(()))
    prefix = make_prefix_plan(nothing, target.environment, target.policy)
    if prefix.packages:
        foundation = prefix_foundation(prefix, target, cache, settings, fetch)
    else:
        foundation = interpreter_foundation(target, cache, settings, fetch)
    target = target.at(foundation.base.environment.interpreter)
    plan = make_plan(foundation.base.environment, target.environment, target.policy)
    prepared = in_front_of(foundation, plan if prefix.packages else plan.completed(), cache, target, settings, fetch)
    assert prepared.layer is not None  # noqa: S101  # there is always one in front of a foundation
    ignored = target.policy.ignore  # there is no base that could have them
    left_out = (step for step in plan.skipped if not step.ignored or step.name in ignored)
    notes = tuple(f"{step.name} {step.version} is not in it: {step.reason}" for step in left_out)
    return _whole(foundation, prepared.layer, notes)


def _whole(foundation: Foundation, layer: Layer, skipped: tuple[str, ...]) -> Whole:
    notes = tuple(dict.fromkeys((*foundation.notes, *layer.notes, *skipped)))
    prefix, variables = foundation.prefix, {**foundation.variables, "VIRTUAL_ENV": str(layer.root)}
    own = set(os.environ.get("PATH", "").split(os.pathsep))
    beneath = [entry for entry in variables.pop("PATH", "").split(os.pathsep) if entry and entry not in own]
    return Whole(layer.python, layer, prefix, (str(layer.bin), *beneath), variables, notes)


def failing_imports(
    whole: Whole,
    modules: Sequence[str] = (),
    *,
    timeout: float = IMPORT_TIMEOUT,
    environ: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Import modules, and before them ``distributed``, in a child process of a whole environment. Blocks.

    Parameters
    ----------
    whole : Whole
    modules : sequence of str
        Dotted names, or paths of files, as Dask's ``--preload`` takes them.
    timeout : float
        Seconds in which all must have been imported.
    environ : mapping of str to str, optional
        The environment variables of this process.

    Returns
    -------
    dict of str to str
        By module, why its import fails, on one line; empty if all can be imported.
    """
    names = ["distributed", *modules]
    try:
        finished = run([str(whole.python), "-c", _IMPORT, *names], timeout=timeout, env=whole.environ(environ))
    except (DeadlineExceededError, OSError) as error:
        return {"distributed": str(error)}
    try:
        failing = json.loads(finished.stdout.rstrip().rpartition("\n")[2])
        return {str(name): str(reason) for name, reason in failing.items()}
    except (ValueError, AttributeError):  # an import has ended the process
        words = (finished.stderr.strip() or f"status {finished.returncode}").splitlines()[-1]
        return {"distributed" if len(names) == 1 else ", ".join(names): f"the process ended: {words}"}


_IMPORT = """
import importlib, json, os, runpy, sys
failing = {}
for name in sys.argv[1:]:
    try:
        if name.endswith(".py") and os.path.isfile(name):
            runpy.run_path(name, run_name=os.path.basename(name)[:-3])
        else:
            importlib.import_module(name)
    except BaseException as error:
        failing[name] = (type(error).__name__ + ": " + str(error)).splitlines()[0]
print()
print(json.dumps(failing), flush=True)
os._exit(0)
"""
"""``os._exit``: what the modules have started must not keep the child from ending."""
