"""Puts the placeholder back into files of conda packages, in the place of the prefix that an installer has written.

The digest of the file in the archive says whether the result is right. So it may be tried in several ways: installers
differ in details, and a prefix may have been moved since, so that its files still name the place where it was.

In a text file the prefix takes the place of each placeholder. In a binary file each text that ends with a NUL byte
keeps its room: for what the prefix is shorter, NUL bytes are added (conda's `binary_replace`; rattler does the same).
"""

from __future__ import annotations

import hashlib
import os
import re
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from dask_pkgsync.scanning.conda_files import CondaFile

_ENV = b"#!/usr/bin/env "
_PATHS = re.compile(rb"/[^\0-\x20\x7f\"'`:;,=()<>|&*?\[\]{}\\]+")
_SCRIPTS = 100
"""The most programs of a prefix whose first line is read, to find out where the prefix was."""
_GUESSES = 60
"""The most prefixes that are tried for one file."""


class Prefixes:
    """The paths that a prefix may have had when files were installed in it, those that were right before first.

    Parameters
    ----------
    prefix : Path
        Where it is now.
    """

    def __init__(self, prefix: Path) -> None:
        self.prefix = prefix
        self._today = [os.fsencode(path) for path in dict.fromkeys((str(prefix), os.path.realpath(prefix)))]
        self._known = list(self._today)
        self._has_looked = False

    def original(self, data: bytes, file: CondaFile) -> bytes | None:
        """Return the bytes that a file had in the archive; None if it is not as it was installed.

        Parameters
        ----------
        data : bytes
            The file as it is in the prefix.
        file : CondaFile
        """
        digest = hashlib.sha256(data).hexdigest()
        for prefix in self._to_try(data, file, is_as_installed=digest == file.sha256_in_prefix):
            for found in _ways_back(data, prefix, file):
                if hashlib.sha256(found).hexdigest() == file.sha256:
                    self._known = [prefix, *(known for known in self._known if known != prefix)]
                    return found
        return None

    def as_it_is(self, data: bytes, file: CondaFile) -> bytes:
        """Return a file that was changed after it was installed, with the placeholder wherever it names a prefix."""
        for prefix in self._known:
            back = put_back(data, prefix, file)
            if back is not None and prefix in data:
                return back
        return data

    def _to_try(self, data: bytes, file: CondaFile, *, is_as_installed: bool) -> Iterator[bytes]:
        """Yield the prefixes that may have been written into a file.

        Another than that of today can be so only in a file that is as it was installed. In any other it is an edit,
        for example of the interpreter in the first line of a script.
        """
        if not is_as_installed:
            yield from self._today
            return
        yield from list(self._known)
        if not self._has_looked:
            self._has_looked = True
            self._known = [*self._known, *(found for found in self._in_scripts() if found not in self._known)]
            yield from list(self._known)
        yield from [path for path in _named_prefixes(data, file) if path not in self._known]

    def _in_scripts(self) -> Iterator[bytes]:
        """Yield the prefixes whose Python runs the programs of this prefix."""
        try:
            programs = sorted(os.scandir(self.prefix / "bin"), key=lambda entry: entry.name)
        except OSError:
            return
        for entry in programs[:_SCRIPTS]:
            try:
                with open(entry.path, "rb") as file:  # noqa: PTH123
                    first = file.readline(1000)
            except OSError:
                continue
            if match := re.match(rb"#!(/[^\n]*)/bin/python[0-9.]*\s*\Z", first):
                yield match[1]


@lru_cache(maxsize=20)
def prefixes_of(prefix: Path) -> Prefixes:
    """Return what is known of a prefix that lies at a path."""
    return Prefixes(prefix)


def put_back(data: bytes, prefix: bytes, file: CondaFile) -> bytes | None:
    """Return a file with the placeholder in place of a prefix; None if it has not the room that an installer leaves."""
    placeholder = os.fsencode(file.placeholder)
    return _in_texts(data, prefix, placeholder) if file.is_binary else data.replace(prefix, placeholder)


def _in_texts(data: bytes, prefix: bytes, placeholder: bytes) -> bytes | None:
    """Put the placeholder into a binary file, and remove the NUL bytes that the installer has added after each text."""
    longer, parts, end = len(placeholder) - len(prefix), [], 0
    if longer < 0:
        return None
    while (start := data.find(prefix, end)) >= 0:
        stop = data.find(b"\0", start)
        text = data[start : stop if stop >= 0 else len(data)]
        padding = longer * text.count(prefix)
        after = start + len(text)
        if data[after : after + padding].count(0) != padding:
            return None
        parts += [data[end:start], text.replace(prefix, placeholder)]
        end = after + padding
    return b"".join([*parts, data[end:]])


def _ways_back(data: bytes, prefix: bytes, file: CondaFile) -> Iterator[bytes]:
    """Yield what a file may have been in the archive, if an installer has written a prefix into it."""
    back = put_back(data, prefix, file)
    if back is None:
        return
    yield back
    if not file.is_binary and back.startswith(_ENV):
        # Where the line would be longer than the system takes, installers let env find the program.
        yield b"#!" + os.fsencode(file.placeholder) + b"/bin/" + back[len(_ENV) :]


def _named_prefixes(data: bytes, file: CondaFile) -> list[bytes]:
    """Return the directories that a file names and that may be the prefix in it, by the room that it takes."""
    length, found = len(os.fsencode(file.placeholder)), dict[bytes, None]()
    for match in _PATHS.finditer(data):
        parts = match[0].split(b"/")
        shortest = length - _room_after(data, match.end(), length) if file.is_binary else 2
        directories = (b"/".join(parts[:count]) for count in range(len(parts), 1, -1))
        found.update(dict.fromkeys(path for path in directories if max(shortest, 2) <= len(path)))
    if file.is_binary:
        return [path for path in found if len(path) <= length][:_GUESSES]
    grown = file.size - len(data)
    if grown > 0:  # rattler records the size in the prefix, conda that in the archive
        return [path for path in found if data.count(path) * (length - len(path)) == grown][:_GUESSES]
    return sorted(found, key=data.count, reverse=True)[:_GUESSES]


def _room_after(data: bytes, position: int, most: int) -> int:
    """Return how many NUL bytes follow the one that ends the text at a position, but not more than ``most``."""
    stop = data.find(b"\0", position)
    after = data[stop + 1 : stop + 1 + most] if stop >= 0 else b""
    return len(after) - len(after.lstrip(b"\0"))
