"""The cache directory: layers, wheels, the installers' own caches, locks and leases."""

from __future__ import annotations

import contextlib
import os
import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import locket

from dask_pkgsync.cache import trees
from dask_pkgsync.cache.host import this_host
from dask_pkgsync.cache.leases import end_lease, is_held, take_lease
from dask_pkgsync.cache.machine import this_platform
from dask_pkgsync.cache.place import planted, runs_programs, shared
from dask_pkgsync.model.reports.failure import LayerError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


SLOTS = 16
"""The most processes of a host that build in a directory whose path returns; more of them each make a new one."""


@dataclass(frozen=True)
class Cache:
    """The cache below one root directory: where everything is, its locks and its leases."""

    root: Path

    @property
    def layers(self) -> Path:
        """Finished layers, one directory per digest; they are never changed."""
        return self.root / "layers"

    @property
    def building(self) -> Path:
        """Layers, tools and files while they are built or removed."""
        return self.root / "building"

    @property
    def locks(self) -> Path:
        """Lock files, one for each layer, wheel or tool that only one process may make at a time."""
        return self.root / "locks"

    @property
    def leases(self) -> Path:
        """Lease files: one directory per layer or blob, and in it one file for each process that uses it."""
        return self.root / "leases"

    @property
    def blobs(self) -> Path:
        """Wheels that came from a client, one directory per digest."""
        return self.root / "blobs"

    @property
    def wheels(self) -> Path:
        """On a client: wheels that were built or packed there, so that each is made once."""
        return self.root / "wheels"

    @property
    def tools(self) -> Path:
        """Installers that were fetched; programs for one platform."""
        return self.root / "tools" / this_platform()

    @property
    def uv(self) -> Path:
        """The cache of uv, on the file system of the layers so that uv can link files instead of copying them.

        Each platform has its own, as the tags of wheels that were built from source do not name the libc.
        """
        return self.root / "uv" / this_platform()

    @property
    def pip(self) -> Path:
        """The cache of pip."""
        return self.root / "pip" / this_platform()

    @property
    def conda(self) -> Path:
        """Unpacked conda packages, and their archives on the way there, shared by all prefixes of a host."""
        return self.root / "conda" / this_platform()

    @property
    def verified(self) -> Path:
        """Lists of files whose digests are known, one for each host (`cache.verified`)."""
        return self.root / "verified"

    def aside(self, kind: str) -> Path:
        """Return a new path for something that is being built; its name holds the process id and the host."""
        return self.building / f"{kind}-{os.getpid()}-{this_host()}-{uuid.uuid4().hex[:8]}"

    @contextlib.contextmanager
    def slot(self) -> Iterator[Path]:
        """Hold an empty directory for something that is being built, and remove it afterwards.

        It has one of few paths, which return, as uv asks an interpreter about itself at each path that is new to it.
        """
        name = this_host()
        with contextlib.ExitStack() as held:
            for number in range(SLOTS):
                with contextlib.suppress(LayerError):  # another process holds it
                    held.enter_context(self.lock(f"slot-{number}-{name}", 0))
                    directory = self.building / f"slot-{number}-{name}"
                    break
            else:
                directory = self.aside("slot")
            held.callback(trees.remove, directory)
            trees.remove(directory)  # its last user may have been killed
            directory.mkdir()
            yield directory

    @contextlib.contextmanager
    def lock(self, name: str, timeout: float) -> Iterator[None]:
        """Hold a lock against all processes that use this cache, also of other hosts on a shared file system.

        Raises
        ------
        LayerError
            If another process holds it for longer than ``timeout`` seconds, or the file system has no locks.
        """
        path = self.locks / f"{name}.lock"
        lock = locket.lock_file(str(path), timeout=timeout)
        try:
            lock.acquire()
        except locket.LockError:
            raise LayerError(
                "wait",
                f"another process has been holding {path} for more than {timeout:g} s",
                advice="Find out what that process does, or raise install-timeout.",
            ) from None
        except OSError as error:
            problem = f"{path} cannot be locked: {error.strerror or error}"
            raise LayerError("cache", problem, advice=_advice(self.root)) from None
        try:
            yield
        finally:
            lock.release()

    def lease(self, digest: str) -> None:
        """Record that this process uses a layer or blob, so that no process removes it."""
        take_lease(str(self.leases), str(self.building), digest)

    def end_leases(self, digests: Iterable[str]) -> None:
        """Record that this process no longer uses these layers or blobs."""
        for digest in digests:
            end_lease(self.leases / digest / f"{this_host()}-{os.getpid()}.json")

    def is_leased(self, digest: str, max_age: float) -> bool:
        """Whether a living process uses a layer or blob.

        A process on another host cannot be seen. While it lives it holds a lock on its lease. Where the file system has
        no locks between hosts, a lease younger than ``max_age`` seconds counts as that of a living process.
        """
        directory = self.leases / digest
        in_use = False
        for lease in directory.iterdir() if directory.is_dir() else ():
            if is_held(lease, max_age):
                in_use = True
            else:
                with contextlib.suppress(OSError):
                    lease.unlink()
        return in_use


def open_cache(configured: str | None = None, *, programs: bool = True) -> Cache:
    """Create the directories of the cache if they are missing, check that they can be used, and return the cache.

    Parameters
    ----------
    configured : str, optional
        The configured directory (``pkgsync.cache-directory``). By default it is ``dask-pkgsync`` in the user's cache
        directory, or, if that cannot be used, a private directory among the temporary files.
    programs : bool
        Whether programs and compiled modules in the directory have to run, as those of layers have.

    Raises
    ------
    LayerError
        If the directory cannot be written, or programs there cannot run, or another user may have filled it.
    """
    if configured:
        return _made(Path(configured).expanduser(), programs=programs, chosen=True)
    base = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    try:
        return _made(Path(base) / "dask-pkgsync", programs=programs, chosen=False)
    except LayerError as first:
        temporary = Path(tempfile.gettempdir()) / f"dask-pkgsync-{getattr(os, 'getuid', int)()}"
        try:
            return _made(temporary, programs=programs, chosen=False)
        except LayerError as second:
            raise LayerError("cache", f"{first.problem}; and {second.problem}", advice=second.advice) from None


def _made(root: Path, *, programs: bool, chosen: bool) -> Cache:
    """Return the cache in a directory, which an operator may have chosen; raise `LayerError` if it cannot be used."""
    cache = Cache(root.absolute())
    wanted = (cache.layers, cache.building, cache.locks, cache.leases, cache.tools, cache.blobs)
    try:
        _refuse(planted(root) or shared(root, chosen=chosen), root)
        root.mkdir(mode=0o755 if chosen else 0o700, parents=True, exist_ok=True)
        for directory in wanted:
            directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        _refuse(
            next(filter(None, map(planted, (*wanted, cache.wheels, cache.uv, cache.pip, cache.verified))), None), root
        )
        if not runs_programs(cache.building) and programs:
            _refuse(f"{root} is on a file system where programs cannot run (it is mounted noexec)", root)
    except OSError as error:
        problem = f"the cache directory {root} cannot be written: {error.strerror or error}"
        raise LayerError("cache", problem, advice=_advice(root)) from None
    return cache


def _refuse(why: str | None, root: Path) -> None:
    if why is not None:
        raise LayerError("cache", f"{why}; so {root} is not used as the cache directory", advice=_advice(root))


def _advice(root: Path) -> str:
    return (
        f"Make {root} writable for you alone (or free space there), or set pkgsync.cache-directory on that node to a "
        "directory of yours where programs may run, for example with the environment variable "
        "DASK_PKGSYNC__CACHE_DIRECTORY."
    )
