"""Builds a layer aside, verifies it, and publishes it by one rename; a published layer is never changed.

The base is never written.
"""

from __future__ import annotations

import functools
import hashlib
import json
import uuid
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dask_pkgsync.cache import trees
from dask_pkgsync.cache.trees import Tree
from dask_pkgsync.cache.verified import VerifiedFiles
from dask_pkgsync.interpreters.below import interpreter_below
from dask_pkgsync.layers.clashes import clashes
from dask_pkgsync.layers.fill import FROM_INDEX, Filler
from dask_pkgsync.layers.layer import BASE_LINK, OTHER_BUILDS, Layer, layer_digest, link_to
from dask_pkgsync.layers.layout import site_packages_in
from dask_pkgsync.layers.leaks import find_leak, loose_names
from dask_pkgsync.layers.prefix_data import link_data
from dask_pkgsync.layers.publication import (
    altered,
    built_aside,
    existing,
    facts_about,
    filled_and_verified,
    found_or_built,
    publish,
)
from dask_pkgsync.layers.verify import verify

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from dask_pkgsync.cache.directory import Cache
    from dask_pkgsync.installers import Installer
    from dask_pkgsync.layers.fill import Sources
    from dask_pkgsync.layers.layer import Base
    from dask_pkgsync.layers.manifest import Changes
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

    def anew(changes: Changes) -> Layer:
        with built_aside(cache) as aside:
            return _built(plan, base, cache, functools.cache(installer), digest, timeout, sources, changes, aside)

    # a builder may run the installer twice: by its cache alone, and by the index
    layer = found_or_built(cache, digest, anew, wait=timeout * 2)
    if layer.digest != digest and layer.reused:  # the complete layer that replaces this delta
        complete = build(plan.completed(), base, cache, installer, timeout=timeout, sources=sources)
        return replace(complete, notes=tuple(dict.fromkeys((*layer.notes, *complete.notes))))
    return layer


def _built(
    plan: Plan,
    base: Base,
    cache: Cache,
    installer: Callable[[], Installer],
    digest: str,
    timeout: float,
    sources: Sources,
    changes: Changes,
    aside: Path,
) -> Layer:
    built, final = aside / _name_aside(base), cache.layers / digest
    layer = Layer(digest, built, plan.complete, plan.pins, whole=base.whole, python_directory=base.python_directory)
    filler = Filler(plan, base, installer, sources, timeout, cache.uv)

    def fill() -> _Filled | str:
        return _filled(layer, filler, cache, final)

    def forget(packages: tuple[str, ...]) -> None:
        nonlocal filler
        installer().forget([pin.partition("==")[0] for pin in packages], work=aside, timeout=timeout)
        trees.remove(built)
        filler = Filler(plan, base, installer, sources, timeout)  # nothing is linked from what was found to be damaged

    filled = filled_and_verified(fill, forget)
    if isinstance(filled, str):
        return _complete_instead(plan, base, cache, installer, digest, timeout, filled, aside, sources)
    found_clashes = clashes(filled.distributions, loose_names(sources.target))
    notes = (*filled.notes, *map(str, found_clashes))
    layer = replace(
        layer, root=final, fetched=filled.size, notes=notes, clashes=found_clashes,
        built=uuid.uuid4().hex, altered=altered(existing(cache, digest), changes),
    )  # fmt: skip
    publish(filled.tree, final, {**facts_about(layer), OTHER_BUILDS: filler.other_builds})
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
    """Fill a layer and verify it; return why a delta would not do, if it is one that would not."""
    plan, base, target = filler.plan, filler.base, filler.sources.target
    distributions, notes = filler.fill(layer.root, final)
    if not plan.complete:
        if (leak := find_leak(distributions, plan, base, target)) is not None:
            if not base.whole:
                return leak
            notes = (*notes, f"in the client's environment conda and pip share a directory, here they do not: {leak}")
        (layer.site_packages / BASE_LINK).write_text(link_to(base))
    link_data(layer, base, distributions)
    tree, verified = Tree(str(layer.root), filler.looked_at), VerifiedFiles(cache)
    try:
        size = verify(tree, site_packages_in(base.python_directory), distributions, plan.pins, verified)
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


def _complete_instead(
    plan: Plan,
    base: Base,
    cache: Cache,
    installer: Callable[[], Installer],
    digest: str,
    timeout: float,
    leak: str,
    aside: Path,
    sources: Sources,
) -> Layer:
    """Build a complete layer because a delta would not do, and record that under the digest of the delta."""
    note = f"the layer stands alone, because {leak}"
    layer = build(plan.completed(), base, cache, installer, timeout=timeout, sources=sources)
    notes = (*layer.notes, note)
    pointer = aside / "pointer"
    pointer.mkdir()
    facts = {"complete": True, "pins": plan.pins, "bytes": 0, "instead": layer.digest, "notes": notes}
    publish(Tree(str(pointer)), cache.layers / digest, facts)
    return replace(layer, notes=notes)
