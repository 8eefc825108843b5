"""The manifest of a layer: what was published, to be compared with what is there.

It holds path, size and time of change of every file. To compare it costs one `lstat` for each file, so that it can be
done at each start of a worker: the text of an unchanged layer is the same, and only that of another one is read line by
line. Bytecode is not in it: Python writes that while the layer is in use.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dask_pkgsync.cache.directory import MARKER
from dask_pkgsync.cache.trees import Tree
from dask_pkgsync.model.text import printable, shown

if TYPE_CHECKING:
    from pathlib import Path

MANIFEST = "pkgsync-files"
"""The file of a layer that holds its manifest: size, time of change and path of each file, in the order of the paths,
with a NUL character behind each, as no path holds one."""
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
    """Write the manifest of a layer that is about to be published."""
    with open(f"{tree.root}/{MANIFEST}", "wb") as file:  # noqa: PTH123  # paths may hold any bytes
        file.write(_text(tree))


def compare_with_manifest(root: Path) -> Changes:
    """Return how the files of a published layer differ from its manifest. Blocks."""
    try:
        published = (root / MANIFEST).read_bytes()
    except FileNotFoundError:
        return Changes(whole="has no list of its files any more" if (root / MARKER).exists() else "is gone")
    except OSError:
        return Changes(whole=_NOT_READABLE)
    try:
        found = _text(Tree(str(root)))
    except OSError as error:  # somebody removes it right now
        return Changes(whole=f"cannot be read: {error.strerror}")
    return Changes() if found == published else _compared(published, found)


_NOT_READABLE = "has no readable list of its files any more"


def _compared(published: bytes, found: bytes) -> Changes:
    try:
        before, now = _read(published), _read(found)
    except ValueError:
        return Changes(whole=_NOT_READABLE)
    return Changes(
        missing=tuple(sorted(before.keys() - now)),
        replaced=tuple(sorted(path for path in before.keys() & now if before[path] != now[path])),
        added=tuple(sorted(now.keys() - before)),
    )


def _text(tree: Tree) -> bytes:
    files = sorted(tree.files.items())
    lines = [f"{facts.st_size} {facts.st_mtime_ns} {path}\0" for path, facts in files if path not in (MARKER, MANIFEST)]
    return os.fsencode("".join(lines))


def _read(manifest: bytes) -> dict[str, tuple[int, int]]:
    """Return size and time of change of each file; raise `ValueError` if the text is no whole manifest."""
    *lines, rest = os.fsdecode(manifest).split("\0")
    if rest or not lines:
        raise ValueError(rest)
    rows = (line.split(" ", 2) for line in lines)
    return {path: (int(size), int(changed)) for size, changed, path in rows}


def _listed(paths: tuple[str, ...], one: str, several: str) -> str:
    """Return the first paths of a list, below site-packages where they are, and what happened to them."""
    names = [shown(printable(path.partition("/site-packages/")[2] or path), 100) for path in paths[:_SHOWN]]
    more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
    return f"{', '.join(names)}{more} {one if len(paths) == 1 else several}"
