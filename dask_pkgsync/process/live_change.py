"""A live change: what a running process may not have imported or looked up, so that it can go on in another layer.

A process that takes a layer live must be as one that starts in it. What has to be known for that is read before the
layer is activated. The process is asked twice, before and after: its tasks may import modules meanwhile.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from time import monotonic, sleep
from typing import TYPE_CHECKING

from dask_pkgsync.layers.prefix_data import below_prefix, data_files
from dask_pkgsync.model.plan import make_plan
from dask_pkgsync.process.activation import path_with
from dask_pkgsync.process.import_internals import being_imported
from dask_pkgsync.process.imports import altered, base_path, is_below, is_loaded_from, left_over, remaining
from dask_pkgsync.process.module_files import is_copy
from dask_pkgsync.process.plugins import changed_groups, readers
from dask_pkgsync.process.prefix_change import why_new_process
from dask_pkgsync.process.state import this_process
from dask_pkgsync.scanning.installed import scan_installed
from dask_pkgsync.scanning.records import dist_infos, installed, module_names
from dask_pkgsync.scanning.snapshot import with_digests

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from dask_pkgsync.layers.layer import Layer
    from dask_pkgsync.model.environments.environment import Environment
    from dask_pkgsync.model.record import Entry
    from dask_pkgsync.model.target import Target

Modules = dict[str, frozenset[str]]
"""The names of modules, by the canonical name of their distribution."""

SHOWN = 5
"""The most modules that a reason names."""
PATIENCE = 10.0
"""Seconds to wait for a module that a task is importing, and whose file is not known yet."""


@dataclass(frozen=True)
class LiveChange:
    """What changes for this process when it takes a layer live."""

    layer: Layer | None
    """None for the base alone."""
    active: str
    """Directory of the layer that was active when this was made, or empty."""
    modules: Modules
    """The modules of the distributions that change."""
    unlike_base: frozenset[str]
    """The distributions that the target has otherwise than the base."""
    unlike_now: frozenset[str]
    """The distributions that the target has otherwise than this process."""
    outdated: frozenset[str]
    """The distributions that were imported from layers before the active one, and that the target has otherwise."""
    missing: Modules
    """The modules of the distributions that only the active layer has."""
    groups: tuple[str, ...]
    """The groups in which plugins are added, removed or changed."""
    data: Mapping[str, str]
    """The distributions whose data files below `sys.prefix` change, each with one of these files."""

    def why_restart(self) -> str | None:
        """Return why this process must restart to take the layer, or None if it can take the layer live."""
        if reason := why_new_process(self.layer):
            return reason
        if self.layer is not None and self.layer.complete and self.active != str(self.layer.root):
            return "the layer stands alone (it is complete): only a new process can leave out the base"
        if late := self.imported():
            names = ", ".join(f"{name} (as {modules[0]})" for name, modules in late.items())
            return f"already imported in another version: {names}"
        if gone := sorted(name for name, modules in self.missing.items() if not modules.isdisjoint(sys.modules)):
            return f"already imported, and missing from the new environment: {', '.join(gone)}"
        if modules := altered(self.layer):
            return f"imported from files of its layer that had been changed: {', '.join(modules[:SHOWN])}"
        return next(iter(self.not_found()), None)

    def imported(self) -> dict[str, tuple[str, ...]]:
        """Return the distributions that this process has imported otherwise than the target has them.

        Returns
        -------
        dict of str to tuple of str
            Canonical name of the distribution to the names of its imported modules.
        """
        found = {}
        for name, modules in sorted(self.modules.items()):
            late = {module for module in modules if module in sys.modules and not self._fits(name, module)}
            copies = {top for top in {module.partition(".")[0] for module in late} if self._is_copy(top)}
            if late := {module for module in late if module.partition(".")[0] not in copies}:
                found[name] = tuple(sorted(late))
        return found

    def _fits(self, name: str, module: str) -> bool:
        """Whether an imported module of a distribution is the target's, by the place of its file."""
        if self.layer is not None and any(is_loaded_from(module, root) for root in self.layer.roots):
            return True
        if self.active and is_loaded_from(module, self.active):
            return name not in self.unlike_now
        if name in this_process().leftovers:
            return name not in self.outdated
        return name not in self.unlike_base

    def _is_copy(self, top: str) -> bool:
        """Whether an imported module or package is the same in the layer, byte for byte, as an uploaded one may be."""
        return self.layer is not None and top in sys.modules and is_copy(sys.modules[top], self.layer.site_packages)

    def not_found(self) -> tuple[str, ...]:
        """Return what this process would not find in the layer, though a new process would, a sentence for each."""
        looked_up = readers(self.groups)
        plugins = [f"{reader} has looked up its plugins ({group}) already" for group, reader in looked_up.items()]
        data = [f"{name} has files below sys.prefix, as {path}" for name, path in self.data.items()]
        which = "only a process that starts in the environment finds the new ones"
        return tuple(f"{text}: {which}" for text in (*plugins, *data))

    def wait_for_imports(self, patience: float = PATIENCE) -> str | None:
        """Wait until the file is known of each module that changes and that a task is importing; blocks.

        Parameters
        ----------
        patience : float
            Seconds after which to give up.

        Returns
        -------
        str or None
            Why this process must restart, if that takes longer.
        """
        names = frozenset(chain.from_iterable((*self.modules.values(), *self.missing.values())))
        deadline = monotonic() + patience
        while unknown := sorted(name for name in being_imported() & names if name not in sys.modules):
            if monotonic() > deadline:
                return f"a task is still importing: {', '.join(unknown)}"
            sleep(0.005)  # nothing tells when the import system has found a file
        return None


def live_change(
    layer: Layer | None, target: Target, base: Environment | None = None, *, mixed: bool = False
) -> LiveChange:
    """Read what changes for this process when it takes a layer live. Blocks.

    Parameters
    ----------
    layer : Layer or None
        The layer that the process is to have; None for the base alone, or if the layer is not built yet.
    target : Target
        What the process has to match.
    base : Environment, optional
        The base, if it was scanned already, else it is scanned here.
    mixed : bool
        Whether the process may have imported packages of the base that its active layer has otherwise, as a process
        that is never restarted. If not, only what differs from the active layer is looked at.
    """
    active, base_entries = this_process().layer, base_path()
    if base is None:
        base = with_digests(scan_installed(base_entries), target.environment.distributions)
    lacking, changes = remaining(target).changes, make_plan(base, target.environment, target.policy).changes
    here, there, in_base = installed(sys.path), installed(path_with(layer)), installed(base_entries)
    unlike_now = frozenset(step.name for step in lacking)
    # What a delta holds differs from the base, also where only a look at all files shows that.
    held = dist_infos(layer.site_packages) if layer is not None and not layer.complete else {}
    unlike_base = frozenset((*(step.name for step in changes), *held))
    outdated = frozenset(left_over(target))
    from_active = {name for name, dist_info in here.items() if active and is_below(str(dist_info), active)}
    concerned = unlike_now | outdated | (unlike_base if mixed or not active else held.keys() - from_active)
    moved = [
        name
        for name in sorted(here.keys() | there.keys())
        if here.get(name) != there.get(name) and (name in concerned or name not in there)
    ]
    data = {name: _data(here.get(name)) ^ _data(there.get(name)) for name in moved}
    return LiveChange(
        layer,
        active,
        {name: _modules(places[name] for places in (here, there, in_base) if name in places) for name in concerned},
        unlike_base,
        unlike_now,
        outdated,
        {name: _modules([here[name]]) for name in moved if name not in there and name in from_active},
        changed_groups(
            [here[name] for name in moved if name in here], [there[name] for name in moved if name in there]
        ),
        {name: min(below_prefix(entry.path) for entry in files) for name, files in data.items() if files},
    )


def _modules(dist_infos: Iterable[Path]) -> frozenset[str]:
    """Return the modules of distributions, except those that the standard library has, which comes before them."""
    return frozenset(chain.from_iterable(map(_own_modules, dist_infos)))


def _own_modules(dist_info: Path) -> frozenset[str]:
    """Return the modules of one distribution; its RECORD is read again only when that has changed.

    A process asks at least twice, and for each nanny in it.
    """
    try:
        status = (dist_info / "RECORD").stat()
    except OSError:
        return frozenset()  # as if it were empty
    return _modules_by(dist_info, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=10_000)
def _modules_by(dist_info: Path, _time: int, _size: int) -> frozenset[str]:
    names = module_names(dist_info)
    return frozenset(name for name in names if name.partition(".")[0] not in sys.stdlib_module_names)


def _data(dist_info: Path | None) -> frozenset[Entry]:
    return frozenset() if dist_info is None else data_files(dist_info)
