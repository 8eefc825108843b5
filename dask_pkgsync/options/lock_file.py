"""Reads a lock file with the groups and extras that the options choose."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dask_pkgsync.model.errors import PolicyError
from dask_pkgsync.model.lockfiles.lockfile import unpinned
from dask_pkgsync.model.lockfiles.pin import Choice
from dask_pkgsync.options.definitions import person
from dask_pkgsync.options.values import chosen
from dask_pkgsync.scanning.lock_file import read_lock, read_lock_for
from dask_pkgsync.wheels.lock_export import exported

if TYPE_CHECKING:
    from dask_pkgsync.model.environments.environment import Environment
    from dask_pkgsync.model.environments.interpreter import Interpreter
    from dask_pkgsync.options.keywords import Options


def locked_environment(path: str, options: Options) -> Environment:
    """Return the environment that a lock file pins. Blocks.

    Raises
    ------
    PolicyError
        If it cannot be read, does not cover this platform, or has not the groups and extras that the options choose.
    """
    return read_lock(path, _choice(options), exported)


def locked_environment_for(path: str, interpreter: Interpreter) -> tuple[Environment, tuple[str, ...]]:
    """Return the environment that a lock file pins for an interpreter, and the paths of all files that say so. Blocks.

    Raises
    ------
    PolicyError
        As for `locked_environment`; also if the file is for other versions of Python.
    """
    return read_lock_for(path, interpreter, _choice({}), exported)


def _choice(options: Options) -> Choice:
    groups, extras = (chosen(option, options) or () for option in (person.LOCK_GROUPS, person.LOCK_EXTRAS))
    return Choice(tuple(groups), tuple(extras))


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
