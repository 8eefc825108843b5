"""Reads conda's lock files: with py-rattler those of pixi and conda-lock, and explicit lists."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dask_pkgsync.conda.installer import CondaInstaller
from dask_pkgsync.conda.tool import own_rattler
from dask_pkgsync.layers.publication import built_aside
from dask_pkgsync.model.environments.distribution import Distribution
from dask_pkgsync.model.errors import PolicyError
from dask_pkgsync.model.lockfiles.conda_locks import (
    environment_of_packages,
    is_explicit,
    packages_of_explicit,
    refuse_other_platforms,
)
from dask_pkgsync.model.reports.failure import LayerError
from dask_pkgsync.model.wire.names import canonical
from dask_pkgsync.scanning.conda_meta import package_of
from dask_pkgsync.scanning.installed import this_interpreter

if TYPE_CHECKING:
    from dask_pkgsync.cache.directory import Cache
    from dask_pkgsync.model.environments.environment import Environment
    from dask_pkgsync.model.lockfiles.pin import Choice

NAMES = ("conda-lock.yml", "conda-lock.yaml", "pixi.lock")
"""How the names of files end that py-rattler reads."""
_MACHINES = {"x86_64": "64", "amd64": "64"}
TIMEOUT = 60.0
"""Seconds that reading may take."""


def is_conda_lock(path: str) -> bool:
    """Whether a file is one of conda's lock files, by its name, or by the first bytes of a text file."""
    if path.endswith(NAMES):
        return True
    try:
        with Path(path).expanduser().open("rb") as file:
            return path.endswith(".txt") and is_explicit(file.read(4000).decode("utf-8", "replace"))
    except OSError:  # whoever reads it as another lock file says why
        return False


def read_conda_lock(path: str, choice: Choice, cache: Cache) -> Environment:
    """Return the environment in one of conda's lock files. Blocks.

    Parameters
    ----------
    path : str
    choice : Choice
        Its one group is the name of the environment; ``default`` without one.
    cache : Cache
        Has room for temporary files.

    Raises
    ------
    PolicyError
        If it cannot be read, does not cover this platform, or has no such environment.
    """
    place = Path(path).expanduser()
    if choice.extras or len(choice.groups) > 1:
        raise PolicyError(f"{path}: choose one of its environments by lock_groups; it has no extras")
    if not path.endswith(NAMES):
        packages = packages_of_explicit(path, place.read_text(encoding="utf-8", errors="replace"))
        own = _subdir()
        refuse_other_platforms(path, {package.subdir for package in packages}, own)
        return environment_of_packages(path, packages, (), this_interpreter())
    tool = own_rattler()
    if tool is None:
        raise PolicyError(f"{path}: to read it, install py-rattler: pip install 'dask-pkgsync[conda]'")
    environment = next(iter(choice.groups), "default")
    try:
        with built_aside(cache) as work:
            said = CondaInstaller(tool, cache.conda, TIMEOUT).read_lock(place.absolute(), environment, work)
    except LayerError as error:
        raise PolicyError(f"{path}: py-rattler cannot read it: {error.last_words or error.problem}") from None
    if "conda" not in said:
        raise PolicyError(f"{path}: has no environment {environment}; it has {', '.join(said['environments'])}")
    refuse_other_platforms(path, said["platforms"], said["subdir"])
    pins = [
        Distribution(canonical(one["name"]), one["version"], hashes=(one["sha256"],) if one["sha256"] else ())
        for one in said["pypi"]
    ]
    return environment_of_packages(path, map(package_of, said["conda"]), pins, this_interpreter())


def _subdir() -> str:
    """Return conda's name of this platform."""
    system, _, machine = this_interpreter().platform.rpartition("-")
    system = {"linux": "linux", "win": "win"}.get(system.partition("-")[0], "osx")
    return f"{system}-{_MACHINES.get(machine, machine)}"
