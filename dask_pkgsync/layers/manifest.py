"""The manifest of a layer: what was published, to be compared with what is there.

It holds path, size and time of change of every file. To compare it costs one `lstat` for each file, so that it can be
done at each start of a worker. Bytecode is not in it: Python writes that while the layer is in use.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dask_pkgsync.cache.directory import MARKER
from dask_pkgsync.cache.trees import BYTECODE
from dask_pkgsync.model.text import printable, shown

if TYPE_CHECKING:
    from pathlib import Path
    from typing import TypeAlias

    Files: TypeAlias = dict[str, tuple[int, int]]

MANIFEST = "pkgsync-files.json"
"""The file of a layer that holds its manifest."""
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


def write_manifest(root: Path) -> None:
    """Write the manifest of a layer that is about to be published."""
    (root / MANIFEST).write_text(json.dumps(_files(root)))


def compare_with_manifest(root: Path) -> Changes:
    """Return how the files of a published layer differ from its manifest. Blocks."""
    try:
        published = {
            path: (size, changed) for path, (size, changed) in json.loads((root / MANIFEST).read_text()).items()
        }
    except FileNotFoundError:
        return Changes(whole="has no list of its files any more" if (root / MARKER).exists() else "is gone")
    except (OSError, ValueError, AttributeError, TypeError):
        return Changes(whole="has no readable list of its files any more")
    try:
        found = _files(root)
    except OSError as error:  # somebody removes it right now
        return Changes(whole=f"cannot be read: {error.strerror}")
    if found == published:
        return Changes()
    return Changes(
        missing=tuple(sorted(published.keys() - found)),
        replaced=tuple(sorted(path for path in published.keys() & found if published[path] != found[path])),
        added=tuple(sorted(found.keys() - published)),
    )


def _files(root: Path) -> Files:
    """Return size and time of change of each file below a directory, without bytecode; links are not followed."""
    files: Files = {}
    ours, pending = {MARKER, MANIFEST}, [""]
    while pending:
        directory = pending.pop()
        with os.scandir(f"{root}/{directory}") as listing:
            for entry in listing:
                path = f"{directory}{entry.name}"
                if entry.is_dir(follow_symlinks=False):
                    if entry.name != BYTECODE:
                        pending.append(f"{path}/")
                elif path not in ours:
                    facts = entry.stat(follow_symlinks=False)
                    files[path] = facts.st_size, facts.st_mtime_ns
    return files


def _listed(paths: tuple[str, ...], one: str, several: str) -> str:
    """Return the first paths of a list, below site-packages where they are, and what happened to them."""
    names = [shown(printable(path.partition("/site-packages/")[2] or path), 100) for path in paths[:_SHOWN]]
    more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
    return f"{', '.join(names)}{more} {one if len(paths) == 1 else several}"
