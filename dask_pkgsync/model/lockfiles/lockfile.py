"""Reads what an operator or pipeline has pinned: requirements, PEP 751, uv, Poetry, or an environment as JSON."""

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


def environment_from_lock(name: str, text: str, interpreter: Interpreter) -> Environment:
    """Return the environment that a lock file pins, for an interpreter.

    Parameters
    ----------
    name : str
        Path of the file, for messages; its ending says what it is.
    text : str
        Its content.
    interpreter : Interpreter
        Where the file says none.

    Raises
    ------
    PolicyError
        If it is no file of a known kind, or pins nothing, or pins a package twice.
    """
    if name.endswith(".json"):
        try:
            return Environment.from_json(text)
        except ValueError as error:
            raise PolicyError(f"{name}: {error}") from None
    pins = pins_of_toml(name, text) if name.endswith((".toml", ".lock")) else pins_of_requirements(name, text)
    found: dict[str, Distribution] = {}
    for package, version in pins:
        known = found.setdefault(package, Distribution(package, version))
        if not known.same_version(version):
            raise PolicyError(f"{name}: pins {package} twice: {known.version} and {version}")
    if not found:
        raise PolicyError(f"{name}: pins nothing; expected {KINDS}")
    return Environment.of(interpreter, found.values())


def unpinned(environment: Environment) -> tuple[str, ...]:
    """Return the critical packages that a lock file leaves out: no client could be held against it."""
    return tuple(name for name in CRITICAL if name not in environment.distributions)
