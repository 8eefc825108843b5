"""Finds py-rattler, which does all that conda does: that of the node's own environment, else one copy for each host."""

from __future__ import annotations

import contextlib
import shutil
import zipfile
from importlib import util
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.version import InvalidVersion, Version

from dask_pkgsync.layers.environment import make_environment
from dask_pkgsync.layers.layout import SITE_PACKAGES
from dask_pkgsync.model.errors import WheelError
from dask_pkgsync.model.indexes import OWN
from dask_pkgsync.model.reports.failure import LayerError
from dask_pkgsync.scanning.installed import this_interpreter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dask_pkgsync.cache.directory import Cache
    from dask_pkgsync.installers import Installer
    from dask_pkgsync.model.indexes import Indexes

OLDEST = Version("0.28")
"""The oldest py-rattler that `conda.program` works with."""
REQUIREMENT = f"py-rattler=={OLDEST.major}.{OLDEST.minor}.*"
"""What is fetched from an index: its interface still changes from one release to the next."""
_MODULE, _LIBRARY = "rattler", "rattler/rattler.abi3.so"


def find_rattler(
    cache: Cache,
    installer: Callable[[], Installer],
    *,
    python: Path,
    timeout: float,
    may_fetch: bool = True,
    wheel: Callable[[], Path | None] | None = None,
    indexes: Sequence[Indexes] = (OWN,),
) -> Path:
    """Return the directory that holds py-rattler, which the first process of a host that needs it fetches. Blocks.

    The client's comes first: it is there at once, while an index may be slow, or not reachable.

    Parameters
    ----------
    cache : Cache
        Keeps a fetched one.
    installer : callable
        Returns the node's installer.
    python : Path
        The node's interpreter.
    timeout : float
        Seconds that fetching it may take.
    may_fetch : bool
        Whether it may be fetched from an index.
    wheel : callable, optional
        Returns the path of a wheel of py-rattler for this platform from elsewhere (the client), or None.
    indexes : sequence of Indexes
        Where it may be fetched from; each is tried in turn.

    Raises
    ------
    LayerError
        If this node neither has it nor can get it.
    """
    if (own := own_rattler()) is not None:
        return own
    home = cache.tools / _MODULE
    if not home.exists():
        with cache.lock("tool-rattler", timeout):
            if not home.exists():
                _fetch(cache, home, installer, python, timeout, wheel, indexes if may_fetch else ())
    return home


def own_rattler() -> Path | None:
    """Return the directory of the node's own environment that holds py-rattler; None if it has none, or an old one."""
    spec = util.find_spec(_MODULE)
    if spec is None or spec.origin is None:
        return None
    directory = Path(spec.origin).parents[1]
    for info in directory.glob("py_rattler-*.dist-info"):
        with contextlib.suppress(InvalidVersion):
            if Version(info.name.removesuffix(".dist-info").partition("-")[2]) >= OLDEST:
                return directory
    return None


def _fetch(
    cache: Cache,
    home: Path,
    installer: Callable[[], Installer],
    python: Path,
    timeout: float,
    wheel: Callable[[], Path | None] | None,
    indexes: Sequence[Indexes],
) -> None:
    """Get py-rattler from the client or from an index, and rename it into place."""
    aside = cache.aside("tool")
    reasons: list[str] = []
    try:
        aside.mkdir()
        if wheel is not None and (unpacked := _by_wheel(wheel, aside, reasons)) is not None:
            unpacked.rename(home)
            return
        for number, place in enumerate(indexes):
            environment = aside / f"{number}"
            if (made := _by_installer(installer, python, environment, timeout, place, reasons)) is not None:
                made.rename(home)
                return
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    raise LayerError(
        "install",
        f"this node has no py-rattler, which builds conda environments, and cannot get it: {'; '.join(reasons)}",
        advice="Install py-rattler in the client's environment or on that node (`pip install py-rattler`), or make an "
        "index reachable from the node that has it.",
        packages=(REQUIREMENT,),
    )


def _by_wheel(wheel: Callable[[], Path | None], aside: Path, reasons: list[str]) -> Path | None:
    """Unpack a wheel of py-rattler; note the reason if that does not work."""
    directory = aside / "wheel"
    try:
        path = wheel()
        if path is None:
            reasons.append("the client has none for this platform")
            return None
        with zipfile.ZipFile(path) as bundle:
            members = [name for name in bundle.namelist() if name.startswith(f"{_MODULE}/")]
            bundle.extractall(directory, members)
    except (LayerError, WheelError, zipfile.BadZipFile) as error:
        reasons.append(f"the client's cannot be used: {getattr(error, 'problem', error)}")
        return None
    if not (directory / _LIBRARY).exists():
        reasons.append("the client's is not the expected one")
        return None
    return directory


def _by_installer(
    installer: Callable[[], Installer],
    python: Path,
    environment: Path,
    timeout: float,
    indexes: Indexes,
    reasons: list[str],
) -> Path | None:
    """Install py-rattler into an empty environment, and return its directory; note the reason if that does not work."""
    try:
        environment.mkdir()
        make_environment(environment / "made", python, this_interpreter())
        installer().install(
            environment / "made", [REQUIREMENT], final=environment / "made", timeout=timeout, indexes=indexes
        )
    except LayerError as error:
        reasons.append(error.problem)
        return None
    return environment / "made" / SITE_PACKAGES
