"""The one directory on a node that is ours: layers, wheels, the installer's cache, locks and leases."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import locket
import psutil

from dask_pkgsync.cache.host import this_host, this_platform
from dask_pkgsync.cache.leases import is_held, lock_lease, unlock_lease
from dask_pkgsync.model.reports.failure import LayerError

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
        """Installers that were fetched: programs of one platform."""
        return self.root / "tools" / this_platform()

    @property
    def uv(self) -> Path:
        """The cache of uv: on the same file system as the layers, so that it can link files.

        For each platform its own: tags of wheels that are built from source do not name the libc.
        """
        return self.root / "uv" / this_platform()

    @property
    def pip(self) -> Path:
        """The cache of pip."""
        return self.root / "pip" / this_platform()

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
        lock_lease(path)

    def end_leases(self, digests: Iterable[str]) -> None:
        """Say that this process uses them no more."""
        for digest in digests:
            path = self.leases / digest / f"{this_host()}-{os.getpid()}.json"
            path.unlink(missing_ok=True)
            unlock_lease(path)

    def is_leased(self, digest: str, max_age: float) -> bool:
        """Whether a living process uses a layer or blob.

        A process on another host cannot be seen from here: as long as it lives it has its lease locked, and where locks
        do not reach from host to host, the lease's age says it, in seconds.
        """
        directory = self.leases / digest
        found = False
        for lease in directory.iterdir() if directory.is_dir() else ():
            if is_held(lease, max_age):
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
