"""Reads a lock file with the groups and extras that the options choose."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dask_pkgsync.cache.directory import open_cache
from dask_pkgsync.conda.lock_files import is_conda_lock, read_conda_lock
from dask_pkgsync.model.errors import PolicyError
from dask_pkgsync.model.lockfiles.lockfile import unpinned
from dask_pkgsync.model.lockfiles.pin import Choice
from dask_pkgsync.options.definitions import node, person
from dask_pkgsync.options.values import chosen, read
from dask_pkgsync.scanning.lock_file import read_lock
from dask_pkgsync.wheels.lock_export import exported

if TYPE_CHECKING:
    from dask_pkgsync.model.environments.environment import Environment
    from dask_pkgsync.options.keywords import Options


def locked_environment(path: str, options: Options) -> Environment:
    """Return the environment that a lock file pins. Blocks.

    Raises
    ------
    PolicyError
        If it cannot be read, does not cover this platform, or has not the groups and extras that the options choose.
    """
    groups, extras = (chosen(option, options) or () for option in (person.LOCK_GROUPS, person.LOCK_EXTRAS))
    choice = Choice(tuple(groups), tuple(extras))
    if is_conda_lock(path):
        return read_conda_lock(path, choice, open_cache(read(node.CACHE_DIRECTORY), programs=False))
    return read_lock(path, choice, exported)


def refuse_unpinned(path: str, environment: Environment) -> None:
    """Raise `PolicyError` if a lock file does not pin what Dask needs to be the same everywhere.

    Parameters
    ----------
    path : str
        Of the file, for the message.
    environment : Environment
        What it pins.
    """
    if missing := unpinned(environment):
        raise PolicyError(
            f"{path} does not pin {', '.join(missing)}, which Dask needs in one version everywhere: pin these as well"
        )
