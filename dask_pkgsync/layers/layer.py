"""A base, and the layer in front of it: their directories, and the digest that names a layer."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from dask_pkgsync.cache.marker import MARKER
from dask_pkgsync.layers.layout import LIBRARY, VirtualEnvironment, library_of
from dask_pkgsync.model.errors import MessageError
from dask_pkgsync.model.plan import pin
from dask_pkgsync.model.wire.fields import Field
from dask_pkgsync.scanning.records import dist_infos

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from dask_pkgsync.model.clash import Clash
    from dask_pkgsync.model.environments.environment import Environment
    from dask_pkgsync.model.plan import Plan


FORMAT = 6
"""A number that changes whenever a new release would build another layer from the same pins."""
BASE_LINK = "zzz_dask_pkgsync_base.pth"
"""The .pth file of a delta that adds the base behind the layer; its name makes Python read it last."""

_LIBRARY = re.compile(r"[a-z]+[0-9.]+t?")

OTHER_BUILDS = "other-builds"
"""The key in a layer's marker of the names of those distributions that it has in another build than the client, because
the client's build cannot run on this platform."""


@dataclass(frozen=True)
class Base:
    """What a node had before any layer."""

    python: Path
    """Path of its interpreter."""
    site_packages: tuple[Path, ...]
    """The directories of its search path that hold distributions."""
    environment: Environment
    whole: str = ""
    """Directory of the prefix that takes the place of the node's own environment; empty if it is that."""
    variables: Mapping[str, str] = field(default_factory=dict, compare=False)
    """Environment variables that its interpreter needs to start."""

    @property
    def python_directory(self) -> str:
        """The directory in ``lib`` that holds the site-packages of environments of its interpreter."""
        return library_of(self.environment.interpreter)

    @property
    def prefix(self) -> Path:
        """What `sys.prefix` is in its interpreter."""
        environment = self.python.parent.parent
        return environment if (environment / "pyvenv.cfg").exists() else self.python.resolve().parent.parent


@dataclass(frozen=True)
class Layer(VirtualEnvironment):
    """A finished layer."""

    digest: str
    """Its name: see `layer_digest`."""
    root: Path
    """Its directory."""
    complete: bool
    """Whether it stands alone, so that nothing of the base is importable."""
    pins: tuple[str, ...]
    """The distributions in it, each as ``name==version``."""
    fetched: int = 0
    """Bytes of its files if it was built by this call; 0 if it existed already."""
    reused: bool = False
    """Whether it existed already."""
    notes: tuple[str, ...] = ()
    """What the person should know, a sentence each."""
    clashes: tuple[Clash, ...] = ()
    """Files of which it holds one distribution's version and not another's."""
    built: str = ""
    """A name for this publication of it: a layer that was changed is built anew under the same digest."""
    altered: tuple[str, ...] = ()
    """Files that had been replaced or added when earlier ones of this digest were set aside, relative to ``root``."""
    whole: str = ""
    """Directory of the prefix whose interpreter it runs on, that of the layer itself if it is one; empty if it runs on
    one that was there before."""
    python_directory: str = LIBRARY
    """The directory in ``lib`` that holds its site-packages, for example ``python3.12``."""

    @property
    def roots(self) -> tuple[str, ...]:
        """The directories from which its modules are loaded: its own, and that of its prefix."""
        return (str(self.root), self.whole) if self.whole else (str(self.root),)


def layer_to_wire(layer: Layer) -> dict[str, Any]:
    """Return a layer as plain data."""
    return {
        "digest": layer.digest,
        "root": str(layer.root),
        "complete": layer.complete,
        "pins": list(layer.pins),
        "built": layer.built,
        "altered": list(layer.altered),
        "library": layer.python_directory,
        **({"whole": layer.whole} if layer.whole else {}),
    }


def layer_from_wire(data: object) -> Layer:
    """Check and read what `layer_to_wire` wrote."""
    field = Field(data, "layer")
    root, digest = field.key("root"), field.key("digest").text(64)
    path = Path(root.text())
    if not path.is_absolute() or path.name != digest:
        raise MessageError(root.place, "the absolute path of a layer", root.value)
    pins = tuple(entry.text() for entry in field.key("pins").items())
    altered = tuple(entry.long_text() for entry in field.optional("altered", []).items())
    built = field.optional("built", "").text(64)
    whole = field.optional("whole", "")
    if whole.text() and not Path(whole.text()).is_absolute():
        raise MessageError(whole.place, "the absolute path of a prefix", whole.value)
    library = field.optional("library", LIBRARY)
    if not _LIBRARY.fullmatch(library.text(50)):
        raise MessageError(library.place, "the directory of a library, such as python3.12", library.value)
    return Layer(
        digest,
        path,
        field.key("complete").flag(),
        pins,
        built=built,
        altered=altered,
        whole=whole.text(),
        python_directory=library.text(),
    )


def base_at(python: Path, path: Sequence[str], environment: Environment) -> Base:
    """Return the base with this interpreter, search path, and environment (the scan of that path)."""
    return Base(python, tuple(Path(entry) for entry in path if entry and dist_infos(entry)), environment)


def layer_digest(plan: Plan, base: Base) -> str:
    """Return the name of a layer: the SHA-256 of everything that decides its contents."""
    interpreter = base.environment.interpreter
    hashes = sorted((pin(step), step.hashes) for step in plan.held if step.hashes)
    parts = [
        FORMAT,
        str(base.python),
        [interpreter.implementation, interpreter.version, interpreter.tag],
        [] if plan.complete else [base.environment.fingerprint, [str(path) for path in base.site_packages]],
        plan.complete,
        sorted((pin(step), step.identity, step.content) for step in plan.held),
        *([hashes] if hashes else []),
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def other_builds_in(root: Path) -> tuple[str, ...]:
    """Return the names under `OTHER_BUILDS` in the marker of the layer in a directory; none without a layer."""
    try:
        facts = json.loads((root / MARKER).read_text())
    except (OSError, ValueError):
        return ()
    return tuple(facts.get(OTHER_BUILDS, ()))


def link_to(base: Base) -> str:
    """Return the text of the .pth file that adds the base's directories, with their own .pth files."""
    calls = "; ".join(f"site.addsitedir({str(path)!r})" for path in base.site_packages)
    return f"import site; {calls}\n"
