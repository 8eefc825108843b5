"""The wheel tag of the running interpreter (PEP 425)."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
import sysconfig
from itertools import takewhile

_GLIBC = re.compile(r"glibc ([0-9]+)\.([0-9]+)")
_USUAL_PLATFORMS = {"linux-x86_64": "x86_64", "linux-aarch64": "aarch64"}


def wheel_tag() -> str:
    """Return the most specific wheel tag of the running interpreter, for example ``cp311-cp311-manylinux_2_36_x86_64``.

    It is the first of `packaging.tags.sys_tags`, whose import takes as long as a whole scan. On Linux it is the first
    that names the C library: some releases of packaging (26.4) begin with ``linux_x86_64``, which glibc and musl share.
    """
    if (usual := _usual_tag()) is not None:
        return usual
    from packaging.tags import sys_tags

    tags = sys_tags()
    first = next(tags)
    same = takewhile(lambda tag: (tag.interpreter, tag.abi) == (first.interpreter, first.abi), tags)
    if first.platform.startswith("linux_"):
        first = next((tag for tag in same if tag.platform.startswith(("manylinux", "musllinux"))), first)
    return str(first)


def _usual_tag() -> str | None:
    """Return the tag of a usual CPython on Linux with glibc; None for any other."""
    machine = _USUAL_PLATFORMS.get(sysconfig.get_platform())
    is_usual = sys.implementation.name == "cpython" and sys.abiflags == "" and sys.maxsize > 2**32
    if machine is None or not is_usual or _glibc() is None:
        return None
    if "_manylinux" in sys.modules or importlib.util.find_spec("_manylinux") is not None:
        return None  # a module by which a distribution of Linux says what it supports (PEP 600)
    python = f"cp{sys.version_info.major}{sys.version_info.minor}"
    return f"{python}-{python}-manylinux_{_glibc()}_{machine}"


def _glibc() -> str | None:
    """Return the version of glibc, for example ``2_36``; None if there is another C library, or one before 2.17."""
    try:
        match = _GLIBC.fullmatch(os.confstr("CS_GNU_LIBC_VERSION") or "")
    except (AttributeError, OSError, ValueError):  # not this C library
        return None
    return f"{match[1]}_{match[2]}" if match and (int(match[1]), int(match[2])) >= (2, 17) else None
