"""Pins of a requirements file, as pip-compile, uv and Poetry write it."""

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
"""Options that say where packages come from, and not which."""


def pins_of_requirements(name: str, text: str) -> Iterator[tuple[str, str]]:
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
