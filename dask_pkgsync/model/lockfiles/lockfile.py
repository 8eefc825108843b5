"""Reads what an operator or pipeline has pinned: requirements, PEP 751, uv, Poetry, or an environment as JSON."""

from __future__ import annotations

import importlib
import re
import sys
from typing import TYPE_CHECKING, Any

from packaging.markers import InvalidMarker, Marker
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from dask_pkgsync.model.environments.environment import Distribution, Environment
from dask_pkgsync.model.errors import PolicyError
from dask_pkgsync.model.policy import CRITICAL

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dask_pkgsync.model.environments.environment import Interpreter

_HASH = re.compile(r"\s--hash=\S+")
_KINDS = "requirements.txt with pins, pylock.toml, uv.lock, poetry.lock, or what `dask pkgsync scan --json` writes"


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
    pins = _from_toml(name, text) if name.endswith((".toml", ".lock")) else _from_requirements(name, text)
    found: dict[str, Distribution] = {}
    for package, version in pins:
        known = found.setdefault(package, Distribution(package, version))
        if not known.same_version(version):
            raise PolicyError(f"{name}: pins {package} twice: {known.version} and {version}")
    if not found:
        raise PolicyError(f"{name}: pins nothing; expected {_KINDS}")
    return Environment.of(interpreter, found.values())


_OPTION = re.compile(
    r"(-[if]\b|--(index-url|extra-index-url|find-links|no-index|trusted-host|pre|prefer-binary|no-binary|only-binary|"
    r"require-hashes|use-feature|hash)\b)"
)
"""Options that say where packages come from, and not which."""


def unpinned(environment: Environment) -> tuple[str, ...]:
    """Return the critical packages that a lock file leaves out: no client could be held against it."""
    return tuple(name for name in CRITICAL if name not in environment.distributions)


def _from_requirements(name: str, text: str) -> Iterator[tuple[str, str]]:
    """Yield the pins of a requirements file, as pip-compile, uv and Poetry write it."""
    joined = text.replace("\\\r\n", " ").replace("\\\n", " ")
    for number, line in enumerate(joined.splitlines(), 1):
        wanted = _HASH.sub("", line.partition(" #")[0]).strip()
        if not wanted or wanted.startswith("#") or _OPTION.match(wanted):
            continue
        if wanted.startswith("-"):
            raise PolicyError(
                f"{name}: line {number}: expected a pin such as numpy==2.1.0, found the option {wanted!r}"
            )
        try:
            requirement = Requirement(wanted)
        except InvalidRequirement:
            raise PolicyError(f"{name}: line {number}: expected a pin such as numpy==2.1.0, found {wanted!r}") from None
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        exact = [
            one.version for one in requirement.specifier if one.operator in ("==", "===") and "*" not in one.version
        ]
        if len(exact) != 1:
            raise PolicyError(f"{name}: line {number}: expected one exact version (==), found {wanted!r}")
        yield str(canonicalize_name(requirement.name)), exact[0]


def _from_toml(name: str, text: str) -> Iterator[tuple[str, str]]:
    data = _toml(name, text)
    listed = data.get("packages" if "lock-version" in data else "package")
    if not isinstance(listed, list):
        raise PolicyError(f"{name}: holds no list of packages; expected {_KINDS}")
    for entry in listed:
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
            raise PolicyError(f"{name}: an entry has no name: {entry!r:.100}")
        version = entry.get("version")
        if isinstance(version, str) and not _is_the_project(entry) and _applies(name, entry):
            yield str(canonicalize_name(entry["name"])), version


def _is_the_project(entry: dict[str, Any]) -> bool:
    """Whether it is the project that was locked itself (uv), which no index has."""
    source = entry.get("source")
    return isinstance(source, dict) and any(kind in source for kind in ("virtual", "editable"))


def _applies(name: str, entry: dict[str, Any]) -> bool:
    marker = entry.get("marker") or " or ".join(f"({one})" for one in entry.get("resolution-markers", []))
    try:
        return not marker or Marker(marker).evaluate()
    except InvalidMarker:
        raise PolicyError(f"{name}: {entry['name']}: {marker!r} is no environment marker") from None


def _toml(name: str, text: str) -> dict[str, Any]:
    try:
        tomllib = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    except ImportError:
        raise PolicyError(f"{name}: reading it needs Python 3.11, or tomli") from None
    try:
        found: dict[str, Any] = tomllib.loads(text)
    except ValueError as error:
        raise PolicyError(f"{name}: is no TOML: {error}") from None
    return found
