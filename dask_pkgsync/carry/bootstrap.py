"""Makes dask-pkgsync importable in a process where it is not installed. This file travels as text, by itself.

A plugin pickles itself as a call to `load` in this source (see `carry.travel`). So this file may import nothing of
ours, and must run on every Python that Dask runs on. Text means the same to all versions of Python, unlike the code
objects that cloudpickle sends; so a client with another version of Python gets an error message, not a crash.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = "dask_pkgsync"


def load(archive: bytes, digest: str, factory: str, state: object, *, yields: bool = False) -> object:
    """Import the package, from the archive if this process lacks it, and call one of its functions.

    Parameters
    ----------
    archive : bytes
        A zip of the package's source.
    digest : str
        SHA-256 of the archive; a package with the same digest that is importable already is used instead.
    factory : str
        ``module:name`` of the function to call.
    state : object
        The argument of the function.
    yields : bool
        Whether a process that our preload guards keeps its own copy of the package and refuses this one.
    """
    import importlib

    if not _is_importable(digest):
        if yields:
            _refuse_where_guarded()
        _forget()
        _put_on_path(archive, digest)
    module, _, name = factory.partition(":")
    return getattr(importlib.import_module(module), name)(state)


def _is_importable(digest: str) -> bool:
    import importlib

    try:
        carry = importlib.import_module(PACKAGE + ".carry.travel")
        return bool(carry.source_digest() == digest)
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


def _forget() -> None:
    """Remove every module of the package from this process, and every archive of it from `sys.path`."""
    import importlib
    import sys

    for name in [name for name in sys.modules if name == PACKAGE or name.startswith(PACKAGE + ".")]:
        del sys.modules[name]
    sys.path[:] = [entry for entry in sys.path if not _is_archive(entry)]
    importlib.invalidate_caches()


def _is_archive(entry: object) -> bool:
    return isinstance(entry, str) and entry.endswith(".zip") and PACKAGE in entry.replace("\\", "/").split("/")[-1]


def _put_on_path(archive: bytes, digest: str) -> None:
    import hashlib
    import importlib
    import sys

    if hashlib.sha256(archive).hexdigest() != digest:
        message = "the copy of dask-pkgsync that came with this plugin is damaged; register the plugin again"
        raise ImportError(message)
    sys.path.insert(0, _store(archive, "%s-%s.zip" % (PACKAGE, digest[:32])))
    importlib.invalidate_caches()


def _store(archive: bytes, name: str) -> str:
    """Write the archive into the first of our directories that can be written, and return its path."""
    import os
    import tempfile

    problems = []
    for directory in _directories():
        path = os.path.join(directory, name)
        try:
            _refuse_planted(directory)
            for made in (os.path.dirname(directory), directory):
                os.makedirs(made, mode=0o700, exist_ok=True)
            _refuse_planted(directory)  # again, as another user may have been faster
            if _holds(path, archive):
                return path
            handle, aside = tempfile.mkstemp(dir=directory)
            with os.fdopen(handle, "wb") as file:
                file.write(archive)
            os.replace(aside, path)
        except OSError as error:  # read-only, full, or another user's: try the next one
            problems.append(str(error))
        else:
            return path
    message = "no directory for the copy of dask-pkgsync that came with this plugin can be used: " + "; ".join(problems)
    raise ImportError(message)


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


def _holds(path: str, archive: bytes) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read() == archive
    except OSError:
        return False
