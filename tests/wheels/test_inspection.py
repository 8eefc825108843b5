"""A wheel from another process is refused unless it is what it says, and can be read in one way only."""

from __future__ import annotations

import struct
import zipfile
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dask_pkgsync.model.errors import WheelError
from dask_pkgsync.wheels import inspection as wheelfile
from dask_pkgsync.wheels.inspection import inspect

if TYPE_CHECKING:
    from pathlib import Path

INFO = "my_pkg-1.0.dist-info"
GOOD = {
    "my_pkg/__init__.py": b"x = 1\n",
    "my_pkg-1.0.data/scripts/tool": b"#!python\n",
    f"{INFO}/METADATA": b"Metadata-Version: 2.1\nName: My.Pkg\nVersion: 1.0.0\n",
    f"{INFO}/WHEEL": b"Wheel-Version: 1.0\nTag: py3-none-any\n",
    f"{INFO}/RECORD": b"",
}


def make(directory: Path, files: dict[str, Any], name: str = "my_pkg-1.0-py3-none-any.whl") -> Path:
    """Write a wheel; a name may stand with bytes, or with an entry and bytes."""
    path = directory / name
    with zipfile.ZipFile(path, "w") as bundle:
        for filename, content in files.items():
            entry, data = content if isinstance(content, tuple) else (zipfile.ZipInfo(filename), content)
            bundle.writestr(entry, data)
    return path


def refused(path: Path) -> str:
    """Return why a wheel is refused."""
    with pytest.raises(WheelError) as caught:
        inspect(path, name="my-pkg", version="1.0")
    assert caught.value.package == "my-pkg 1.0"
    assert caught.value.advice
    return caught.value.problem


def test_a_good_wheel_passes(tmp_path: Path) -> None:
    """Names in any spelling, versions as PEP 440 compares them, files stored or deflated, directories."""
    directory = zipfile.ZipInfo("my_pkg/sub/")
    directory.external_attr = 0o040755 << 16
    deflated = zipfile.ZipInfo("my_pkg/data.txt")
    deflated.compress_type = zipfile.ZIP_DEFLATED
    more = {"my_pkg/sub/": (directory, b""), "my_pkg/data.txt": (deflated, b"a" * 1000)}
    inspect(make(tmp_path, {**GOOD, **more}), name="my-pkg", version="1.0")


@pytest.mark.parametrize(
    ("filename", "reason"),
    [
        ("../evil.py", "leads elsewhere"),
        ("my_pkg/../../evil.py", "leads elsewhere"),
        ("/etc/passwd", "leads elsewhere"),
        ("my_pkg//x.py", "leads elsewhere"),
        ("./x.py", "leads elsewhere"),
        ("C:/x.py", "characters"),
        ("my_pkg\\x.py", "characters"),
        ("my_pkg/x\n.py", "characters"),
        ("my_pkg-1.0.data/lib/x.py", "installers do not know"),
        ("other-1.0.data/scripts/x", "not named like"),
        ("My.Pkg-1.0.data/scripts/x", "not named like"),
        ("my_pkg/x\u2028.py", "characters"),
        ("other-1.0.dist-info/METADATA", "2 dist-info"),
        ("MY_PKG-1.0.dist-info/METADATA", "2 dist-info"),
        ("my_pkg/__init__.py/", "twice"),
    ],
)
def test_a_path_that_leads_elsewhere_is_refused(filename: str, reason: str, tmp_path: Path) -> None:
    """Nothing can land outside of the layer, or in an odd directory of it."""
    assert reason in refused(make(tmp_path, {**GOOD, filename: b"evil"}))


@pytest.mark.parametrize("name", ["2024-01-01T12:30:00.json", "1.00\u202fPM.png", 'a, "b".txt', "ä.py", "~x"])
def test_odd_names_of_data_are_let_in(name: str, tmp_path: Path) -> None:
    """A colon, rare blanks, quotes: POSIX systems have files of such names."""
    inspect(make(tmp_path, {**GOOD, f"my_pkg/{name}": b""}), name="my-pkg", version="1.0")


@pytest.mark.parametrize("second", ["my_pkg/X.PY", "my_pkg/x.Py"])
def test_names_that_differ_in_case_only_are_refused_where_they_are_one(second: str, tmp_path: Path) -> None:
    """On a file system that knows no case, whichever of them comes first; elsewhere they are two files."""
    path = make(tmp_path, {**GOOD, "my_pkg/X.py": b"", second: b""})
    other = path.with_name(path.name.swapcase())
    if not other.exists():
        inspect(path, name="my-pkg", version="1.0")
        other.symlink_to(path)  # a file system that knows no case finds the file under this name, too
    assert "this file system knows no case" in refused(path)


@pytest.mark.parametrize(("mode", "word"), [(0o120777, "symbolic link"), (0o010644, "neither"), (0o060644, "neither")])
def test_what_is_no_file_is_refused(mode: int, word: str, tmp_path: Path) -> None:
    """Links, pipes and devices are refused."""
    entry = zipfile.ZipInfo("my_pkg/link")
    entry.external_attr = mode << 16
    assert word in refused(make(tmp_path, {**GOOD, "my_pkg/link": (entry, b"/etc/passwd")}))


def test_other_compressions_and_encryption_are_refused(tmp_path: Path) -> None:
    """Only what every installer reads in the same way is let in."""
    entry = zipfile.ZipInfo("my_pkg/data")
    entry.compress_type = zipfile.ZIP_LZMA
    assert "compressed in a way" in refused(make(tmp_path, {**GOOD, "my_pkg/data": (entry, b"x")}))
    path = make(tmp_path, GOOD)
    content = bytearray(path.read_bytes())
    at = content.index(b"PK\x01\x02")
    content[at + 8] |= 1
    path.write_bytes(content)
    assert "encrypted" in refused(path)


@pytest.mark.parametrize("offset", [8, 14, 18, 22, 30])
def test_headers_that_disagree_are_refused(offset: int, tmp_path: Path) -> None:
    """What a reader of local headers would see is what a reader of the central directory sees."""
    path = make(tmp_path, GOOD)
    content = bytearray(path.read_bytes())
    assert content[:4] == b"PK\x03\x04"
    content[offset] ^= 8 if offset == 8 else 1
    path.write_bytes(content)
    assert "disagree" in refused(path) or "cannot be read" in refused(path)


def test_overlapping_entries_are_refused(tmp_path: Path) -> None:
    """Two entries that share their bytes are how small files unpack to huge ones."""
    path = make(tmp_path, {"my_pkg/a": b"x" * 50, "my_pkg/b": b"x" * 50, **GOOD})
    content = bytearray(path.read_bytes())
    second = content.index(b"PK\x01\x02", content.index(b"PK\x01\x02") + 4)
    struct.pack_into("<L", content, second + 42, 0)  # the second entry begins where the first one does
    path.write_bytes(content)
    assert "overlaps" in refused(path)


def test_an_entry_that_runs_into_the_central_directory_is_refused(tmp_path: Path) -> None:
    """The last entry has no next one to overlap with."""
    path = make(tmp_path, {**GOOD, "my_pkg/z": b"z"})
    content = bytearray(path.read_bytes())
    central = content.rindex(b"PK\x01\x02")
    (local,) = struct.unpack_from("<L", content, central + 42)
    for at in (local + 18, local + 22, central + 20, central + 24):
        struct.pack_into("<L", content, at, 60)
    path.write_bytes(content)
    assert "central directory" in refused(path)


@pytest.mark.parametrize("offset", [14, 18, 22])
def test_sizes_are_elsewhere_only_with_zip64(offset: int, tmp_path: Path) -> None:
    """All ones stand for a size in the extra field, never for a checksum, and for nothing without that field."""
    path = make(tmp_path, GOOD)
    content = bytearray(path.read_bytes())
    struct.pack_into("<L", content, offset, 0xFFFFFFFF)
    path.write_bytes(content)
    assert "disagree" in refused(path)


def test_zip64_passes(tmp_path: Path) -> None:
    """A writer that does not know the size beforehand leaves room for a large one."""
    path = make(tmp_path, GOOD)
    with zipfile.ZipFile(path, "a") as bundle, bundle.open("my_pkg/big", "w", force_zip64=True) as file:
        file.write(b"x")
    inspect(path, name="my-pkg", version="1.0")


def test_a_zip_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that would unpack to far more than itself, or to more than a disk, is refused before it is unpacked."""
    entry = zipfile.ZipInfo("my_pkg/zeros")
    entry.compress_type = zipfile.ZIP_DEFLATED
    path = make(tmp_path, {**GOOD, "my_pkg/zeros": (entry, bytes(110_000_000))})
    assert "zip bomb" in refused(path)
    monkeypatch.setattr(wheelfile, "MAX_BYTES", 10)
    assert "zip bomb" in refused(make(tmp_path, GOOD))
    monkeypatch.setattr(wheelfile, "MAX_FILES", 3)
    assert "files" in refused(path)


@pytest.mark.parametrize("missing", ["METADATA", "WHEEL", "RECORD"])
def test_metadata_has_to_be_there(missing: str, tmp_path: Path) -> None:
    """A wheel without one of the three is none."""
    files = {name: content for name, content in GOOD.items() if not name.endswith(missing)}
    assert f"no {missing}" in refused(make(tmp_path, files))


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        (b"Name: other\nVersion: 1.0\n", "METADATA says other"),
        (b"Name: my-pkg\nVersion: 2.0\n", "METADATA says my-pkg 2.0"),
        (b"Name: my-pkg\n", "its wheel is refused: "),
        (b"Name: my-pkg\nVersion: 1.0\n" + bytes(wheelfile.MAX_METADATA), "METADATA has"),
    ],
)
def test_metadata_says_what_the_file_name_says(metadata: bytes, reason: str, tmp_path: Path) -> None:
    """Name and version are the same in the file name, the directory and METADATA."""
    assert reason in refused(make(tmp_path, {**GOOD, f"{INFO}/METADATA": metadata}))


def test_broken_compression_of_metadata_is_refused(tmp_path: Path) -> None:
    """What zlib cannot read is refused like what zipfile cannot."""
    metadata = zipfile.ZipInfo(f"{INFO}/METADATA")
    metadata.compress_type = zipfile.ZIP_DEFLATED
    path = make(tmp_path, {**GOOD, metadata.filename: (metadata, GOOD[metadata.filename])})
    content = bytearray(path.read_bytes())
    content[content.index(metadata.filename.encode()) + len(metadata.filename)] = 0xFF  # a block type that is not
    path.write_bytes(content)
    assert "cannot be read" in refused(path)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("other-1.0-py3-none-any.whl", "the file name says other 1.0"),
        ("my_pkg-2.0-py3-none-any.whl", "the file name says my-pkg 2.0"),
        ("my_pkg.whl", "its wheel is refused: "),  # in the words of packaging
    ],
)
def test_the_file_name_is_that_of_the_package(name: str, reason: str, tmp_path: Path) -> None:
    """A wheel under the name of another one is refused."""
    assert reason in refused(make(tmp_path, GOOD, name))


def test_an_odd_stem_is_refused(tmp_path: Path) -> None:
    """The directory of the metadata is named like every other one."""
    files = {name.replace(INFO, "my pkg-1.0.dist-info"): content for name, content in GOOD.items()}
    assert "no name of a directory" in refused(make(tmp_path, files))


def test_a_wheel_that_was_cut_is_refused(tmp_path: Path) -> None:
    """Wherever it ends early, it cannot be read."""
    path = make(tmp_path, GOOD)
    content = path.read_bytes()
    for length in range(0, len(content), 37):
        path.write_bytes(content[:length])
        assert "cannot be read" in refused(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(position=st.integers(min_value=0), flip=st.integers(min_value=1, max_value=255))
def test_flipped_bits_raise_nothing_unexpected(position: int, flip: int, tmp_path: Path) -> None:
    """Whatever is wrong with a file, the answer is our error, or none."""
    metadata = zipfile.ZipInfo(f"{INFO}/METADATA")
    metadata.compress_type = zipfile.ZIP_DEFLATED  # as in real wheels: zlib has errors of its own
    path = make(tmp_path, {**GOOD, metadata.filename: (metadata, GOOD[metadata.filename])})
    content = bytearray(path.read_bytes())
    content[position % len(content)] ^= flip
    path.write_bytes(content)
    try:
        inspect(path, name="my-pkg", version="1.0")
    except WheelError as error:
        assert error.problem  # noqa: PT017  # either answer will do
