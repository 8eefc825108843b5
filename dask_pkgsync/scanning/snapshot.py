"""Scans the client's environment: installed distributions, and local code with digests of its content."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from dask_pkgsync.model.environments.distribution import Fault
from dask_pkgsync.model.environments.origin import FromDirectory
from dask_pkgsync.model.text import printable
from dask_pkgsync.scanning.installed import scan_installed
from dask_pkgsync.scanning.known_environments import known
from dask_pkgsync.scanning.loose_modules import LooseModules, find_modules
from dask_pkgsync.scanning.search_path import SearchPath

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Mapping, Sequence

    from dask_pkgsync.model.environments.environment import Environment
    from dask_pkgsync.model.policy import Policy
    from dask_pkgsync.model.reports.discrepancies import Discrepancy
    from dask_pkgsync.scanning.loose_modules import LooseModule

MODULES_LIMIT = 50_000_000
"""The default of the most bytes of all loose modules together."""
_NAMED = 20
"""The most missing files that are named of one distribution."""
PROJECTS_LIMIT = 500_000_000
"""The default of the most bytes of the source of all editable projects together."""


@dataclass(frozen=True)
class Snapshot:
    """An environment of this machine, with the files of its loose modules."""

    environment: Environment
    modules: Mapping[str, LooseModule] = field(default_factory=dict)
    """Loose modules by the name of their distribution, for example ``module-helpers``."""
    left_out: tuple[tuple[Path, str], ...] = ()
    """Files and directories of importable code that do not travel, each with the reason."""
    incomplete: Mapping[str, tuple[tuple[Path, str], ...]] = field(default_factory=dict)
    """For each distribution of local code that travels without some of its files: these, each with the reason."""


def scan(
    path: Sequence[str] | None = None,
    *,
    modules: bool | Sequence[str] = True,
    modules_limit: int = MODULES_LIMIT,
    projects_limit: int = PROJECTS_LIMIT,
    verify: bool = False,
) -> Environment:
    """Return the environment of this interpreter: its distributions, editable projects and loose modules.

    Parameters
    ----------
    path : sequence of str, optional
        Directories in the order of import; by default `sys.path`. With another path, loose modules are not scanned.
    modules : bool or sequence of str
        Which loose modules are included: importable code that belongs to no distribution, such as modules beside the
        script or notebook. True: all; False: none; a list: these names, and paths of modules, packages and directories.
    modules_limit : int
        The most bytes of all loose modules together.
    projects_limit : int
        The most bytes of the source of all editable projects together.
    verify : bool
        Whether the files of all distributions are looked at, to find those that are no longer as they were installed
        (`Distribution.modified`). It takes about as long as listing all files; `dask_pkgsync.sync` always does it.

    Returns
    -------
    Environment
        Of several distributions with one name it has the first on the path, as the import system does. Distributions
        with broken metadata, and two of one name in one directory, are listed in ``faults`` and match no other
        distribution. Editable projects and loose modules have a digest of their files.

    Raises
    ------
    PolicyError
        If a module in the list ``modules`` does not exist or cannot travel, or if the loose modules or the editable
        projects exceed their limit.
    """
    return snapshot(
        path, modules=modules, modules_limit=modules_limit, projects_limit=projects_limit, verify=verify
    ).environment


def snapshot(
    path: Sequence[str] | None = None,
    *,
    modules: bool | Sequence[str] = True,
    modules_limit: int = MODULES_LIMIT,
    projects_limit: int = PROJECTS_LIMIT,
    verify: bool = False,
    ignores: Callable[[str], bool] = lambda _: False,
) -> Snapshot:
    """Scan as `scan` does, and return the files of the loose modules too.

    The source of an editable project for whose name ``ignores`` is true is not read.
    """
    installed = scan_installed(path)
    left_out: Mapping[str, tuple[tuple[Path, str], ...]] = {}
    editable = frozenset(
        name
        for name, distribution in installed.distributions.items()
        if isinstance(distribution.origin, FromDirectory) and distribution.origin.editable and not ignores(name)
    )
    if editable:
        from dask_pkgsync.scanning.project_sources import read_projects  # imported here because it is rarely needed

        projects = read_projects(installed, editable, limit=projects_limit)
        installed, left_out = projects.environment, projects.left_out
    if verify:
        installed = verified(installed, path)
    loose = LooseModules()
    if path is None and modules is not False:
        loose = find_modules(modules, limit=modules_limit, path=SearchPath.of(installed))
    of_modules = {module.distribution: module for module in loose.modules}
    by_name = {distribution.name: module for distribution, module in of_modules.items()}
    everything = [*installed.distributions.values(), *of_modules]
    environment = known(installed.with_distributions(everything))
    return Snapshot(environment, by_name, loose.left_out, {**left_out, **loose.incomplete})


def missing_files(snapshot: Snapshot, policy: Policy) -> tuple[Discrepancy, ...]:
    """Return which distributions of local code the nodes get without some of their files, as a policy compares them."""
    from dask_pkgsync.model.reports.discrepancies import Discrepancy

    return tuple(
        Discrepancy(name, f"{printable(str(path))} is not shipped: {reason}")
        for name, files in snapshot.incomplete.items()
        if not policy.ignores(name)
        for path, reason in files[:_NAMED]
    )


def with_digests(environment: Environment, only: Container[str] | None = None) -> Environment:
    """Return an environment in which the editable projects have digests of their source directories.

    Parameters
    ----------
    environment : Environment
        The result of a scan of this machine.
    only : container of str, optional
        Canonical names of the projects to digest; by default all.
    """
    from dask_pkgsync.scanning.project_sources import read_projects

    return read_projects(environment, only).environment


def verified(
    environment: Environment, path: Sequence[str] | None = None, only: Container[str] | None = None
) -> Environment:
    """Return an environment after a look at the files of its packages. Blocks.

    Those of distributions are looked at by `scanning.content.looked_at`, those of conda packages by
    `scanning.conda_content.look_at`.

    Parameters
    ----------
    environment : Environment
        The result of a scan of this machine.
    path : sequence of str, optional
        The search path that was scanned; by default `sys.path`.
    only : container of str, optional
        Canonical names of the packages to look at; by default all.
    """
    from dask_pkgsync.scanning.content import looked_at
    from dask_pkgsync.scanning.dist_infos import dist_infos_on
    from dask_pkgsync.scanning.unmodified import is_unmodified

    places = [entry for entry in (sys.path if path is None else path) if isinstance(entry, str)]
    directories = dist_infos_on(places)
    distributions = dict(environment.distributions)
    faults: list[Fault] = []
    for name, dist_info in directories.items():
        if name in distributions and distributions[name].content and (only is None or name in only):
            try:
                if not is_unmodified(str(dist_info)):
                    distributions[name] = looked_at(distributions[name], str(dist_info))
            except OSError as error:
                detail = printable(f"{error.filename} cannot be read: {error.strerror}")
                faults.append(Fault("unreadable", printable(str(dist_info)), detail, name))
    looked = environment.with_distributions(distributions.values(), faults)
    if not environment.conda:
        return known(looked)
    from dask_pkgsync.scanning.conda_content import look_at  # imported here because they are rarely needed
    from dask_pkgsync.scanning.conda_meta import prefix_on

    if (prefix := prefix_on(places)) is not None:
        chosen = [one for one in looked.conda.values() if only is None or any(name in only for name in one.names)]
        found = {package.name: package for package in look_at(chosen, Path(prefix.root))}
        looked = replace(looked, conda={**looked.conda, **found})
    return known(looked)
