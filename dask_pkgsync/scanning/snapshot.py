"""Scans the client's environment: installed distributions, and local code with digests of its content."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import url2pathname

from dask_pkgsync.model.environments.distribution import Fault
from dask_pkgsync.model.environments.environment import Environment
from dask_pkgsync.model.environments.origin import FromDirectory
from dask_pkgsync.model.text import printable
from dask_pkgsync.scanning.content import looked_at
from dask_pkgsync.scanning.installed import scan_installed
from dask_pkgsync.scanning.loose_modules import find_modules
from dask_pkgsync.scanning.records import installed as installed_at
from dask_pkgsync.scanning.sources import digest_of, project_files

if TYPE_CHECKING:
    from collections.abc import Container, Mapping, Sequence

    from dask_pkgsync.model.environments.distribution import Distribution
    from dask_pkgsync.scanning.loose_modules import LooseModule

MODULES_LIMIT = 50_000_000
"""The default of the most bytes of all loose modules together."""


@dataclass(frozen=True)
class Snapshot:
    """An environment of this machine, with the files of its loose modules."""

    environment: Environment
    modules: Mapping[str, LooseModule] = field(default_factory=dict)
    """Loose modules by the name of their distribution, for example ``module-helpers``."""
    left_out: tuple[tuple[Path, str], ...] = ()
    """Files and directories of importable code that do not travel, each with the reason."""


def scan(
    path: Sequence[str] | None = None,
    *,
    modules: bool | Sequence[str] = True,
    modules_limit: int = MODULES_LIMIT,
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
        If a module in the list ``modules`` does not exist or cannot travel, or if the loose modules exceed the limit.
    """
    return snapshot(path, modules=modules, modules_limit=modules_limit, verify=verify).environment


def snapshot(
    path: Sequence[str] | None = None,
    *,
    modules: bool | Sequence[str] = True,
    modules_limit: int = MODULES_LIMIT,
    verify: bool = False,
) -> Snapshot:
    """Scan as `scan` does, and return the files of the loose modules too."""
    installed = with_digests(scan_installed(path))
    if verify:
        installed = verified(installed, path)
    loose = find_modules(modules if path is None else False, limit=modules_limit)
    by_name = {module.distribution.name: module for module in loose.modules}
    everything = [*installed.distributions.values(), *(module.distribution for module in loose.modules)]
    environment = Environment.of(installed.interpreter, everything, installed.faults)
    return Snapshot(environment, by_name, loose.left_out)


def with_digests(environment: Environment, only: Container[str] | None = None) -> Environment:
    """Return an environment in which the editable projects have digests of their source directories.

    Parameters
    ----------
    environment : Environment
        The result of a scan of this machine.
    only : container of str, optional
        Canonical names of the projects to digest; by default all.
    """
    distributions: list[Distribution] = []
    faults = list(environment.faults)
    for distribution in environment.distributions.values():
        match distribution.origin:
            case FromDirectory(editable=True, digest="") as origin if only is None or distribution.name in only:
                try:
                    digest = project_digest(source_directory(origin), distribution)
                except (OSError, ImportError) as error:  # ImportError: a node without pathspec
                    place, detail = printable(origin.url), printable(f"its source cannot be read: {error}")
                    faults.append(Fault("unreadable", place, detail, distribution.name))
                    digest = ""
                distributions.append(replace(distribution, origin=replace(origin, digest=digest)))
            case _:
                distributions.append(distribution)
    return Environment.of(environment.interpreter, distributions, faults)


def verified(
    environment: Environment, path: Sequence[str] | None = None, only: Container[str] | None = None
) -> Environment:
    """Return an environment after a look at the files of its distributions (`scanning.content.looked_at`). Blocks.

    Parameters
    ----------
    environment : Environment
        The result of a scan of this machine.
    path : sequence of str, optional
        The search path that was scanned; by default `sys.path`.
    only : container of str, optional
        Canonical names of the distributions to look at; by default all.
    """
    directories = installed_at([entry for entry in (sys.path if path is None else path) if isinstance(entry, str)])
    distributions = dict(environment.distributions)
    faults = list(environment.faults)
    for name, dist_info in directories.items():
        if name in distributions and (only is None or name in only):
            try:
                distributions[name] = looked_at(distributions[name], str(dist_info))
            except OSError as error:
                detail = printable(f"{error.filename} cannot be read: {error.strerror}")
                faults.append(Fault("unreadable", printable(str(dist_info)), detail, name))
    return Environment.of(environment.interpreter, distributions.values(), faults)


def project_digest(directory: Path, distribution: Distribution) -> str:
    """Return the digest of a project's files, name and version, which changes with every edit."""
    return digest_of(project_files(directory), distribution.name, distribution.version)


def source_directory(origin: FromDirectory) -> Path:
    """Return the directory of a ``file:`` URL."""
    return Path(url2pathname(urlsplit(origin.url).path))
