"""The one directory on a node that is ours: layers, wheels, the installer's cache, locks and leases."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path
from time import time
from typing import TYPE_CHECKING

import locket
import psutil

from dask_pkgsync.core.errors import LayerError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MARKER = "pkgsync-layer.json"
"""Written last into a layer, before it is renamed into place."""


@dataclass(frozen=True)
class Cache:
    """Where things are below the root of the cache."""

    root: Path

    @property
    def layers(self) -> Path:
        """Finished layers, by digest; never changed."""
        return self.root / "layers"

    @property
    def building(self) -> Path:
        """What is being built, and what is being removed."""
        return self.root / "building"

    @property
    def locks(self) -> Path:
        """One file for each thing that only one process may make."""
        return self.root / "locks"

    @property
    def leases(self) -> Path:
        """One file for each process that uses a layer."""
        return self.root / "leases"

    @property
    def blobs(self) -> Path:
        """Wheels that came from a client, by digest."""
        return self.root / "blobs"

    @property
    def wheels(self) -> Path:
        """On a client: what was built or packed there, so that it is not done twice."""
        return self.root / "wheels"

    @property
    def tools(self) -> Path:
        """Installers that were fetched."""
        return self.root / "tools"

    @property
    def uv(self) -> Path:
        """The cache of uv: on the same file system as the layers, so that it can link files."""
        return self.root / "uv"

    @property
    def pip(self) -> Path:
        """The cache of pip."""
        return self.root / "pip"

    @contextlib.contextmanager
    def lock(self, name: str, timeout: float) -> Iterator[None]:
        """Hold a lock that all processes of this host (and of a shared file system) respect.

        Raises
        ------
        LayerError
            If somebody else holds it for longer than the timeout, in seconds.
        """
        path = self.locks / f"{name}.lock"
        lock = locket.lock_file(str(path), timeout=timeout)
        try:
            lock.acquire()
        except locket.LockError:
            raise LayerError(
                "wait",
                f"another process has been holding {path} for more than {timeout:g} s",
                advice="See what that process does, or raise install-timeout.",
            ) from None
        try:
            yield
        finally:
            lock.release()

    def lease(self, digest: str) -> None:
        """Say that this process uses a layer or blob, so that nobody removes it."""
        directory = self.leases / digest
        directory.mkdir(parents=True, exist_ok=True)
        process = psutil.Process()
        holder = {"host": platform.node(), "pid": process.pid, "created": process.create_time()}
        (directory / f"{platform.node()}-{process.pid}.json").write_text(json.dumps(holder))

    def end_leases(self, digests: Iterable[str]) -> None:
        """Say that this process uses them no more."""
        for digest in digests:
            (self.leases / digest / f"{platform.node()}-{os.getpid()}.json").unlink(missing_ok=True)

    def is_leased(self, digest: str, max_age: float) -> bool:
        """Whether a living process uses a layer or blob.

        Of a process on another host, which cannot be seen from here, the lease's age says, in seconds.
        """
        directory = self.leases / digest
        found = False
        for lease in directory.iterdir() if directory.is_dir() else ():
            if _holds(lease, max_age):
                found = True
            else:
                with contextlib.suppress(OSError):
                    lease.unlink()
        return found


def open_cache(configured: str | None = None) -> Cache:
    """Return the cache, whose directories exist and can be written.

    Parameters
    ----------
    configured : str, optional
        The operator's choice, ``pkgsync.cache-directory``. Without it the user's cache directory is taken, and where
        that cannot be written a private one among the temporary files.

    Raises
    ------
    LayerError
        If it cannot be written.
    """
    if configured:
        return _made(Path(configured).expanduser())
    base = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    try:
        return _made(Path(base) / "dask-pkgsync")
    except LayerError:
        return _made(_private())


def _private() -> Path:
    root = Path(tempfile.gettempdir()) / f"dask-pkgsync-{getattr(os, 'getuid', int)()}"
    with contextlib.suppress(OSError):
        root.mkdir(mode=0o700, exist_ok=True)
        if not hasattr(os, "getuid") or root.stat().st_uid == os.getuid():
            return root
    raise LayerError("cache", f"{root} belongs to somebody else", advice=_advice(root))


def _made(root: Path) -> Cache:
    cache = Cache(root.absolute())
    try:
        for directory in (cache.layers, cache.building, cache.locks, cache.leases, cache.tools, cache.blobs):
            directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=cache.building):
            pass
    except OSError as error:
        problem = f"the cache directory {root} cannot be written: {error.strerror or error}"
        raise LayerError("cache", problem, advice=_advice(root)) from None
    return cache


def _advice(root: Path) -> str:
    return (
        f"Make {root} writable (or free space there), or set pkgsync.cache-directory on that node, for example with "
        "the environment variable DASK_PKGSYNC__CACHE_DIRECTORY."
    )


def collect(cache: Cache, *, max_age: float, max_bytes: int) -> tuple[str, ...]:
    """Remove layers that nobody uses: those unused for too long, and the longest unused while all are too large.

    Parameters
    ----------
    cache : Cache
    max_age : float
        Seconds since the last use.
    max_bytes : int
        Size of all layers together.

    Returns
    -------
    tuple of str
        Digests of the removed layers.
    """
    _sweep(cache, max_age)
    unused = sorted((used, digest) for digest, used in _last_use(cache).items() if not cache.is_leased(digest, max_age))
    removed = [digest for used, digest in unused if used < time() - max_age and _remove(cache, digest, max_age)]
    total = sum(_size(cache.layers / digest) for digest in _last_use(cache))
    for _, digest in unused:
        if total <= max_bytes:
            break
        size = _size(cache.layers / digest) if digest not in removed else 0
        if size and _remove(cache, digest, max_age):
            removed.append(digest)
            total -= size
    return tuple(removed)


def _last_use(cache: Cache) -> dict[str, float]:
    found = {}
    for layer in cache.layers.iterdir():
        with contextlib.suppress(OSError):  # somebody else removed it
            found[layer.name] = (layer / MARKER).stat().st_mtime
    return found


def _holds(lease: Path, max_age: float) -> bool:
    try:
        holder = json.loads(lease.read_text())
        if holder["host"] != platform.node():
            return lease.stat().st_mtime > time() - max_age
        return bool(psutil.Process(holder["pid"]).create_time() == holder["created"])
    except (OSError, ValueError, KeyError, psutil.Error):  # unreadable, or the process is gone
        return False


def _remove(cache: Cache, digest: str, max_age: float) -> bool:
    try:
        with cache.lock(digest, 0.1):
            if cache.is_leased(digest, max_age):
                return False
            aside = cache.building / f"removed-{os.getpid()}-{uuid.uuid4().hex[:8]}"
            (cache.layers / digest).rename(aside)
            shutil.rmtree(cache.leases / digest, ignore_errors=True)
    except (OSError, LayerError):  # in the making, or removed by somebody else
        return False
    shutil.rmtree(aside, ignore_errors=True)
    return True


def _sweep(cache: Cache, max_age: float) -> None:
    """Remove what processes that died were building."""
    for directory in cache.building.iterdir():
        with contextlib.suppress(OSError, ValueError, IndexError):
            pid = int(directory.name.split("-")[1])
            abandoned = not psutil.pid_exists(pid) or directory.stat().st_mtime < time() - max(max_age, 3600)
            if abandoned:
                directory.unlink() if directory.is_file() else shutil.rmtree(directory, ignore_errors=True)


def _size(directory: Path) -> int:
    """Bytes of a layer, as its marker says: links to the installer's cache are counted as if they were copies."""
    try:
        return int(json.loads((directory / MARKER).read_text())["bytes"])
    except (OSError, ValueError, KeyError):
        return 0
