"""Publishes a layer that was built aside, by one rename, and finds it again; a published layer is never changed.

A layer has a marker, with the facts about it, and a manifest of its files. One that no longer agrees with its manifest
is built anew under the same digest.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import replace
from pathlib import Path
from time import time
from typing import TYPE_CHECKING, TypeVar

from dask_pkgsync.cache import trees
from dask_pkgsync.cache.marker import MARKER
from dask_pkgsync.layers.layer import FORMAT, Layer
from dask_pkgsync.layers.layout import LIBRARY
from dask_pkgsync.layers.manifest import Changes, compare_with_manifest, write_manifest
from dask_pkgsync.model.clash import clash_from_wire, clash_to_wire
from dask_pkgsync.model.reports.failure import LayerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from dask_pkgsync.cache.directory import Cache
    from dask_pkgsync.cache.trees import Tree

    Result = TypeVar("Result")

UNCHANGED = Changes()
"""What a builder gets if no layer of this digest has been changed."""
BUILT_ANEW = "the layer had been changed on this node, and was built anew: {}"
"""The note for people; ``{}`` stands for what had changed."""
MAX_ALTERED = 1000
"""The most files that a layer names as altered; above it, any file may be."""
_ADVICE = "Make the cache directory writable and free space there, or set pkgsync.cache-directory to another one."


def found_or_built(cache: Cache, digest: str, build: Callable[[Changes], Layer], *, wait: float) -> Layer:
    """Return the layer of a digest: the existing one if it is unchanged, else a new one. Blocks.

    Parameters
    ----------
    cache : Cache
    digest : str
    build : callable
        Builds and publishes the layer; it gets how the layer that is there differs from what was published.
    wait : float
        Seconds to wait for another process that builds it.
    """
    with cache.lock(digest, wait):
        layer = existing(cache, digest) or build(UNCHANGED)
        cache.lease(layer.digest)
    if layer.digest != digest or not layer.reused or not (changes := changes_in(layer)):
        return layer
    with cache.lock(digest, wait):
        present = existing(cache, digest)
        if present is None or present.built == layer.built:  # no other process has built it anew meanwhile
            present = build(changes)
        return replace(present, notes=(*present.notes, BUILT_ANEW.format(changes)))


def existing(cache: Cache, digest: str) -> Layer | None:
    """Return the published layer of a digest, and note that it is used; None if there is none."""
    root = cache.layers / digest
    facts = _facts(root)
    if facts is None:
        return None
    with contextlib.suppress(OSError):
        os.utime(root / MARKER)
    if (instead := facts.get("instead")) is not None:  # the complete layer that replaces this delta
        complete = existing(cache, str(instead))
        return replace(complete, notes=tuple(facts["notes"])) if complete else None
    return Layer(
        digest,
        root,
        facts["complete"],
        tuple(facts["pins"]),
        reused=True,
        notes=tuple(facts["notes"]),
        clashes=tuple(clash_from_wire(clash) for clash in facts["clashes"]),
        built=facts["built"],
        altered=tuple(facts["altered"]),
        whole=facts.get("whole", ""),
        python_directory=facts.get("library", LIBRARY),
    )


def changes_in(layer: Layer) -> Changes:
    """Return how a layer differs from what was published under its name. Blocks."""
    changes, facts = compare_with_manifest(layer.root), _facts(layer.root)
    if facts is not None and facts.get("built") != layer.built:
        return replace(changes, whole="has been built anew since this node prepared it")
    return changes


def _facts(root: Path) -> dict[str, Any] | None:
    """Return the facts in the marker of a layer; None if there are none."""
    try:
        facts = json.loads((root / MARKER).read_text())
    except (OSError, ValueError):
        return None
    return facts if isinstance(facts, dict) else None


@contextlib.contextmanager
def built_aside(cache: Cache) -> Iterator[Path]:
    """Hold an empty directory to build in, which is removed afterwards; raise `LayerError` if it cannot be written."""
    try:
        with cache.slot() as aside:
            yield aside
    except OSError as error:
        place = error.filename or cache.building
        raise LayerError("install", f"{error.strerror or error}: {place}", advice=_ADVICE) from None


def filled_and_verified(fill: Callable[[], Result], forget: Callable[[tuple[str, ...]], None]) -> Result:
    """Fill a layer; if it is not verified, make the installer forget the packages that are wrong, and fill it again.

    A file of a layer may be the same file as in the installer's cache. So what was once changed in place in some layer
    is installed into the next one: the verification finds it, and names the packages that the installer has to forget.

    Parameters
    ----------
    fill : callable
        Fills the layer and verifies it.
    forget : callable
        Removes packages from the installer's cache, and what was filled.
    """
    try:
        return fill()
    except LayerError as error:
        if error.step != "verify":
            raise
        forget(error.packages)
    return fill()


def facts_about(layer: Layer) -> dict[str, Any]:
    """Return the facts about a layer that was just built, for its marker."""
    return {
        "complete": layer.complete,
        "pins": layer.pins,
        "bytes": layer.fetched,
        "notes": layer.notes,
        "clashes": [clash_to_wire(clash) for clash in layer.clashes],
        "built": layer.built,
        "altered": layer.altered,
        "whole": layer.whole,
        "library": layer.python_directory,
    }


def publish(tree: Tree, final: Path, facts: dict[str, Any]) -> None:
    """Make the layer read-only, write manifest and marker, as the last files, and rename it into place.

    Nothing is forced to the disk: after a crash, a layer without a readable marker does not exist, and one whose files
    are not those in its manifest is built anew.
    """
    built = Path(tree.root)
    tree.make_read_only()
    write_manifest(tree)
    (built / MARKER).write_text(json.dumps({"format": FORMAT, "created": time(), **facts}))
    if final.exists():  # something has changed it
        trees.move(final, built.parent / "set-aside")
    built.rename(final)
    trees.make_read_only(final)  # a directory that is renamed must be writable


def altered(before: Layer | None, changes: Changes) -> tuple[str, ...]:
    """Return the files of which processes may have loaded other contents than those of the layer, ``""`` for any.

    Parameters
    ----------
    before : Layer or None
        The layer that is set aside.
    changes : Changes
        How it differs from what was published.
    """
    known = (*(before.altered if before else ()), *changes.replaced, *changes.added)
    can_be_sent = len(known) <= MAX_ALTERED and all(map(str.isprintable, known))
    return tuple(sorted(set(known))) if can_be_sent else ("",)
