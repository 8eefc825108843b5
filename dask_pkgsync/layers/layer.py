"""A base, and the layer that is put in front of it: where they are, and what decides their names."""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dask_pkgsync.model.errors import MessageError
from dask_pkgsync.model.plan import pin
from dask_pkgsync.model.wire.fields import Field
from dask_pkgsync.scanning.records import dist_infos

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from dask_pkgsync.model.clash import Clash
    from dask_pkgsync.model.environments.environment import Environment
    from dask_pkgsync.model.plan import Plan


FORMAT = 3
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


def layer_to_wire(layer: Layer) -> dict[str, Any]:
    """Return a layer as plain data."""
    return {"digest": layer.digest, "root": str(layer.root), "complete": layer.complete, "pins": list(layer.pins)}


def layer_from_wire(data: object) -> Layer:
    """Check and read what `layer_to_wire` wrote."""
    field = Field(data, "layer")
    root, digest = field.key("root"), field.key("digest").text(64)
    path = Path(root.text())
    if not path.is_absolute() or path.name != digest:
        raise MessageError(root.place, "the absolute path of a layer", root.value)
    pins = tuple(entry.text() for entry in field.key("pins").items())
    return Layer(digest, path, field.key("complete").flag(), pins)


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


def link_to(base: Base) -> str:
    """Return the text of the .pth file that adds the base's directories, with their own .pth files."""
    calls = "; ".join(f"site.addsitedir({str(path)!r})" for path in base.site_packages)
    return f"import site; {calls}\n"
