"""Reads a lock file with the groups and extras that the options choose, and writes an environment as one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dask_pkgsync.cache.directory import open_cache
from dask_pkgsync.conda.lock_files import is_conda_lock, read_conda_lock
from dask_pkgsync.model.errors import PolicyError
from dask_pkgsync.model.lockfiles.lockfile import unpinned
from dask_pkgsync.model.lockfiles.pin import Choice
from dask_pkgsync.model.lockfiles.writing import Written, conda_explicit_of, environment_yml_of, requirements_of
from dask_pkgsync.options.definitions import node, person
from dask_pkgsync.options.values import chosen, read
from dask_pkgsync.scanning.lock_file import read_lock, read_lock_for
from dask_pkgsync.wheels.lock_export import compiled, exported

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
    choice = _choice(options)
    _refuse_wishes(path)
    if is_conda_lock(path):
        return read_conda_lock(path, choice, open_cache(read(node.CACHE_DIRECTORY), programs=False))
    return read_lock(path, choice, exported)


def locked_environment_for(path: str, interpreter: Interpreter) -> tuple[Environment, tuple[str, ...]]:
    """Return the environment that a lock file pins for an interpreter, and the paths of all files that say so. Blocks.

    Raises
    ------
    PolicyError
        As for `locked_environment`; also if the file is for other versions of Python.
    """
    _refuse_wishes(path)
    if is_conda_lock(path):  # it pins its interpreter, too
        return locked_environment(path, {}), (path,)
    return read_lock_for(path, interpreter, _choice({}), exported)


def _refuse_wishes(path: str) -> None:
    """Raise `PolicyError` for a file of conda that says what is wanted, and pins nothing."""
    if path.endswith((".yml", ".yaml")) and not is_conda_lock(path):
        raise PolicyError(
            f"{path} says what is wanted, and not which builds: make a lock file of it with conda-lock or pixi, or "
            "give the conda environment itself (`dask pkgsync scan --json` in it)"
        )


def _choice(options: Options) -> Choice:
    groups, extras = (chosen(option, options) or () for option in (person.LOCK_GROUPS, person.LOCK_EXTRAS))
    return Choice(tuple(groups), tuple(extras))


def written(environment: Environment, form: str) -> Written:
    """Return an environment in a format of another tool (`model.lockfiles.writing`). Blocks.

    Raises
    ------
    LayerError
        If uv, which writes pylock.toml, is not here, or an index lacks a package.
    """
    if form == "json":
        return Written([environment.to_json()])
    if form == "environment-yml":
        return environment_yml_of(environment)
    if form == "conda-explicit":
        return conda_explicit_of(environment)
    found = requirements_of(environment)
    return found if form == "requirements" else Written([compiled(found.text).rstrip()], found.left_out)


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
