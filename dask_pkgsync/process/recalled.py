"""Remembers, for each environment that a command was started in, where it is: so that the next start costs nothing.

An entry holds only what a start has found out. It is not used if the lock file, the configuration, the interpreter, or
any file of the layers has changed meanwhile. This module is imported where a command must start in milliseconds, so it
imports next to nothing.
"""

from __future__ import annotations

import marshal
import os
import sys

from dask_pkgsync.cache.host import this_host
from dask_pkgsync.cache.leases import take_lease
from dask_pkgsync.cache.marker import MARKER
from dask_pkgsync.layers.unchanged import is_unchanged
from dask_pkgsync.version import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from dask_pkgsync.process.node_settings import NodeSettings
    from dask_pkgsync.process.whole import Whole

_FORMAT = 1
_DIRECTORY = "DASK_PKGSYNC__CACHE_DIRECTORY"
_SUFFIXES = (".yaml", ".yml", ".json")
_OTHERS = 0o022


def recall(what: str, python: str, *, dask: bool = False) -> tuple[tuple[str, ...], dict[str, str]] | None:
    """Return where the environment is that a lock file says, and take a lease on it; None if that is not known.

    Parameters
    ----------
    what : str
        Path of the lock file.
    python : str
        The version of Python that was asked for; empty if none was.
    dask : bool
        Whether it must have Dask.

    Returns
    -------
    tuple
        The directories of its programs, and what else of the variables a process in it has otherwise (`Whole`).
    """
    try:
        entry = _read(what, python)
        if entry is None or (dask and not entry["dask"]) or not _is_current(entry):
            return None
        leases, building = entry["directories"]
        for root, _ in entry["layers"]:
            take_lease(leases, building, os.path.basename(root))
            os.utime(f"{root}/{MARKER}")
        # looked at when the lease is there, so that nobody removes it any more
        is_there = all(is_unchanged(root, built) for root, built in entry["layers"])
        return (tuple(entry["path"]), dict(entry["variables"])) if is_there else None
    except (OSError, KeyError, TypeError, ValueError, EOFError):
        return None


def _is_current(entry: dict[str, Any]) -> bool:
    """Whether the files that say what is in an environment, and its interpreter, are as they were."""
    if any(_content(path) != content for path, content in entry["files"]):
        return False
    is_same: bool = entry["interpreter"] == _state(entry["interpreter"][0])
    return is_same


def remember(
    what: str, python: str, files: Iterable[str], whole: Whole, settings: NodeSettings, *, has_dask: bool
) -> None:
    """Remember where the environment is that a lock file says. Blocks; an unwritable disk is passed over.

    Parameters
    ----------
    what, python : str
        As for `recall`.
    files : iterable of str
        Paths of all files that say what is in it.
    whole : Whole
    settings : NodeSettings
        The settings that it was made with.
    has_dask : bool
        Whether all of Dask is in it.
    """
    from dask_pkgsync.cache.directory import open_cache

    cache = open_cache(settings.cache_directory)
    try:
        entry = {
            "key": _key(what, python),
            "dask": has_dask,
            "files": [(os.path.abspath(path), _content(path)) for path in files],
            "interpreter": _state(os.path.realpath(whole.python)),
            "layers": [(str(layer.root), layer.built) for layer in whole.layers],
            "directories": (str(cache.leases), str(cache.building)),
            "path": whole.path,
            "variables": dict(whole.variables),
        }
        place = _place(what, python)
        os.makedirs(os.path.dirname(place), mode=0o700, exist_ok=True)
        aside = f"{place}.{os.getpid()}"
        with open(aside, "wb") as file:
            marshal.dump(entry, file)
        os.replace(aside, place)
    except OSError:
        pass


def _read(what: str, python: str) -> dict[str, Any] | None:
    """Return the entry for a lock file; None if there is none, or another user may have written it."""
    place = _place(what, python)
    directory = os.stat(os.path.dirname(place))
    if directory.st_uid != os.geteuid() or directory.st_mode & _OTHERS:
        return None
    with open(place, "rb") as file:
        entry = marshal.load(file)  # noqa: S302  # our own, as the check above has shown
    return entry if isinstance(entry, dict) and entry["key"] == _key(what, python) else None


def _key(what: str, python: str) -> str:
    """Return all that tells two starts apart, except for what is in files."""
    what, machine = os.path.abspath(what), this_host().partition(".")[0]
    return repr((_FORMAT, __version__, sys.hexversion, sys.prefix, machine, what, python, _configuration()))


def _place(what: str, python: str) -> str:
    """Return the path of the entry for a lock file."""
    import zlib  # hashlib takes as long to import as half of all this

    chosen = os.environ.get(_DIRECTORY) or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"),
        "dask-pkgsync",
    )
    return f"{os.path.expanduser(chosen)}/recalled/{zlib.crc32(_key(what, python).encode()):08x}"


def _configuration() -> list[object]:
    """Return what says whether the configuration is the same: variables, and the states of its files."""
    variables = sorted(pair for pair in os.environ.items() if pair[0].startswith(("DASK_PKGSYNC", "DASK_INTERNAL")))
    places = [
        os.environ.get("DASK_ROOT_CONFIG", "/etc/dask"),
        f"{sys.prefix}/etc/dask",
        os.path.expanduser("~/.config/dask"),
        os.environ.get("DASK_CONFIG", ""),
    ]
    states: list[object] = []
    for place in places:
        try:
            names = sorted(os.listdir(place)) if place else []
        except NotADirectoryError:
            states.append(_state(place))
            continue
        except OSError:
            continue
        states += [_state(f"{place}/{name}") for name in names if name.endswith(_SUFFIXES)]
    return [*variables, *states]


def _state(path: str) -> tuple[str, int, int]:
    facts = os.stat(path)
    return path, facts.st_mtime_ns, facts.st_size


def _content(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()
