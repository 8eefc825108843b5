"""Turns an installed distribution back into a wheel, from its RECORD (PEP 376, PEP 427).

The wheel does not hold what the installer has added: bytecode, the installer's own files in dist-info, and the scripts
of entry points, which the next installer makes anew. All other files are taken as they are on this machine, even if
their digests in RECORD differ; those that are missing here are missing in the wheel.
"""

from __future__ import annotations

import configparser
import hashlib
import os
import re
import sysconfig
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dask_pkgsync.model.environments.origin import FromDirectory
from dask_pkgsync.model.errors import WheelError
from dask_pkgsync.model.record import Entry, encoded, text_of
from dask_pkgsync.scanning.content import OF_INSTALLER, is_compiled_here
from dask_pkgsync.scanning.direct_url import parse_direct_url
from dask_pkgsync.scanning.records import entries
from dask_pkgsync.wheels.linked_libraries import OF_SYSTEM, needed_libraries

if TYPE_CHECKING:
    from collections.abc import Iterator

_DATE = (1980, 1, 1, 0, 0, 0)
_CHUNK = 1 << 20
_SHEBANG = re.compile(rb"\A#!(?:/bin/sh\n'''exec' [^\n]*python[^\n]*\n' '''|(?P<program>/[^\n ]*/pythonw?[0-9.]*))\n")
"""The interpreter line that an installer wrote into a script: one line, or three for long or relocatable paths."""
_LIBRARY = re.compile(r"\.(?:so(?:\.[0-9.]+)?|dylib|pyd|dll)$")
_TIED = "Install it with pip or uv into this environment, let the nodes install it from an index, or name it in ignore."
_REINSTALL = "Install it with pip or uv into this environment, or name it in ignore."


@dataclass(frozen=True)
class Repacked:
    """A wheel that was made from an installed distribution."""

    path: Path
    differing: tuple[str, ...] = ()
    """Files that are missing, or whose bytes do not have the digest in RECORD; the wheel holds them as they are."""


@dataclass(frozen=True)
class _Member:
    """A file, and its place in the wheel."""

    place: str
    """Its path in the wheel, with ``/``."""
    path: Path
    """Where it is installed."""
    digest: str
    """Its digest in RECORD, ``sha256=…``, or empty."""
    script: bool = False
    """Whether its first line may name an interpreter."""

    @property
    def is_metadata(self) -> bool:
        """Whether it lies in the dist-info directory."""
        return ".dist-info/" in self.place


def repack(dist_info: Path, directory: Path, with_prefix: frozenset[Path] | None = None) -> Repacked:
    """Make a wheel of an installed distribution. Blocks.

    Parameters
    ----------
    dist_info : Path
        Its dist-info directory, where it is installed.
    directory : Path
        The directory that the wheel is written into.
    with_prefix : frozenset of Path, optional
        For a distribution in a conda package: its files into which conda has written the path of the prefix.

    Raises
    ------
    WheelError
        If it has no RECORD, some of its metadata is missing, or its files work only in this prefix. Nothing is left
        behind.
    """
    stem = dist_info.name.removesuffix(".dist-info")
    label = " ".join(stem.rsplit("-", 1))
    facts = _wheel_facts(dist_info, label)
    members = sorted(_members(dist_info, stem, label), key=lambda member: (member.is_metadata, member.place))
    if with_prefix is not None or _is_of_conda(dist_info):
        _refuse_tied(members, with_prefix or frozenset(), label)
    wheel = directory / f"{'-'.join(filter(None, (stem, facts.get('build', ''), facts['tag'])))}.whl"
    aside = wheel.with_suffix(".part")
    try:
        with zipfile.ZipFile(aside, "w", zipfile.ZIP_STORED) as bundle:
            listed: list[Entry] = []
            differing: list[str] = []
            for member in members:
                if not member.is_metadata and not member.path.exists():
                    differing.append(member.place)
                    continue
                entry, same = _write(bundle, member)
                listed.append(entry)
                differing += [] if same else [member.place]
            listed.append(Entry(f"{stem}.dist-info/RECORD"))
            bundle.writestr(_entry(f"{stem}.dist-info/RECORD", 0o644), text_of(listed))
        aside.rename(wheel)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise WheelError(label, f"its file {error.filename} is gone", advice=_REINSTALL) from None
    finally:
        aside.unlink(missing_ok=True)
    return Repacked(wheel, tuple(differing))


def _wheel_facts(dist_info: Path, label: str) -> dict[str, str]:
    """Return the build number and the compressed tag set (PEP 425) of the wheel that was installed."""
    try:
        text = (dist_info / "WHEEL").read_text(encoding="utf-8")
    except OSError:
        raise WheelError(
            label, "it was not installed from a wheel (its metadata has no WHEEL)", advice=_REINSTALL
        ) from None
    pairs = [
        (key.strip().lower(), value.strip()) for key, _, value in (line.partition(":") for line in text.splitlines())
    ]
    tags = [value.split("-") for key, value in pairs if key == "tag" and value.count("-") == 2]  # noqa: PLR2004
    if not tags:
        raise WheelError(label, "its WHEEL names no tag", advice=_REINSTALL)
    compressed = "-".join(".".join(sorted({tag[part] for tag in tags})) for part in range(3))
    return {"tag": compressed, "build": dict(pairs).get("build", "")}


def _members(dist_info: Path, stem: str, label: str) -> Iterator[_Member]:
    """Yield the files that belong into the wheel."""
    root = Path(os.path.abspath(dist_info.parent))  # noqa: PTH100  # symbolic links are not followed
    prefix = _prefix_of(root)
    scripts = _entry_points(dist_info)
    seen = set()
    for path, digest in _recorded(dist_info, label):
        if _is_of_installer(path, digest, dist_info.name) or path in seen:
            continue
        seen.add(path)
        if os.path.isabs(path):  # noqa: PTH117
            raise WheelError(label, f"its RECORD names the absolute path {path}", advice=_REINSTALL)
        full = Path(os.path.normpath(root / path))
        if root in full.parents:
            yield _Member(full.relative_to(root).as_posix(), full, digest)
            continue
        if prefix not in full.parents:
            raise WheelError(label, f"its file {path} is outside of {prefix}", advice=_REINSTALL)
        inside = full.relative_to(prefix).as_posix()
        top, _, rest = inside.partition("/")
        if top in ("bin", "Scripts") and "/" not in rest:
            if rest.removesuffix(".exe").removesuffix("-script.py").removesuffix("-script.pyw") not in scripts:
                yield _Member(f"{stem}.data/scripts/{rest}", full, digest, script=True)
        elif match := re.fullmatch(r"include/site/python[\d.]+t?/[^/]+/(.+)", inside):
            yield _Member(f"{stem}.data/headers/{match[1]}", full, digest)
        else:
            yield _Member(f"{stem}.data/data/{inside}", full, digest)


def _recorded(dist_info: Path, label: str) -> Iterator[tuple[str, str]]:
    """Yield path and digest of each file in RECORD."""
    found = entries(dist_info)
    if not found:
        raise WheelError(
            label, "nothing records which files are its own (no RECORD: installed by the system?)", advice=_REINSTALL
        )
    if _is_editable(dist_info):
        raise WheelError(
            label,
            "it is installed in editable mode",
            advice="Install it without the editable mode, or name it in ignore.",
        )
    yield from ((entry.path, entry.digest) for entry in found)


def _is_editable(dist_info: Path) -> bool:
    """Whether a distribution is installed in editable mode (PEP 610)."""
    try:
        origin = parse_direct_url((dist_info / "direct_url.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(origin, FromDirectory) and origin.editable


def _is_of_installer(path: str, digest: str, dist_info: str) -> bool:
    """Whether a file is none of the wheel's: bytecode that Python makes, or the installer's own files in dist-info."""
    directory, _, name = path.rpartition("/")
    return is_compiled_here(path, digest) or (directory == dist_info and name in OF_INSTALLER)


def _prefix_of(root: Path) -> Path:
    """Return the prefix of the installation that a site-packages directory belongs to."""
    parts = Path(sysconfig.get_path("purelib")).relative_to(sysconfig.get_path("data")).parts
    levels = len(parts) if root.parts[-1] == parts[-1] else 0
    return root.parents[levels - 1] if levels else root


def _entry_points(dist_info: Path) -> frozenset[str]:
    """Return the names of the scripts that an installer makes from entry points."""
    parser = configparser.RawConfigParser(delimiters=("=",), strict=False)
    parser.optionxform = str  # type: ignore[assignment, method-assign]  # names keep their case
    try:
        parser.read_string((dist_info / "entry_points.txt").read_text(encoding="utf-8"))
    except (OSError, configparser.Error, ValueError):
        return frozenset()
    groups = ("console_scripts", "gui_scripts")
    return frozenset(name for group in groups if parser.has_section(group) for name in parser.options(group))


def _is_of_conda(dist_info: Path) -> bool:
    """Whether conda has installed a distribution, also where conda's own record of it is gone."""
    try:
        return (dist_info / "INSTALLER").read_text(encoding="utf-8").strip() == "conda"
    except OSError:
        return False


def _refuse_tied(members: list[_Member], with_prefix: frozenset[Path], label: str) -> None:
    """Raise `WheelError` for a distribution from conda with files that work only in its prefix.

    These are files that name the prefix, except the scripts in whose first line an installer of wheels writes another
    interpreter, and those that need shared libraries of other conda packages.
    """
    own = {member.path.name for member in members}
    for member in members:
        if member.path in with_prefix and not member.script:
            raise WheelError(label, f"conda has written the path of its prefix into {member.path.name}", advice=_TIED)
        if member.script or _LIBRARY.search(member.place):
            for library in _libraries_of(member, label):
                if library not in own and not OF_SYSTEM.fullmatch(library):
                    problem = f"its file {member.path.name} needs {library}, which is in the prefix of conda"
                    raise WheelError(label, problem, advice=_TIED)


def _libraries_of(member: _Member, label: str) -> tuple[str, ...]:
    """Return the libraries that a file needs; none if it is a script."""
    try:
        libraries = needed_libraries(member.path)
    except FileNotFoundError:
        return ()
    except ValueError as error:
        raise WheelError(label, str(error), advice=_TIED) from None
    if libraries is None and not member.script:
        problem = f"it was installed by conda, and nothing says which libraries of its prefix {member.path.name} needs"
        raise WheelError(label, problem, advice=_TIED)
    return libraries or ()


def _write(bundle: zipfile.ZipFile, member: _Member) -> tuple[Entry, bool]:
    """Write one file into the wheel; return its line for RECORD, and whether it had the digest that was recorded."""
    mode = 0o755 if member.path.stat().st_mode & 0o111 else 0o644
    before, after, size = hashlib.sha256(), hashlib.sha256(), 0
    with member.path.open("rb") as file, bundle.open(_entry(member.place, mode), "w", force_zip64=True) as target:
        first = True
        while chunk := file.read(_CHUNK):
            before.update(chunk)
            if first and member.script:
                chunk = _SHEBANG.sub(b"#!python\n", chunk, count=1)
            first = False
            target.write(chunk)
            after.update(chunk)
            size += len(chunk)
    same = not member.digest.startswith("sha256=") or member.digest == f"sha256={encoded(before.digest())}"
    return Entry(member.place, f"sha256={encoded(after.digest())}", str(size)), same


def _entry(place: str, mode: int) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(place, _DATE)
    entry.external_attr = (0o100000 | mode) << 16
    return entry
