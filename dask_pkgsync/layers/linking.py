"""Installs wheels that uv has unpacked into virtual environments, by links to their files and without a process.

It does what uv does. What it cannot do in this way, an installer does.
"""

from __future__ import annotations

import os
import re
import stat
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from dask_pkgsync.layers.layout import LIBRARY, SITE_PACKAGES
from dask_pkgsync.layers.unpacked import SCHEMES, UP, names_in
from dask_pkgsync.model.record import entry_of, text_of
from dask_pkgsync.scanning import small_files
from dask_pkgsync.scanning.records import Listed

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

    from dask_pkgsync.cache.trees import LookedAt
    from dask_pkgsync.layers.unpacked import UnpackedWheel
    from dask_pkgsync.model.record import Entry

_DIRECTORY = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)
_LAUNCHER = """#!/bin/sh
'''exec' "$(dirname -- "$(realpath -- "$0")")"/'python' "$0" "$@"
' '''
"""
"""The first lines of a script that finds the interpreter beside itself; to Python they are a string (uv 0.13)."""
_SCRIPT = """# -*- coding: utf-8 -*-
import sys
from {module} import {first}
if __name__ == "__main__":
    sys.exit({function}())
"""
_ENTRY_POINT = re.compile(r"([\w.]+)\s*:\s*([\w.]+)\s*(?:\[.*\])?")
_NAME = re.compile(r"[\w.-]*\w")
_INTERPRETERS = frozenset({"python", "python3", LIBRARY})
_PYTHON = b"#!python"
"""The beginning of the scripts of a wheel whose first line the installer writes (PEP 427)."""


class NotLinkedError(Exception):
    """A wheel cannot be linked; an installer may install it."""


class Linker:
    """Installs unpacked wheels into one virtual environment.

    Parameters
    ----------
    environment : Path
        Its directory.
    """

    def __init__(self, environment: Path) -> None:
        self._root = str(environment)
        self.looked_at: dict[str, LookedAt] = {}
        """What is in the directories of packages, as `cache.trees.Tree` takes it."""

    def install(self, wheel: UnpackedWheel) -> Listed:
        """Install a wheel; return it as it is installed then. Blocks.

        Raises
        ------
        NotLinkedError
            If it cannot be installed in this way. Some of its files may be there.
        """
        try:
            return self._install(wheel)
        except (OSError, NotImplementedError) as error:  # no links there; too many links of a file
            raise NotLinkedError(str(error)) from None

    def _install(self, wheel: UnpackedWheel) -> Listed:
        dist_info, data = f"{wheel.stem}.dist-info", f"{wheel.stem}.data"
        self._link(wheel.root, SITE_PACKAGES, {data})
        added = []
        for scheme in names_in(f"{wheel.root}/{data}"):
            source = f"{wheel.root}/{data}/{scheme}"
            if scheme not in SCHEMES:
                _refuse(f"{source} has no place in an environment")
            elif scheme == "scripts":
                added += [entry for name in names_in(source) if (entry := self._take_script(source, name)) is not None]
            else:
                place = f"{SITE_PACKAGES}/{SCHEMES[scheme].format(name=wheel.stem.rpartition('-')[0])}"
                self._link(source, os.path.normpath(place))
        for name, text in _entry_points(f"{wheel.root}/{dist_info}/entry_points.txt"):
            added.append(self._write_script(name, text.encode()))
        for name, content in (("INSTALLER", b"uv"), ("REQUESTED", b"")):  # as uv does
            self._write(f"{SITE_PACKAGES}/{dist_info}/{name}", content, 0o666)
            added.append(entry_of(f"{dist_info}/{name}", content))
        replaced = {entry.path for entry in added}
        kept = [entry for entry in wheel.entries if entry.path not in replaced]
        if len(kept) == len(wheel.entries) and not wheel.is_mapped:
            text = f"{wheel.record.rstrip()}\n{text_of(added)}"  # without writing thousands of lines anew
        else:
            text = text_of([*kept, *added])
        self._write(f"{SITE_PACKAGES}/{dist_info}/RECORD", text.encode(), 0o666)
        return Listed(Path(self._root, SITE_PACKAGES, dist_info), [*kept, *added], wheel.content)

    def _take_script(self, directory: str, name: str) -> Entry | None:
        """Install a script of a wheel; return its entry if it is not the one of the wheel."""
        source = f"{directory}/{name}"
        with open(source, "rb") as file:  # noqa: PTH123
            if not file.read(len(_PYTHON)).startswith(_PYTHON):
                self._link_script(source, name)
                return None
            if file.readline().strip():
                _refuse(f"the first line of {source} is not only {_PYTHON.decode()}")
            return self._write_script(name, _LAUNCHER.encode() + file.read())

    def _link_script(self, source: str, name: str) -> None:
        if not os.stat(source).st_mode & stat.S_IXUSR:  # noqa: PTH116  # its mode is not for us to change
            _refuse(f"{source} is not executable")
        with suppress(FileNotFoundError):
            os.unlink(self._script(name))  # noqa: PTH108
        os.link(source, self._script(name), follow_symlinks=False)

    def _write_script(self, name: str, content: bytes) -> Entry:
        self._script(name)
        self._write(f"bin/{name}", content, 0o777)
        return entry_of(f"{UP}bin/{name}", content)

    def _script(self, name: str) -> str:
        """Return the path of a script; raise `NotLinkedError` if no script may have this name."""
        if _NAME.fullmatch(name) is None or name in _INTERPRETERS:
            _refuse(f"{name} is no name for a script")
        return f"{self._root}/bin/{name}"

    def _write(self, place: str, content: bytes, mode: int) -> None:
        """Write a new file: never into one that is there, which may be a link into uv's cache."""
        path = f"{self._root}/{place}"
        with suppress(FileNotFoundError):
            os.unlink(path)  # noqa: PTH108
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with open(descriptor, "wb") as file:  # noqa: PTH123
            file.write(content)

    def _link(self, source: str, place: str, left_out: Container[str] = ()) -> None:
        """Link all that is below a directory to a place in the environment."""
        os.makedirs(f"{self._root}/{place}", exist_ok=True)  # noqa: PTH103
        self._link_all(source, f"{place}/", left_out, is_noted=False)

    def _link_all(self, source: str, place: str, left_out: Container[str] = (), *, is_noted: bool = True) -> None:
        """Link all files in a directory, and below it.

        Parameters
        ----------
        source : str
            Path of the directory.
        place : str
            The path of the target relative to the environment, with ``/`` behind it. The directory exists.
        left_out : container of str
            Names to pass over.
        is_noted : bool
            Whether what is in the target is noted in `looked_at`: only packages write there.
        """
        files, all_directories = self.looked_at.setdefault(place, ({}, {})) if is_noted else ({}, {})
        directories: list[str] = []
        link, look = os.link, os.stat
        # The system looks up descriptors faster than paths, for each of thousands of files.
        here = os.open(source, _DIRECTORY)
        there = os.open(f"{self._root}/{place}", _DIRECTORY)
        try:
            with os.scandir(source) as listing:
                for entry in listing:
                    name = entry.name
                    if name in left_out:
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        directories.append(name)
                        continue
                    if not entry.is_file(follow_symlinks=False):
                        _refuse(f"{place}{name} is no file")
                    try:
                        link(name, name, src_dir_fd=here, dst_dir_fd=there, follow_symlinks=False)
                    except FileExistsError:  # of another distribution: `clashes` tells the user
                        os.unlink(name, dir_fd=there)
                        link(name, name, src_dir_fd=here, dst_dir_fd=there, follow_symlinks=False)
                    if is_noted:
                        files[name] = look(name, dir_fd=there, follow_symlinks=False)
            for name in directories:
                all_directories[name] = None
                with suppress(FileExistsError):
                    os.mkdir(name, dir_fd=there)
        finally:
            os.close(here)
            os.close(there)
        for name in directories:
            is_package = is_noted or (place == f"{SITE_PACKAGES}/" and not name.endswith(".dist-info"))
            self._link_all(f"{source}/{name}", f"{place}{name}/", is_noted=is_package)


def _entry_points(path: str) -> Iterator[tuple[str, str]]:
    """Yield name and text of each script that a wheel's ``entry_points.txt`` asks for."""
    if not (text := small_files.text_of(path)):
        return
    from configparser import ConfigParser, Error  # imported here because many wheels have no scripts

    parser = ConfigParser(delimiters=("=",), interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # names are case-sensitive
    try:
        parser.read_string(text)
        found = {name: value for kind in _KINDS if parser.has_section(kind) for name, value in parser[kind].items()}
    except Error as error:
        _refuse(f"{path}: {error}")
    for name, value in found.items():
        if (match := _ENTRY_POINT.fullmatch(value.strip())) is None:
            _refuse(f"{path}: {value}")
        module, function = match.groups()
        yield name, _LAUNCHER + _SCRIPT.format(module=module, first=function.partition(".")[0], function=function)


_KINDS = ("console_scripts", "gui_scripts")


def _refuse(why: str) -> NoReturn:
    raise NotLinkedError(why)
