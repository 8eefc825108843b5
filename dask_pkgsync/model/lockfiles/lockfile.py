"""Reads the environment that a lock file pins: of pip, PEP 751, uv, Poetry or Pipenv, or an environment as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dask_pkgsync.model.environments.distribution import Distribution
from dask_pkgsync.model.environments.environment import Environment
from dask_pkgsync.model.errors import PolicyError
from dask_pkgsync.model.lockfiles.markers import refuse_other_python
from dask_pkgsync.model.lockfiles.pin import EVERYTHING, refuse_uncovered
from dask_pkgsync.model.lockfiles.pipfile import pins_of_pipfile
from dask_pkgsync.model.lockfiles.pylock import pins_of_pylock
from dask_pkgsync.model.lockfiles.requirements import pins_of_requirements
from dask_pkgsync.model.lockfiles.tables import KINDS, pins_of_tables, toml
from dask_pkgsync.model.policy import CRITICAL

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from packaging.tags import Tag

    from dask_pkgsync.model.environments.interpreter import Interpreter
    from dask_pkgsync.model.lockfiles.pin import Choice, Pin
    from dask_pkgsync.model.lockfiles.requirements import Include


def no_files(name: str, path: str) -> tuple[str, str]:
    """Refuse to read a file that a lock file includes."""
    raise PolicyError(f"{name} includes {path}, and only lock files on the disk may include others")


def environment_from_lock(
    name: str,
    text: str,
    interpreter: Interpreter,
    include: Include = no_files,
    *,
    choice: Choice = EVERYTHING,
    tags: Collection[Tag] = (),
) -> Environment:
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
    choice : Choice
        Which groups and extras to read, where the format has any.
    tags : collection of Tag
        The tags of wheels (PEP 425) that the interpreter takes; empty: a lock file without wheels for it is no error.

    Raises
    ------
    PolicyError
        If the file has no known format, pins no package, pins a package in two versions, or does not cover the
        platform.
    """
    if name.endswith(".json"):
        try:
            return Environment.from_json(text)
        except ValueError as error:
            raise PolicyError(f"{name}: {error}") from None
    return _environment(name, _pins(name, text, interpreter, include, choice, tags), interpreter, tags)


def environment_from_pylock(name: str, text: str, interpreter: Interpreter, tags: Collection[Tag] = ()) -> Environment:
    """Return the environment of a pylock.toml that was exported from a lock file of that name; raises as above."""
    return _environment(name, pins_of_pylock(name, toml(name, text), interpreter, EVERYTHING, tags), interpreter, ())


def _environment(name: str, found: Iterable[Pin], interpreter: Interpreter, tags: Collection[Tag]) -> Environment:
    pins: dict[str, Pin] = {}
    for pin in found:
        known = pins.setdefault(pin.name, pin)
        if not Distribution(pin.name, known.version).same_version(pin.version):
            raise PolicyError(f"{name}: pins {pin.name} twice: {known.version} and {pin.version}")
    if not pins:
        raise PolicyError(f"{name}: pins nothing; expected {KINDS}")
    refuse_uncovered(name, pins.values(), tags)
    made = [Distribution(pin.name, pin.version, pin.origin, hashes=pin.hashes) for pin in pins.values()]
    return Environment.of(interpreter, made)


def _pins(
    name: str, text: str, interpreter: Interpreter, include: Include, choice: Choice, tags: Collection[Tag]
) -> Iterator[Pin]:
    if name.endswith("Pipfile.lock"):
        return pins_of_pipfile(name, text, interpreter, choice)
    if name.endswith((".toml", ".lock")):
        data = toml(name, text)
        if "lock-version" in data:
            return pins_of_pylock(name, data, interpreter, choice, tags)
        return pins_of_tables(name, data, interpreter, choice)
    if choice != EVERYTHING:
        raise PolicyError(f"{name}: a requirements file has neither groups nor extras; name another file")
    return pins_of_requirements(name, text, interpreter, include)


def check_python(name: str, text: str, interpreter: Interpreter) -> None:
    """Raise `PolicyError` if a lock file is for other versions of Python than that of an interpreter."""
    if name.endswith((".toml", ".lock")) and not name.endswith("Pipfile.lock"):
        required = toml(name, text).get("requires-python")
        refuse_other_python(name, required if isinstance(required, str) else "", interpreter)


def unpinned(environment: Environment) -> tuple[str, ...]:
    """Return the critical packages that a lock file does not pin: no client could match such a lock file."""
    return tuple(name for name in CRITICAL if name not in environment.distributions)
