"""The person's own environment: what is installed, and the local code in it, each with a digest of its content."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import url2pathname

from dask_pkgsync.model.environments.distribution import Fault
from dask_pkgsync.model.environments.environment import Environment
from dask_pkgsync.model.environments.origin import FromDirectory
from dask_pkgsync.model.text import printable
from dask_pkgsync.scanning.installed import scan_installed
from dask_pkgsync.scanning.loose_modules import find_modules
from dask_pkgsync.scanning.sources import digest_of, project_files

if TYPE_CHECKING:
    from collections.abc import Container, Mapping, Sequence

    from dask_pkgsync.model.environments.distribution import Distribution
    from dask_pkgsync.scanning.loose_modules import LooseModule

MODULES_LIMIT = 50_000_000
"""Bytes of loose modules that travel at most, unless configured otherwise."""


@dataclass(frozen=True)
class Snapshot:
    """An environment of this machine, and where its loose modules are."""

    environment: Environment
    modules: Mapping[str, LooseModule] = field(default_factory=dict)
    """By the name of their distribution."""
    left_out: tuple[tuple[Path, str], ...] = ()
    """What could be imported and does not travel, with the reason."""


def scan(
    path: Sequence[str] | None = None,
    *,
    modules: bool | Sequence[str] = True,
    modules_limit: int = MODULES_LIMIT,
) -> Environment:
    """Return the interpreter, every distribution that it would import from, and the local code beside them.

    Parameters
    ----------
    path : sequence of str, optional
        Directories in the order of import; by default `sys.path`.
    modules : bool or sequence of str
        Loose modules: code that is importable and belongs to no distribution, such as what lies beside the script or
        notebook. True: all of them; False: none; or names and paths of those that count. Only of `sys.path`.
    modules_limit : int
        Bytes of all loose modules together.

    Returns
    -------
    Environment
        The first distribution of a name on the path, as the import system has it. What is broken, or there twice, is
        in ``faults`` and never counts as a match. Editable projects and loose modules have a digest of their files.

    Raises
    ------
    PolicyError
        If ``modules`` names what is not there, or the loose modules are larger than the limit.
    """
    return snapshot(path, modules=modules, modules_limit=modules_limit).environment


def snapshot(
    path: Sequence[str] | None = None, *, modules: bool | Sequence[str] = True, modules_limit: int = MODULES_LIMIT
) -> Snapshot:
    """Do the same, and keep where the loose modules are."""
    installed = with_digests(scan_installed(path))
    loose = find_modules(modules if path is None else False, limit=modules_limit)
    by_name = {module.distribution.name: module for module in loose.modules}
    everything = [*installed.distributions.values(), *(module.distribution for module in loose.modules)]
    environment = Environment.of(installed.interpreter, everything, installed.faults)
    return Snapshot(environment, by_name, loose.left_out)


def with_digests(environment: Environment, only: Container[str] | None = None) -> Environment:
    """Return an environment whose editable projects have the digests of what their directories hold.

    Parameters
    ----------
    environment : Environment
        What a scan of this machine found.
    only : container of str, optional
        Names to look at; by default all.
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


def project_digest(directory: Path, distribution: Distribution) -> str:
    """Return what tells two states of a project apart."""
    return digest_of(project_files(directory), distribution.name, distribution.version)


def source_directory(origin: FromDirectory) -> Path:
    """Return the directory of a ``file:`` URL."""
    return Path(url2pathname(urlsplit(origin.url).path))
