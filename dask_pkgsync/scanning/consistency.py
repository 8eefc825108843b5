"""Finds unmet requirements in an environment. It is replicated as it is, and the user gets a warning."""

from __future__ import annotations

import sys
from functools import lru_cache, partial
from typing import TYPE_CHECKING

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from dask_pkgsync.scanning.dist_infos import dist_infos_on
from dask_pkgsync.scanning.file_states import Remembered

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from dask_pkgsync.model.environments.environment import Environment
    from dask_pkgsync.scanning.file_states import Watch

_CONFLICTS: Remembered[tuple[str, ...]] = Remembered(limit=20)
"""The unmet requirements of an environment."""


def conflicts(environment: Environment, path: Sequence[str] | None = None) -> tuple[str, ...]:
    """Return the requirements that an environment of this machine does not satisfy, each as a sentence.

    Parameters
    ----------
    environment : Environment
        The result of a scan.
    path : sequence of str, optional
        The search path that was scanned; by default `sys.path`.
    """
    places = tuple(entry for entry in (sys.path if path is None else path) if isinstance(entry, str))
    return _CONFLICTS.of((environment.fingerprint, places), partial(_conflicts, environment, places))


def _conflicts(environment: Environment, places: tuple[str, ...], watch: Watch) -> tuple[str, ...]:
    """Find the unmet requirements; the fingerprint of an environment covers METADATA where the content is known."""
    directories = dist_infos_on(places)
    unmet = []
    for name, distribution in environment.distributions.items():
        if not distribution.content and name in directories:
            watch.state(str(directories[name] / "METADATA"))
        for requirement in _requirements(directories[name]) if name in directories else ():
            have = environment.distributions.get(str(canonicalize_name(requirement.name)))
            wants = f"{name} {distribution.version} requires {requirement.name}{requirement.specifier}"
            if have is None:
                unmet.append(f"{wants}, which is not installed")
            elif not requirement.specifier.contains(have.version, prereleases=True):
                unmet.append(f"{wants}, and {have.version} is installed")
    return tuple(unmet)


def _requirements(dist_info: Path) -> Iterator[Requirement]:
    """Yield the requirements of a distribution that apply to this interpreter, without those of its extras."""
    try:
        with (dist_info / "METADATA").open(encoding="utf-8", errors="replace") as file:
            for line in file:
                if line == "\n":
                    return  # the description follows
                if line.startswith("Requires-Dist:") and (parsed := _parsed(line[14:].strip())) is not None:
                    yield parsed
    except OSError:
        return


@lru_cache(maxsize=20_000)
def _parsed(text: str) -> Requirement | None:
    """Parse a requirement; None if it does not apply to this interpreter, or is invalid."""
    if "extra ==" in text or "extra==" in text:
        return None
    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        return None
    applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
    return requirement if applies else None
