"""Layers: content-addressed virtual environments that are put in front of a base, or stand alone.

Built aside, verified, published by one rename, never changed after (promise 3).
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
from dask_pkgsync.layers.layer import BASE_LINK, FORMAT, Layer, layer_digest, link_to
from dask_pkgsync.layers.leaks import find_leak, loose_names
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
    """Return the layer for a plan: the one that is there, or a new one. Blocks.

    Parameters
    ----------
    plan : Plan
        What the layer has to hold.
    base : Base
        What it is put in front of.
    cache : Cache
        Where layers are.
    installer : callable
        Returns the installer; not called where the layer is there already.
    timeout : float
        Seconds that one installer may take, and that is waited for another process that builds the same layer.
    sources : Sources
        Where distributions come from.

    Raises
    ------
    LayerError
        With nothing left behind.
    """
    digest = layer_digest(plan, base)
    with cache.lock(digest, timeout * 2):  # whoever holds it makes an environment, then installs
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
    if (instead := facts.get("instead")) is not None:  # a delta that had to become complete
        found = _existing(cache, str(instead))
        return replace(found, notes=tuple(facts["notes"])) if found else None
    notes, found_clashes = tuple(facts["notes"]), tuple(clash_from_wire(one) for one in facts["clashes"])
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
    """Build aside, verify, and rename into place."""
    aside = cache.aside("layer")
    try:
        aside.mkdir()
        built = aside / "layer"
        final = cache.layers / digest
        filling = Filler(plan, base, installer, sources, timeout)
        notes = filling.fill(built, final)
        layer = Layer(digest, built, plan.complete, plan.pins, notes=notes)
        size = verify(layer.site_packages, plan.pins)
        leak = None if plan.complete else find_leak(layer, plan, base, sources.target)
        if leak is not None:
            return _complete_instead(plan, base, cache, installer, digest, timeout, leak, aside, sources)
        if not plan.complete:
            (layer.site_packages / BASE_LINK).write_text(link_to(base))
        apart = clashes(dist_infos(layer.site_packages), loose_names(sources.target))
        notes = (*notes, *map(str, apart))
        wire = [clash_to_wire(one) for one in apart]
        _publish(
            built,
            final,
            {"complete": plan.complete, "pins": plan.pins, "bytes": size, "notes": notes, "clashes": wire},
        )
        return replace(layer, root=final, fetched=size, notes=notes, clashes=apart)
    except OSError as error:
        raise LayerError("install", f"{error.strerror or error}: {error.filename or aside}", advice=_ADVICE) from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)


_ADVICE = "See that the cache directory can be written and has space; pkgsync.cache-directory names another one."


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
    """Build a layer that stands alone where a delta would not do, and remember that for the next time."""
    note = f"the layer stands alone, because {leak}"
    layer = build(plan.completed(), base, cache, lambda: installer, timeout=timeout, sources=sources)
    notes = (*layer.notes, note)
    pointer = aside / "pointer"
    pointer.mkdir()
    facts = {"complete": True, "pins": plan.pins, "bytes": 0, "instead": layer.digest, "notes": notes}
    _publish(pointer, cache.layers / digest, facts)
    return replace(layer, notes=notes)


def _publish(built: Path, final: Path, facts: dict[str, Any]) -> None:
    """Mark as done, last of all, and rename into place."""
    with (built / MARKER).open("w") as marker:
        json.dump({"format": FORMAT, "created": time(), **facts}, marker)
        marker.flush()
        os.fsync(marker.fileno())
    if final.exists():  # without a readable marker: somebody meddled with it
        final.rename(built.parent / "broken")
    built.rename(final)
