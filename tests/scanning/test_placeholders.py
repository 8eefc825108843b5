"""The prefix that an installer has written into the files of a conda package can be taken out again, exactly."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from hypothesis import assume, given
from hypothesis import strategies as st

from dask_pkgsync.scanning.conda_files import CondaFile, Kind
from dask_pkgsync.scanning.placeholders import Prefixes

PLACEHOLDER = "/opt/placehold_placehold_placehold_placehold"
PREFIX = "/home/ann/env"
MOVED = Prefixes(Path("/somewhere/else"))

pieces = st.sampled_from(
    [b"\0", b"\0\0\0", b"text", b"/bin/python", b":", b"\n", b"/home", b"/home/ann", b"\xff", b"=", b"x" * 50]
)
texts = st.lists(st.one_of(pieces, st.just(PLACEHOLDER.encode())), max_size=12).map(b"".join)


def recorded(original: bytes, *, is_binary: bool, data: bytes = b"", size: int | None = None) -> CondaFile:
    """Return what is recorded about a file with the placeholder, and about it with the prefix."""
    digest, in_prefix = (hashlib.sha256(one).hexdigest() for one in (original, data))
    size = len(original) if size is None else size
    return CondaFile("lib/x", Kind.FILE, digest, in_prefix, size, PLACEHOLDER, is_binary)


def installed(original: bytes, prefix: bytes, *, is_binary: bool) -> bytes:
    """Write a prefix into a file as conda does (``conda.core.portability``, 24.9)."""
    placeholder = PLACEHOLDER.encode()
    if not is_binary:
        return original.replace(placeholder, prefix)

    def written(match: re.Match[bytes]) -> bytes:
        padding = (len(placeholder) - len(prefix)) * match[0].count(placeholder)
        return match[0].replace(placeholder, prefix) + b"\0" * padding

    return re.sub(re.escape(placeholder) + rb"[^\0]*?\0", written, original)


@given(texts, st.booleans())
def test_what_an_installer_has_written_is_taken_out_again(original: bytes, is_binary: bool) -> None:
    """Several times in one text, beside other NUL bytes, and in texts that begin like the prefix."""
    data = installed(original, PREFIX.encode(), is_binary=is_binary)
    file = recorded(original, is_binary=is_binary, data=data)
    assert Prefixes(Path(PREFIX)).original(data, file) == original
    assert Prefixes(Path(PREFIX)).original(data + b"edited", file) is None


@given(texts, st.booleans())
def test_a_file_says_where_its_prefix_was(original: bytes, is_binary: bool) -> None:
    """If the prefix is followed by anything that no path goes on with, it is found in the file itself."""
    original = original.replace(PLACEHOLDER.encode(), f" {PLACEHOLDER}/x\0".encode())
    assume(PLACEHOLDER.encode() in original)
    data = installed(original, PREFIX.encode(), is_binary=is_binary)
    for size in (len(original), len(data)):  # conda records the size in the archive, rattler that in the prefix
        found = Prefixes(Path("/somewhere/else")).original(
            data, recorded(original, is_binary=is_binary, data=data, size=size)
        )
        assert found == original


@given(st.binary(max_size=300), st.booleans())
def test_no_file_is_taken_for_another(data: bytes, is_binary: bool) -> None:
    """What has nothing to do with the recorded file gives nothing, and nothing breaks."""
    file = recorded(f"{PLACEHOLDER}/x\0".encode(), is_binary=is_binary)
    assert MOVED.original(data, file) is None
    assert isinstance(MOVED.as_it_is(data, file), bytes)


def test_a_first_line_that_was_too_long_is_restored() -> None:
    """Where the system takes no longer line, installers let env find the interpreter."""
    original = f"#!{PLACEHOLDER}/bin/python3.12 -E\nprint()\n".encode()
    data = b"#!/usr/bin/env python3.12 -E\nprint()\n"
    assert Prefixes(Path(PREFIX)).original(data, recorded(original, is_binary=False)) == original


def test_an_edited_path_is_no_prefix_of_earlier_days() -> None:
    """Whoever writes another interpreter, or directory, into a file has edited it."""
    original = f"#!{PLACEHOLDER}/bin/python\n".encode()
    data = installed(original, PREFIX.encode(), is_binary=False)
    edited = data.replace(PREFIX.encode(), b"/other/env")
    file = recorded(original, is_binary=False, data=data)
    assert Prefixes(Path(PREFIX)).original(edited, file) is None
    assert Prefixes(Path("/other/env")).original(edited, file) == original  # a tool has moved the prefix, as conda-pack
    assert Prefixes(Path("/other/env")).original(data, file) == original  # it was moved by hand
