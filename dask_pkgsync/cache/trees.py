"""Trees of read-only directories: a published layer is one, so that nothing is installed into it by mistake."""

from __future__ import annotations

import contextlib
import os
import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path
    from typing import TypeAlias

    LookedAt: TypeAlias = tuple[dict[str, os.stat_result], dict[str, None]]
    """What is in a directory: the files, with what `os.lstat` says of each, and the names of the directories."""


BYTECODE = "__pycache__"
"""The directories in which Python keeps bytecode (PEP 3147)."""
_WRITE = 0o222
_TESTS = frozenset({"test", "tests"})
"""The directories of the tests of packages: two in five of those with modules, of which hardly any is ever imported. To
make a directory takes as long as to link ten files."""


class Tree:
    """A directory, and one look at each file and directory below it; symbolic links are not followed. Blocks.

    Parameters
    ----------
    root : str
    known : mapping of str to tuple, optional
        Directories that need not be looked at, by their paths relative to the root, with ``/`` behind each.

    Raises
    ------
    OSError
        If a directory cannot be listed, or a file is removed meanwhile.
    """

    def __init__(self, root: str, known: Mapping[str, LookedAt] | None = None) -> None:
        self.root = root
        self.files: dict[str, os.stat_result] = {}
        """By path relative to the root, with ``/``. What lies in places for bytecode is left out."""
        self.directories: list[str] = []
        """Their paths relative to the root, with ``/`` behind each; that of the root is empty. Places for bytecode are
        left out."""
        self._of_modules: list[str] = []
        """The directories that hold modules, and have no place for their bytecode."""
        pending, known = [""], known or {}
        while pending:
            directory = pending.pop()
            if directory in known:
                self._add(directory, *known[directory], pending)
            else:
                self._list(directory, pending)

    def _add(
        self, directory: str, files: dict[str, os.stat_result], directories: dict[str, None], pending: list[str]
    ) -> None:
        self.files.update((directory + name, facts) for name, facts in files.items())
        pending += [f"{directory}{name}/" for name in directories if name != BYTECODE]
        self.directories.append(directory)
        if BYTECODE not in directories and any(name.endswith(".py") for name in files):
            self._of_modules.append(directory)

    def _list(self, directory: str, pending: list[str]) -> None:
        has_modules = has_bytecode = False
        with os.scandir(f"{self.root}/{directory}") as listing:
            for entry in listing:
                name = entry.name
                if not entry.is_dir(follow_symlinks=False):
                    self.files[directory + name] = entry.stat(follow_symlinks=False)
                    has_modules = has_modules or name.endswith(".py")
                elif name == BYTECODE:
                    has_bytecode = True
                else:
                    pending.append(f"{directory}{name}/")
        self.directories.append(directory)
        if has_modules and not has_bytecode:
            self._of_modules.append(directory)

    def make_read_only(self) -> None:
        """Make the directories read-only, except the root, and those in which Python keeps bytecode.

        Without a place for bytecode, every process would compile every module that it imports; so all but the tests of
        packages get one. Files keep their mode: they may be hard links into the cache of an installer.
        """
        for directory in self._of_modules:
            if _TESTS.isdisjoint(directory.split("/")):
                os.mkdir(f"{self.root}/{directory}{BYTECODE}")  # noqa: PTH102
        for directory in filter(None, self.directories):
            make_read_only(f"{self.root}/{directory}")


def make_read_only(directory: str | Path) -> None:
    """Make one directory read-only."""
    with contextlib.suppress(OSError):  # some file systems have no modes
        os.chmod(directory, os.stat(directory).st_mode & ~_WRITE)  # noqa: PTH101, PTH116


def move(root: Path, to: Path) -> None:
    """Rename a tree whose directories may be read-only; only a directory that can be written gets another parent."""
    with contextlib.suppress(OSError):
        _make_writable(root)
    root.rename(to)


def remove(root: Path) -> None:
    """Remove a tree whose directories may be read-only, as far as that is possible."""
    for directory in _directories(root):
        with contextlib.suppress(OSError):
            _make_writable(directory)
    shutil.rmtree(root, ignore_errors=True)


def _directories(root: Path | str) -> Iterator[Path | str]:
    """Yield the directories of a tree, each before those in it are listed."""
    yield root
    with contextlib.suppress(OSError), os.scandir(root) as listing:
        for entry in listing:
            if entry.is_dir(follow_symlinks=False):
                yield from _directories(entry.path)


def _make_writable(directory: Path | str) -> None:
    os.chmod(directory, os.stat(directory).st_mode | 0o700)  # noqa: PTH101, PTH116
