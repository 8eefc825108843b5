"""Remembers which schedulers have let this process's environment in, so that the next client is recognised by a name.

What is remembered is a hint that saves time, never a proof. A client that was recognised is verified before it sends
anything (`client.holding`), by a full scan. So it is enough here to notice what usually changes: directories of the
search path, local code, the configuration.

This module is imported by every client's preload, so it imports nothing that takes time. It reads the file that an
earlier process has written; `remember`, which writes it, is called after a sync, when everything else is imported.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import dask

from dask_pkgsync.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_FILES = 2_000
"""The most files of local code, above which an environment is not remembered: to look at them takes too long."""
MAX_SCHEDULERS = 100
"""The most schedulers, the newest, that are remembered to have let one environment in."""
MAX_ENTRIES = 1_000
"""The most entries of a directory whose names are remembered, for a directory in which files of all kinds change."""
MAX_BYTES = 1_000_000
"""The most bytes of a file of ours that is read."""
DIRECTORY = "recognised"
"""The directory of the files, in the cache directory."""
KEPT = 200
"""The most files, the newest, that are kept there."""
_CODE = (".py", ".so", ".pyd", ".zip", ".egg", ".pth", ".egg-link", ".dist-info", ".egg-info")


@dataclass
class Memory:
    """What a process was like when a scheduler let it in."""

    short: dict[str, Any]
    """What it presents from now on, as plain data (`model.presentation.short_presentation`)."""
    schedulers: list[str]
    """Dask's ids of the schedulers that have let it in, the newest last."""
    directories: dict[str, list[Any]] = field(default_factory=dict)
    """By path, the time of the last change of a directory, in nanoseconds, and a digest of its names, or None."""
    files: dict[str, list[int]] = field(default_factory=dict)
    """By path, the time of the last change of a file of local code, in nanoseconds, and its size in bytes."""

    def is_of_now(self) -> bool:
        """Whether nothing has changed since, as far as times and sizes tell."""
        look = os.stat
        try:
            for path, (changed, size) in self.files.items():
                facts = look(path)
                if facts.st_mtime_ns != changed or facts.st_size != size:
                    return False
            return all(_is_unchanged(path, *known) for path, known in self.directories.items())
        except OSError:
            return False


_memories: dict[str, Memory] = {}
"""What this process remembers, by `situation`."""
_forgotten: set[str] = set()
"""Ids of the schedulers that have said that they do not know this environment."""


def situation() -> str:
    """Return a digest of what decides which environment this process has, and how it would ask for it."""
    main = getattr(sys.modules.get("__main__"), "__file__", None)
    parts = [__version__, sys.executable, sys.path, main, _working_directory(), configuration()]
    return hashlib.sha256(repr(parts).encode("utf-8", "surrogatepass")).hexdigest()


def configuration() -> str:
    """Return a digest of our configuration, and of the times of the files that it was read from."""
    variables = sorted((name, value) for name, value in os.environ.items() if "PKGSYNC" in name.upper())
    parts = [dask.config.config.get("pkgsync"), variables, list(_configuration_files())]
    return hashlib.sha256(repr(parts).encode("utf-8", "surrogatepass")).hexdigest()


def _configuration_files() -> Iterable[tuple[str, list[int]]]:
    for place in map(str, dask.config.paths):
        with contextlib.suppress(OSError):
            names = sorted(os.listdir(place)) if os.path.isdir(place) else [""]
            for name in names:
                if not name or name.endswith((".yaml", ".yml", ".json")):
                    path = os.path.join(place, name) if name else place
                    yield path, _times_of(path)


def is_configuration_valid() -> bool:
    """Whether a client with the very same configuration was let in before."""
    here = situation()
    return here in _memories or _read(here) is not None


def recall(here: str, scheduler: str) -> dict[str, Any] | None:
    """Return what to present to a scheduler that has let this environment in; None if nothing is remembered, or holds.

    Parameters
    ----------
    here : str
        `situation` as it is now.
    scheduler : str
        Dask's id of the scheduler, which it keeps for as long as it runs.
    """
    if scheduler in _forgotten:
        return None
    for find in (_memories.get, _read):
        memory = find(here)
        if memory is not None and scheduler in memory.schedulers and memory.is_of_now():
            _memories[here] = memory
            return memory.short
    return None


def forget(scheduler: str) -> None:
    """Forget that a scheduler knows this environment, as it has said that it does not, until `remember`."""
    _forgotten.add(scheduler)


def remember(
    situations: Iterable[str], scheduler: str, short: dict[str, Any], sources: Iterable[str], root: str
) -> None:
    """Remember that a scheduler has let this environment in, also for processes that start later. Blocks.

    Parameters
    ----------
    situations : iterable of str
        `situation` when the client connected, and now: the import of our own code changes Dask's configuration.
    scheduler : str
        Dask's id of the scheduler.
    short : dict
        What this environment presents from now on.
    sources : iterable of str
        Paths of the files of local code.
    root : str
        The cache directory.
    """
    _forgotten.discard(scheduler)
    files = list(dict.fromkeys(sources))
    if len(files) > MAX_FILES:
        return
    above = {os.path.dirname(file) for file in files}
    entries = [entry or _working_directory() for entry in sys.path if isinstance(entry, str)]
    memory = Memory(short, [scheduler])
    with contextlib.suppress(OSError):
        memory.files = {file: _times_of(file) for file in files}
        for directory in dict.fromkeys([*entries, *above]):
            if os.path.lexists(directory):
                memory.directories[directory] = [os.stat(directory).st_mtime_ns, _names_in(directory)]
        for records in _conda_records(entries):
            memory.directories[records] = [os.stat(records).st_mtime_ns, None]
        for here in dict.fromkeys(situations):
            known = _memories.get(here) or _read(here)
            if known is not None and known.short == short:
                older = [one for one in known.schedulers if one != scheduler]
                memory.schedulers = [*older, scheduler][-MAX_SCHEDULERS:]
            _memories[here] = memory
            _write(here, memory, root)


# -- times ------------------------------------------------------------------------------------------------------------


def _working_directory() -> str:
    try:
        return os.getcwd()
    except OSError:  # it was removed
        return ""


def _conda_records(path: Iterable[str]) -> Iterable[str]:
    """Yield the directories of conda's records: each update of a package changes it, also where it has no Python."""
    for entry in path:
        if os.path.basename(entry) == "site-packages":
            library = os.path.dirname(os.path.dirname(entry))
            for root in (os.path.dirname(library), library):  # Windows: Lib/site-packages
                if os.path.isdir(records := os.path.join(root, "conda-meta")):
                    yield records


def _times_of(path: str) -> list[int]:
    facts = os.stat(path)  # faster than pathlib, for thousands of files
    return [facts.st_mtime_ns, facts.st_size]


def _is_unchanged(directory: str, changed: int, names: str | None) -> bool:
    if os.stat(directory).st_mtime_ns == changed:
        return True
    return names is not None and _names_in(directory) == names


def _names_in(directory: str) -> str | None:
    """Return a digest of the names in a directory that can be imported; None for an archive, and for very many."""
    try:
        with os.scandir(directory) as listing:
            names = [entry.name for entry in listing if entry.name.endswith(_CODE) or entry.is_dir()]
    except NotADirectoryError:
        return None
    if len(names) > MAX_ENTRIES:
        return None
    return hashlib.sha256("/".join(sorted(names)).encode("utf-8", "surrogatepass")).hexdigest()


# -- the file ---------------------------------------------------------------------------------------------------------


def _roots() -> Iterable[str]:
    """Yield where a cache directory of this user may be; `cache.directory.open_cache` has the rules."""
    if configured := dask.config.get("pkgsync.cache-directory", None):
        yield os.path.expanduser(configured)
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    yield os.path.join(base, "dask-pkgsync")


def _read(here: str) -> Memory | None:
    return next(filter(None, (_read_in(os.path.join(root, DIRECTORY), here) for root in _roots())), None)


def _read_in(directory: str, here: str) -> Memory | None:
    try:
        with open(os.path.join(directory, f"{here}.json"), "rb") as file:
            if hasattr(os, "getuid") and os.fstat(file.fileno()).st_uid != os.getuid():
                return None
            found = json.loads(file.read(MAX_BYTES))
        return Memory(found["short"], found["schedulers"], found["directories"], found["files"])
    except (OSError, ValueError, KeyError, TypeError):  # there is none, or it is damaged: nothing is remembered
        return None


def _write(here: str, memory: Memory, root: str) -> None:
    directory = os.path.join(root, DIRECTORY)
    os.makedirs(directory, mode=0o700, exist_ok=True)
    path = os.path.join(directory, f"{here}.json")
    aside = f"{path}.{os.getpid()}"
    with open(aside, "w", encoding="utf-8") as file:
        json.dump(vars(memory), file)
    os.replace(aside, path)
    with os.scandir(directory) as listing:
        found = sorted((entry.stat().st_mtime_ns, entry.path) for entry in listing)
    for _, old in found[:-KEPT]:
        os.unlink(old)
