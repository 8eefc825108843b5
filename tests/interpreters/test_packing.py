"""The client's interpreter travels as a blob, and works wherever it is unpacked."""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from clusters import surroundings
from hypothesis import given
from hypothesis import strategies as st

from dask_pkgsync import LayerError, MessageError
from dask_pkgsync.interpreters.packing import files_of, write_archive
from dask_pkgsync.interpreters.run_paths import with_run_path
from dask_pkgsync.interpreters.unpacking import unpack
from dask_pkgsync.model.blobs import (
    Blob,
    blob_from_wire,
    blob_to_wire,
    interpreter_archive_name,
    request_for_interpreter,
    requests_from_wire,
    requests_to_wire,
)
from dask_pkgsync.model.environments.environment import Environment
from dask_pkgsync.scanning.installed import this_interpreter

OWN = this_interpreter()
LOOK = """
import json, sys, sysconfig
import ctypes, lzma, sqlite3, ssl, zlib
loaded = [line.split()[-1] for line in open("/proc/self/maps")] if sys.platform == "linux" else []
print(json.dumps([sys.version, sys.prefix, sys.base_prefix, ssl.__file__, _ := sysconfig.get_path("include"),
                  sorted({path for path in loaded if "libpython" in path})]))
"""


def test_it_works_where_it_is_unpacked(tmp_path: Path, packed_interpreter: Path) -> None:
    """Nothing of it is loaded from where it came from, and nothing that is installed there comes along."""
    size = unpack(packed_interpreter, tmp_path / "moved")
    python = tmp_path / "moved/bin/python3"
    argv = [python, "-c", LOOK]
    said = subprocess.run(argv, capture_output=True, text=True, check=True, env=surroundings()).stdout
    version, *places, loaded = json.loads(said)
    assert version == sys.version
    assert all(Path(place).is_relative_to(tmp_path / "moved") for place in (*places, *loaded))
    assert size == sum(
        path.stat().st_size
        for path in (tmp_path / "moved").rglob("*")
        if not path.is_symlink() and path.is_file() and "__pycache__" not in path.parts
    )
    assert not list((tmp_path / "moved").rglob("*.a"))
    assert not list((tmp_path / "moved").rglob("site-packages/*"))


def test_its_bytes_are_those_of_its_files(tmp_path: Path) -> None:
    """Whenever and wherever it is packed: the digest names it."""
    few = dict(sorted(files_of(OWN).items())[:30])
    copies = {}
    for place, path in reversed(few.items()):
        copies[place] = tmp_path / place.replace("/", "-")
        shutil.copy(path, copies[place])
        os.utime(copies[place], (1, 1))
    write_archive(tmp_path / "one.tar.gz", few, "python3")
    write_archive(tmp_path / "two.tar.gz", copies, "python3")
    assert (tmp_path / "one.tar.gz").read_bytes() == (tmp_path / "two.tar.gz").read_bytes()


def archive_of(path: Path, *entries: tuple[str, bytes, str, int]) -> Path:
    """Write an archive with entries: name, type, what it links to, size."""
    with gzip.open(path, "wb") as packed, tarfile.open(fileobj=packed, mode="w") as bundle:
        for name, kind, link, size in entries:
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname, entry.size = kind, link, size
            bundle.addfile(entry, io.BytesIO(b"x" * size))
    return path


@pytest.mark.parametrize(
    "entry",
    [
        ("../outside", tarfile.REGTYPE, "", 1),
        ("/outside", tarfile.REGTYPE, "", 1),
        ("a/../../outside", tarfile.REGTYPE, "", 1),
        ("bin/python", tarfile.SYMTYPE, "../../outside", 0),
        ("bin", tarfile.SYMTYPE, "..", 0),
        ("bin/python", tarfile.LNKTYPE, "/etc/passwd", 0),
        ("bin/python", tarfile.CHRTYPE, "", 0),
    ],
)
def test_what_would_lie_elsewhere_is_refused(tmp_path: Path, entry: tuple[str, bytes, str, int]) -> None:
    """No file of an archive gets out of its directory, by its path or by a link."""
    with pytest.raises(LayerError, match="cannot be unpacked"):
        unpack(archive_of(tmp_path / "bad.tar.gz", entry), tmp_path / "there")
    assert {path.name for path in tmp_path.iterdir()} <= {"bad.tar.gz", "there"}


@given(data=st.binary(max_size=200))
def test_what_is_no_archive_is_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    """With an error that says so, whatever the bytes are."""
    directory = tmp_path_factory.mktemp("unpack")
    (directory / "bad.tar.gz").write_bytes(data)
    with pytest.raises(LayerError, match="cannot be unpacked"):
        unpack(directory / "bad.tar.gz", directory / "there")


@given(data=st.binary(max_size=300), head=st.sampled_from([b"", b"\x7fELF", b"\x7fELF\x02\x01"]))
def test_what_is_no_program_stays_as_it_is(data: bytes, head: bytes) -> None:
    """Also if it begins as one does."""
    assert with_run_path(head + data, "/lib", "$ORIGIN/../lib") == head + data


def test_a_run_path_that_does_not_fit_stays() -> None:
    """The text in the file cannot grow; then the variable LD_LIBRARY_PATH is tried."""
    data = files_of(OWN)[f"bin/python{OWN.feature_version}"].read_bytes()
    old = str(Path(sys.base_prefix) / "lib")
    if old.encode() not in data:
        pytest.skip("this interpreter does not name the directory of its library")
    assert with_run_path(data, old, "$ORIGIN/../" + "x" * len(old)) == data
    moved = with_run_path(data, old, "$ORIGIN/../lib")
    assert len(moved) == len(data)
    assert b"$ORIGIN/../lib\0" in moved


def test_an_interpreter_is_asked_for_by_all_that_it_is() -> None:
    """The request and its blob survive the wire; no other file name passes for that of the interpreter."""
    request = request_for_interpreter(OWN)
    assert requests_from_wire(requests_to_wire([request])) == (request,)
    blob = Blob(request, interpreter_archive_name(request), "0" * 64, 7)
    assert blob_from_wire(blob_to_wire(blob)) == blob
    assert request.is_met_in(Environment.of(OWN, ()))
    for bad in ({"filename": "../" + blob.filename}, {"filename": "python.tar.gz"}):
        with pytest.raises(MessageError):
            blob_from_wire({**blob_to_wire(blob), **bad})
    for bad in ({"name": "../python"}, {"tag": "cp311"}, {"tag": "a-b-../c"}):
        with pytest.raises(MessageError):
            requests_from_wire([{**requests_to_wire([request])[0], **bad}])
    (other,) = requests_from_wire([{**requests_to_wire([request])[0], "version": "3.1"}])
    assert not other.is_met_in(Environment.of(OWN, ()))
