"""Editable projects: the files of their source, and digests of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dask_pkgsync.model.environments.distribution import Fault
from dask_pkgsync.model.environments.origin import FromDirectory
from dask_pkgsync.model.errors import PolicyError
from dask_pkgsync.model.text import human_bytes, printable
from dask_pkgsync.scanning.direct_url import source_directory
from dask_pkgsync.scanning.known_environments import known
from dask_pkgsync.scanning.sources import largest_of, project_sources

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Mapping
    from pathlib import Path

    from dask_pkgsync.model.environments.distribution import Distribution
    from dask_pkgsync.model.environments.environment import Environment
    from dask_pkgsync.scanning.sources import Sources


@dataclass(frozen=True)
class Projects:
    """The editable projects of an environment."""

    environment: Environment
    """The environment, in which the projects have digests of their source."""
    left_out: Mapping[str, tuple[tuple[Path, str], ...]]
    """For each project, files that do not travel although they can be read here, each with the reason."""


def read_projects(
    environment: Environment, only: Container[str] | None = None, *, limit: int | None = None
) -> Projects:
    """Read the source of editable projects.

    Parameters
    ----------
    environment : Environment
        The result of a scan of this machine.
    only : container of str, optional
        Canonical names of the projects to read; by default all.
    limit : int, optional
        The most bytes of the source of all projects together.

    Raises
    ------
    PolicyError
        If the source of all projects together exceeds the limit. Nothing was read but sizes.
    """
    distributions = dict(environment.distributions)
    faults: list[Fault] = []
    sources: dict[str, Sources] = {}
    for name, origin in _unread(environment, only):
        found = _sources(name, origin)
        if isinstance(found, Fault):
            faults.append(found)
        else:
            sources[name] = found
    if limit is not None:
        _refuse_too_large(sources, limit)
    for name, origin in _unread(environment, sources):
        digested = _digested(distributions[name], origin, sources[name])
        if isinstance(digested, Fault):
            faults.append(digested)
        else:
            distributions[name] = digested
    left_out = {name: found.left_out for name, found in sources.items() if found.left_out}
    return Projects(known(environment.with_distributions(distributions.values(), faults)), left_out)


def _unread(environment: Environment, only: Container[str] | None) -> Iterator[tuple[str, FromDirectory]]:
    """Yield name and origin of each editable project that has no digest."""
    for name, distribution in environment.distributions.items():
        match distribution.origin:
            case FromDirectory(editable=True, digest="") as origin if only is None or name in only:
                yield name, origin


def _sources(name: str, origin: FromDirectory) -> Sources | Fault:
    try:
        return project_sources(source_directory(origin))
    except (OSError, ImportError) as error:  # ImportError: a node without pathspec
        return _unreadable(name, origin, error)


def _digested(distribution: Distribution, origin: FromDirectory, sources: Sources) -> Distribution | Fault:
    try:
        digest = sources.digest(distribution.name, distribution.version)
    except OSError as error:
        return _unreadable(distribution.name, origin, error)
    return replace(distribution, origin=replace(origin, digest=digest))


def _unreadable(name: str, origin: FromDirectory, error: Exception) -> Fault:
    return Fault("unreadable", printable(origin.url), printable(f"its source cannot be read: {error}"), name)


def _refuse_too_large(projects: Mapping[str, Sources], limit: int) -> None:
    files = [file for found in projects.values() for file in found.files]
    total = sum(file.size for file in files)
    if total > limit:
        sizes = {name: sum(file.size for file in found.files) for name, found in projects.items()}
        by_size = sorted(sizes, key=lambda name: -sizes[name])
        raise PolicyError(
            f"projects: the source of the editable projects ({', '.join(by_size)}) is {human_bytes(total)}, more than "
            f"projects-limit allows ({human_bytes(limit)}). The largest files: {largest_of(files)}. List files that no "
            f"build needs in .gitignore; or name the project in ignore, for example ignore=[{by_size[0]!r}]; or raise "
            "projects-limit (DASK_PKGSYNC__PROJECTS_LIMIT)."
        )
