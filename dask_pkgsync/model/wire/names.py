"""How the names and versions of distributions are written (PEP 503, PEP 440)."""

from __future__ import annotations

import re

from packaging.utils import canonicalize_name

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")


def canonical_name(text: str) -> str:
    """Return the canonical spelling (PEP 503) of the name of a distribution.

    ``canonicalize_name(validate=True)`` exists from packaging 23.2 only; a node has the one that it has.

    Raises
    ------
    ValueError
        If it is no name.
    """
    if not isinstance(text, str) or not _NAME.fullmatch(text):
        raise ValueError(f"{text!r} is not the name of a distribution")
    return str(canonicalize_name(text))


CANONICAL = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
"""A name in the canonical spelling (PEP 503), as almost all come in."""
NORMAL = re.compile(
    r"(?:[0-9]+!)?[0-9]+(?:\.[0-9]+)*(?:(?:a|b|rc)[0-9]+)?(?:\.post[0-9]+)?(?:\.dev[0-9]+)?"
    r"(?:\+[a-z0-9]+(?:\.[a-z0-9]+)*)?"
)
"""A version in the normal form (PEP 440), as almost all come in."""
