"""What was read from files is remembered as long as they are as they were, and no longer."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from dask_pkgsync.scanning.file_states import Remembered, Watch

if TYPE_CHECKING:
    from pathlib import Path


def later() -> int:
    """Return a time at which no file counts as changed just now."""
    return time.time_ns() + 10**10


class Reads:
    """Reads files, and counts how often."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0

    def __call__(self, watch: Watch) -> str:
        """Read the file."""
        self.count += 1
        watch.state(str(self.path))
        return self.path.read_text()


def test_a_file_is_read_again_only_if_it_may_have_changed(tmp_path: Path) -> None:
    """Times, size and inode tell it, unless it was written so recently that a change might not show in them."""
    path = tmp_path / "a.py"
    path.write_text("x = 1")
    soon, reads = Reads(path), Reads(path)
    now, then = Remembered[str](), Remembered[str](now=later)
    assert [now.of(1, soon), now.of(1, soon)] == ["x = 1"] * 2
    assert soon.count == 2
    assert [then.of(1, reads), then.of(1, reads)] == ["x = 1"] * 2
    assert reads.count == 1
    path.write_text("x = 22")
    assert then.of(1, reads) == "x = 22"
    facts = path.stat()
    (tmp_path / "b.py").write_text("x = 33")
    (tmp_path / "b.py").replace(path)
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))  # as if nothing had happened
    assert then.of(1, reads) == "x = 33"


def test_what_comes_and_goes_is_noticed(tmp_path: Path) -> None:
    """A file that was not there, or of which only the existence counts, is looked up again too."""
    remembered = Remembered[bool](now=later)

    def read(watch: Watch) -> bool:
        return watch.state(str(tmp_path / "a")) is not None or watch.exists(str(tmp_path / "b"))

    assert not remembered.of(1, read)
    (tmp_path / "b").mkdir()
    assert remembered.of(1, read)
    (tmp_path / "b").rmdir()
    assert not remembered.of(1, read)
    (tmp_path / "a").touch()
    assert remembered.of(1, read)
    (tmp_path / "a").unlink()
    assert not remembered.of(1, read)


def test_what_depends_on_more_than_files_is_not_remembered(tmp_path: Path) -> None:
    """A value that says so itself is read each time."""
    path = tmp_path / "a"
    path.write_text("1")
    reads, remembered = Reads(path), Remembered[str](now=later)

    def read(watch: Watch) -> str:
        watch.is_complete = False
        return reads(watch)

    assert [remembered.of(1, read), remembered.of(1, read)] == ["1", "1"]
    assert reads.count == 2


def test_the_oldest_values_are_forgotten(tmp_path: Path) -> None:
    """There are never more than the limit."""
    path = tmp_path / "a"
    path.write_text("1")
    reads, remembered = Reads(path), Remembered[str](limit=2, now=later)
    for key in (1, 2, 3, 3, 2):
        remembered.of(key, reads)
    assert reads.count == 3
    remembered.of(1, reads)
    assert reads.count == 4


def test_threads_read_the_same(tmp_path: Path) -> None:
    """Many threads at once get what the files hold, while values are forgotten."""
    for number in range(20):
        (tmp_path / str(number)).write_text(str(number))
    remembered = Remembered[str](limit=5, now=later)

    def of(number: int) -> str:
        return remembered.of(number, Reads(tmp_path / str(number)))

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(of, [*range(20)] * 50)) == [str(number) for number in [*range(20)] * 50]
