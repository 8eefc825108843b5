"""The one directory on a node that is ours: layers, wheels, the installer's cache, locks and leases."""

from __future__ import annotations

import contextlib
import functools
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
from packaging.tags import sys_tags

from dask_pkgsync.model.reports.failure import LayerError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MARKER = "pkgsync-layer.json"
"""Written last into a layer, before it is renamed into place."""


_leases: dict[Path, int] = {}
"""The leases of this process, with the open files whose locks say to other hosts that it lives."""


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
        """Installers that were fetched: programs of one platform."""
        return self.root / "tools" / _platform()

    @property
    def uv(self) -> Path:
        """The cache of uv: on the same file system as the layers, so that it can link files.

        For each platform its own: tags of wheels that are built from source do not name the libc.
        """
        return self.root / "uv" / _platform()

    @property
    def pip(self) -> Path:
        """The cache of pip."""
        return self.root / "pip" / _platform()

    def aside(self, kind: str) -> Path:
        """Return a path for something in the making; its name says which process of which host makes it."""
        return self.building / f"{kind}-{os.getpid()}-{this_host()}-{uuid.uuid4().hex[:8]}"

    @contextlib.contextmanager
    def lock(self, name: str, timeout: float) -> Iterator[None]:
        """Hold a lock that all processes of this host (and of a shared file system) respect.

        Raises
        ------
        LayerError
            If somebody else holds it for longer than the timeout, in seconds, or the file system has no locks.
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
        except OSError as error:
            problem = f"{path} cannot be locked: {error.strerror or error}"
            raise LayerError("cache", problem, advice=_advice(self.root)) from None
        try:
            yield
        finally:
            lock.release()

    def lease(self, digest: str) -> None:
        """Say that this process uses a layer or blob, so that nobody removes it."""
        directory = self.leases / digest
        directory.mkdir(parents=True, exist_ok=True)
        process = psutil.Process()
        holder = {"host": this_host(), "pid": process.pid, "created": process.create_time()}
        path = directory / f"{this_host()}-{process.pid}.json"
        aside = self.aside("lease")  # nobody may find it half written, and take it for nobody's
        aside.write_text(json.dumps(holder))
        aside.replace(path)
        _lock_lease(path)

    def end_leases(self, digests: Iterable[str]) -> None:
        """Say that this process uses them no more."""
        for digest in digests:
            path = self.leases / digest / f"{this_host()}-{os.getpid()}.json"
            path.unlink(missing_ok=True)
            _unlock_lease(path)

    def is_leased(self, digest: str, max_age: float) -> bool:
        """Whether a living process uses a layer or blob.

        A process on another host cannot be seen from here: as long as it lives it has its lease locked, and where locks
        do not reach from host to host, the lease's age says it, in seconds.
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


@functools.cache
def this_host() -> str:
    """Return a name for those that see the same processes: the host's, and on Linux that of the container's namespace.

    Containers may have their host's name (hostNetwork), but have numbers of processes of their own.
    """
    with contextlib.suppress(OSError):
        return f"{platform.node()}.{Path('/proc/self/ns/pid').stat().st_ino}"
    return platform.node()


@functools.cache
def _platform() -> str:
    """Return the platform of this interpreter as wheels name it, for example ``manylinux_2_36_x86_64``."""
    return next(sys_tags()).platform


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
        if holder["host"] != this_host():
            return lease.stat().st_mtime > time() - max_age or _is_locked(lease)
        return bool(psutil.Process(holder["pid"]).create_time() == holder["created"])
    except (OSError, ValueError, KeyError, psutil.Error):  # unreadable, or the process is gone
        return False


def _lock_lease(path: Path) -> None:
    """Hold a lock on a lease until this process ends, however that comes about."""
    _unlock_lease(path)
    with contextlib.suppress(ImportError, OSError):  # Windows; a file system without locks: the age has to do
        import fcntl

        _leases[path] = os.open(path, os.O_RDWR)
        fcntl.flock(_leases[path], fcntl.LOCK_SH | fcntl.LOCK_NB)


def _unlock_lease(path: Path) -> None:
    if (file := _leases.pop(path, None)) is not None:
        os.close(file)


def _is_locked(path: Path) -> bool:
    """Whether somebody holds a lock on a lease."""
    with contextlib.suppress(ImportError):
        import fcntl

        file = os.open(path, os.O_RDWR)  # NFS wants it open for writing
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(file)
    return False


def _remove(cache: Cache, digest: str, max_age: float) -> bool:
    try:
        with cache.lock(digest, 0.1):
            if cache.is_leased(digest, max_age):
                return False
            aside = cache.aside("removed")
            (cache.layers / digest).rename(aside)
            shutil.rmtree(cache.leases / digest, ignore_errors=True)
    except (OSError, LayerError):  # in the making, or removed by somebody else
        return False
    shutil.rmtree(aside, ignore_errors=True)
    return True


def _sweep(cache: Cache, max_age: float) -> None:
    """Remove what processes that died were building; those of other hosts cannot be seen: there the age says it."""
    for directory in cache.building.iterdir():
        with contextlib.suppress(OSError, ValueError):
            _, pid, rest = directory.name.split("-", 2)
            is_gone = rest.rpartition("-")[0] == this_host() and not psutil.pid_exists(int(pid))
            abandoned = is_gone or directory.stat().st_mtime < time() - max(max_age, 3600)
            if abandoned:
                directory.unlink() if directory.is_file() else shutil.rmtree(directory, ignore_errors=True)


def _size(directory: Path) -> int:
    """Bytes of a layer, as its marker says: links to the installer's cache are counted as if they were copies."""
    try:
        return int(json.loads((directory / MARKER).read_text())["bytes"])
    except (OSError, ValueError, KeyError):
        return 0
