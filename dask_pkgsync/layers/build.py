"""Builds a layer aside, verifies it, and publishes it by one rename; a published layer is never changed.

The base is never written.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import uuid
from dataclasses import dataclass, replace
from pathlib import Path
from time import time
from typing import TYPE_CHECKING

from dask_pkgsync.cache import trees
from dask_pkgsync.cache.directory import MARKER
from dask_pkgsync.cache.trees import Tree
from dask_pkgsync.cache.verified import VerifiedFiles
from dask_pkgsync.layers.clashes import clashes
from dask_pkgsync.layers.environment import interpreter_below
from dask_pkgsync.layers.fill import FROM_INDEX, Filler
from dask_pkgsync.layers.layer import BASE_LINK, FORMAT, OTHER_BUILDS, Layer, layer_digest, link_to
from dask_pkgsync.layers.layout import SITE_PACKAGES
from dask_pkgsync.layers.leaks import find_leak, loose_names
from dask_pkgsync.layers.manifest import Changes, compare_with_manifest, write_manifest
from dask_pkgsync.layers.prefix_data import link_data
from dask_pkgsync.layers.verify import verify
from dask_pkgsync.model.clash import clash_from_wire, clash_to_wire
from dask_pkgsync.model.reports.failure import LayerError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from dask_pkgsync.cache.directory import Cache
    from dask_pkgsync.installers import Installer
    from dask_pkgsync.layers.fill import Sources
    from dask_pkgsync.layers.layer import Base
    from dask_pkgsync.model.plan import Plan
    from dask_pkgsync.scanning.records import Listed


def build(
    plan: Plan,
    base: Base,
    cache: Cache,
    installer: Callable[[], Installer],
    *,
    timeout: float,
    sources: Sources = FROM_INDEX,
) -> Layer:
    """Return the layer for a plan: the existing one, or a new one. Blocks.

    Parameters
    ----------
    plan : Plan
        Says which distributions the layer holds.
    base : Base
        The environment that the layer is put in front of.
    cache : Cache
        The directory that holds the layers.
    installer : callable
        Returns the installer; it is not called if the layer exists already.
    timeout : float
        Seconds that one run of the installer may take. If another process builds the same layer, this one waits twice
        as long for it.
    sources : Sources
        Where distributions come from.

    Raises
    ------
    LayerError
        If the layer cannot be built. Nothing of it is left behind.
    """
    digest = layer_digest(plan, base)
    with cache.lock(digest, timeout * 2):  # a builder may run the installer twice: by its cache alone, and by the index
        layer = _existing(cache, digest) or _published(plan, base, cache, installer, digest, timeout, sources)
        cache.lease(layer.digest)
    if layer.digest != digest and layer.reused:  # the complete layer that replaces this delta
        complete = build(plan.completed(), base, cache, installer, timeout=timeout, sources=sources)
        return replace(complete, notes=tuple(dict.fromkeys((*layer.notes, *complete.notes))))
    if not layer.reused or not (changes := changes_in(layer)):
        return layer
    with cache.lock(digest, timeout * 2):
        present = _existing(cache, digest)
        if present is None or present.built == layer.built:  # no other process has built it anew meanwhile
            present = _published(plan, base, cache, installer, digest, timeout, sources, changes)
        return replace(present, notes=(*present.notes, BUILT_ANEW.format(changes)))


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


def _existing(cache: Cache, digest: str) -> Layer | None:
    root = cache.layers / digest
    facts = _facts(root)
    if facts is None:
        return None
    with contextlib.suppress(OSError):
        os.utime(root / MARKER)
    if (instead := facts.get("instead")) is not None:  # the complete layer that replaces this delta
        complete = _existing(cache, str(instead))
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
    )


def _published(
    plan: Plan,
    base: Base,
    cache: Cache,
    installer: Callable[[], Installer],
    digest: str,
    timeout: float,
    sources: Sources,
    changes: Changes = Changes(),  # noqa: B008  # it is frozen
) -> Layer:
    """Build a layer aside, verify it, and rename it into place; set aside the one that is there.

    Parameters
    ----------
    changes : Changes
        How the layer that is there differs from what was published.
    """
    try:
        with cache.slot() as aside:
            return _built(plan, base, cache, installer(), digest, timeout, sources, changes, aside)
    except OSError as error:
        place = error.filename or cache.building
        raise LayerError("install", f"{error.strerror or error}: {place}", advice=_ADVICE) from None


def _built(
    plan: Plan,
    base: Base,
    cache: Cache,
    installer: Installer,
    digest: str,
    timeout: float,
    sources: Sources,
    changes: Changes,
    aside: Path,
) -> Layer:
    built, final = aside / _name_aside(base), cache.layers / digest
    layer = Layer(digest, built, plan.complete, plan.pins)
    filler = Filler(plan, base, installer, sources, timeout)
    try:
        filled = _filled(layer, filler, cache, final)
    except LayerError as error:
        if error.step != "verify":
            raise
        installer.forget([pin.partition("==")[0] for pin in error.packages], work=aside, timeout=timeout)
        trees.remove(built)
        filler = Filler(plan, base, installer, sources, timeout)
        filled = _filled(layer, filler, cache, final)
    if isinstance(filled, str):
        return _complete_instead(plan, base, cache, installer, digest, timeout, filled, aside, sources)
    found_clashes = clashes(filled.distributions, loose_names(sources.target))
    notes = (*filled.notes, *map(str, found_clashes))
    layer = replace(
        layer, root=final, fetched=filled.size, notes=notes, clashes=found_clashes,
        built=uuid.uuid4().hex, altered=_altered(_existing(cache, digest), changes),
    )  # fmt: skip
    _publish(
        filled.tree,
        final,
        {
            "complete": plan.complete,
            "pins": plan.pins,
            "bytes": filled.size,
            "notes": notes,
            "clashes": [clash_to_wire(clash) for clash in found_clashes],
            "built": layer.built,
            "altered": layer.altered,
            OTHER_BUILDS: filler.other_builds,
        },
    )
    return layer


@dataclass(frozen=True)
class _Filled:
    """What was installed into a layer and verified."""

    tree: Tree
    distributions: Mapping[str, Listed]
    notes: tuple[str, ...]
    size: int
    """Bytes of all files of the distributions."""


def _filled(layer: Layer, filler: Filler, cache: Cache, final: Path) -> _Filled | str:
    """Fill a layer and verify it; return why a delta would not do, if it is one that would not.

    A file of a layer may be the same file as in the installer's cache. So what was once changed in place in some layer
    is installed into the next one: the verification finds it, and names the packages that the installer has to forget.
    """
    plan, base, target = filler.plan, filler.base, filler.sources.target
    distributions, notes = filler.fill(layer.root, final)
    if not plan.complete:
        if (leak := find_leak(distributions, plan, base, target)) is not None:
            return leak
        (layer.site_packages / BASE_LINK).write_text(link_to(base))
    link_data(layer, base, distributions)
    tree, verified = Tree(str(layer.root)), VerifiedFiles(cache)
    try:
        size = verify(tree, SITE_PACKAGES, distributions, plan.pins, verified)
    finally:
        verified.save()
    return _Filled(tree, distributions, notes, size)


def _name_aside(base: Base) -> str:
    """Return the name of a directory in which only environments of one interpreter are built.

    uv remembers what an interpreter says of itself by its path, and the date of the file below all links.
    """
    interpreter = base.environment.interpreter
    facts = [str(interpreter_below(base.python)), interpreter.version, interpreter.platform, interpreter.tag]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


BUILT_ANEW = "the layer had been changed on this node, and was built anew: {}"
"""The note for people; ``{}`` stands for what had changed."""
MAX_ALTERED = 1000
"""The most files that a layer names as altered; above it, any file may be."""
_ADVICE = "Make the cache directory writable and free space there, or set pkgsync.cache-directory to another one."


def _complete_instead(
    plan: Plan,
    base: Base,
    cache: Cache,
    installer: Installer,
    digest: str,
    timeout: float,
    leak: str,
    aside: Path,
    sources: Sources,
) -> Layer:
    """Build a complete layer because a delta would not do, and record that under the digest of the delta."""
    note = f"the layer stands alone, because {leak}"
    layer = build(plan.completed(), base, cache, lambda: installer, timeout=timeout, sources=sources)
    notes = (*layer.notes, note)
    pointer = aside / "pointer"
    pointer.mkdir()
    facts = {"complete": True, "pins": plan.pins, "bytes": 0, "instead": layer.digest, "notes": notes}
    _publish(Tree(str(pointer)), cache.layers / digest, facts)
    return replace(layer, notes=notes)


def _publish(tree: Tree, final: Path, facts: dict[str, Any]) -> None:
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


def _altered(before: Layer | None, changes: Changes) -> tuple[str, ...]:
    """Return the files of which processes may have loaded other contents than those of the layer, ``""`` for any."""
    known = (*(before.altered if before else ()), *changes.replaced, *changes.added)
    can_be_sent = len(known) <= MAX_ALTERED and all(map(str.isprintable, known))
    return tuple(sorted(set(known))) if can_be_sent else ("",)
