"""Reads the pins of a requirements file, as pip-compile, uv and Poetry write it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from dask_pkgsync.model.errors import PolicyError

if TYPE_CHECKING:
    from collections.abc import Iterator


_HASH = re.compile(r"\s--hash=\S+")
_OPTION = re.compile(
    r"(-[if]\b|--(index-url|extra-index-url|find-links|no-index|trusted-host|pre|prefer-binary|no-binary|only-binary|"
    r"require-hashes|use-feature|hash)\b)"
)
"""Options that say where packages come from and how they are installed, but not which packages: they are ignored."""


def pins_of_requirements(name: str, text: str) -> Iterator[tuple[str, str]]:
    """Yield canonical name and version of each pin in a requirements file that applies to this interpreter.

    Parameters
    ----------
    name : str
        Path of the file, for messages.
    text : str
        Content of the file.

    Raises
    ------
    PolicyError
        If a line is neither a pin nor an option that can be ignored.
    """
    joined = text.replace("\\\r\n", " ").replace("\\\n", " ")
    for number, line in enumerate(joined.splitlines(), 1):
        entry = _HASH.sub("", line.partition(" #")[0]).strip()
        if not entry or entry.startswith("#") or _OPTION.match(entry):
            continue
        if entry.startswith("-"):
            raise PolicyError(f"{name}: line {number}: expected a pin such as numpy==2.1.0, found the option {entry!r}")
        try:
            requirement = Requirement(entry)
        except InvalidRequirement:
            raise PolicyError(f"{name}: line {number}: expected a pin such as numpy==2.1.0, found {entry!r}") from None
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        exact = [
            specifier.version
            for specifier in requirement.specifier
            if specifier.operator in ("==", "===") and "*" not in specifier.version
        ]
        if len(exact) != 1:
            raise PolicyError(f"{name}: line {number}: expected one exact version (==), found {entry!r}")
        yield str(canonicalize_name(requirement.name)), exact[0]
