"""The wheels that uv has unpacked in its cache.

uv keeps each wheel that it has installed in a directory of its own (``archive-v0``), as it is in the archive, and links
its files into environments. A uv that keeps them in another way has none that are found.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from packaging.tags import parse_tag, sys_tags
from packaging.utils import canonicalize_name

from dask_pkgsync.layers.layout import LIBRARY
from dask_pkgsync.model.record import parse
from dask_pkgsync.scanning import small_files
from dask_pkgsync.scanning.content import content_digest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from packaging.tags import Tag

    from dask_pkgsync.model.record import Entry

_ARCHIVES = "archive-v"
"""The beginning of the name of the directory with one directory for each unpacked wheel (uv 0.13)."""
UP = "../../../"
"""The path from the directory of distributions to the prefix."""


@dataclass(frozen=True)
class UnpackedWheel:
    """A wheel that is unpacked."""

    root: str
    """Its directory."""
    stem: str
    """Its name and version, as its dist-info directory has them, for example ``six-1.17.0``."""
    entries: list[Entry]
    """Its files as its own RECORD lists them, with the paths that they get in an environment."""
    content: str
    """Its content digest (`scanning.content`)."""
    record: str
    """The text of its own RECORD."""
    is_mapped: bool
    """Whether some of its files get another path than they have in it."""


def find_unpacked(uv_cache: Path, wanted: Mapping[str, str]) -> dict[str, UnpackedWheel]:
    """Return the unpacked wheels with some contents, by canonical name. Blocks.

    Parameters
    ----------
    uv_cache : Path
        The cache directory of uv.
    wanted : mapping of str to str
        The content digests, by canonical name.
    """
    found: dict[str, UnpackedWheel] = {}
    for root, stem in _wheels_in(uv_cache):
        name = str(canonicalize_name(stem.rpartition("-")[0]))
        if name in wanted and name not in found and (wheel := read_unpacked(root, stem)).content == wanted[name]:
            found[name] = wheel
    return found


def _wheels_in(uv_cache: Path) -> Iterator[tuple[str, str]]:
    """Yield the directory of each unpacked wheel, and the stem of its dist-info."""
    for archives in names_in(str(uv_cache)):
        if archives.startswith(_ARCHIVES):
            for archive in names_in(f"{uv_cache}/{archives}"):
                root = f"{uv_cache}/{archives}/{archive}"
                stems = [name.removesuffix(".dist-info") for name in names_in(root) if name.endswith(".dist-info")]
                if len(stems) == 1:
                    yield root, stems[0]


def names_in(directory: str) -> list[str]:
    """Return the names in a directory, sorted; none if there is no such directory."""
    try:
        return sorted(os.listdir(directory))  # noqa: PTH208  # faster than pathlib for hundreds of wheels
    except OSError:  # no directory, or somebody removes it right now
        return []


def read_unpacked(root: str, stem: str) -> UnpackedWheel:
    """Read the wheel in a directory.

    Parameters
    ----------
    root : str
    stem : str
        Name and version, as its dist-info directory has them.
    """
    text = ""
    with suppress(OSError):
        text = small_files.text_of(f"{root}/{stem}.dist-info/RECORD")
    entries, data = parse(text), f"{stem}.data/"
    if is_mapped := data in text:
        name = stem.rpartition("-")[0]
        entries = [entry._replace(path=_place(entry.path, data, name)) for entry in entries]
    content = content_digest(f"{root}/{stem}.dist-info", entries)
    return UnpackedWheel(root, stem, entries, content, text, is_mapped)


def _place(path: str, data: str, name: str) -> str:
    """Return the path that a file of a wheel gets in an environment (PEP 427, "spread")."""
    if not path.startswith(data):
        return path
    scheme, _, rest = path.removeprefix(data).partition("/")
    return f"{SCHEMES[scheme].format(name=name)}{rest}" if scheme in SCHEMES else path


SCHEMES = {
    "purelib": "",
    "platlib": "",
    "data": UP,
    "scripts": f"{UP}bin/",
    "headers": f"{UP}include/site/{LIBRARY}/{{name}}/",
}
"""Where the directories in ``.data`` of a wheel go, relative to the directory of distributions."""


def fits(wheel: UnpackedWheel) -> bool:
    """Whether this interpreter can use a wheel, by the tags in its WHEEL (PEP 425)."""
    text = ""
    with suppress(OSError):
        text = small_files.text_of(f"{wheel.root}/{wheel.stem}.dist-info/WHEEL")
    tags = re.findall(r"^Tag:\s*(\S+)\s*$", text, re.MULTILINE)
    return "py3-none-any" in tags or any(not _supported().isdisjoint(parse_tag(tag)) for tag in tags)


@cache
def _supported() -> frozenset[Tag]:
    return frozenset(sys_tags())
