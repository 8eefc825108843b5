"""The spelling of names (PEP 503), versions (PEP 440) and digests of distributions.

What `packaging` can do too is done here where it decides how fast a process starts: `packaging.utils` imports 40
modules of the standard library.
"""

from __future__ import annotations

import re

_SEPARATORS = re.compile(r"[-_.]+")
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")


def canonical_name(text: str) -> str:
    """Return the canonical spelling (PEP 503) of the name of a distribution.

    ``canonicalize_name(validate=True)`` is not used because it needs packaging 23.2, and a node may have an older one.

    Raises
    ------
    ValueError
        If the text is not a valid name.
    """
    if not isinstance(text, str) or not _NAME.fullmatch(text):
        raise ValueError(f"{text!r} is not the name of a distribution")
    return canonical(text)


def canonical(name: str) -> str:
    """Return the canonical spelling (PEP 503) of a valid name of a distribution."""
    return _SEPARATORS.sub("-", name).lower()


def canonical_version(version: str) -> str:
    """Return the spelling that all equal versions share (PEP 440): `packaging.utils.canonicalize_version` of it."""
    if (usual := _USUAL_VERSION.fullmatch(version)) is not None:
        return usual[1] + usual[2]
    from packaging.utils import canonicalize_version

    return str(canonicalize_version(version))


CANONICAL = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
"""Matches a name in canonical spelling (PEP 503): a short cut for almost all names in messages."""
_NUMBER = "(?:0|[1-9][0-9]*)"
_LABEL = rf"(?:{_NUMBER}|[0-9]*[a-z][a-z0-9]*)"
_USUAL_VERSION = re.compile(
    rf"({_NUMBER}(?:\.{_NUMBER})*?)(?:\.0)*"
    rf"((?:(?:a|b|rc){_NUMBER})?(?:\.post{_NUMBER})?(?:\.dev{_NUMBER})?(?:\+{_LABEL}(?:\.{_LABEL})*)?)"
)
"""Matches a version in normal form, without an epoch: the release without zeros at its end, and the rest."""
NORMAL = re.compile(
    r"(?:[0-9]+!)?[0-9]+(?:\.[0-9]+)*(?:(?:a|b|rc)[0-9]+)?(?:\.post[0-9]+)?(?:\.dev[0-9]+)?"
    r"(?:\+[a-z0-9]+(?:\.[a-z0-9]+)*)?"
)
"""Matches a version in normal form (PEP 440): a short cut for almost all versions in messages."""
SHA256 = re.compile(r"[0-9a-f]{64}")
"""Matches a SHA-256 digest."""
