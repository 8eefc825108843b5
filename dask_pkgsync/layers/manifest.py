"""The manifest of a layer: what was published, to be compared with what is there.

It holds path, size and time of change of every file, and the time of change of every directory. To compare it costs one
`lstat` for each of them, so that it can be done at each start of a worker: a directory is only listed if something was
added to it or removed from it, which changes its time. Bytecode is not in it: Python writes that while the layer is in
use.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dask_pkgsync.cache.marker import MARKER
from dask_pkgsync.cache.trees import BYTECODE
from dask_pkgsync.layers.unchanged import DIRECTORY, MANIFEST
from dask_pkgsync.model.text import printable, shown

if TYPE_CHECKING:
    from collections.abc import Container, Iterator
    from pathlib import Path

    from dask_pkgsync.cache.trees import Tree

_SHOWN = 5
"""Files of each kind that a text for people names."""


@dataclass(frozen=True)
class Changes:
    """How the files of a layer differ from its manifest: paths relative to the layer, with ``/``."""

    missing: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()
    """Files of another size, or changed at another time."""
    added: tuple[str, ...] = ()
    whole: str = ""
    """What happened to the layer as a whole, for example ``is gone``; empty if only single files have changed."""

    def __bool__(self) -> bool:
        """Whether there is any change."""
        return bool(self.missing or self.replaced or self.added or self.whole)

    def __str__(self) -> str:
        """Return the changes on one line, for example ``six.py was replaced``."""
        kinds = (
            (self.replaced, "was replaced", "were replaced"),
            (self.added, "was added", "were added"),
            (self.missing, "is missing", "are missing"),
        )
        parts = [f"it {self.whole}"] if self.whole else []
        return "; ".join([*parts, *(_listed(*kind) for kind in kinds if kind[0])])


def write_manifest(tree: Tree) -> None:
    """Write the manifest of a layer that is about to be published, and whose directories do not change any more.

    The root is left out: manifest and marker are still to be written there.
    """
    files = [(facts.st_size, facts.st_mtime_ns, path) for path, facts in tree.files.items()]
    places = [path.removesuffix("/") for path in tree.directories if path]
    directories = [(_DIRECTORY, os.lstat(f"{tree.root}/{path}").st_mtime_ns, path) for path in places]
    text = "".join(f"{size} {changed} {path}\0" for size, changed, path in (*files, *directories))
    with open(f"{tree.root}/{MANIFEST}", "wb") as file:  # noqa: PTH123  # paths may hold any bytes
        file.write(os.fsencode(text))


def compare_with_manifest(root: Path) -> Changes:
    """Return how the files of a published layer differ from its manifest. Blocks."""
    try:
        rows = _rows((root / MANIFEST).read_bytes())
    except FileNotFoundError:
        return Changes(whole="has no list of its files any more" if (root / MARKER).exists() else "is gone")
    except (OSError, ValueError):
        return Changes(whole="has no readable list of its files any more")
    try:
        return _compared(f"{root}/", rows)
    except OSError as error:  # somebody removes it right now
        return Changes(whole=f"cannot be read: {error.strerror}")


def _rows(manifest: bytes) -> list[list[str]]:
    """Return size, time of change and path of all that a manifest lists; raise `ValueError` if it is not whole."""
    *lines, rest = os.fsdecode(manifest).split("\0")
    rows = [line.split(" ", 2) for line in lines]
    if rest or not rows or any(len(row) != _COLUMNS for row in rows):
        raise ValueError(rest)
    return rows


_COLUMNS, _DIRECTORY = 3, DIRECTORY.decode()


def _compared(root: str, rows: list[list[str]]) -> Changes:
    missing: list[str] = []
    replaced: list[str] = []
    touched, lstat = [""], os.lstat
    for size, changed, path in rows:
        try:
            facts = lstat(root + path)
        except (FileNotFoundError, NotADirectoryError):
            if size != _DIRECTORY:
                missing.append(path)
            continue
        if str(facts.st_mtime_ns) != changed:
            (touched if size == _DIRECTORY else replaced).append(path)
        elif size not in (_DIRECTORY, str(facts.st_size)):
            replaced.append(path)
    known = {path for _, _, path in rows} | {MARKER, MANIFEST}
    added = {path for directory in touched for path in _unknown(root, directory, known)}
    return Changes(tuple(sorted(missing)), tuple(sorted(replaced)), tuple(sorted(added)))


def _unknown(root: str, directory: str, known: Container[str]) -> Iterator[str]:
    """Yield the files in a directory that are not in the manifest, and all files of directories that are not."""
    try:
        is_link = os.path.islink(root + directory)  # noqa: PTH114
        names = None if is_link and directory else os.scandir(root + directory)
    except NotADirectoryError:
        names = None
    if names is None:  # something else is in its place
        yield directory
        return
    with names as listing:
        for entry in listing:
            path = f"{directory}/{entry.name}" if directory else entry.name
            if path in known or (entry.name == BYTECODE and entry.is_dir(follow_symlinks=False)):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _unknown(root, path, known)
            else:
                yield path


def _listed(paths: tuple[str, ...], one: str, several: str) -> str:
    """Return the first paths of a list, below site-packages where they are, and what happened to them."""
    names = [shown(printable(path.partition("/site-packages/")[2] or path), 100) for path in paths[:_SHOWN]]
    more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
    return f"{', '.join(names)}{more} {one if len(paths) == 1 else several}"
