"""Which wheels an interpreter of this machine takes (PEP 425), whatever Python runs this process."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from packaging.tags import compatible_tags, cpython_tags, generic_tags, platform_tags, sys_tags

from dask_pkgsync.scanning.installed import this_interpreter

if TYPE_CHECKING:
    from packaging.tags import Tag

    from dask_pkgsync.model.environments.interpreter import Interpreter


@functools.cache
def tags_of(interpreter: Interpreter) -> tuple[Tag, ...]:
    """Return the tags of the wheels that can be installed for an interpreter of this machine, the best first.

    Parameters
    ----------
    interpreter : Interpreter
        With its own wheel tag. If it is of another processor architecture or C library than that of this process, as a
        32-bit Python is, only its own tag is known.
    """
    own = this_interpreter()
    if interpreter == own or not interpreter.tag:
        return tuple(sys_tags())
    python, abi, platform = interpreter.tag.split("-", 2)
    platforms = list(platform_tags()) if interpreter.platform == own.platform else [platform]
    major, minor = (int(part) for part in interpreter.feature_version.split("."))
    if interpreter.implementation == "cpython":
        best = cpython_tags((major, minor), [abi], platforms)
    else:
        best = generic_tags(python, [abi], platforms)
    return (*best, *compatible_tags((major, minor), python, platforms))
