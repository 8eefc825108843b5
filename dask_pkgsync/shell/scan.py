"""Reads the environment of the running interpreter, in milliseconds.

Names and versions are in the names of the metadata directories, which are listed with one `os.scandir` for each entry
of the search path; METADATA is parsed only where a directory's name does not say them.
"""

from __future__ import annotations

import email.parser
import os
import platform
import re
import sys
import sysconfig
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.tags import sys_tags
from packaging.utils import canonicalize_name
from packaging.version import VERSION_PATTERN

from dask_pkgsync.core.environment import (
    Distribution,
    Environment,
    Fault,
    FromDirectory,
    FromIndex,
    Interpreter,
    Unrecorded,
)
from dask_pkgsync.shell.origins import parse_direct_url

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dask_pkgsync.core.environment import Origin

_VERSION = re.compile(VERSION_PATTERN, re.VERBOSE | re.IGNORECASE | re.ASCII)
_PLAIN_NAME = re.compile(r"[a-z0-9]+")
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_LONGEST = 200
"""Characters in a name or version; no more are taken from another process either (`core.messages`)."""


def scan(path: Sequence[str] | None = None) -> Environment:
    """Return the interpreter and every distribution that it would import from.

    Parameters
    ----------
    path : sequence of str, optional
        Directories in the order of import; by default `sys.path`.

    Returns
    -------
    Environment
        The first distribution of a name on the path, as the import system has it. What is broken, or there twice, is
        in ``faults`` and never counts as a match.
    """
    distributions: dict[str, Distribution] = {}
    faults: list[Fault] = []
    if path is None:  # the import system passes over whatever else people put there
        path = [entry for entry in sys.path if isinstance(entry, str)]
    for place in dict.fromkeys(path):
        _scan_directory(place, distributions, faults)
    return Environment.of(this_interpreter(), distributions.values(), faults)


@cache
def this_interpreter() -> Interpreter:
    """Return the running interpreter."""
    version = platform.python_version().rstrip("+")
    return Interpreter(sys.implementation.name, version, sysconfig.get_platform(), str(next(sys_tags())))


def _scan_directory(place: str, distributions: dict[str, Distribution], faults: list[Fault]) -> None:
    """Add what one entry of the search path holds, unless an earlier entry had it."""
    directory = place
    here: dict[str, Distribution] = {}
    try:
        directory = place or os.getcwd()  # noqa: PTH109  # as the import system reads ''
        with os.scandir(directory) as listing:
            names = [entry.name for entry in listing if entry.name.endswith((".dist-info", ".egg-info", ".egg-link"))]
    except (FileNotFoundError, NotADirectoryError):  # a zip, or nothing: no distributions
        return
    except OSError as error:
        faults.append(Fault("unreadable", printable(directory), printable(f"cannot be listed: {error.strerror}")))
        return
    stray = _is_working_directory(place)
    for name in sorted(names):
        full = f"{directory}{os.sep}{name}"
        if stray and name.endswith(".egg-info"):
            detail = "metadata of a source tree in the current directory: nothing says that it is installed"
            faults.append(Fault("stray", printable(full), detail, _name_of(name)))
            continue
        found = _read(full, name)
        if found.name in distributions:
            continue  # an earlier entry of the path hides it
        if isinstance(found, Fault):
            faults.append(found)
        elif (other := here.get(found.name)) is not None:
            detail = f"there twice in one directory: {other.version} and {found.version}"
            faults.append(Fault("duplicate", printable(full), detail, found.name))
        else:
            here[found.name] = found
    distributions.update(here)


def _is_working_directory(place: str) -> bool:
    try:
        return place in ("", ".") or place == os.getcwd()  # noqa: PTH109
    except OSError:  # it was removed below this process
        return False


def _read(full: str, name: str) -> Distribution | Fault:
    """Read one metadata directory or file."""
    if name.endswith(".dist-info"):
        return _read_dist_info(full, name)
    if name.endswith(".egg-link"):
        return _read_egg_link(full, name)
    return _read_egg_info(full, name, Unrecorded())


def _read_dist_info(full: str, directory: str) -> Distribution | Fault:
    stem = directory.removesuffix(".dist-info")
    name, dash, version = stem.rpartition("-")
    if stem.startswith("~"):
        return Fault("broken", printable(full), "left behind by a pip that was interrupted; remove it")
    if not (dash and _plausible(name, version)):
        found = _from_metadata(f"{full}{os.sep}METADATA")
        if found is None:
            return Fault("broken", printable(full), "no readable name and version", _name_of(name or stem))
        name, version = found
    elif not os.path.exists(f"{full}{os.sep}METADATA"):  # noqa: PTH110  # many of them: the quick way
        return Fault("broken", printable(full), "METADATA is missing", canonical(name))
    installer = printable(_text(f"{full}{os.sep}INSTALLER").strip())[:200]
    origin: Origin = FromIndex()
    if direct_url := _text(f"{full}{os.sep}direct_url.json"):
        try:
            origin = parse_direct_url(direct_url)
        except ValueError:
            return Fault("broken", printable(full), "direct_url.json is not readable (PEP 610)", canonical(name))
    return Distribution(canonical(name), version, origin, installer)


def _read_egg_info(full: str, name: str, origin: Origin) -> Distribution | Fault:
    """Read an egg-info directory or file: ``name-version-py3.11.egg-info``, or ``name.egg-info``."""
    metadata = full if os.path.isfile(full) else f"{full}{os.sep}PKG-INFO"  # noqa: PTH113
    found = _from_metadata(metadata)
    if found is None:
        return Fault("broken", printable(full), "no readable name and version", _name_of(name))
    return Distribution(canonical(found[0]), found[1], origin)


def _read_egg_link(full: str, name: str) -> Distribution | Fault:
    """Read what ``setup.py develop`` left: the path of a source tree that holds the egg-info."""
    target = Path(full).absolute().parent / (_text(full).partition("\n")[0].strip() or full)
    with suppress(OSError, ValueError):
        for egg_info in sorted(target.glob("*.egg-info")):
            found = _read_egg_info(str(egg_info), egg_info.name, FromDirectory(target.as_uri(), editable=True))
            if found.name == _name_of(name):
                return found
    return Fault("broken", printable(full), "points to no source tree with metadata", _name_of(name))


def _from_metadata(path: str) -> tuple[str, str] | None:
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            headers = email.parser.BytesHeaderParser().parse(file)
    except OSError:
        return None
    name, version = str(headers.get("Name") or "").strip(), str(headers.get("Version") or "").strip()
    return (name, version) if _plausible(name, version) else None


def _plausible(name: str, version: str) -> bool:
    """Whether these are a name (PEP 503) and a version (PEP 440)."""
    if len(name) > _LONGEST or len(version) > _LONGEST:
        return False
    return _NAME.fullmatch(name) is not None and _VERSION.fullmatch(version) is not None


def _text(path: str) -> str:
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123  # many small files: no buffer, no decoder
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""


@cache
def canonical(name: str) -> str:
    """Return the canonical spelling of a name (PEP 503); quick for the many that are canonical already."""
    return name if _PLAIN_NAME.fullmatch(name) else str(canonicalize_name(name))


def _name_of(entry: str) -> str:
    """Guess a canonical name from the name of a metadata entry, for a fault."""
    if entry.endswith(".egg-link"):
        stem = entry.removesuffix(".egg-link")
    else:
        stem = re.sub(r"\.(dist|egg)-info$", "", entry).partition("-")[0]
    return canonical(stem) if _NAME.fullmatch(stem) else ""


def printable(text: str) -> str:
    """Return a text on one line, without what a terminal would obey."""
    if not text.isprintable():
        text = "".join(character if character.isprintable() else "?" for character in text)
    return text[:1000]
