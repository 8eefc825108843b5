"""What earlier processes have read of the distributions in a directory, in a file of hints for each directory.

To read every RECORD of an environment takes ten times as long as the rest of a scan.
"""

from __future__ import annotations

import os
from time import time_ns
from typing import TYPE_CHECKING

from dask_pkgsync.cache import hints
from dask_pkgsync.scanning.content import FORMAT, Content
from dask_pkgsync.scanning.file_states import Watch, state_of
from dask_pkgsync.version import __version__

if TYPE_CHECKING:
    from collections.abc import Collection

KIND = "distributions"
"""The directory of the files, in the cache directory."""
_HEADER = f"distributions {FORMAT} {__version__}"
_MAY_BE_LINKS = ("METADATA", "INSTALLER", "WHEEL")
"""The files that may be links into an installer's cache."""
_PURE, _NOT_PURE = "pure", "-"
_INSTALLED_BY, _FROM_ELSEWHERE = "index ", "elsewhere"


class Known:
    """What was known of a distribution, if anything was."""

    __slots__ = ("_is_settled", "content", "installer", "states")

    def __init__(self, states: str, line: str, *, is_settled: bool) -> None:
        self.states = states
        self._is_settled = is_settled
        self.content: Content | None = None
        """None if it was not known."""
        self.installer: str | None = None
        """None if it was not known that the distribution is from an index."""
        known_states, _, rest = line.partition("\t")
        if known_states == states:
            digest, purity, installer = rest.split("\t")
            self.content = Content(digest, purity == _PURE)
            if installer != _FROM_ELSEWHERE:
                self.installer = installer.removeprefix(_INSTALLED_BY)

    def line(self, content: Content, installer: str | None) -> str | None:
        """Return a line to be kept; None if it is the one that was known, or files may still change unnoticed."""
        if self.content is not None or not self._is_settled:
            return None
        origin = _FROM_ELSEWHERE if installer is None else f"{_INSTALLED_BY}{installer}"
        return f"{self.states}\t{content.digest}\t{_PURE if content.is_pure else _NOT_PURE}\t{origin}"


class KnownDistributions:
    """What is known of the distributions in one directory.

    It holds while the states of the dist-info directory and of its files are the same.

    Parameters
    ----------
    directory : str
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._name = ""
        self._lines: dict[str, str] | None = None
        """By name of dist-info. None if the file was not read yet."""
        self._is_new = False

    def of(self, name: str, watch: Watch) -> Known:
        """Return what is known of a distribution. Call it before anything but its directory is looked at.

        Parameters
        ----------
        name : str
            The name of its dist-info directory.
        watch : Watch
            The directory and RECORD are noted in it.
        """
        dist_info, linked, now = f"{self._directory}{os.sep}{name}", Watch(), time_ns()
        states: list[tuple[int, ...] | None] = [watch.state(dist_info), watch.state(f"{dist_info}{os.sep}RECORD")]
        for file in _MAY_BE_LINKS:
            state = linked.state(f"{dist_info}{os.sep}{file}")
            states.append(state and state[:4])  # its last status change is the last link that was made
        is_settled = watch.is_settled(now) and linked.is_settled(now)
        return Known(str(states), self._read().get(name, ""), is_settled=is_settled)

    def note(self, name: str, known: Known, content: Content, installer: str | None) -> None:
        """Keep what was read of a distribution.

        Parameters
        ----------
        name : str
            The name of its dist-info directory.
        known : Known
            What `of` returned.
        content : Content
        installer : str or None
            None if the distribution is not from an index.
        """
        if (line := known.line(content, installer)) is not None and f"{name}{installer}".isprintable():
            self._read()[name] = line
            self._is_new = True

    def save(self, names: Collection[str]) -> None:
        """Write what is known, if any of it is new.

        Parameters
        ----------
        names : collection of str
            The metadata in the directory; what is known of others is dropped.
        """
        if self._is_new and self._name:
            lines = [f"{name}\t{line}" for name, line in self._read().items() if name in names]
            hints.write(KIND, self._name, _HEADER, lines)
            self._is_new = False

    def _read(self) -> dict[str, str]:
        if self._lines is None:
            state = state_of(self._directory)
            self._name = f"{state[0]:x}-{state[1]:x}" if state is not None else ""
            lines = hints.read(KIND, self._name, _HEADER) if self._name else []
            self._lines = {name: rest for name, _, rest in (line.partition("\t") for line in lines)}
        return self._lines
