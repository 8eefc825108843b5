"""What an environment lacks of its own requirements: it is replicated as it is, but the person is told."""

from __future__ import annotations

import sys
from functools import lru_cache
from typing import TYPE_CHECKING

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from dask_pkgsync.scanning.records import installed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from dask_pkgsync.model.environments.environment import Environment


def conflicts(environment: Environment, path: Sequence[str] | None = None) -> tuple[str, ...]:
    """Return the requirements that an environment of this machine does not satisfy, each as a sentence.

    Parameters
    ----------
    environment : Environment
        What a scan found.
    path : sequence of str, optional
        Where it was found; by default `sys.path`.
    """
    directories = installed([entry for entry in (sys.path if path is None else path) if isinstance(entry, str)])
    found = []
    for name, distribution in environment.distributions.items():
        for requirement in _requirements(directories[name]) if name in directories else ():
            have = environment.distributions.get(str(canonicalize_name(requirement.name)))
            wants = f"{name} {distribution.version} requires {requirement.name}{requirement.specifier}"
            if have is None:
                found.append(f"{wants}, which is not installed")
            elif not requirement.specifier.contains(have.version, prereleases=True):
                found.append(f"{wants}, and {have.version} is installed")
    return tuple(found)


def _requirements(dist_info: Path) -> Iterator[Requirement]:
    """Yield what a distribution requires here, without its extras."""
    try:
        with (dist_info / "METADATA").open(encoding="utf-8", errors="replace") as file:
            for line in file:
                if line == "\n":
                    return  # the description
                if line.startswith("Requires-Dist:") and (parsed := _parsed(line[14:].strip())) is not None:
                    yield parsed
    except OSError:
        return


@lru_cache(maxsize=20_000)
def _parsed(text: str) -> Requirement | None:
    """Parse a requirement; None for what does not hold here, or cannot be read."""
    if "extra ==" in text or "extra==" in text:
        return None
    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        return None
    holds = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
    return requirement if holds else None
