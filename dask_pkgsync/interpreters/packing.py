"""On the client: the interpreter below its environment, as an archive for nodes that have none of this X.Y."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import sys
import sysconfig
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dask_pkgsync.interpreters.below import interpreter_below
from dask_pkgsync.interpreters.candidates import program_name
from dask_pkgsync.interpreters.run_paths import with_run_path
from dask_pkgsync.model.blobs import interpreter_archive_name
from dask_pkgsync.model.errors import WheelError
from dask_pkgsync.wheels.build import BUILD_TIMEOUT
from dask_pkgsync.wheels.packed import PackedBlobs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from dask_pkgsync.cache.directory import Cache
    from dask_pkgsync.model.blobs import Blob, BlobRequest
    from dask_pkgsync.model.environments.interpreter import Interpreter

FORMAT = 1
"""A number that changes whenever a new release would make another archive from the same interpreter."""
_LEFT_OUT = frozenset({"__pycache__", "site-packages", "dist-packages", "test", "tests", "idle_test"})
"""Directories of a library that no program needs on a node, or that belong to packages."""
_LEVEL = 1
"""Of gzip: a higher one takes three times as long, and saves a tenth."""


@dataclass(frozen=True)
class InterpreterPacker:
    """Gives the interpreter of one environment, without what is installed in it."""

    interpreter: Interpreter
    cache: Cache
    timeout: float = BUILD_TIMEOUT
    """Seconds to wait for another process that packs it."""

    def pack(self, request: BlobRequest) -> tuple[Blob, Path]:
        """Return the archive that a node asks for, as a blob, and the path of its file. Blocks.

        Its bytes depend only on the files of the interpreter.

        Raises
        ------
        WheelError
            If this is another interpreter, or one that cannot be moved.
        """
        files, libraries = files_of(self.interpreter), _libraries_in(Path(sys.base_prefix))
        states = sorted((str(path), *_state(path)) for path in (*files.values(), *libraries.values()))
        facts = [FORMAT, sys.base_prefix, self.interpreter.version, self.interpreter.tag, states]
        key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()

        def make(work: Path) -> tuple[Path, str]:
            path = work / interpreter_archive_name(request)
            write_archive(path, {**files, **needed(files, libraries)}, program_name(self.interpreter))
            return path, ""

        return PackedBlobs(self.cache, self.timeout).obtain(request, key, make)


def files_of(interpreter: Interpreter) -> dict[str, Path]:
    """Return the files of the interpreter below this process, by their places below its prefix. Blocks.

    These are its program, and its standard library with headers.

    Raises
    ------
    WheelError
        If it cannot be moved.
    """
    prefix, program = Path(sys.base_prefix), interpreter_below(Path(sys.executable))
    if sysconfig.get_config_var("PYTHONFRAMEWORK"):
        raise _unmovable(interpreter, "it is a framework of macOS, which works only where it was installed")
    files = {f"bin/{program_name(interpreter)}": Path(os.path.realpath(program))}
    for name in ("stdlib", "platstdlib", "include", "platinclude"):
        directory = Path(sysconfig.get_path(name, vars=_of_base()))
        if not directory.is_relative_to(prefix):
            raise _unmovable(interpreter, f"its files lie in several places: {directory} and {prefix}")
        files.update((path.relative_to(prefix).as_posix(), path) for path in _below(directory))
    return files


def write_archive(archive: Path, files: Mapping[str, Path], program: str) -> None:
    """Write files into an archive in which programs find their libraries wherever it is unpacked. Blocks.

    Parameters
    ----------
    archive : Path
    files : mapping of str to Path
        By their places below the prefix.
    program : str
        Name of the interpreter's program, to which the usual names are links.
    """
    old = str(Path(sys.base_prefix) / "lib")
    with (
        archive.open("wb") as file,
        gzip.GzipFile(filename="", mode="wb", compresslevel=_LEVEL, fileobj=file, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as bundle,
    ):
        for place in sorted(files):
            data = files[place].read_bytes()
            data = with_run_path(data, old, _from(place)) if data.startswith(b"\x7fELF") else data
            entry = tarfile.TarInfo(place)
            entry.size, entry.mode = len(data), 0o755 if os.access(files[place], os.X_OK) else 0o644
            bundle.addfile(entry, io.BytesIO(data))
        for name in ("python", "python3"):
            entry = tarfile.TarInfo(f"bin/{name}")
            entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, program, 0o777
            bundle.addfile(entry)


def _from(place: str) -> str:
    """Return the way from the directory of a file to ``lib``, as the loader of Linux reads it."""
    return f"$ORIGIN/{os.path.relpath('lib', os.path.dirname(place))}".removesuffix("/.")  # noqa: PTH120


def _below(directory: Path) -> Iterator[Path]:
    """Yield the files in a directory of the library, except those that nothing on a node needs."""
    for root, directories, names in os.walk(directory):
        directories[:] = sorted(set(directories) - _LEFT_OUT)
        yield from (path for name in names if not name.endswith(".a") and (path := Path(root, name)).is_file())


def _libraries_in(prefix: Path) -> dict[str, Path]:
    """Return the shared libraries in a prefix, by name."""
    found = (path for path in (prefix / "lib").glob("lib*") if ".so" in path.name or path.suffix == ".dylib")
    return {path.name: path for path in found if path.is_file()}


def needed(files: Mapping[str, Path], libraries: Mapping[str, Path]) -> dict[str, Path]:
    """Return those of some shared libraries that files need, and those that these need in turn, by their places.

    A file names the libraries that it needs, each with a NUL character behind it. Blocks.
    """
    there = dict(libraries)
    pending = [path for place, path in files.items() if place.startswith("bin/") or path.suffix in (".so", ".dylib")]
    found: dict[str, Path] = {}
    while pending and there:
        data = pending.pop().read_bytes()
        for name in [name for name in there if f"{name}\0".encode() in data or f"/{name}\0".encode() in data]:
            found[f"lib/{name}"] = there.pop(name)
            pending.append(found[f"lib/{name}"])
    return found


def _of_base() -> dict[str, str]:
    """Return the variables by which `sysconfig` names the places of the interpreter below, also in an environment."""
    names = ("base", "platbase", "installed_base", "installed_platbase")
    return dict.fromkeys(names, sys.base_prefix)


def _state(path: Path) -> tuple[int, int]:
    facts = path.stat()
    return facts.st_mtime_ns, facts.st_size


def _unmovable(interpreter: Interpreter, reason: str) -> WheelError:
    return WheelError(
        interpreter.label,
        f"the client's interpreter cannot be sent: {reason}",
        advice=f"Install Python {interpreter.feature_version} on the nodes, or sync from an environment that uv made "
        "with a Python of its own.",
    )
