"""Reads the pins of a requirements file, as pip, pip-compile, uv and Poetry write it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from dask_pkgsync.model.errors import PolicyError
from dask_pkgsync.model.lockfiles.markers import applies
from dask_pkgsync.model.lockfiles.pin import Pin, digests

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dask_pkgsync.model.environments.interpreter import Interpreter


Include: TypeAlias = Callable[[str, str], tuple[str, str]]
"""Reads a file that another one includes: takes the path of the including file and the path that it names, and returns
the path and the text of the included one. It raises `PolicyError` if that file cannot be read."""

_HASH = re.compile(r"\s--hash[= ](\S+)")
_OPTION = re.compile(
    r"(-[if]\b|--(index-url|extra-index-url|find-links|no-index|trusted-host|pre|prefer-binary|no-binary|only-binary|"
    r"require-hashes|use-feature|config-settings?|global-option|hash)\b)"
)
"""Options that say where packages come from and how they are installed, but not which packages: they are ignored."""
_FILE = re.compile(r"(?P<option>-r|--requirement|-c|--constraint)(?:\s*=\s*|\s+|(?<=-[rc]))(?P<path>\S.*)")
_EDITABLE = re.compile(r"(?:-e|--editable)\b")
_PLACE = re.compile(r"(?:[a-z0-9+.-]+://|file:|[./\\~]|[A-Za-z]:[/\\])", re.IGNORECASE)
"""How a line begins that names a place, not a package."""
_SECRET = re.compile(r"://[^/\s@]*@|(?<=\?)\S+")
_MOST_FAULTS = 20
"""The most lines that one error lists."""
_WAY_OUT = (
    "Such lines say where a package comes from, and not which version it has. `pip list --format=freeze` writes the "
    "versions of all packages, and `dask pkgsync scan --json` a file that holds the local code, too."
)


def pins_of_requirements(name: str, text: str, interpreter: Interpreter, include: Include) -> Iterator[Pin]:
    """Yield each pin in a requirements file that applies to an interpreter, with its hashes.

    Parameters
    ----------
    name : str
        Path of the file, for messages.
    text : str
        Content of the file.
    interpreter : Interpreter
    include : callable
        Reads the files that it names with ``-r`` and ``-c``.

    Raises
    ------
    PolicyError
        If some lines are neither pins nor options that can be ignored. It lists them all.
    """
    found = _Found(interpreter, include)
    found.read(name, text, (name,), constraints=False)
    for requirement in found.open:
        if (version := found.constraints.get(requirement.name)) is None:
            found.faults.append(f"{requirement.place}: expected one exact version (==), found {requirement.shown!r}")
        else:
            found.pins.append(Pin(requirement.name, version, requirement.hashes))
    if found.faults:
        more = [f"… and {len(found.faults) - _MOST_FAULTS} more"] if len(found.faults) > _MOST_FAULTS else []
        raise PolicyError("\n".join([*found.faults[:_MOST_FAULTS], *more, *([_WAY_OUT] if found.places else [])]))
    yield from found.pins


@dataclass(frozen=True)
class _Open:
    """A requirement without an exact version, which a constraint may give it."""

    name: str
    place: str
    shown: str
    hashes: tuple[str, ...]


@dataclass
class _Found:
    """What was found in a requirements file and the files that it includes."""

    interpreter: Interpreter
    include: Include
    pins: list[Pin] = field(default_factory=list)
    open: list[_Open] = field(default_factory=list)
    constraints: dict[str, str] = field(default_factory=dict)
    """Exact versions in constraints files, by canonical name."""
    faults: list[str] = field(default_factory=list)
    places: bool = False
    """Whether one of the faults is a package by its place."""

    def read(self, name: str, text: str, chain: tuple[str, ...], *, constraints: bool) -> None:
        """Read a file, and those that it includes; ``chain`` names the files on the way to it."""
        joined = text.replace("\\\r\n", " ").replace("\\\n", " ")
        for number, line in enumerate(joined.splitlines(), 1):
            said = line.partition(" #")[0]
            entry, hashes = _HASH.sub("", said).strip(), digests(_HASH.findall(said))
            place = f"{name}: line {number}"
            if not entry or entry.startswith("#") or _OPTION.match(entry):
                continue
            if (match := _FILE.fullmatch(entry)) is not None:
                constrains = constraints or match["option"] in ("-c", "--constraint")
                self._read_included(name, match["path"].strip("\"'"), place, chain, constraints=constrains)
            elif _EDITABLE.match(entry) or _PLACE.match(entry):
                self._add_place(place, entry)
            elif entry.startswith("-"):
                self.faults.append(f"{place}: expected a pin such as numpy==2.1.0, found the option {_shown(entry)!r}")
            else:
                self._add(place, entry, hashes, constraints=constraints)

    def _read_included(self, name: str, path: str, place: str, chain: tuple[str, ...], *, constraints: bool) -> None:
        if "://" in path:
            self.faults.append(f"{place}: only files on this machine can be included, found {_shown(path)!r}")
            return
        try:
            included, text = self.include(name, path)
        except PolicyError as error:
            self.faults.append(f"{place}: {error}")
            return
        if included in chain:
            self.faults.append(f"{place}: {included} includes itself")
            return
        self.read(included, text, (*chain, included), constraints=constraints)

    def _add_place(self, place: str, entry: str) -> None:
        self.places = True
        self.faults.append(f"{place}: expected a pin such as numpy==2.1.0, found {_shown(entry)!r}")

    def _add(self, place: str, entry: str, hashes: tuple[str, ...], *, constraints: bool) -> None:
        try:
            requirement = Requirement(entry)
        except InvalidRequirement:
            self.faults.append(f"{place}: expected a pin such as numpy==2.1.0, found {_shown(entry)!r}")
            return
        if requirement.marker is not None and not applies(requirement.marker, self.interpreter):
            return
        name, version = str(canonicalize_name(requirement.name)), _exact(requirement)
        if requirement.url is not None and version is None:
            self._add_place(place, entry)
        elif constraints:
            if version is not None:
                self.constraints.setdefault(name, version)
        elif version is None:
            self.open.append(_Open(name, place, _shown(entry), hashes))
        else:
            self.pins.append(Pin(name, version, hashes))


def _exact(requirement: Requirement) -> str | None:
    """Return the one version that a requirement allows, also as the name of a wheel tells it."""
    if requirement.url is not None:
        try:
            return str(parse_wheel_filename(re.split(r"[?#]", requirement.url)[0].rpartition("/")[2])[1])
        except InvalidWheelFilename:
            return None
    exact = [
        specifier.version
        for specifier in requirement.specifier
        if specifier.operator in ("==", "===") and "*" not in specifier.version
    ]
    return exact[0] if len(exact) == 1 else None


def _shown(entry: str) -> str:
    """Return a line as messages may show it, without passwords."""
    return _SECRET.sub(lambda match: "…" if match[0][0] != ":" else "://…@", entry)[:200]
