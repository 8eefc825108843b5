"""Reads the environment that a lock file pins: requirements, PEP 751, uv, Poetry, or an environment as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dask_pkgsync.model.environments.distribution import Distribution
from dask_pkgsync.model.environments.environment import Environment
from dask_pkgsync.model.errors import PolicyError
from dask_pkgsync.model.lockfiles.requirements import pins_of_requirements
from dask_pkgsync.model.lockfiles.tables import KINDS, pins_of_toml
from dask_pkgsync.model.policy import CRITICAL

if TYPE_CHECKING:
    from dask_pkgsync.model.environments.interpreter import Interpreter
    from dask_pkgsync.model.lockfiles.requirements import Include


def no_files(name: str, path: str) -> tuple[str, str]:
    """Refuse to read a file that a lock file includes."""
    raise PolicyError(f"{name} includes {path}, and only lock files on the disk may include others")


def environment_from_lock(name: str, text: str, interpreter: Interpreter, include: Include = no_files) -> Environment:
    """Return the environment that a lock file pins, for an interpreter.

    Parameters
    ----------
    name : str
        Path of the file. Its suffix says which format it has; the whole path stands in messages.
    text : str
        Content of the file.
    interpreter : Interpreter
        Interpreter of the environment. A JSON file has one of its own, which is used instead.
    include : callable
        Reads the files that a requirements file names with ``-r`` and ``-c``.

    Raises
    ------
    PolicyError
        If the file has no known format, pins no package, or pins a package in two versions.
    """
    if name.endswith(".json"):
        try:
            return Environment.from_json(text)
        except ValueError as error:
            raise PolicyError(f"{name}: {error}") from None
    pins = pins_of_toml(name, text) if name.endswith((".toml", ".lock")) else pins_of_requirements(name, text, include)
    distributions: dict[str, Distribution] = {}
    for package, version in pins:
        known = distributions.setdefault(package, Distribution(package, version))
        if not known.same_version(version):
            raise PolicyError(f"{name}: pins {package} twice: {known.version} and {version}")
    if not distributions:
        raise PolicyError(f"{name}: pins nothing; expected {KINDS}")
    return Environment.of(interpreter, distributions.values())


def unpinned(environment: Environment) -> tuple[str, ...]:
    """Return the critical packages that a lock file does not pin: no client could match such a lock file."""
    return tuple(name for name in CRITICAL if name not in environment.distributions)
