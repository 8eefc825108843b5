"""Builds a layer aside, verifies it, and publishes it by one rename; a published layer is never changed.

The base is never written.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from time import time
from typing import TYPE_CHECKING

from dask_pkgsync.cache.directory import MARKER
from dask_pkgsync.layers.clashes import clashes
from dask_pkgsync.layers.fill import FROM_INDEX, Filler
from dask_pkgsync.layers.layer import BASE_LINK, FORMAT, OTHER_BUILDS, Layer, layer_digest, link_to
from dask_pkgsync.layers.leaks import find_leak, loose_names
from dask_pkgsync.layers.prefix_data import link_data
from dask_pkgsync.layers.verify import verify
from dask_pkgsync.model.clash import clash_from_wire, clash_to_wire
from dask_pkgsync.model.reports.failure import LayerError
from dask_pkgsync.scanning.records import dist_infos

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any

    from dask_pkgsync.cache.directory import Cache
    from dask_pkgsync.installers import Installer
    from dask_pkgsync.layers.fill import Sources
    from dask_pkgsync.layers.layer import Base
    from dask_pkgsync.model.plan import Plan


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
    with cache.lock(digest, timeout * 2):  # a builder runs the installer twice: to make the environment, and to fill it
        layer = _existing(cache, digest) or _published(plan, base, cache, installer(), digest, timeout, sources)
        cache.lease(layer.digest)
    return layer


def _existing(cache: Cache, digest: str) -> Layer | None:
    marker = cache.layers / digest / MARKER
    try:
        facts = json.loads(marker.read_text())
        os.utime(marker)
    except (OSError, ValueError):
        return None
    if (instead := facts.get("instead")) is not None:  # the complete layer that replaces this delta
        complete = _existing(cache, str(instead))
        return replace(complete, notes=tuple(facts["notes"])) if complete else None
    notes, found_clashes = tuple(facts["notes"]), tuple(clash_from_wire(clash) for clash in facts["clashes"])
    return Layer(
        digest,
        marker.parent,
        facts["complete"],
        tuple(facts["pins"]),
        reused=True,
        notes=notes,
        clashes=found_clashes,
    )


def _published(
    plan: Plan, base: Base, cache: Cache, installer: Installer, digest: str, timeout: float, sources: Sources
) -> Layer:
    """Build a layer aside, verify it, and rename it into place."""
    aside = cache.aside("layer")
    try:
        aside.mkdir()
        built = aside / "layer"
        final = cache.layers / digest
        filler = Filler(plan, base, installer, sources, timeout)
        notes = filler.fill(built, final)
        layer = Layer(digest, built, plan.complete, plan.pins, notes=notes)
        size = verify(layer.site_packages, plan.pins)
        leak = None if plan.complete else find_leak(layer, plan, base, sources.target)
        if leak is not None:
            return _complete_instead(plan, base, cache, installer, digest, timeout, leak, aside, sources)
        if not plan.complete:
            (layer.site_packages / BASE_LINK).write_text(link_to(base))
        link_data(layer, base)
        found_clashes = clashes(dist_infos(layer.site_packages), loose_names(sources.target))
        notes = (*notes, *map(str, found_clashes))
        wire = [clash_to_wire(clash) for clash in found_clashes]
        _publish(
            built,
            final,
            {
                "complete": plan.complete,
                "pins": plan.pins,
                "bytes": size,
                "notes": notes,
                "clashes": wire,
                OTHER_BUILDS: filler.other_builds,
            },
        )
        return replace(layer, root=final, fetched=size, notes=notes, clashes=found_clashes)
    except OSError as error:
        raise LayerError("install", f"{error.strerror or error}: {error.filename or aside}", advice=_ADVICE) from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)


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
    _publish(pointer, cache.layers / digest, facts)
    return replace(layer, notes=notes)


def _publish(built: Path, final: Path, facts: dict[str, Any]) -> None:
    """Write the marker, as the last file, and rename the layer into place."""
    with (built / MARKER).open("w") as marker:
        json.dump({"format": FORMAT, "created": time(), **facts}, marker)
        marker.flush()
        os.fsync(marker.fileno())
    if final.exists():  # its marker is unreadable, so something has damaged it
        final.rename(built.parent / "broken")
    built.rename(final)
