"""Finds the installer of a node: its own uv, else a uv that is fetched once per host, else pip."""

from __future__ import annotations

import contextlib
import os
import shutil
import zipfile
from importlib import util
from pathlib import Path
from typing import TYPE_CHECKING

from dask_pkgsync.installers.calls import call
from dask_pkgsync.installers.pip import Pip, index_options
from dask_pkgsync.installers.uv import Uv
from dask_pkgsync.model.errors import WheelError
from dask_pkgsync.model.indexes import OWN
from dask_pkgsync.model.reports.failure import LayerError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from dask_pkgsync.cache.directory import Cache
    from dask_pkgsync.installers import Installer
    from dask_pkgsync.model.indexes import Indexes


def find_installer(
    cache: Cache,
    python: Path,
    *,
    timeout: float,
    may_fetch: bool = True,
    wheel: Callable[[], Path | None] | None = None,
    indexes: Sequence[Indexes] = (OWN,),
    trust: Mapping[str, str] | None = None,
) -> Installer:
    """Return the best installer that this node has or can get: uv if possible, else pip.

    Parameters
    ----------
    cache : Cache
        Keeps a fetched uv.
    python : Path
        The node's interpreter.
    timeout : float
        Seconds that fetching uv may take.
    may_fetch : bool
        Whether uv may be fetched from an index. Without a reachable index, the attempt takes long.
    wheel : callable, optional
        Returns the path of a wheel of uv for this platform from elsewhere (the client), or None.
    indexes : sequence of Indexes
        Where uv may be fetched from; each is tried in turn.
    trust : mapping, optional
        Environment variables that say whom this machine trusts (`scanning.configured_trust`).

    Raises
    ------
    LayerError
        If this node has neither uv nor pip, nor the pip inside ensurepip.
    """
    program, trust = own_uv(python), trust or {}
    if program is None:
        command = find_pip(python)
        pip = Pip(command, python, cache.pip, trust) if command else None
        program = fetched_uv(cache, pip if may_fetch else None, wheel, timeout=timeout, indexes=indexes)
        if program is None and pip is None:
            raise LayerError(
                "install",
                f"{python} has neither uv nor pip, and there is no pip in ensurepip",
                advice="Install uv on that node, or put it on the PATH of the worker.",
            )
        if program is None and pip is not None:
            return pip
    assert program is not None  # noqa: S101  # without a program and pip, the lines above have raised
    return Uv(program, python, cache.uv, trust)


def own_uv(python: Path) -> Path | None:
    """Return the uv that the node has: beside its interpreter, importable, or on PATH."""
    beside = python.parent / ("uv.exe" if os.name == "nt" else "uv")
    if os.access(beside, os.X_OK):
        return beside
    if util.find_spec("uv") is not None:
        with contextlib.suppress(ImportError, FileNotFoundError):
            from uv import find_uv_bin

            if os.access(find_uv_bin(), os.X_OK):
                return Path(find_uv_bin())
    on_path = shutil.which("uv")
    return Path(on_path) if on_path else None


def find_pip(python: Path) -> tuple[str, ...] | None:
    """Return the command that starts pip, as a module or from the wheel inside ensurepip; None if there is no pip."""
    if util.find_spec("pip") is not None:
        return (str(python), "-m", "pip")
    spec = util.find_spec("ensurepip")
    if spec is None or spec.origin is None:
        return None
    wheels = sorted((Path(spec.origin).parent / "_bundled").glob("pip-*.whl"))
    return (str(python), str(wheels[-1] / "pip")) if wheels else None


def fetch_argv(pip: tuple[str, ...], directory: Path) -> list[str]:
    """Return the argument vector that fetches uv and nothing else."""
    options = ["--no-deps", "--only-binary", ":all:", "--quiet", "--disable-pip-version-check", "--no-input"]
    return [*pip, "install", *options, "--target", str(directory), "uv"]


def fetched_uv(
    cache: Cache,
    pip: Pip | None,
    wheel: Callable[[], Path | None] | None = None,
    *,
    timeout: float,
    indexes: Sequence[Indexes] = (OWN,),
) -> Path | None:
    """Return the uv in our cache, which the first process that needs it fetches; None if it cannot be fetched.

    The client's uv comes first: it is there at once, while pip takes seconds to start and to ask an index.
    """
    home = cache.tools / "uv"
    program = home / "bin" / "uv"
    if program.exists():
        return program
    with cache.lock("tool-uv", timeout):
        if program.exists():
            return program
        aside = cache.aside("tool")
        try:
            aside.mkdir()
            if not (wheel and _by_wheel(wheel, aside)) and not (
                pip and any(_by_pip(pip, aside, timeout, place) for place in indexes)
            ):
                return None
            (aside / "uv").rename(home)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    return program if program.exists() else None


def _by_pip(pip: Pip, aside: Path, timeout: float, indexes: Indexes) -> bool:
    argv = [*fetch_argv(pip.pip, aside / "uv"), *index_options(indexes)]
    try:
        call(argv, "install", ("uv",), timeout=timeout, temporary=aside, env=pip.environment(aside, indexes))
    except LayerError:  # no index, or no uv for this platform
        shutil.rmtree(aside / "uv", ignore_errors=True)
        return False
    return True


def _by_wheel(wheel: Callable[[], Path | None], aside: Path) -> bool:
    """Unpack the program from a wheel of uv, in which it is a script; return whether that worked."""
    try:
        path = wheel()
        if path is None:
            return False
        with zipfile.ZipFile(path) as bundle:
            (member,) = (name for name in bundle.namelist() if name.endswith(".data/scripts/uv"))
            program = aside / "uv" / "bin" / "uv"
            program.parent.mkdir(parents=True)
            program.write_bytes(bundle.read(member))
            program.chmod(0o755)
    except (LayerError, WheelError, ValueError, zipfile.BadZipFile):  # no usable wheel: pip fetches uv
        return False
    return True
