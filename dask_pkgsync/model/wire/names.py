"""The spelling of names (PEP 503), versions (PEP 440) and digests of distributions."""

from __future__ import annotations

import re

from packaging.utils import canonicalize_name

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
    return str(canonicalize_name(text))


CANONICAL = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
"""Matches a name in canonical spelling (PEP 503): a short cut for almost all names in messages."""
NORMAL = re.compile(
    r"(?:[0-9]+!)?[0-9]+(?:\.[0-9]+)*(?:(?:a|b|rc)[0-9]+)?(?:\.post[0-9]+)?(?:\.dev[0-9]+)?"
    r"(?:\+[a-z0-9]+(?:\.[a-z0-9]+)*)?"
)
"""Matches a version in normal form (PEP 440): a short cut for almost all versions in messages."""
SHA256 = re.compile(r"[0-9a-f]{64}")
"""Matches a SHA-256 digest."""
