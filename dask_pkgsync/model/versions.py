"""Compares versions of packages (PEP 440)."""

from __future__ import annotations

from functools import lru_cache


def compatible(want: str, have: str) -> bool:
    """Whether the version ``have`` equals the version ``want`` or is a compatible release of it (``~=``, PEP 440)."""
    if same_version(want, have):
        return True
    from packaging.specifiers import InvalidSpecifier, SpecifierSet  # imported here because it is slow to import
    from packaging.version import InvalidVersion, Version

    try:
        return SpecifierSet(f"~={Version(want).public}").contains(have, prereleases=True)
    except (InvalidSpecifier, InvalidVersion):  # ~= needs at least two numbers, and versions as PEP 440 has them
        return False


@lru_cache(maxsize=10_000)
def same_version(want: str, have: str) -> bool:
    """Whether two versions are equal by PEP 440; a text that is no version equals nothing."""
    from packaging.version import InvalidVersion, Version

    try:
        return Version(want) == Version(have)
    except InvalidVersion:
        return False
