"""Layers: content-addressed virtual environments that are put in front of a base, or stand alone.

Built aside, verified, published by one rename, never changed after (promise 3).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from time import time
from typing import TYPE_CHECKING, Any

from dask_pkgsync.cache.directory import MARKER
from dask_pkgsync.layers.fill import FROM_INDEX, Filling
from dask_pkgsync.model.clash import Clash, clash_from_wire, clash_to_wire
from dask_pkgsync.model.environments.origin import FromDirectory, FromModules
from dask_pkgsync.model.errors import MessageError
from dask_pkgsync.model.plan import Keep, Replace, pin
from dask_pkgsync.model.reports.failure import LayerError
from dask_pkgsync.model.wire.fields import Field
from dask_pkgsync.scanning.records import clashes, dist_infos, entries, top_level, verify

if TYPE_CHECKING:
    from dask_pkgsync.model.environments.environment import Environment
    from collections.abc import Callable, Container, Mapping, Sequence

    from dask_pkgsync.cache.directory import Cache
    from dask_pkgsync.installers import Installer
    from dask_pkgsync.layers.fill import Sources
    from dask_pkgsync.model.environments.distribution import Distribution
    from dask_pkgsync.model.plan import Plan

FORMAT = 2
"""Changes whenever the same pins would give another layer."""

BASE_LINK = "zzz_dask_pkgsync_base.pth"
"""The last .pth file of a delta: adds the base behind the layer."""


@dataclass(frozen=True)
class Base:
    """What a node had before us."""

    python: Path
    """Its interpreter."""
    site_packages: tuple[Path, ...]
    """The directories of its search path that hold distributions."""
    environment: Environment


@dataclass(frozen=True)
class Layer:
    """A finished layer."""

    digest: str
    root: Path
    complete: bool
    """Whether it stands alone."""
    pins: tuple[str, ...]
    fetched: int = 0
    """Bytes that went into it now; 0 where it was there already."""
    reused: bool = False
    notes: tuple[str, ...] = ()
    clashes: tuple[Clash, ...] = ()
    """What it cannot hold both of."""

    @property
    def bin(self) -> Path:
        """Directory of its scripts."""
        return self.root / "bin"

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.bin / "python"

    @property
    def site_packages(self) -> Path:
        """Where its distributions are."""
        return self.root / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"


def layer_to_wire(layer: Layer) -> list[Any]:
    """Return a layer as plain data."""
    return [layer.digest, str(layer.root), layer.complete, list(layer.pins)]


def layer_from_wire(data: object) -> Layer:
    """Check and read what `layer_to_wire` wrote."""
    digest, root, complete, pins = Field(data, "layer").row(4)
    path = Path(root.text())
    if not path.is_absolute() or path.name != digest.text(64):
        raise MessageError(root.place, "the absolute path of a layer", root.value)
    return Layer(digest.text(64), path, complete.flag(), tuple(entry.text() for entry in pins.items()))


def base_at(python: Path, path: Sequence[str], environment: Environment) -> Base:
    """Return a base from its interpreter, its search path, and what a scan of that found."""
    return Base(python, tuple(Path(entry) for entry in path if entry and dist_infos(entry)), environment)


def layer_digest(plan: Plan, base: Base) -> str:
    """Return the name of a layer: SHA-256 of all that decides what it holds."""
    interpreter = base.environment.interpreter
    parts = [
        FORMAT,
        str(base.python),
        [interpreter.implementation, interpreter.version, interpreter.tag],
        [] if plan.complete else [base.environment.fingerprint, [str(path) for path in base.site_packages]],
        plan.complete,
        sorted((pin(step), step.identity) for step in plan.held),
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


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
        filling = Filling(plan, base, installer, sources, timeout)
        notes = filling.fill(built, final)
        layer = Layer(digest, built, plan.complete, plan.pins, notes=notes)
        size = verify(layer.site_packages, plan.pins)
        leak = None if plan.complete else find_leak(layer, plan, base, sources.target)
        if leak is not None:
            return _complete_instead(plan, base, cache, installer, digest, timeout, leak, aside, sources)
        if not plan.complete:
            (layer.site_packages / BASE_LINK).write_text(link_to(base))
        apart = clashes(dist_infos(layer.site_packages), _loose(sources.target))
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


def link_to(base: Base) -> str:
    """Return the text of the .pth file that adds the base's directories, with their own .pth files."""
    calls = "; ".join(f"site.addsitedir({str(path)!r})" for path in base.site_packages)
    return f"import site; {calls}\n"


def find_leak(layer: Layer, plan: Plan, base: Base, target: Mapping[str, Distribution]) -> str | None:
    """Return why this delta would not behave like the target, or None.

    A directory without ``__init__`` (PEP 420) in the layer hides behind a regular package of the same name in the
    base; a regular package in the layer hides what another distribution adds to it in the base; and an editable in
    the base may put itself before everything (a finder in `sys.meta_path`). A loose module that hides what only the
    base has is as it should be: on the client it is what is imported under its name.
    """
    for step in plan.changes:
        if isinstance(step, Replace):
            origin = base.environment.distributions[step.name].origin
            if isinstance(origin, FromDirectory) and origin.editable:
                return f"{step.name} is installed in the base in editable mode"
    kept = {step.name for step in plan.steps if isinstance(step, Keep)}
    wanted, modules, in_layer = kept & target.keys(), _loose(target), dist_infos(layer.site_packages)
    ours = _top_levels(layer.site_packages, in_layer)
    loose = {name for name, regular in _top_levels(layer.site_packages, modules).items() if regular}
    for site_packages in base.site_packages:
        theirs = _top_levels(site_packages, wanted)
        only_there = _top_levels(site_packages, kept - wanted)
        for name, regular in (*theirs.items(), *((name, one) for name, one in only_there.items() if name not in loose)):
            if name in ours and (ours[name] or regular):
                return f"the package {name} is partly in the layer and partly in the base"
        in_base = {name: path for name, path in dist_infos(site_packages).items() if name in wanted}
        for clash in clashes({**in_base, **in_layer}, modules):
            if (clash.one in in_layer) != (clash.other in in_layer):
                return f"{clash.path} is both in the layer and in the base"
    return None


def _loose(target: Mapping[str, Distribution]) -> frozenset[str]:
    return frozenset(name for name, one in target.items() if isinstance(one.origin, FromModules))


def _top_levels(site_packages: Path, only: Container[str]) -> dict[str, bool]:
    """Return the top-level packages and modules that distributions provide, and whether each is a regular one."""
    found: dict[str, bool] = {}
    for name, dist_info in dist_infos(site_packages).items():
        if name in only:
            for entry in entries(dist_info):
                if (top := top_level(entry.path)) is not None:
                    is_regular = "/" not in entry.path or entry.path == f"{top}/__init__.py"
                    found[top] = found.get(top, False) or is_regular
    return found
