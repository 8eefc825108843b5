"""Makes dask-pkgsync importable in a process where it is not installed. This file travels as text, by itself.

A plugin arrives with this text, and its stand-in calls `load` in a thread (see `carry.stand_in`). So this file may
import nothing of ours, and must run on every Python that Dask runs on. Text means the same to all versions of Python,
unlike the code objects that cloudpickle sends; so a client with another version of Python gets an error message, not a
crash.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pathlib
    import zipfile
    from collections.abc import Iterator
    from typing import Any

PACKAGE = "dask_pkgsync"


def load(compressed: bytes, digest: str, factory: str, state: object, *, yields: bool = False) -> object:
    """Import the package, from what has travelled if this process lacks it, and call one of its functions.

    Parameters
    ----------
    compressed : bytes
        A zip of the package's source, compressed with `zlib.compress`; empty where this host has it (`is_here`).
    digest : str
        SHA-256 of the zip; a package with the same digest that is importable already is used instead.
    factory : str
        ``module:name`` of the function to call.
    state : object
        The argument of the function.
    yields : bool
        Whether a process that our preload guards keeps its own copy of the package and refuses this one.
    """
    import importlib
    import zlib

    module, _, name = factory.partition(":")
    with _one_at_a_time():
        if not _is_importable(digest):
            if yields:
                _refuse_where_guarded()
            if compressed:
                archive = _decompressed(compressed, digest)
                directory = unpack(archive, digest)
            else:
                directory, archive = _unpacked(digest)
                compressed = zlib.compress(archive)
            _replace_by(directory)
            importlib.import_module(PACKAGE + ".carry.archive").receive(archive, compressed)
        function = getattr(importlib.import_module(module), name)
    return function(state)


def is_here(digest: str) -> bool:
    """Whether this process can import the package of this digest without anything that has to travel."""
    return _is_importable(digest) or bool(_unpacked(digest)[0])


def _name(digest: str) -> str:
    return "%s-%s" % (PACKAGE, digest[:32])


def _unpacked(digest: str) -> tuple[str, bytes]:
    """Return the directory in which another process of this host has unpacked the package, and the archive of it.

    Both are empty if there is none.
    """
    import hashlib
    import os
    import pathlib

    for directory in _directories():
        path = os.path.join(directory, _name(digest))
        try:
            _refuse_planted(directory)
            archive = zipped(pathlib.Path(path, PACKAGE)) if os.path.isdir(path) else b""
            if hashlib.sha256(archive).hexdigest() == digest:
                return path, archive
        except OSError:  # not readable, or another user's: look into the next one
            continue
    return "", b""


def zipped(package: pathlib.Path, left_out: tuple[str, ...] = ()) -> bytes:
    """Return a zip of a package's source, whose bytes depend on the source alone.

    So its files are stored without compression, in the order of their names, and with one fixed date. The copy that a
    process has unpacked from an archive gives the same archive again.

    Parameters
    ----------
    package : Path
    left_out : tuple of str
        Beginnings of the paths of files that are left out, relative to the package.
    """
    import io
    import zipfile

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as bundle:
        for path in sorted(package.rglob("*")):
            name = path.relative_to(package).as_posix()
            if path.suffix in (".py", ".yaml", ".html", ".css", ".js") and not name.startswith(left_out):
                entry = zipfile.ZipInfo("%s/%s" % (package.name, name), date_time=(1980, 1, 1, 0, 0, 0))
                bundle.writestr(entry, path.read_bytes())
    return buffer.getvalue()


def _one_at_a_time() -> Any:
    """Return a lock of this process: plugins can arrive at the same time, for several nannies or from several clients.

    It lies in a module of its own, as our own modules may be replaced.
    """
    import sys
    import threading
    import types

    holder = types.ModuleType("_dask_pkgsync_loading", "Holds the lock of dask-pkgsync's bootstrap.")
    holder.lock = threading.Lock()  # type: ignore[attr-defined]
    return sys.modules.setdefault(holder.__name__, holder).lock


def _is_importable(digest: str) -> bool:
    import importlib

    try:
        travel = importlib.import_module(PACKAGE + ".carry.travel")
        return bool(travel.source_digest() == digest)
    except (ImportError, AttributeError):  # not installed, or an old release without that function
        return False


def _refuse_where_guarded() -> None:
    """Raise if our preload runs in this process: replacing its modules would break the guard."""
    import sys

    if PACKAGE + ".preload" in sys.modules:
        release = getattr(sys.modules.get(PACKAGE), "__version__", "")
        message = (
            "this scheduler is guarded by its own dask-pkgsync %s, which the client's release cannot talk to: "
            "install the same release on both sides" % release
        )
        raise ImportError(message)


def _replace_by(directory: str) -> None:
    """Import the package from a directory from now on, in place of every other copy.

    Nothing that blocks happens meanwhile, as the event loop may import modules of ours at any time.
    """
    import importlib
    import sys

    for name in [name for name in sys.modules if name == PACKAGE or name.startswith(PACKAGE + ".")]:
        del sys.modules[name]
    sys.path[:] = [directory, *(entry for entry in sys.path if not _is_carried(entry))]
    importlib.invalidate_caches()


def _is_carried(entry: object) -> bool:
    """Whether an entry of `sys.path` is a copy that travelled: a directory, or an archive of an older release."""
    import re

    return isinstance(entry, str) and re.search(r"\b%s-[0-9a-f]{32}(\.zip)?$" % PACKAGE, entry) is not None


def _decompressed(compressed: bytes, digest: str) -> bytes:
    import hashlib
    import zlib

    try:
        archive = zlib.decompress(compressed)
    except zlib.error:
        archive = b""
    if hashlib.sha256(archive).hexdigest() != digest:
        message = "the copy of dask-pkgsync that came with this plugin is damaged; register the plugin again"
        raise ImportError(message)
    return archive


def unpack(archive: bytes, digest: str) -> str:
    """Unpack the archive, once for a host, below the first of our directories that can be written; return its path.

    It is unpacked, and not imported from the zip, so that Python keeps the bytecode of its modules beside them.
    """
    import io
    import os
    import zipfile

    name, problems = _name(digest), []
    with zipfile.ZipFile(io.BytesIO(archive)) as bundle:
        for directory in _directories():
            path = os.path.join(directory, name)
            try:
                _refuse_planted(directory)
                for made in (os.path.dirname(directory), directory):
                    os.makedirs(made, mode=0o700, exist_ok=True)
                _refuse_planted(directory)  # again, as another user may have been faster
                if not _holds(path, bundle):
                    _publish(path, bundle)
            except OSError as error:  # read-only, full, or another user's: try the next one
                problems.append(str(error))
            else:
                return path
    message = "no directory for the copy of dask-pkgsync that came with this plugin can be used: " + "; ".join(problems)
    raise ImportError(message)


def _publish(path: str, bundle: zipfile.ZipFile) -> None:
    """Unpack aside, and rename into place; what is there, and is not complete, is set aside first."""
    import os
    import shutil
    import tempfile

    aside = tempfile.mkdtemp(dir=os.path.dirname(path))
    try:
        unpacked = os.path.join(aside, "new")
        bundle.extractall(unpacked)
        if os.path.isdir(path) and not _holds(path, bundle):
            os.rename(path, os.path.join(aside, "old"))
        try:
            os.rename(unpacked, path)
        except OSError:  # another process was faster
            if not _holds(path, bundle):
                raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _directories() -> Iterator[str]:
    import os
    import tempfile

    import dask

    configured = dask.config.get("pkgsync.cache-directory", None)
    if configured:
        yield os.path.join(os.path.expanduser(configured), "carried")
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    yield os.path.join(cache, "dask-pkgsync", "carried")
    yield os.path.join(tempfile.gettempdir(), "dask-pkgsync-%d" % getattr(os, "getuid", int)(), "carried")


def _refuse_planted(directory: str) -> None:
    """Raise `OSError` if another user may have made a directory or one above it, or may put code into it.

    In a directory that others may write to, what we use must belong to us or to root (`cache.place` says more).
    """
    import os

    if not hasattr(os, "getuid"):
        return
    us = (0, os.getuid())
    for start in (os.path.abspath(directory), os.path.realpath(directory)):
        part, above = start, os.path.dirname(start)
        while part != above:
            if os.path.lexists(part) and os.stat(above).st_mode & 0o022 and os.lstat(part).st_uid not in us:
                raise PermissionError("%s belongs to another user" % part)
            part, above = above, os.path.dirname(above)
    if os.path.isdir(directory) and (os.stat(directory).st_uid not in us or os.stat(directory).st_mode & 0o002):
        raise PermissionError("other users may write to %s" % directory)


def _holds(path: str, bundle: zipfile.ZipFile) -> bool:
    """Whether a directory has all files of the archive, by their sizes."""
    import os

    try:
        files = bundle.infolist()
        return all(os.stat(os.path.join(path, file.filename)).st_size == file.file_size for file in files)
    except OSError:
        return False
