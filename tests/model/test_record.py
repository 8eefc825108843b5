"""RECORD is read and written as the csv module does, which PEP 376 names."""

from __future__ import annotations

import base64
import csv
import hashlib
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dask_pkgsync.model.record import Entry, entry_of, parse, recorded, text_of

PATHS = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"], exclude_characters="\\"), min_size=1)
ENTRIES = st.builds(
    Entry, PATHS, st.sampled_from(["", "sha256=AA", "sha512=B-_"]), st.sampled_from(["", "0", "12345678901"])
)


@given(st.lists(ENTRIES))
def test_what_is_written_is_read(entries: list[Entry]) -> None:
    """Also paths with commas and quotes, with either end of lines."""
    assert parse(text_of(entries)) == entries
    assert parse(text_of(entries).replace("\n", "\r\n")) == entries


@given(st.lists(ENTRIES))
def test_the_csv_module_reads_and_writes_the_same(entries: list[Entry]) -> None:
    """As installers use it."""
    assert [tuple(row) for row in csv.reader(io.StringIO(text_of(entries), newline=""))] == entries
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(entries)
    assert parse(text.getvalue()) == entries


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("\n\n,sha256=AA,3\n", []),
        ("a.py", [Entry("a.py")]),
        ("a.py,sha256=AA", [Entry("a.py", "sha256=AA")]),
        ("a.py,sha256=AA,3,more,4", [Entry("a.py", "sha256=AA", "3")]),
        ("a\\b.py,,", [Entry("a/b.py")]),
        ('"a""b,c.py",sha256=AA,3', [Entry('a"b,c.py', "sha256=AA", "3")]),
    ],
)
def test_lines_of_any_length_are_read(text: str, expected: list[Entry]) -> None:
    """What is missing is empty, what is more is ignored, and the separators of Windows are those of others."""
    assert parse(text) == expected


def test_a_size_is_a_number_or_unknown() -> None:
    """Whatever else stands there tells nothing."""
    assert Entry("a", "", "12").bytes == 12
    assert Entry("a", "", "").bytes is None
    assert Entry("a", "", "-1").bytes is None
    assert Entry("a", "", "²").bytes is None


def test_a_file_is_recorded_with_digest_and_size() -> None:
    """In base64 for URLs without padding, as PEP 427 has it."""
    digest = base64.urlsafe_b64encode(hashlib.sha256(b"text").digest()).decode().rstrip("=")
    assert entry_of("a.py", b"text") == Entry("a.py", f"sha256={digest}", "4")
    assert recorded("a,b.py", b"text") == f'"a,b.py",sha256={digest},4'
